"""The files with the frames of an unfinished clip: how many frames they hold, and one file with all of them."""

import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidrec.errors import EncoderError
from vidrec.ffmpeg import metadata
from vidrec.ffmpeg.boxes import torn_at
from vidrec.ffmpeg.encoding import FORMATS, Encoding
from vidrec.ffmpeg.files import contents, cut, join
from vidrec.ffmpeg.program import check_ffmpeg
from vidrec.files import names
from vidrec.files.torch_file import HEAD_BYTES, complete, measure
from vidrec.tools.scan import LeftClip

CHUNK_BYTES = 2**20


@dataclass
class Parts:
    """The parts of one clip.

    Attributes:
        clip: what is left of it.
        about: what its manifest says.
        unreadable: files of which FFmpeg reads nothing; they stay, under names that nobody looks for.
    """

    clip: LeftClip
    about: dict[str, Any]
    unreadable: list[Path] = field(default_factory=list)

    def count(self, part: Path) -> int:
        """Return how many frames a file has, the last of which may be damaged."""
        if not part.stat().st_size:
            return 0
        if FORMATS[part.suffix[1:]].encoded:
            part.open("rb").close()  # or else it is not the fault of what is in it
            check_ffmpeg()
            try:
                with _readable(part) as path:
                    return contents(path, decode=True).frames
            except EncoderError:
                self.unreadable.append(part)
                return 0
        if part.suffix == ".pt" and (size := _tensor_bytes(part)):
            return size // self._frame_bytes(part)
        return max(0, part.stat().st_size - _head(part)) // self._frame_bytes(part)

    def _frame_bytes(self, part: Path) -> int:
        try:
            return 3 * int(self.about["height"]) * int(self.about["width"])
        except (KeyError, TypeError, ValueError):
            problem = f"{part} does not say how large its frames are, and {self.clip.manifest} does not either"
            raise EncoderError(problem) from None

    def whole(self, parts: list[tuple[Path, int]], step: int) -> tuple[Path, int]:
        """Return an ordinary file with all frames of the parts, which stay, and how many; it says what is known."""
        first, frames = parts[0]
        suffix = first.suffix
        if not FORMATS[suffix[1:]].encoded:
            self._complete(first, frames)
            return first, frames
        fps = self.about.get("fps") or contents(first, decode=False).fps or 30
        encoding = Encoding.of(suffix[1:], fps=fps)
        known = {"ended": "unfinished", **self.about, **metadata.read(first), "step": step}
        before = len(self.clip.parts)
        try:
            made = [self._new(suffix) for _ in parts]
            for (part, frames), target in zip(parts, made, strict=True):
                _cut(part, target, frames, encoding, known)
            if len(made) == 1:
                return made[0], contents(made[0], decode=True).frames
            whole = self._new(suffix)
            frames = join(made, whole, encoding, known)
        except BaseException:
            for path in self.clip.parts[before:]:
                path.unlink(missing_ok=True)
            raise
        for path in made:
            path.unlink()
        return whole, frames

    def _new(self, suffix: str) -> Path:
        """Return the name of another part, which joins those before it."""
        numbers = [int(number) for path in self.clip.parts for number in re.findall(r"-(\d+)j?\.\w+$", path.name)]
        name = f"{self.clip.stem.name}{names.MARK}{self.clip.token}-{max(numbers, default=0) + 1}j{suffix}"
        self.clip.parts.append(self.clip.stem.with_name(name))
        return self.clip.parts[-1]

    def _complete(self, part: Path, frames: int) -> None:
        """Cut a tensor on disk after its last whole frame, and write what stands around it."""
        with part.open("r+b") as file:
            file.truncate(_head(part) + frames * self._frame_bytes(part))
            if part.suffix == ".pt":
                crc = 0
                file.seek(HEAD_BYTES)
                while chunk := file.read(CHUNK_BYTES):
                    crc = zlib.crc32(chunk, crc)
                complete(file, (1, frames, 3, int(self.about["height"]), int(self.about["width"])), crc)


def _cut(part: Path, target: Path, frames: int, encoding: Encoding, known: Mapping[str, Any]) -> None:
    """Write the frames of a part into an ordinary file, without the last one if that is damaged."""
    for count in (frames, frames - 1):
        target.unlink(missing_ok=True)
        with _readable(part) as path:
            cut(path, target, count, encoding, known)
        if not count or not target.exists():
            continue
        found = contents(target, decode=True)
        if not found.stderr and found.frames == count:
            return
    raise EncoderError(f"the {frames} frames of {part} could not be saved")


@contextmanager
def _readable(part: Path) -> Iterator[Path]:
    """Give a part, or a copy of it without the head of a fragment that it has not whole."""
    torn = torn_at(part) if part.suffix == ".mp4" else None
    if torn is None:
        yield part
        return
    with tempfile.TemporaryDirectory(prefix="vidrec-") as folder:
        copy = Path(shutil.copy(part, folder))
        os.truncate(copy, torn)
        yield copy


def _head(part: Path) -> int:
    return HEAD_BYTES if part.suffix == ".pt" else 0


def _tensor_bytes(part: Path) -> int:
    """Return how large the tensor in a file of ``torch.save`` is; 0 if it is not finished."""
    try:
        size, broken = measure(part)
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return 0
    return 0 if broken else size

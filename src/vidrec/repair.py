"""Clips that were left behind by a crash, made ordinary videos: what `vidrec repair` does.

Nothing is encoded again, but where a GIF or animated PNG has several parts, which loses nothing. A clip's files are
deleted when its video is whole, before it gets its name: whatever ends the repair, the next one goes on with it.
"""

import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidrec import files, sidecar
from vidrec import folder as folders
from vidrec.encoding import FORMATS, Encoding
from vidrec.errors import EncoderError, VidrecError
from vidrec.ffmpeg import contents, cut, encode_again, join
from vidrec.folder import LeftClip
from vidrec.index import VideoIndex
from vidrec.torch_file import HEAD_BYTES, complete

CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Repaired:
    """What became of an unfinished clip.

    Attributes:
        clip: its file, or the first of them.
        video: the video that it is now, or would be; None if there is none.
        frames: how many it has.
        outcome: in words: "repaired", "deleted: ...", "being recorded", "failed: ...".
    """

    clip: Path
    video: Path | None
    frames: int
    outcome: str

    @property
    def failed(self) -> bool:
        return self.outcome.startswith("failed")


Watch = Callable[[list[LeftClip]], Iterable[LeftClip]]
"""Yields what it is given, and may show how far that has come."""


def repair(folder: Path, *, dry_run: bool = False, watch: Watch = iter) -> Iterator[Repaired]:
    """Make videos of the unfinished clips in a folder and those below it; yield what became of each.

    A clip that is being recorded stays as it is. Pictures that are only in part in a file are cut off.

    Args:
        folder: where to look.
        dry_run: change nothing, and yield what would be.
        watch: is given all clips, and yields them.
    """
    for clip in watch(folders.left_clips(folder)):
        if clip.in_use:
            yield Repaired(clip.first, None, 0, "being recorded")
            continue
        try:
            yield _repair(clip, dry_run)
        except (VidrecError, OSError, ValueError) as error:
            yield Repaired(clip.first, None, 0, f"failed: {error}")
    for copy in folders.left_copies(folder):
        if not dry_run:
            copy.unlink()
        yield Repaired(copy, None, 0, "deleted: a copy that was cut off")


def _repair(clip: LeftClip, dry_run: bool) -> Repaired:
    first = clip.first
    about = {} if clip.sidecar is None else sidecar.read(clip.sidecar)
    parts = clip.whole_parts() if clip.parts else []
    counts = [_count(part, about) for part in parts]
    parts = [part for part, count in zip(parts, counts, strict=True) if count]
    frames = sum(counts)
    if not frames:
        if not dry_run:
            _delete(clip, None)
        return Repaired(first, None, 0, "deleted: it holds no whole picture")
    index = None
    if about.get("index") is not None:
        index = VideoIndex((clip.stem.parent / about["index"]).resolve())
    target = _target(clip, parts[0].suffix, index)
    if dry_run:
        return Repaired(first, target, frames, "to be repaired")
    whole = _whole(clip, parts, frames, about)
    _delete(clip, whole)
    video = files.move(whole, target)
    if index is not None:
        found = _row(video, frames, about)
        tag = str(clip.stem.relative_to(index.folder / "videos"))
        step = video.stem.rpartition("_")[2]
        index.add(tag=tag, step=step, file=str(video.relative_to(index.folder)), **found)
    if clip.sidecar is not None:
        clip.sidecar.unlink()
    return Repaired(first, video, frames, "repaired")


def _count(part: Path, about: dict[str, Any]) -> int:
    """Return how many whole pictures a file has."""
    if FORMATS[part.suffix[1:]].encoded:
        return contents(part, decode=True).frames
    picture = _picture_bytes(part, about)
    if part.suffix == ".pt" and zipfile.is_zipfile(part):
        with zipfile.ZipFile(part) as archive:
            return max(entry.file_size for entry in archive.infolist()) // picture
    return max(0, part.stat().st_size - _head(part)) // picture


def _head(part: Path) -> int:
    return HEAD_BYTES if part.suffix == ".pt" else 0


def _picture_bytes(part: Path, about: dict[str, Any]) -> int:
    try:
        return 3 * int(about["height"]) * int(about["width"])
    except (KeyError, TypeError, ValueError):
        raise EncoderError(f"{part} does not say how large its pictures are, and nothing beside it does") from None


def _target(clip: LeftClip, suffix: str, index: VideoIndex | None) -> Path:
    """Return the name with the step after the last one of this tag."""
    name = re.compile(rf"{re.escape(clip.stem.name)}_(\d+)(_\d+)?")
    taken = [int(match[1]) for path in clip.stem.parent.iterdir() if (match := name.fullmatch(path.stem))]
    if index is not None:
        tag = str(clip.stem.relative_to(index.folder / "videos"))
        taken += [int(row["step"]) for row in index.rows() if row["tag"] == tag and row["step"].isdecimal()]
    return clip.stem.with_name(f"{clip.stem.name}_{max(taken, default=-1) + 1}{suffix}")


def _whole(clip: LeftClip, parts: list[Path], frames: int, about: dict[str, Any]) -> Path:
    """Return a file with all pictures of the parts, ordinary and whole; the parts stay."""
    suffix = parts[0].suffix
    if not FORMATS[suffix[1:]].encoded:
        _complete(parts[0], frames, about)
        return parts[0]
    numbers = [int(number) for path in clip.parts for number in re.findall(r"-(\d+)j?\.\w+$", path.name)]
    name = f"{clip.stem.name}{files.MARK}{clip.token}-{max(numbers, default=0) + 1}j{suffix}"
    whole = clip.stem.with_name(name)
    encoding = Encoding.of(suffix[1:], fps=about.get("fps", 30))
    try:
        if len(parts) == 1:
            cut(parts[0], whole, frames, encoding.muxer_args)
        elif encoding.format.joinable:
            join(parts, whole, encoding.muxer_args)
        else:
            encode_again(parts, whole, encoding.fps, encoding.again, encoding.encoder_args())
        found = contents(whole, decode=True)
        if found.words or found.frames != frames:
            raise EncoderError(f"{found.frames} of {frames} frames could be saved from {parts}: {found.words}")
    except BaseException:
        whole.unlink(missing_ok=True)
        raise
    return whole


def _complete(part: Path, frames: int, about: dict[str, Any]) -> None:
    """Cut a tensor on disk after its last whole picture, and write what stands around it."""
    end = _head(part) + frames * _picture_bytes(part, about)
    with part.open("r+b") as file:
        file.truncate(end)
        if part.suffix == ".pt":
            crc = 0
            file.seek(HEAD_BYTES)
            while chunk := file.read(CHUNK_BYTES):
                crc = zlib.crc32(chunk, crc)
            complete(file, (1, frames, 3, int(about["height"]), int(about["width"])), crc)


def _row(video: Path, frames: int, about: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of the index that say what is in the video."""
    fps = float(Fraction(about["fps"]))
    row = {name: about.get(name) for name in ("height", "width", "codec", "lane", "episode")}
    return row | {"frames": frames, "fps": fps, "seconds": frames / fps, "ended": "unfinished"}


def _delete(clip: LeftClip, whole: Path | None) -> None:
    """Delete the parts of a clip but one, the first one first; and the file beside it if there is no video."""
    for part in clip.parts:
        if part != whole:
            part.unlink(missing_ok=True)
    if whole is None and clip.sidecar is not None:
        clip.sidecar.unlink(missing_ok=True)

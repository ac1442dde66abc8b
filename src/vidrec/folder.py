"""What is in a folder of videos: finished ones, clips that were left behind, and the rows of an index."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vidrec import files, sidecar
from vidrec.encoding import FORMATS
from vidrec.index import NAME, VideoIndex

SUFFIXES = {f".{row.extension}" for row in FORMATS.values()}

_PART = re.compile(
    r"(?P<stem>.+)\.part-(?P<token>[0-9a-f]{8})(-(?P<number>\d+)(?P<joined>j?))?(?P<suffix>\.\w+)", re.DOTALL
)


@dataclass
class LeftClip:
    """The files of a clip that is not finished.

    Attributes:
        stem: the folder and the name, without a step.
        token: what tells it from others of the same name.
        parts: the files with its pictures, in order, by number.
        sidecar: the file beside it, which may be missing.
    """

    stem: Path
    token: str
    parts: list[Path] = field(default_factory=list)
    sidecar: Path | None = None

    @property
    def in_use(self) -> bool:
        """Whether it is being recorded."""
        return self.sidecar is not None and files.in_use(self.sidecar)

    @property
    def first(self) -> Path:
        """The first of its files."""
        return (self.parts or [self.sidecar or self.stem])[0]

    def whole_parts(self) -> list[Path]:
        """Return the parts that hold each picture once.

        A part that joins those with lower numbers was cut off as long as the first of them is there, and stands for
        them once it is gone; see `vidrec.clip.EncodedClip`.
        """
        named = [(_PART.fullmatch(path.name), path) for path in self.parts]
        joined = [path for match, path in named if match and match["joined"]]
        first, path = named[0]
        if joined and first and first["number"] and not first["joined"]:  # the first part is gone
            return self.parts[self.parts.index(joined[0]) :]
        return [path, *(path for path in self.parts[1:] if path not in joined)]


def videos(folder: Path) -> list[Path]:
    """Return the finished videos in a folder and those below it."""
    found = (path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    return sorted(path for path in found if files.MARK not in path.name)


def left_clips(folder: Path) -> list[LeftClip]:
    """Return the clips in a folder and those below it that are not finished."""
    found: dict[tuple[Path, str], LeftClip] = {}
    numbers: dict[Path, int] = {}
    for path in sorted(folder.rglob(f"*{files.MARK}*")):
        if (match := _PART.fullmatch(path.name)) is None or not path.is_file():
            continue
        stem = path.with_name(match["stem"])
        clip = found.setdefault((stem, match["token"]), LeftClip(stem, match["token"]))
        if match["suffix"] == sidecar.SUFFIX:
            clip.sidecar = path
        elif match["suffix"] in SUFFIXES:
            numbers[path] = int(match["number"] or 0)
            clip.parts.append(path)
    for clip in found.values():
        clip.parts.sort(key=numbers.__getitem__)
    return list(found.values())


def left_copies(folder: Path) -> list[Path]:
    """Return files that were copied from others when the process ended; the others are there."""
    found = (path for path in folder.rglob(f"*{files.MARK}*") if path.is_file() and not _PART.fullmatch(path.name))
    return sorted(path for path in found if not files.in_use(path))


def indices(folder: Path) -> Iterator[VideoIndex]:
    """Yield the indices in a folder and those below it, and that of the folder itself if it lies beside."""
    for path in sorted(folder.rglob(NAME)):
        yield VideoIndex(path.parent)
    if (folder.parent / NAME).exists():
        yield VideoIndex(folder.parent)


def row_of(video: Path) -> dict[str, str] | None:
    """Return the row of a video in the nearest index above it, None if it has none."""
    for place in video.absolute().parents:
        for row in VideoIndex(place).rows():
            if place / row.get("file", "") == video.absolute():
                return row
    return None


def rows(folder: Path) -> dict[Path, list[dict[str, str]]]:
    """Return the rows of all indices of a folder, by the file that they are about."""
    found: dict[Path, list[dict[str, str]]] = defaultdict(list)
    for index in indices(folder):
        for row in index.rows():
            path = index.folder / row.get("file", "")
            if path.is_relative_to(folder):
                found[path].append(row)
    return found

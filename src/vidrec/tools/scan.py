"""What is in a folder of videos: finished ones, clips that were left behind, and the rows of an index."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vidrec.ffmpeg.encoding import BY_SUFFIX
from vidrec.files import manifest, names
from vidrec.files.index import NAME, RowFile, VideoIndex

SUFFIXES = set(BY_SUFFIX)

_KIND = "|".join(suffix[1:] for suffix in sorted(SUFFIXES))
_CLIP = re.compile(
    rf"(?P<stem>.+)\.part-(?P<token>[0-9a-f]{{8}})(-(?P<number>\d+)(?P<joined>j?))?\.({_KIND}|log)", re.S
)
_COPY = re.compile(rf".+\.({_KIND}|csv)\.part-[0-9a-f]{{8}}", re.S)


@dataclass
class LeftClip:
    """The files of a clip that is not finished.

    Attributes:
        stem: the folder and the name, without a step.
        token: what tells it from others of the same name.
        parts: the files with its frames, in order, by number.
    """

    stem: Path
    token: str
    parts: list[Path] = field(default_factory=list)

    @property
    def manifest(self) -> Path:
        """The file beside it, which may be missing."""
        return self.stem.with_name(f"{self.stem.name}{names.MARK}{self.token}{manifest.SUFFIX}")

    @property
    def in_use(self) -> bool:
        """Whether it is being recorded."""
        return names.in_use(self.manifest)

    @property
    def abandoned(self) -> bool:
        """Whether nobody records it any more; False where there are no locks that tell."""
        return names.unlocked(self.manifest) and not self.gone

    @property
    def first(self) -> Path:
        """The first of its files."""
        return self.parts[0] if self.parts else self.manifest

    @property
    def gone(self) -> bool:
        """Whether it was finished while one looked."""
        return not any(path.exists() for path in (*self.parts, self.manifest))

    def whole_parts(self) -> list[Path]:
        """Return the parts that hold each frame once.

        A part that joins those with lower numbers was cut off as long as the first of them is there, and stands for
        them once it is gone; see `vidrec.clips.EncodedClip`.
        """
        joined = [path for path in self.parts if _joins(path)]
        begin = 0
        if joined and _number(self.parts[0]) and not _joins(self.parts[0]):  # the first part is gone
            begin = self.parts.index(joined[0])
        first, *others = self.parts[begin:]
        return [first, *(path for path in others if path not in joined)]


def videos(folder: Path) -> list[Path]:
    """Return the finished videos in a folder and those below it."""
    return [path for path in files(folder) if is_video(path.name)]


def is_video(path: str) -> bool:
    """Return whether a file has the name of a finished video."""
    name = os.path.basename(path)
    return os.path.splitext(name)[1] in SUFFIXES and names.MARK not in name


def left_clips(folder: Path) -> list[LeftClip]:
    """Return the clips in a folder and those below it that are not finished."""
    return left_clips_in(files(folder, names.MARK))


def left_clips_in(paths: Iterable[Path]) -> list[LeftClip]:
    """Return the clips of these files that are not finished."""
    found: dict[tuple[Path, str], LeftClip] = {}
    for path in paths:
        if (match := _CLIP.fullmatch(path.name)) is None:
            continue
        stem = path.with_name(match["stem"])
        clip = found.setdefault((stem, match["token"]), LeftClip(stem, match["token"]))
        if path != clip.manifest:
            clip.parts.append(path)
    for clip in found.values():
        clip.parts.sort(key=_number)
    # an empty file beside nothing is one that was only just made, and not locked yet
    return [clip for clip in found.values() if clip.parts or _size(clip.manifest)]


def left_clip(clip: LeftClip) -> LeftClip | None:
    """Return what is left of a clip now; None if nothing is."""
    same = (left for left in left_clips_in(clip.stem.parent.iterdir()) if left.stem == clip.stem)
    return next((left for left in same if left.token == clip.token), None)


def left_copies(folder: Path) -> list[Path]:
    """Return files that were copied from others, which are there, when their process ended."""
    found = files(folder)
    return [path for path in found if _COPY.fullmatch(path.name) and not names.in_use(path) and _size(path)]


def indices(folder: Path) -> Iterator[VideoIndex]:
    """Yield the indices in a folder and those below it, and those above that may be about it."""
    yield from indices_of(files(folder), folder)


def indices_of(paths: Iterable[Path], folder: Path) -> Iterator[VideoIndex]:
    """Yield those among the files of a folder, and those above it."""
    for path in paths:
        if path.name == NAME:
            yield VideoIndex(path.parent)
        elif path.suffix == ".json" and is_video(path.name.removesuffix(".json")):
            yield RowFile(path)
    for place in folder.parents:
        if (place / NAME).exists():
            yield VideoIndex(place)


def rows(folder: Path, of: Iterable[VideoIndex]) -> dict[Path, list[dict[str, str]]]:
    """Return the rows of those indices that can be read, by the file in the folder that they are about."""
    found: dict[Path, list[dict[str, str]]] = defaultdict(list)
    for index in of:
        for row in _rows(index):
            # not resolved: the folder of the videos may be a link
            path = Path(os.path.normpath(index.folder / row["file"]))
            if path.is_relative_to(folder):
                found[path].append(row)
    return found


def row_of(video: Path) -> dict[str, str] | None:
    """Return the row of a video in the nearest index above it, None if it has none."""
    for row in _rows(RowFile(video.with_name(f"{video.name}.json"))):
        return row
    for place in video.absolute().parents:
        for row in _rows(VideoIndex(place)):
            if place / row["file"] == video.absolute():
                return row
    return None


def _rows(index: VideoIndex) -> list[dict[str, str]]:
    try:
        return index.rows()
    except (OSError, ValueError):
        return []


def files(folder: Path, mark: str = "") -> list[Path]:
    """Return all files in a folder and those below it, behind links too, each folder once, whose names hold `mark`."""
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for place, below, found_names in os.walk(folder, followlinks=True):
        below.sort(key=lambda name: (os.path.islink(os.path.join(place, name)), name))
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        marked = (Path(place, name) for name in found_names if mark in name)
        found += [path for path in marked if path.is_file()]
    return sorted(found)


def _size(copy: Path) -> int:
    """Return the size of a copy; 0 if it is gone, or was only just made and is not locked yet."""
    try:
        return copy.stat().st_size
    except OSError:
        return 0


def _number(part: Path) -> int:
    match = _CLIP.fullmatch(part.name)
    return int(match["number"] or 0) if match else 0


def _joins(part: Path) -> bool:
    match = _CLIP.fullmatch(part.name)
    return bool(match and match["joined"])

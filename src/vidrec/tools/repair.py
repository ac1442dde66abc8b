"""Clips that were left behind by a crash, made ordinary videos: what `vidrec repair` does.

Nothing is encoded again, but a WebP, and a GIF or animated PNG of several parts, which loses nothing. A clip's files
are deleted when its video is whole, before it gets its name, and its manifest when the video has its row: whatever ends
the repair, the next one goes on with it.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidrec.ffmpeg import metadata
from vidrec.files import manifest, names
from vidrec.files.index import VideoIndex, shape_text
from vidrec.tools import scan
from vidrec.tools.parts import Parts
from vidrec.tools.scan import LeftClip

UNREADABLE = ".unreadable"
"""What is added to the name of a file that should hold frames, and in which FFmpeg finds none."""

Watch = Callable[[list[LeftClip]], Iterable[LeftClip]]
"""Yields what it is given, and may show how far that has come."""


@dataclass(frozen=True)
class Repaired:
    """What became of an unfinished clip.

    Attributes:
        clip: its file, or the first of them.
        video: the video that it is now, or would be; None if there is none.
        frames: how many it has.
        outcome: "repaired", "deleted: ...", "set aside: ...", "being recorded", "failed: ...".
    """

    clip: Path
    video: Path | None
    frames: int
    outcome: str

    @property
    def failed(self) -> bool:
        return self.outcome.startswith("failed")


def repair(folder: Path, *, dry_run: bool = False, sync: bool = False, watch: Watch = iter) -> Iterator[Repaired]:
    """Make videos of the unfinished clips in a folder and those below it; yield what became of each.

    A clip that is being recorded stays as it is. Frames that are only in part in a file are cut off.

    Args:
        folder: where to look.
        dry_run: change nothing, and yield what would be.
        sync: drop the rows of videos that somebody has deleted.
        watch: is given all clips, and yields them.
    """
    taken: set[Path] = set()
    next_steps: dict[tuple[Path, str], int] = {}
    for clip in watch(scan.left_clips(folder)):
        first, gone = clip.first, clip.gone
        with names.exclusively(clip.manifest if clip.manifest.exists() else first) as ours:
            now = scan.left_clip(clip)  # whoever had it may have changed it
            if ours and now is not None:
                try:
                    yield _Repair(now, dry_run, taken, next_steps).run()
                except Exception as error:  # of this one; the others have their turn
                    yield Repaired(first, None, 0, f"failed: {error}")
            elif not gone and not clip.gone:
                yield Repaired(first, None, 0, "being recorded")
    for copy in scan.left_copies(folder):
        if not dry_run:
            copy.unlink(missing_ok=True)
        yield Repaired(copy, None, 0, f"{_deleted(dry_run)}: a copy that was cut off")
    if not sync:
        return
    for index in list(scan.indices(folder)):
        for path, rows in sorted(scan.rows(folder, [index]).items()):
            for file in dict.fromkeys(row["file"] for row in rows):
                there = (index.folder / file).exists
                if not there() and (dry_run or index.remove(file, unless=there)):
                    yield Repaired(path, None, 0, f"{_deleted(dry_run)}: the row of a video that is not there")


@dataclass
class _Repair:
    """The repair of one clip.

    Attributes:
        clip: what is left of it.
        dry_run: whether to change nothing.
        taken: the names that others will get.
        next_steps: by index and tag, the step after the last one that the index had when the repair began.
        about: what its manifest says.
        parts: its files, which are counted and joined.
    """

    clip: LeftClip
    dry_run: bool
    taken: set[Path]
    next_steps: dict[tuple[Path, str], int]
    about: dict[str, Any] = field(init=False)
    parts: Parts = field(init=False)

    def __post_init__(self) -> None:
        self.about = manifest.read(self.clip.manifest)
        self.parts = Parts(self.clip, self.about)

    def run(self) -> Repaired:
        clip = self.clip
        first = clip.first
        videos = self._videos()
        parts: list[tuple[Path, int]] = []
        # unless its name was given, and this one not yet taken away
        if clip.parts and not any(path.samefile(video) for path in clip.parts for video in videos):
            parts = [(path, count) for path in clip.whole_parts() if (count := self.parts.count(path))]
        frames = sum(count for _, count in parts)
        if not frames:
            return self._finish_row(first)
        target = self._target(parts[0][0].suffix)
        if self.dry_run:
            return Repaired(first, target, frames, "to be repaired")
        whole, frames = self.parts.whole(parts, int(self._step(target) or 0))
        for part in clip.parts:  # the first one first
            if part != whole:
                self._delete(part)
        video = names.move(whole, target)
        self._add_row(video, frames)
        clip.manifest.unlink(missing_ok=True)
        return Repaired(first, video, frames, "repaired")

    def _finish_row(self, first: Path) -> Repaired:
        """Finish a clip without frames: give its row to a video that was named and has none, and delete the rest."""
        index = self._index
        named = set() if index is None else {index.folder / row["file"] for row in index.rows()}
        left = [video for video in self._videos() if video not in named] if index is not None else []
        video, frames = (left[0], self.parts.count(left[0])) if len(left) == 1 else (None, 0)
        if not self.dry_run:
            if video is not None:
                self._add_row(video, frames)
            for path in (*self.clip.parts, self.clip.manifest):
                self._delete(path)
        if video is not None:
            return Repaired(first, video, frames, "to be repaired" if self.dry_run else "repaired")
        if self.parts.unreadable:
            return Repaired(first, None, 0, f"{'to be ' * self.dry_run}set aside: FFmpeg reads nothing of it")
        return Repaired(first, None, 0, f"{_deleted(self.dry_run)}: it holds no whole frame")

    def _delete(self, path: Path) -> None:
        if path in self.parts.unreadable:
            path.rename(f"{path}{UNREADABLE}")
        else:
            path.unlink(missing_ok=True)

    @property
    def _index(self) -> VideoIndex | None:
        if (place := self.about.get("index")) is None:
            return None
        # not resolved: the folder of the videos may be a link
        return VideoIndex(Path(os.path.normpath(self.clip.stem.parent / str(place))))

    def _step(self, video: Path) -> str | None:
        """Return the step in the name of a finished video of this clip; None if it is none."""
        match = re.fullmatch(rf"{re.escape(self.clip.stem.name)}_(\d+)(_\d+)?", video.stem)
        return match and match[1]

    def _videos(self) -> list[Path]:
        """Return the finished videos of this clip's name."""
        found = (path for path in self.clip.stem.parent.iterdir() if path.suffix in scan.SUFFIXES)
        return sorted(path for path in found if self._step(path) is not None)

    def _target(self, suffix: str) -> Path:
        """Return the name with the step after the last one of this tag, the same for all that a crash left of it."""
        stem = self.clip.stem
        step = max((int(self._step(path) or -1) for path in (*self._videos(), *self.taken)), default=-1) + 1
        if (index := self._index) is not None:
            key = index.path, self._tag(index)
            if key not in self.next_steps:
                self.next_steps[key] = index.next_step(key[1])
            step = max(step, self.next_steps[key])
        target = stem.with_name(f"{stem.name}_{step}{suffix}")
        self.taken.add(target)
        return target

    def _tag(self, index: VideoIndex) -> str:
        """Return the tag of the recorder; of a clip that does not tell it, the name."""
        return self.about.get("tag") or str(self.clip.stem.relative_to(index.folder / "videos"))

    def _add_row(self, video: Path, frames: int) -> None:
        if (index := self._index) is None:
            return
        fps = float(Fraction(self.about["fps"]))
        told = ("height", "width", "codec", "env_id", "agent", "episode", "env_step", "time")
        row = {column: self.about.get(column) for column in told}
        row |= {"frames": frames, "fps": fps, "seconds": frames / fps, "ended": "unfinished", **metadata.row(video)}
        if row["codec"] == "none":
            row |= {"dtype": "uint8", "shape": shape_text((1, frames, 3, row["height"], row["width"]))}
        file = str(video.relative_to(index.folder))
        index.add(**row | {"tag": self._tag(index), "step": self._step(video), "file": file})


def _deleted(dry_run: bool) -> str:
    return "to be deleted" if dry_run else "deleted"

"""The videos of a folder, with what is known of each without decoding it. What `vidrec list` shows."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vidrec.errors import ExtraError, SettingError, StoreError, VidrecError
from vidrec.ffmpeg import metadata
from vidrec.files.index import VideoIndex, row_of_json, time_of
from vidrec.files.store import Store
from vidrec.tools import events, scan

_OF_WANDB = re.compile(r"(?P<run>.+)/files/media/videos/(?P<tag>.+)_(?P<step>\d+)_[0-9a-f]{20}\.\w+", re.S)
"""Where a run of Weights & Biases keeps a video; the step is the run's own."""


@dataclass(frozen=True)
class ListedVideo:
    """A video in a folder, as its row says, or its event file: what `vidrec.FolderVideo` is without reading the file.

    Attributes:
        event: what the event file says that holds it; None for a file of its own.
        index: the index that has its row; None without one.
        row: its row there.
    """

    path: Path
    run: Path
    bytes: int
    time: datetime
    age_s: float
    tag: str | None = None
    step: int | None = None
    env_id: int | None = None
    agent: int | None = None
    episode: int | None = None
    return_: float | None = None
    length: int | None = None
    ended: str | None = None
    frames: int | None = None
    fps: float | None = None
    seconds: float | None = None
    height: int | None = None
    width: int | None = None
    codec: str | None = None
    env_step: int | None = None
    event: events.EventVideo | None = field(default=None, repr=False)
    index: VideoIndex | None = field(default=None, repr=False, compare=False)
    row: Mapping[str, str] | None = field(default=None, repr=False, compare=False)

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the frames in the file, in pixels."""
        return None if self.height is None or self.width is None else (self.height, self.width)

    def delete(self) -> None:
        """Delete the file together with its row, while nobody else writes the index; nothing if both are gone.

        Raises:
            SettingError: it is in an event file, which keeps what it has.
            VidrecError: another video has its name by now, which is not deleted.
            OSError: the file cannot be deleted; it keeps its row.
        """
        if self.event is not None:
            raise SettingError(f"{self.tag!r} is in {self.path}, and no single video can be deleted from there")
        if self.index is None or self.row is None:
            self.path.unlink(missing_ok=True)
            return
        done = self.index.delete([self.row])
        if not done and self.path.exists():
            raise VidrecError(f"{self.path} has another row by now, and is kept; look through the folder again")
        if (error := done.get(self.row["file"])) is not None:
            raise error


@dataclass
class Listing:
    """What is found in a folder.

    Attributes:
        folder: which was looked through, with all below it.
        files: all its files.
        now: when it was looked through.
        videos: its videos: those with rows in the order of their indices, then those of W&B, of event files, and
            others.
        deleted: where videos should be that have a row and no file.
        unreadable: indices and event files that cannot be read, and why.
    """

    folder: Path
    files: list[Path]
    now: datetime
    videos: list[ListedVideo] = field(default_factory=list)
    deleted: list[Path] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def add(self, path: str | Path, run: Path, **known: Any) -> bool:
        """Add a video, unless its file was added before; return whether the file is there."""
        if str(path) in self.seen:
            return True
        try:
            status = os.stat(path)
        except (OSError, ValueError):  # such as a null byte, of a damaged index
            return False
        self.seen.add(str(path))
        self.append(Path(path), run, status.st_size, status.st_mtime, **known)
        return True

    def add_event(self, path: Path, event: events.EventVideo) -> None:
        """Add a video that is in an event file."""
        known = {**vars(event), **event.about, "event": event}
        del known["about"], known["suffix"]
        self.append(path, path.parent, known.pop("bytes"), known.pop("wall_time"), **known)

    def append(
        self, path: Path, run: Path, size: int, written_s: float, time: datetime | None = None, **known: Any
    ) -> None:
        """Add a video of this size in bytes, which was written at this time in seconds."""
        time = time or datetime.fromtimestamp(written_s, timezone.utc)
        age_s = (self.now - time).total_seconds()
        self.videos.append(ListedVideo(path, run, size, time, age_s, **known))


def read(folder: Path) -> Listing:
    """Return what is in a folder and those below it. No video is opened, and a clip that is being recorded is none.

    Raises:
        SettingError: it is no folder.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise SettingError(f"{folder} is no folder; expected one with videos in it or below it")
    listing = Listing(folder, scan.files(folder), datetime.now(timezone.utc))
    for reader in READERS:
        reader(listing)
    return listing


def read_store(url: str) -> Listing:
    """Return the videos at the URL of an object store and below it, by the rows that are beside them.

    No video is opened. Paths and runs are relative to the URL.

    Raises:
        ExtraError: the package for stores of this kind is not installed.
        SettingError: it is the URL of no object store, or there is nothing.
        StoreError: the store does not answer, or lets nobody read.
    """
    listing, store = Listing(Path(), [], datetime.now(timezone.utc)), Store(url)
    try:
        objects = store.find()
        found = store.read(f"{name}.json" for name in objects if scan.is_video(name) and f"{name}.json" in objects)
    except FileNotFoundError:
        objects = {}
    except Exception as error:  # each store has its own
        raise StoreError(f"{url} cannot be read: {type(error).__name__}: {error}") from error
    if not objects:
        raise SettingError(f"there is nothing at {url}")
    for name, about in objects.items():
        if not scan.is_video(name):
            continue
        row: dict[str, str] = {}
        try:
            row = row_of_json(found.get(f"{name}.json", b"{}"))
        except ValueError as error:
            listing.unreadable.append(f"{url}/{name}.json cannot be read: {error}")
        file = row.get("file")
        run = Path(name.removesuffix(file)) if file and f"/{name}".endswith(f"/{file}") else Path(name).parent
        written = about.get("LastModified") or about.get("created") or about.get("mtime")
        written_s = written.timestamp() if isinstance(written, datetime) else listing.now.timestamp()
        listing.append(Path(name), run, int(about.get("size") or 0), written_s, **_known(row))
    return listing


def read_indices(listing: Listing) -> None:
    """Add the videos that have a row in ``videos.csv``, or of their own."""
    for index in scan.indices_of(listing.files, listing.folder):
        try:
            missing = _read_index(listing, index)
            if missing:  # a training drops the row of a video first, and then deletes it
                rows = {row["file"] for row in index.rows()}
                listing.deleted += [path for file, path in missing.items() if file in rows and not path.exists()]
        except (OSError, ValueError) as error:
            listing.unreadable.append(f"{index.path} cannot be read: {error}")


def _read_index(listing: Listing, index: VideoIndex) -> dict[str, Path]:
    """Add the videos of an index; return where those should be that are not there, by what their rows say."""
    below, missing = os.path.join(listing.folder, ""), {}
    for row in index.rows():
        path = os.path.normpath(os.path.join(index.folder, row["file"]))
        if not (path.startswith(below) and scan.is_video(path)):
            continue
        if not listing.add(path, index.folder, **_known(row), index=index, row=row):
            missing[row["file"]] = Path(path)
    return missing


def read_wandb(listing: Listing) -> None:
    """Add the videos in the folders of runs of Weights & Biases."""
    for path in listing.files:
        if scan.is_video(path.name) and (match := _OF_WANDB.fullmatch(str(path))):
            listing.add(path, Path(match["run"]), tag=match["tag"], step=int(match["step"]))


def read_events(listing: Listing) -> None:
    """Add the videos that are in event files of TensorBoard."""
    for path in listing.files:
        if events.is_event_file(path):
            try:
                for event in events.read(path):
                    listing.add_event(path, event)
            except (OSError, ValueError, ExtraError) as error:
                listing.unreadable.append(f"{path} cannot be read: {error}")


def read_others(listing: Listing) -> None:
    """Add the videos of which nothing is known but what the file says of itself."""
    runs = {video.run for video in listing.videos}
    runs |= {path.parent for path in listing.files if events.is_event_file(path)}
    for path in listing.files:
        if str(path) not in listing.seen and scan.is_video(path.name):
            run = next((place for place in path.parents if place in runs), path.parent)
            listing.add(path, run, **_known(metadata.row(path)))


READERS: tuple[Callable[[Listing], None], ...] = (read_indices, read_wandb, read_events, read_others)
"""Each adds the videos that it knows of; a file that one before it has added stays as it is."""


def _known(row: Mapping[str, str]) -> dict[str, Any]:
    return {name: _parsed(parse, row.get(column)) for column, (name, parse) in _ATTRIBUTES.items()}


def _parsed(parse: Callable[[str], Any], text: str | None) -> Any:
    try:
        return parse(text) if text else None
    except (ValueError, OverflowError):
        return None


_ATTRIBUTES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "tag": ("tag", str),
    "step": ("step", int),
    "env_id": ("env_id", int),
    "agent": ("agent", int),
    "episode": ("episode", int),
    "return": ("return_", float),
    "length": ("length", int),
    "ended": ("ended", str),
    "frames": ("frames", int),
    "fps": ("fps", float),
    "seconds": ("seconds", float),
    "height": ("height", int),
    "width": ("width", int),
    "codec": ("codec", str),
    "env_step": ("env_step", int),
    "time": ("time", time_of),
}
"""The attribute of a `ListedVideo` that a column of ``videos.csv`` is, and how it is read."""

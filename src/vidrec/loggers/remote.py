"""The experiment of a `CSVLogger` in an object store: videos grow on this machine, and go up when they are whole."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vidrec.clips import FileClip, Video
from vidrec.files import forks
from vidrec.loggers.csv import CSVExperiment, counts
from vidrec.loggers.uploads import Uploader, Uploads

_STEP = re.compile(r"_(\d+)(_p[0-9a-f]{16})?(_\d+)?\.")
"""How the name of a video ends: with its step, the mark of a spool, and a number if the name was taken."""

OF_THIS_SPOOL = ("_uploader", "log_dir", "_index")
"""What another process, and whoever logs after `close`, has of its own."""


class RemoteExperiment(CSVExperiment):
    """An experiment at a URL: a folder of this process, its spool, from which all goes up.

    A copy in another process has a spool and an uploader of its own.
    """

    def __init__(self, url: str, uploads: Uploads, *, video_format: str, video_fps: Any) -> None:
        self.url, self._uploads = url.rstrip("/"), uploads
        super().__init__(self.log_dir, video_format=video_format, video_fps=video_fps)
        forks.detach_in_child(self)

    @cached_property
    def _uploader(self) -> Uploader:
        return Uploader(self.url, self._uploads)

    @cached_property
    def log_dir(self) -> str:
        """The folder of the spool."""
        return str(self._uploader.spool.folder)

    def open_clip(self, tag: str, **settings: Any) -> FileClip:
        clip = super().open_clip(tag, **settings)
        self._uploader.look(_split(tag)[0])  # for `next_step`
        return clip

    def add_video(self, tag: str, vid_tensor: Any, global_step: int | None = None, **settings: Any) -> Video:
        """Publish a video in the spool, and send it, see `CSVLogger.log_video`."""
        self._uploader.wait_for_room()
        video = super().add_video(tag, vid_tensor, global_step, **settings)
        self._uploader.tell()
        return replace(video, url=f"{self.url}/{self._file(video)}")

    def _add_row(self, video: Video, row: Mapping[str, Any]) -> None:
        with suppress(OSError):  # it is for the next process, should this one be killed
            self._index.add(**row)
        self._uploader.add(row)

    def _publish(self, tag: str, video: Any, stem: Path, step: int, settings: dict[str, Any]) -> Video:
        """Do the same, under a name that no video of this process has had."""
        had = {path.with_suffix("") for path in self._uploader.names}
        taken, number = stem, 0
        while taken in had:
            number += 1
            taken = stem.with_name(f"{stem.name}_{number}")
        return super()._publish(tag, video, taken, step, settings)

    def next_step(self, tag: str, origin: str | None = None) -> int:
        """Return the step after the highest in the names of a tag, see `VideoLogger.next_step`; 0 if none is known."""
        folder, name = _split(tag)
        found = self._uploader.found(folder)
        rests = [other.removeprefix(name) for other in found if other.startswith(f"{name}_")]
        steps = [_STEP.search(rest) for rest in rests if counts(rest, origin)]
        return max((int(step[1]) for step in steps if step), default=-1) + 1

    def remove_video(self, video: Video) -> None:
        """Delete a video here and in the store, in the background."""
        self._uploader.remove(video.path)

    def clips_folder(self) -> Path:
        """Return the folder with the spools of all processes of this machine that write to the URL."""
        return self._index.folder.parent

    def flush(self) -> None:
        """Wait until the store has all, see `CSVLogger.flush`."""
        self._uploader.flush()

    def close(self) -> None:
        """Send all that waits, and let go of the folder; what is logged after that begins another one."""
        self.flush()
        self._uploader.close()
        self.detach()

    def detach(self) -> None:
        """Begin anew in a forked child, or after `close`."""
        for file in self.files.values():
            file.close()
        self.files.clear()
        for name in OF_THIS_SPOOL:
            self.__dict__.pop(name, None)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in OF_THIS_SPOOL}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        forks.detach_in_child(self)


def _split(tag: str) -> tuple[str, str]:
    """Return the folder of the videos of a tag, and how their names begin."""
    folder, _, name = f"videos/{tag}".rpartition("/")
    return folder, name

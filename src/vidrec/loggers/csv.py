"""A folder of CSV files and videos: TorchRL's `CSVLogger`, whose videos are made while they are recorded."""

import csv
import os
import re
import warnings
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torchrl.record.loggers import csv as torchrl_csv

from vidrec.clips import FileClip, Video, open_clip, save
from vidrec.errors import VidrecWarning
from vidrec.ffmpeg.encoding import Encoding
from vidrec.files.index import VideoIndex
from vidrec.files.names import check_name, publish
from vidrec.files.places import Place, is_url, place
from vidrec.frames import as_video
from vidrec.loggers.base import VideoLogger, encoding_of, finished, tag_of, whole_step
from vidrec.loggers.uploads import Uploads

OTHERS = re.compile(r"_(rank\d|actor-|worker\d)")
"""How the name of a video goes on behind its tag if another rank, actor or worker recorded it."""


def counts(rest: str, origin: str | None) -> bool:
    """Return whether a video counts for the steps of an origin, by what is in its name behind the tag."""
    own = f"_{origin}_" if origin else ""
    return rest.startswith(own) and not OTHERS.match(rest.removeprefix(own[:-1]))


class CSVExperiment(torchrl_csv.CSVExperiment):
    """The folder: ``scalars``, ``videos``, ``texts``, and ``videos.csv`` with a row for each video."""

    def __init__(self, log_dir: Place, *, video_format: str = "mp4", video_fps: Any = 30) -> None:
        super().__init__(place(log_dir), video_format=video_format, video_fps=video_fps)

    @cached_property
    def _index(self) -> VideoIndex:
        return VideoIndex(Path(self.log_dir))

    def add_scalar(self, name: str, value: float, global_step: int | None = None) -> None:
        super().add_scalar(check_name(name), value, global_step)

    def add_text(self, tag: str, text: str, global_step: int | None = None) -> None:
        super().add_text(check_name(tag), text, global_step)

    def open_clip(self, tag: str, **settings: Any) -> FileClip:
        """Return a clip that grows in the folder of the videos, see `VideoLogger.open_clip`."""
        return open_clip(self._videos / check_name(tag), self._encoding(settings), self._index.folder)

    def _encoding(self, settings: dict[str, Any]) -> Encoding:
        return encoding_of(self.video_format, self.video_fps, settings)

    def add_video(self, tag: str, vid_tensor: Any, global_step: int | None = None, **settings: Any) -> Video:
        """Publish a video in the folder, see `CSVLogger.log_video`."""
        check_name(tag)
        counted = global_step is None
        if (global_step := whole_step(global_step)) is None:
            global_step = self.videos_counter[tag]
        name = check_name(f"{tag}_{global_step}")
        video = self._publish(tag, vid_tensor, self._videos / name, global_step, settings)
        video = replace(video, tag=tag_of(tag, video))
        self.videos_counter[tag] += counted
        self._add_row(video, {"tag": video.tag, "step": global_step, "file": self._file(video), **video.row()})
        if video.path != self._videos / f"{name}{video.path.suffix}":
            exists = f"{name}{video.path.suffix} exists and is kept"
            warnings.warn(f"{exists}; this video is {video.path}", VidrecWarning, stacklevel=3)
        return video

    def _add_row(self, video: Video, row: dict[str, Any]) -> None:
        try:
            self._index.add(**row)
        except (OSError, csv.Error) as error:
            warnings.warn(f"{video.path} is whole, but has no row in videos.csv: {error}", VidrecWarning, stacklevel=4)

    def _publish(self, tag: str, video: Any, stem: Path, step: int, settings: dict[str, Any]) -> Video:
        """Give a video the name that begins with `stem`, or the next one that is free; return it there."""

        def target(encoding: Encoding) -> Path:
            return stem.with_name(f"{stem.name}.{encoding.format.extension}")

        if not isinstance(video, Video) and not (encoding := self._encoding(settings)).format.encoded:
            return save(as_video(video, tag), encoding, target(encoding))
        with finished(video, tag, lambda: self.open_clip(tag, **settings), step) as whole:
            return whole.at(publish(whole.path, target(whole.encoding)))

    @property
    def _videos(self) -> Path:
        return self._index.folder / "videos"

    def _file(self, video: Video) -> str:
        return str(video.path.relative_to(self._index.folder))

    def flush(self) -> None:
        """Do nothing: every line is written at once."""

    def clips_folder(self) -> Path:
        """Return the folder in which a crash leaves clips."""
        return self._index.folder

    def next_step(self, tag: str, origin: str | None = None) -> int:
        """Return the step after the highest in the index, see `VideoLogger.next_step`; 0 if it cannot be read."""
        try:
            return self._index.next_step(tag, lambda file: counts(file.removeprefix(f"videos/{tag}"), origin))
        except (OSError, ValueError):
            return 0

    def remove_video(self, video: Video) -> None:
        """Delete a video and its row."""
        self._index.remove(self._file(video))  # first: once it is deleted, another video may get its name
        video.path.unlink(missing_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        # open files stay with this process; the copy opens its own, to append
        return {**self.__dict__, "files": {}}


def csv_logger_of(folder: Place) -> "CSVLogger":
    """Return a logger for a folder, whose last part is the name of the experiment, or for the URL of one."""
    if is_url(str(folder)):
        return CSVLogger(folder)
    log_dir, exp_name = os.path.split(os.fspath(folder).rstrip("/"))
    return CSVLogger(exp_name, log_dir)


class CSVLogger(VideoLogger, torchrl_csv.CSVLogger):
    """Logs into a folder: scalars and texts as TorchRL's `CSVLogger` does, and videos that can be looked at.

    A recorder streams into ``<log_dir>/<exp_name>/videos``: the video grows there as ``<tag>.part-<random>.<ext>``, and
    is ``<tag>_<step>.<ext>`` once it is whole. An existing video is never replaced. Each has a row in ``videos.csv``.

    It can be pickled at any time; the copy appends to the same files.

    Args:
        exp_name: the name of the experiment, a folder in `log_dir`; or the path of a folder.
        log_dir: where experiments are, a str or Path. None is ``csv_logs`` in the working directory. ``~`` is expanded.
            The URL of an object store, such as ``"s3://bucket/runs"``, takes finished videos: they grow on this
            machine, and go up in the background.
        video_format: ``"mp4"`` (H.264), ``"webm"`` (VP9), ``"gif"``, ``"apng"`` (animated PNG, lossless), ``"webp"``
            (animated WebP, lossless), ``"mkv"`` (lossless RGB), ``"pt"`` (a file for ``torch.load``) or ``"memmap"``
            (its bytes alone): of a recorder uint8 ``[1, T, 3, H, W]``.
        video_fps: frames per second, where a recorder does not say otherwise. See `Encoding.of`.
        uploads: how long to wait for an object store, see `vidrec.Uploads`; None is its defaults.

    Raises:
        SettingError: an unknown format, an fps that cannot be, or a URL of no object store.
        ExtraError: the package for stores of its kind is not installed.
    """

    experiment: CSVExperiment

    def __init__(
        self,
        exp_name: Place,
        log_dir: Place | None = None,
        video_format: str = "mp4",
        video_fps: Any = 30,
        *,
        uploads: Uploads | None = None,
    ) -> None:
        Encoding.of(video_format, fps=video_fps)
        self._uploads = uploads or Uploads()
        super().__init__(exp_name, place("csv_logs" if log_dir is None else log_dir), video_format, video_fps)

    def _create_experiment(self) -> CSVExperiment:
        where = place(self.log_dir, self.exp_name)
        if is_url(where):
            from vidrec.loggers.remote import RemoteExperiment

            return RemoteExperiment(where, self._uploads, video_format=self.video_format, video_fps=self.video_fps)
        return CSVExperiment(where, video_format=self.video_format, video_fps=self.video_fps)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until an object store has all that was logged; nothing waits for a folder.

        Raises:
            StoreError: the store does not take it.
        """
        self.experiment.flush()

    def state_dict(self) -> dict[str, Any]:
        """Return TorchRL's, with the `log_dir` as it is, also if that is a URL."""
        return {**super().state_dict(), "log_dir": self.log_dir}

    def open_clip(self, tag: str, **settings: Any) -> FileClip:
        """Return a clip that grows in the folder of the videos, see `VideoLogger.open_clip`."""
        return self.experiment.open_clip(tag, **settings)

    def log_video(self, name: str, video: Any, step: int | None = None, **settings: Any) -> Video:
        """Publish a video as ``videos/<name>_<step>.<ext>``, or under the next free name, with a warning.

        Args:
            name: its tag; may hold ``/``, which makes folders.
            video: a finished video, whose file is linked or copied, and stays; or a tensor or numpy array
                ``[N, T, C, H, W]`` or ``[T, C, H, W]``, C 1, 3 or 4, uint8 or floats in [0, 1], whose N videos follow
                one another. ``"pt"`` and ``"memmap"`` keep it as it is, of any dtype.
            step: the step it belongs to; None counts up from 0 for each name.
            **settings: how a tensor is encoded, before the logger's own: ``fps``, ``video_codec``, ``crf``, ``preset``,
                ``pixel_format``, ``scale``, ``options``. See `Encoding`.

        Returns:
            The video, where it is now.

        Raises:
            TagError: a name that leads out of the folder.
            SettingError: an unknown setting, or a value that cannot be.
            FrameError: what is no video, or has no frames.
            EncoderError: FFmpeg failed.
        """
        return self.experiment.add_video(name, video, step, **settings)

    def next_step(self, tag: str, origin: str | None = None) -> int:
        """Return the step after the highest of a tag in ``videos.csv``, see `VideoLogger.next_step`."""
        return self.experiment.next_step(tag, origin)

    def clips_folder(self) -> Path:
        """Return the folder of the experiment, or that of all that waits on this machine for its object store."""
        return self.experiment.clips_folder()

    def remove_video(self, video: Video) -> None:
        """Delete a video that `log_video` returned, and its row."""
        self.experiment.remove_video(video)

"""A folder of CSV files and videos: TorchRL's `CSVLogger`, whose videos are made while they are recorded."""

import csv
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from torchrl.record.loggers import csv as torchrl_csv

from vidrec.clips import FileClip, Video, open_clip, save
from vidrec.errors import VidrecWarning
from vidrec.ffmpeg.encoding import Encoding
from vidrec.files.index import VideoIndex
from vidrec.files.names import check_name, publish
from vidrec.files.places import Place, local_place, place
from vidrec.frames import as_video
from vidrec.loggers.base import VideoLogger, encoding_of, finished, tag_of

OTHERS = re.compile(r"_(rank\d|actor-|worker\d)")
"""How the name of a video goes on behind its tag if another rank, actor or worker recorded it."""


class CSVExperiment(torchrl_csv.CSVExperiment):
    """The folder: ``scalars``, ``videos``, ``texts``, and ``videos.csv`` with a row for each video."""

    def __init__(self, log_dir: Place, *, video_format: str = "mp4", video_fps: Any = 30) -> None:
        super().__init__(local_place("CSVLogger", log_dir), video_format=video_format, video_fps=video_fps)
        self._index = VideoIndex(Path(self.log_dir))

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
        if global_step is None:
            global_step = self.videos_counter[tag]
        name = check_name(f"{tag}_{global_step}")
        video = self._publish(tag, vid_tensor, self._videos / name, global_step, settings)
        video = replace(video, tag=tag_of(tag, video))
        self.videos_counter[tag] += counted
        try:
            self._index.add(tag=video.tag, step=global_step, file=self._file(video), **video.row())
        except (OSError, csv.Error) as error:
            warnings.warn(f"{video.path} is whole, but has no row in videos.csv: {error}", VidrecWarning, stacklevel=3)
        if video.path != self._videos / f"{name}{video.path.suffix}":
            exists = f"{name}{video.path.suffix} exists and is kept"
            warnings.warn(f"{exists}; this video is {video.path}", VidrecWarning, stacklevel=3)
        return video

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

    def next_step(self, tag: str, origin: str | None = None) -> int:
        """Return the step after the highest in the index, see `VideoLogger.next_step`; 0 if it cannot be read."""

        def counts(file: str) -> bool:
            rest = file.removeprefix(f"videos/{tag}")
            own = f"_{origin}_" if origin else ""
            return rest.startswith(own) and not OTHERS.match(rest.removeprefix(own[:-1]))

        try:
            return self._index.next_step(tag, counts)
        except (OSError, ValueError):
            return 0

    def remove_video(self, video: Video) -> None:
        """Delete a video and its row."""
        self._index.remove(self._file(video))  # first: once it is deleted, another video may get its name
        video.path.unlink(missing_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        # open files stay with this process; the copy opens its own, to append
        return {**self.__dict__, "files": {}}


class CSVLogger(VideoLogger, torchrl_csv.CSVLogger):
    """Logs into a folder: scalars and texts as TorchRL's `CSVLogger` does, and videos that can be looked at.

    A recorder streams into ``<log_dir>/<exp_name>/videos``: the video grows there as ``<tag>.part-<random>.<ext>``, and
    is ``<tag>_<step>.<ext>`` once it is whole. An existing video is never replaced. Each has a row in ``videos.csv``.

    It can be pickled at any time; the copy appends to the same files.

    Args:
        exp_name: the name of the experiment, a folder in `log_dir`; or the path of a folder.
        log_dir: where experiments are, a str or Path. None is ``csv_logs`` in the working directory. ``~`` is expanded.
        video_format: ``"mp4"`` (H.264), ``"webm"`` (VP9), ``"gif"``, ``"apng"`` (animated PNG, lossless), ``"webp"``
            (animated WebP, lossless), ``"mkv"`` (lossless RGB), ``"pt"`` (a file for ``torch.load``) or ``"memmap"``
            (its bytes alone): of a recorder uint8 ``[1, T, 3, H, W]``.
        video_fps: frames per second, where a recorder does not say otherwise. See `Encoding.of`.

    Raises:
        SettingError: an unknown format, an fps that cannot be, or a URL for a folder.
    """

    experiment: CSVExperiment

    def __init__(
        self,
        exp_name: Place,
        log_dir: Place | None = None,
        video_format: str = "mp4",
        video_fps: Any = 30,
    ) -> None:
        Encoding.of(video_format, fps=video_fps)
        super().__init__(exp_name, place("csv_logs" if log_dir is None else log_dir), video_format, video_fps)

    def _create_experiment(self) -> CSVExperiment:
        where = place(self.log_dir, self.exp_name)
        return CSVExperiment(where, video_format=self.video_format, video_fps=self.video_fps)

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
        """Return the folder of the experiment."""
        return Path(self.experiment.log_dir)

    def remove_video(self, video: Video) -> None:
        """Delete a video that `log_video` returned, and its row."""
        self.experiment.remove_video(video)

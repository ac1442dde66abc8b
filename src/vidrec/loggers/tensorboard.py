"""TensorBoard: TorchRL's `TensorboardLogger`, whose videos are seen."""

import warnings
from collections.abc import Mapping
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any

from torchrl.record.loggers import tensorboard as torchrl_tensorboard

from vidrec.clips import FileClip, Video, open_clip
from vidrec.errors import FrameError, SettingError, VidrecWarning, need, shown
from vidrec.ffmpeg.encoding import Encoding
from vidrec.files import forks
from vidrec.files.names import check_name, publish, temporary_stem
from vidrec.files.places import Place, is_url, place
from vidrec.loggers.base import VideoLogger, describe, encoding_of, finished, series, whole_step

VIDEO_FORMATS = ("apng", "gif", "webp")
"""What moves in TensorBoard's panel of images."""

MAX_VIDEO_BYTES = 64 * 2**20
"""How large a video may be in an event file: TensorBoard loads it whole, and so does the browser."""


class TensorboardLogger(VideoLogger, torchrl_tensorboard.TensorboardLogger):
    """Logs for TensorBoard: scalars, hyper-parameters and histograms as TorchRL does, and videos that can be seen.

    A video is an image summary that moves, in the panels "Images" and "Time Series", under its tag, with a slider over
    steps. TensorBoard shows 10 steps of a tag, unless it is started with ``--samples_per_plugin images=100`` or the
    like. A recorder streams into ``<log_dir>/<exp_name>/videos``; `log_video` writes the finished file into the event
    file and flushes that; the recorder deletes it then.

    It can be pickled at any time, and forked; the copy has an event file of its own in the same folder.

    Args:
        exp_name: the name of the experiment, a folder in `log_dir`; or the path of a folder.
        log_dir: where experiments are, a str or Path; ``~`` is expanded. A URL goes to the writer as it is: videos then
            grow in the folder for temporary files, and those that are too large for the event file stay there.
        video_fps: frames per second, where a recorder does not say otherwise; 4 is that of
            ``SummaryWriter.add_video``. See `Encoding.of`.
        video_format: ``"apng"``, lossless and as fast as asked up to 99 fps; ``"webp"``, lossless and larger; or
            ``"gif"``, with a palette for each frame, which counts in hundredths of a second: at 30 fps its frames last
            3 or 4, and above 50 fps some last 1, which browsers take for 10.
        max_video_bytes: the largest file that goes into the event file. A larger one is kept in ``videos``, with a
            `VidrecWarning`.

    Raises:
        ExtraError: TensorBoard is not installed; ``pip install "vidrec[tensorboard]"``.
        SettingError: another format, or an fps that cannot be.
    """

    def __init__(
        self,
        exp_name: Place,
        log_dir: Place = "tb_logs",
        *,
        video_fps: Any = 4,
        video_format: str = "apng",
        max_video_bytes: int = MAX_VIDEO_BYTES,
    ) -> None:
        need("tensorboard", "TensorboardLogger")
        if video_format not in VIDEO_FORMATS:
            raise SettingError(f"TensorBoard does not show video_format={video_format!r}; expected {VIDEO_FORMATS}")
        Encoding.of(video_format, fps=video_fps)
        self.video_fps, self.video_format, self.max_video_bytes = video_fps, video_format, max_video_bytes
        self._next_steps: dict[str, int] = {}
        forks.detach_in_child(self)
        self._root, self._place = place(log_dir), place(log_dir, exp_name)
        super().__init__(exp_name, self._root)

    @cached_property
    def experiment(self) -> Any:
        """The ``SummaryWriter``. A copy in another process makes its own on first use."""
        return self._create_experiment()

    def _create_experiment(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(log_dir=self._place)

    def open_clip(self, tag: str, **settings: Any) -> FileClip:
        """Return a clip that grows beside the event file, see `VideoLogger.open_clip`."""
        if not isinstance(walltime := settings.pop("walltime", None), Real | None):
            raise SettingError(f"walltime={shown(walltime)} must be a number of seconds since 1970, or None")
        encoding = encoding_of(self.video_format, self.video_fps, settings)
        return open_clip(self._stem(tag), encoding)

    def clips_folder(self) -> Path | None:
        """Return the folder beside the event file, if that is on this machine."""
        return None if is_url(self._place) else Path(self._place)

    def _stem(self, name: str) -> Path:
        """Return where a file of that name is written: beside the event file, if that is on this machine."""
        check_name(name)
        return temporary_stem(name) if is_url(self._place) else Path(self._place, "videos", name)

    def log_video(self, name: str, video: Any, step: int | None = None, **settings: Any) -> Video | None:
        """Write a video into the event file.

        Args:
            name: its tag.
            video: a finished APNG, WebP or GIF, whose file is read, and stays; or a tensor or numpy array
                ``[N, T, C, H, W]`` or ``[T, C, H, W]``, C 1, 3 or 4, uint8 or floats in [0, 1], whose N videos follow
                one another.
            step: the step it belongs to; None counts up from 0 for each name.
            **settings: how a tensor is encoded, before the logger's own: ``fps`` and those of `Encoding`; and
                ``walltime``, the time of the event, in seconds since 1970, as in ``SummaryWriter.add_video``.

        Returns:
            None, or the video where it is if it is too large for the event file.

        Raises:
            TagError: a name that leads out of the folder.
            SettingError: an unknown setting, or a value that cannot be.
            FrameError: what is no video, has no frames, or is a finished video of another format.
            EncoderError: FFmpeg failed.
        """
        check_name(name)
        step = whole_step(step)
        with finished(video, name, lambda: self.open_clip(name, **settings)) as whole:
            if whole.encoding.video_format not in VIDEO_FORMATS:
                raise FrameError(f"TensorBoard does not show {whole.path}; expected {VIDEO_FORMATS}")
            at = self._next_steps.get(name, 0) if step is None else step
            size = whole.path.stat().st_size
            if size > self.max_video_bytes:
                target = self._stem(f"{name}_{at}")
                suffix = whole.encoding.format.extension
                kept = whole.at(publish(whole.path, target.with_name(f"{target.name}.{suffix}")))
            else:
                kept = None
                self._write(series(name, whole), whole, at, settings.get("walltime"))
        if step is None:
            self._next_steps[name] = at + 1
        if kept is not None:
            warnings.warn(
                f"the video {name!r} has {size / 2**20:.1f} MB, too many for TensorBoard (max_video_bytes="
                f"{self.max_video_bytes}): it is kept as {kept.path}. A larger skip or center_crop makes it smaller",
                VidrecWarning,
                stacklevel=2,
            )
        return kept

    def _write(self, tag: str, video: Video, step: int, walltime: float | None) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        data = video.path.read_bytes()
        image = Summary.Image(height=video.height, width=video.width, colorspace=3, encoded_image_string=data)
        try:
            writer = self.experiment._get_file_writer()
            writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step, walltime)
            if video.episode is not None:
                self.experiment.add_text(f"{tag}/episode", describe(video), step, walltime)
            writer.flush()
        except OSError:
            self.__dict__.pop("experiment", None)  # it is of no more use; the next one begins another event file
            raise

    def state_dict(self) -> dict[str, Any]:
        """Return TorchRL's, with the `log_dir` from which `vidrec.get_logger` makes a logger of the same folder."""
        return {**super().state_dict(), "log_dir": self._root}

    def _checkpoint_state(self) -> dict[str, Any]:
        return {"next_steps": dict(self._next_steps)}

    def _load_checkpoint_state(self, state_dict: Mapping[str, Any]) -> None:
        self._next_steps = dict(state_dict.get("next_steps", {}))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "experiment"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        forks.detach_in_child(self)

    def detach(self) -> None:
        """Forget the parent's writer in a forked child: the thread that writes for it is not there."""
        self.__dict__.pop("experiment", None)

"""Weights & Biases: TorchRL's `WandbLogger`, which hands over videos that are already files."""

from pathlib import Path
from typing import Any

from torch import Tensor
from torchrl.record.loggers import wandb as torchrl_wandb

from vidrec.clips import FileClip, Video, open_clip
from vidrec.errors import FrameError, SettingError, need
from vidrec.ffmpeg.encoding import Encoding
from vidrec.files.names import check_name, publish
from vidrec.loggers.base import VideoLogger, describe, encoding_of, finished, series
from vidrec.loggers.places import Place, local_place

VIDEO_FORMATS = ("mp4", "webm", "gif")
"""What W&B shows, of what vidrec writes."""

LOG_KEYWORDS = ("commit", "override_global_step")
"""The keywords of `log_video` that say how the run logs it, and not how it is encoded."""


class WandbLogger(VideoLogger, torchrl_wandb.WandbLogger):
    """Logs to Weights & Biases: all as TorchRL does, but videos, which are encoded once, while they are recorded.

    A recorder streams into the folder ``videos`` of the run, beside its ``files``. `log_video` gives the finished file
    to ``wandb.Video``, which takes a copy into ``files/media/videos``; the recorder deletes it then.

    Args:
        exp_name: the name of the run.
        offline: whether the run stays on this machine, until ``wandb sync``.
        save_dir: the folder for the runs; None is the working directory. `log_dir` is the same.
        id: a unique id of the run, to resume it.
        project: the project the run belongs to.
        base_url: the W&B server.
        video_fps: frames per second, where a recorder does not say otherwise. See `Encoding.of`.
        log_env_packages: whether the run's config names the Python packages.
        log_dir: another name for `save_dir`; only one may be given.
        **kwargs: passed on to ``wandb.init``.

    Raises:
        ExtraError: wandb is not installed; ``pip install "vidrec[wandb]"``.
        SettingError: an fps that cannot be, or a URL for a folder.
    """

    def __init__(
        self,
        exp_name: str,
        offline: bool = False,
        save_dir: Place | None = None,
        id: str | None = None,
        project: str | None = None,
        base_url: str | None = None,
        *,
        video_fps: Any = 32,
        log_env_packages: bool = True,
        log_dir: Place | None = None,
        **kwargs: Any,
    ) -> None:
        need("wandb", "WandbLogger")
        Encoding.of(fps=video_fps)
        save_dir, log_dir = (folder and local_place("WandbLogger", folder) for folder in (save_dir, log_dir))
        own = {"video_fps": video_fps, "log_env_packages": log_env_packages, "log_dir": log_dir}
        super().__init__(exp_name, offline, save_dir, id, project, base_url, **own, **kwargs)

    def open_clip(self, tag: str, **settings: Any) -> FileClip:
        """Return a clip that grows in the run's folder, see `VideoLogger.open_clip`.

        Args:
            tag: the name of the video.
            **settings: ``format``, one of ``"mp4"`` (default), ``"webm"`` and ``"gif"``, beside those of `log_video`.
        """
        settings = {name: value for name, value in settings.items() if name not in LOG_KEYWORDS}
        video_format = settings.pop("format", None) or "mp4"
        if video_format not in VIDEO_FORMATS:
            raise SettingError(f"W&B does not show format={video_format!r}; expected {VIDEO_FORMATS}")
        encoding = encoding_of(video_format, self.video_fps, settings)
        return open_clip(Path(self.experiment.dir).parent / "videos" / check_name(tag), encoding)

    def log_video(self, name: str, video: Tensor | Video, step: int | None = None, **settings: Any) -> Video | None:
        """Log a video to the run.

        Args:
            name: its key.
            video: a finished mp4, webm or GIF, of which the run takes a copy; or a tensor
                ``[N, T, C, H, W]``, C 1, 3 or 4, uint8 or floats in [0, 1], whose N videos follow one another.
            step: the step it belongs to, logged beside it as TorchRL does; None counts up from 0.
            **settings: how a tensor is encoded: ``format``, ``fps`` and those of `Encoding`; and, for ``Run.log``,
                ``commit`` and ``override_global_step``.

        Returns:
            The video in the folder of the run; None if the run is disabled, and keeps nothing.

        Raises:
            TagError: a name that cannot be a file's.
            SettingError: an unknown setting, or a value that cannot be.
            FrameError: a tensor that is no video, or a finished one of another format.
            EncoderError: FFmpeg failed.
            wandb.Error: the run cannot log.
        """
        import wandb

        check_name(name)
        with finished(video, name, lambda: self.open_clip(name, **settings)) as whole:
            if whole.encoding.video_format not in VIDEO_FORMATS:
                raise FrameError(f"W&B does not show {whole.path}; expected {VIDEO_FORMATS}")
            media = wandb.Video(str(whole.path), caption=describe(whole) or None)
            keywords = {keyword: settings[keyword] for keyword in LOG_KEYWORDS if keyword in settings}
            self._log_payload({series(name, whole): media}, step=step, **keywords)
            taken = Path(media._path or whole.path)
            if taken == whole.path:  # a run that is disabled takes nothing
                return None
            if taken.is_symlink():  # the run is set to link to files instead of copying them
                taken.unlink()
                publish(whole.path, taken)
        return whole.at(taken)

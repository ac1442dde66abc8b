"""Weights & Biases: TorchRL's `WandbLogger`, which hands over videos that are already files."""

from io import BytesIO
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchrl.record.loggers import wandb as torchrl_wandb

from vidrec.clips import FileClip, Video, open_clip
from vidrec.compat import log_to_wandb, wandb_arguments
from vidrec.errors import FrameError, SettingError, need
from vidrec.ffmpeg.encoding import Encoding
from vidrec.files.names import check_name, publish
from vidrec.files.places import Place, local_place
from vidrec.frames import as_video
from vidrec.frames.pixels import HALF_LEVEL
from vidrec.loggers.base import VideoLogger, describe, encoding_of, finished, series

VIDEO_FORMATS = ("mp4", "webm", "gif")
"""What W&B shows, of what vidrec writes."""

RUNS = ("wandb", ".wandb")
"""How W&B names the folder of the runs."""

MAX_LEVEL = 255

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
        newer = wandb_arguments(base_url=base_url, log_env_packages=log_env_packages)
        own = {"video_fps": video_fps, "log_dir": log_dir, **newer}
        super().__init__(exp_name, offline, save_dir, id, project, **own, **kwargs)

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

    def clips_folder(self) -> Path | None:
        """Return the folder of all runs: each has one of its own in it."""
        runs = Path(self.experiment.dir).parent.parent
        return runs if runs.name in RUNS else None  # a run that is disabled is somewhere else

    def log_video(self, name: str, video: Any, step: int | None = None, **settings: Any) -> Video | None:
        """Log a video to the run.

        Args:
            name: its key.
            video: a finished mp4, webm or GIF, of which the run takes a copy; a tensor or numpy array
                ``[N, T, C, H, W]`` or ``[T, C, H, W]``, C 1, 3 or 4, uint8, or floats in [0, 1] or up to 255, whose N
                videos follow one another; or what else ``wandb.Video`` takes: the path of a file, or a ``BytesIO``.
            step: the step it belongs to, logged beside it as TorchRL does; None counts up from 0.
            **settings: how a tensor is encoded: ``format``, ``fps`` and those of `Encoding`; and, for ``Run.log``,
                ``commit`` and ``override_global_step``.

        Returns:
            The video in the folder of the run; None if the run is disabled, and keeps nothing, or for a path or
            ``BytesIO``.

        Raises:
            TagError: a name that cannot be a file's.
            SettingError: an unknown setting, or a value that cannot be.
            FrameError: what is no video, has no frames, or is a finished video of another format.
            ValueError: a file that ``wandb.Video`` does not take.
            EncoderError: FFmpeg failed.
            wandb.Error: the run cannot log.
        """
        import wandb

        check_name(name)
        keywords = {keyword: settings[keyword] for keyword in LOG_KEYWORDS if keyword in settings}
        if isinstance(video, str | PathLike | BytesIO):
            if unknown := settings.keys() - {"format", "fps", *LOG_KEYWORDS}:
                raise SettingError(f"a file is logged as it is, without {sorted(unknown)}; a tensor would be encoded")
            media = wandb.Video(video if isinstance(video, BytesIO) else fspath(video), format=settings.get("format"))
            log_to_wandb(self, {name: media}, step, **keywords)
            return None
        if not isinstance(video, Video):
            video = _levels(as_video(video, name), name)
        with finished(video, name, lambda: self.open_clip(name, **settings), step) as whole:
            if whole.encoding.video_format not in VIDEO_FORMATS:
                raise FrameError(f"W&B does not show {whole.path}; expected {VIDEO_FORMATS}")
            media = wandb.Video(str(whole.path), caption=describe(whole) or None)
            log_to_wandb(self, {series(name, whole): media}, step, **keywords)
            taken = Path(getattr(media, "_path", None) or whole.path)
            if taken == whole.path:  # a run that is disabled takes nothing
                return None
            if taken.is_symlink():  # the run is set to link to files instead of copying them
                taken.unlink()
                publish(whole.path, taken)
        return whole.at(taken)


def _levels(video: Tensor, name: str) -> Tensor:
    """Return floats of which some are above 1 as ``wandb.Video`` takes them, 0 to 255; all else as it is."""
    if not video.is_floating_point() or not video.numel() or not video.max() > 1 + HALF_LEVEL:
        return video
    low, high = float(video.min()), float(video.max())
    if low < 0 or high > MAX_LEVEL:
        shape = f"shape {tuple(video.shape)} and dtype {video.dtype}"
        raise FrameError(
            f"the video {name!r} of {shape} has values from {low:g} to {high:g}; expected floats in [0, 1] or [0, 255]"
        )
    return video.round().to(torch.uint8)

"""Several loggers as one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torchrl.record.loggers._service import _LoggerClient
from torchrl.record.loggers.common import Logger

from vidrec.clips import Clip, FileClip, TensorClip
from vidrec.clips.base import Array
from vidrec.clips.video import Video
from vidrec.errors import EncoderError, SettingError, VidrecError, VidrecWarning, raise_first
from vidrec.files.names import share
from vidrec.loggers.base import VideoLogger, write_tensor
from vidrec.loggers.service import adapt


class TeeLogger(VideoLogger, Logger):
    """Logs to several loggers, of any kind; an object that has no more than `log_video` gets no more than videos.

    A video is encoded once for all loggers that want it encoded in the same way. One logger that fails does not keep
    the others from getting theirs; what it raised is raised in the end. The next `dump` of a recorder gives the video
    to those that failed, under its own name and step, and to no others. Loggers that take tensors get the same one.

        >>> from vidrec import CSVLogger, MemoryLogger, TeeLogger
        >>> logger = TeeLogger(CSVLogger("run"), MemoryLogger())

    Args:
        *loggers: where all goes, in this order. `exp_name` and `log_dir` are those of the first.

    Raises:
        SettingError: no logger was given.
    """

    def __init__(self, *loggers: Any) -> None:
        if not loggers:
            raise SettingError("a TeeLogger needs at least one logger")
        self.loggers = loggers
        self._adapted = [adapt(logger) for logger in loggers]
        super().__init__(getattr(loggers[0], "exp_name", ""), getattr(loggers[0], "log_dir", ""))

    def _create_experiment(self) -> None:
        """Do nothing: the loggers have their own."""

    @property
    def experiment(self) -> tuple[Any, ...]:
        """Those of the loggers."""
        return tuple(getattr(logger, "experiment", None) for logger in self.loggers)

    @experiment.setter
    def experiment(self, value: Any) -> None:
        """Do nothing: the loggers have their own."""

    def open_clip(self, tag: str, **settings: Any) -> "TeeClip":
        """Return a clip that writes what every logger wants, see `VideoLogger.open_clip`."""
        return TeeClip(self._adapted, tag, settings)

    def log_video(self, name: str, video: Any, step: int | None = None, **settings: Any) -> Video | None:
        """Publish a video with every logger; return the first that a logger returns.

        Args:
            name: its tag.
            video: a `TeeClip`; or a tensor ``[N, T, C, H, W]`` or a `Video`, which are encoded for each wish.
            step: the step it belongs to.
            **settings: as for the loggers, each of which must know them.
        """
        if isinstance(video, TeeClip):
            return video.publish(name, step, settings)
        if isinstance(video, Video):
            video = torch.stack([frame.permute(2, 0, 1) for frame in video.iter_frames()]).unsqueeze(0)
        clip = self.open_clip(name, **settings)
        try:
            clip.fill(video, name)
            return clip.publish(name, step, settings)
        finally:
            clip.delete()  # what was not published, the caller still has

    def log_scalar(self, name: str, value: float, step: int | None = None, **settings: Any) -> None:
        """Log a scalar with every logger."""
        self._each("log_scalar", name, value, step=step, **settings)

    def log_hparams(self, cfg: Any) -> None:
        """Log hyper-parameters with every logger."""
        self._each("log_hparams", cfg)

    def log_histogram(self, name: str, data: Sequence[float], **settings: Any) -> None:
        """Log a histogram with every logger; those of TorchRL that have none raise `NotImplementedError`."""
        self._each("log_histogram", name, data, **settings)

    def log_metrics(self, metrics: Any, step: int | None = None, **settings: Any) -> Any:
        """Log several scalars with every logger; return what the first returns."""
        return next(iter(self._each("log_metrics", metrics, step=step, **settings)), None)

    def log_str(self, name: str, value: str, step: int | None = None) -> None:
        """Log a text with every logger."""
        self._each("log_str", name, value, step=step)

    def flush(self, timeout: float | None = None) -> None:
        """Flush every logger."""
        self._each("flush", timeout=timeout, of=self._torchrl)

    def shutdown(self, timeout: float | None = None) -> None:
        """Shut every logger down."""
        self._each("shutdown", timeout=timeout, of=self._torchrl)
        self._service_shutdown = True

    def client(self) -> "TeeLogger":
        """Return a logger of the loggers' clients; this one if they are their own."""
        clients = [logger.client() if callable(getattr(logger, "client", None)) else logger for logger in self.loggers]
        same = all(client is logger for client, logger in zip(clients, self.loggers, strict=True))
        return self if same else TeeLogger(*clients)

    def _checkpoint_state(self) -> dict[str, Any]:
        states = [logger.state_dict() if isinstance(logger, Logger) else {} for logger in self.loggers]
        return {"loggers": states}

    def _load_checkpoint_state(self, state_dict: Any) -> None:
        for logger, state in zip(self.loggers, state_dict.get("loggers", ()), strict=False):
            if state:
                logger.load_state_dict(state)

    def __repr__(self) -> str:
        return f"TeeLogger({', '.join(map(repr, self.loggers))})"

    @property
    def _torchrl(self) -> list[Any]:
        """The loggers that have the lifecycle of TorchRL's."""
        return [logger for logger in self.loggers if isinstance(logger, Logger | _LoggerClient)]

    def _each(self, method: str, *args: Any, of: Sequence[Any] | None = None, **kwargs: Any) -> list[Any]:
        """Call `method` of every logger that has it; raise the first error when all had their turn."""
        results, errors = [], []
        for logger in self.loggers if of is None else of:
            try:
                if (call := getattr(logger, method, None)) is not None:
                    results.append(call(*args, **kwargs))
            except Exception as error:
                errors.append(error)
        raise_first(errors)
        return results


@dataclass(eq=False)
class Branch:
    """A clip, the loggers that wait for its video, and once it is to be published, under which name and step."""

    loggers: list[VideoLogger]
    clip: Clip | None = None
    error: Exception | None = None
    video: Any = None
    name: str = ""
    step: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def publish(self) -> tuple[Video | None, list[Exception]]:
        """Give each logger its video; return the first that one returns, and what others raised.

        Those stay in `loggers`, and `video` is kept for them, unless nobody will ever get it.
        """
        published: Video | None = None
        errors: list[Exception] = []
        if self.error is None and self.video is None and self.clip is not None:
            try:
                self.video = self.clip.finish()
            except EncoderError as error:
                self.error = error
            except Exception as error:
                return None, [error]
        if self.error is not None:  # it says itself what is left of the video
            self.loggers.clear()
            if self.clip is not None:
                self.clip.detach()
            return None, [self.error]
        for logger in list(self.loggers):
            try:
                video = self._publish(logger)
                published = published or video
            except VidrecWarning as warning:  # it is published, and the user wants warnings to be errors
                errors.append(warning)
            except Exception as error:
                where = f"in {self.video.path}" if isinstance(self.video, Video) else "in memory"
                if not isinstance(self.video, TeeClip):
                    error.add_note(f"the video {self.name!r} is kept for {logger!r}, {where}; call dump() again")
                errors.append(error)
                continue
            self.loggers = [other for other in self.loggers if other is not logger]
        if not self.loggers and self.clip is not None:
            self.clip.published()
        return published, errors

    def _publish(self, logger: VideoLogger) -> Video | None:
        if not isinstance(self.video, Video) or len(self.loggers) == 1:  # the last one gets the file itself
            return logger.log_video(self.name, self.video, self.step, **self.settings)
        own = self.video.at(share(self.video.path))
        try:
            return logger.log_video(self.name, own, self.step, **self.settings)
        except VidrecWarning:
            raise
        except BaseException:
            own.path.unlink(missing_ok=True)
            raise


class TeeClip(Clip):
    """A clip for each way in which some of `loggers` want theirs, written together.

    What could not be published is put aside, with its name and step, and tried again with the next video.
    """

    def __init__(self, loggers: Sequence[VideoLogger], tag: str, settings: Mapping[str, Any]) -> None:
        self._loggers, self._tag, self._settings = loggers, tag, settings
        self._branches: list[Branch] = []
        self._aside: list[Branch] = []
        self._open()

    def _open(self) -> None:
        for logger in self._loggers:
            try:
                clip = logger.open_clip(self._tag, **self._settings)
                clip.beside = self.beside
            except VidrecError:
                raise
            except Exception as error:  # raised by `publish`, when the others have theirs
                self._branches.append(Branch([logger], error=error))
                continue
            same = next(
                (branch for branch in self._branches if branch.clip and _wish(branch.clip) == _wish(clip)), None
            )
            if same is None:
                self._branches.append(Branch([logger], clip))
            else:
                same.loggers.append(logger)
        self._raise_if_all_failed()

    @property
    def _clips(self) -> list[Clip]:
        return [branch.clip for branch in self._branches if branch.clip is not None and branch.error is None]

    @property
    def frames(self) -> int:
        return max((clip.frames for clip in self._clips), default=0)

    @property
    def size(self) -> tuple[int, int] | None:
        return next((clip.size for clip in self._clips if clip.size), None)

    @property
    def waiting(self) -> bool:
        return bool(self._aside or self.frames)

    def _add(self, frame: Array) -> None:
        if not self._branches:
            self._open()
        for branch in self._branches:
            if branch.clip is not None and branch.error is None:
                try:
                    branch.clip.write(frame[None])
                except Exception as error:  # raised by `publish`, when the others have theirs
                    branch.error = error
        self._raise_if_all_failed()

    def _raise_if_all_failed(self) -> None:
        if all(branch.error for branch in self._branches):
            failed, self._branches = self._branches, []
            for branch in failed:
                if branch.clip is not None:
                    branch.clip.detach()
            raise_first([branch.error for branch in failed if branch.error])

    def fill(self, video: Tensor, name: str) -> None:
        """Write a whole video, ``[N, T, C, H, W]``; loggers that take tensors will get it as it is."""
        for branch in self._branches:
            if type(branch.clip) is TensorClip:
                branch.video = video
            elif branch.clip is not None:
                write_tensor(branch.clip, video, name)

    def finish(self) -> "TeeClip":
        """Return itself: `publish` finishes what it publishes, one after the other."""
        for clip in self._clips:
            clip.env_id, clip.episode = self.env_id, self.episode
        return self

    def publish(self, name: str, step: int | None, settings: Mapping[str, Any]) -> Video | None:
        """Give each logger its video, and what was put aside for it before; begin anew.

        What could not be published is put aside. The first error is raised in the end.
        """
        if self.frames or any(branch.video is not None for branch in self._branches):
            for branch in self._branches:
                branch.name, branch.step, branch.settings = name, step, settings
            self._aside += self._branches
            self._branches = []
        published: Video | None = None
        errors: list[Exception] = []
        for branch in list(self._aside):
            video, failed = branch.publish()
            published, errors = published or video, errors + failed
            if not branch.loggers:
                self._aside.remove(branch)
        raise_first(sorted(errors, key=lambda error: isinstance(error, VidrecWarning)))
        return published

    def iter_frames(self) -> Iterator[Tensor]:
        return self._clips[0].iter_frames() if self._clips else iter(())

    def delete(self) -> None:
        for branch in [*self._branches, *self._aside]:
            if branch.clip is not None and branch.error is None:
                branch.clip.delete()
            elif branch.clip is not None:
                branch.clip.detach()
        self._aside.clear()

    def detach(self) -> None:
        for branch in [*self._branches, *self._aside]:
            if branch.clip is not None:
                branch.clip.detach()


def _wish(clip: Clip) -> Any:
    """Return what two clips have in common of which one is enough."""
    if isinstance(clip, FileClip):
        return type(clip), clip.encoding
    return TensorClip if type(clip) is TensorClip else clip

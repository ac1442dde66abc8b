"""Several loggers as one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor
from torchrl.record.loggers.common import Logger

from vidrec.clip import Clip, FileClip
from vidrec.errors import EncoderError, SettingError, VidrecWarning, raise_first
from vidrec.loggers.base import VideoLogger
from vidrec.loggers.files import share
from vidrec.loggers.service import adapt
from vidrec.video import Video


class TeeLogger(VideoLogger, Logger):
    """Logs to several loggers, of any kind; an object that has no more than `log_video` gets no more than videos.

    A video is encoded once for all loggers that want it encoded in the same way. One logger that fails does not keep
    the others from getting theirs; what it raised is raised in the end. The next `dump` of a recorder gives the video
    to those that failed, and to no others.

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
        super().__init__(getattr(loggers[0], "exp_name", ""), getattr(loggers[0], "log_dir", ""))

    def _create_experiment(self) -> tuple[Any, ...]:
        return tuple(getattr(logger, "experiment", None) for logger in self.loggers)

    def open_clip(self, tag: str, **settings: Any) -> "TeeClip":
        """Return a clip that writes what every logger wants, see `VideoLogger.open_clip`."""
        return TeeClip(list(map(adapt, self.loggers)), tag, settings)

    def log_video(self, name: str, video: Any, step: int | None = None, **settings: Any) -> Video | None:
        """Publish a video with every logger; return the first that a logger returns.

        Args:
            name: its tag.
            video: what `TeeClip.finish` returned, a finished `Video`, or a tensor ``[N, T, C, H, W]``.
            step: the step it belongs to.
            **settings: as for the loggers, each of which must know them.
        """
        if isinstance(video, TeeClip):
            return video.publish(name, step, settings)
        branch = Branch(None, list(map(adapt, self.loggers)), video)
        errors = list(branch.publish(name, step, settings))
        raise_first(errors)
        return branch.published

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
        self._each("flush", timeout=timeout)

    def shutdown(self, timeout: float | None = None) -> None:
        """Shut every logger down."""
        self._each("shutdown", timeout=timeout)
        self._service_shutdown = True

    def client(self) -> "TeeLogger":
        """Return a logger of the loggers' clients; this one if they are their own."""
        clients = [logger.client() if callable(getattr(logger, "client", None)) else logger for logger in self.loggers]
        same = all(client is logger for client, logger in zip(clients, self.loggers, strict=True))
        return self if same else TeeLogger(*clients)

    def _checkpoint_state(self) -> dict[str, Any]:
        states = [logger.state_dict() if hasattr(logger, "state_dict") else {} for logger in self.loggers]
        return {"loggers": states}

    def _load_checkpoint_state(self, state_dict: Any) -> None:
        for logger, state in zip(self.loggers, state_dict.get("loggers", ()), strict=False):
            if state:
                logger.load_state_dict(state)

    def __repr__(self) -> str:
        return f"TeeLogger({', '.join(map(repr, self.loggers))})"

    def _each(self, method: str, *args: Any, **kwargs: Any) -> list[Any]:
        """Call `method` of every logger that has it; raise the first error when all had their turn."""
        results, errors = [], []
        for logger in self.loggers:
            try:
                if (call := getattr(logger, method, None)) is not None:
                    results.append(call(*args, **kwargs))
            except Exception as error:
                errors.append(error)
        raise_first(errors)
        return results


@dataclass(eq=False)
class Branch:
    """A clip, the loggers that wait for it, and what they get when it is finished."""

    clip: Clip | None
    loggers: list[VideoLogger]
    video: Any = None
    error: EncoderError | None = None
    published: Video | None = None

    def publish(self, name: str, step: int | None, settings: dict[str, Any]) -> Iterator[Exception]:
        """Give the video to the loggers that wait for it; yield the errors of those that go on waiting for it."""
        for logger in list(self.loggers):
            video = self.video
            if isinstance(video, Video) and len(self.loggers) > 1:  # the last one gets the file itself
                video = video.at(share(video.path))
            try:
                published = logger.log_video(name, video, step, **settings)
            except VidrecWarning as warning:  # it is published, and the user wants warnings to be errors
                published = None
                yield warning
            except Exception as error:
                if video is not self.video:
                    video.path.unlink(missing_ok=True)
                where = f"in {self.video.path}" if isinstance(self.video, Video) else "in memory"
                error.add_note(f"the video {name!r} is kept for {logger!r}, {where}; call dump() again to log it")
                yield error
                continue
            self.loggers.remove(logger)
            self.published = self.published or published


class TeeClip(Clip):
    """A clip for each way in which some of `loggers` want theirs, written together."""

    def __init__(self, loggers: list[VideoLogger], tag: str, settings: dict[str, Any]) -> None:
        self._open: Callable[[VideoLogger], Clip] = partial(_open, tag, settings)
        self._branches: list[Branch] = []
        self._branch_off(loggers)
        self._next: list[VideoLogger] = []  # those that have their video, and begin another with the next picture

    def _branch_off(self, loggers: list[VideoLogger]) -> None:
        new: list[Branch] = []
        for logger in loggers:
            clip = self._open(logger)
            same = next((branch for branch in new if _wish(branch.clip) == _wish(clip)), None)
            if same is None:
                new.append(Branch(clip, [logger]))
            else:
                same.loggers.append(logger)
        self._branches += new

    @property
    def _clips(self) -> list[Clip]:
        return [branch.clip for branch in self._branches if branch.clip is not None and branch.error is None]

    @property
    def frames(self) -> int:
        return max((clip.frames for clip in self._clips), default=0)

    @property
    def size(self) -> tuple[int, int] | None:
        return next((clip.size for clip in self._clips if clip.size), None)

    def _add(self, picture: Tensor) -> None:
        if self._next:
            loggers, self._next = self._next, []
            self._branch_off(loggers)
        for branch in self._branches:
            if branch.error is None:
                assert branch.clip is not None
                try:
                    branch.clip.write(picture.unsqueeze(0))
                except EncoderError as error:  # raised by `publish`, when the others have theirs
                    branch.error = error
        if all(branch.error for branch in self._branches):
            raise_first([branch.error for branch in self._branches if branch.error])

    def finish(self) -> "TeeClip":
        for branch in self._branches:
            if branch.error is None:
                assert branch.clip is not None
                try:
                    branch.video = branch.clip.finish()
                except EncoderError as error:
                    branch.error = error
        return self

    def publish(self, name: str, step: int | None, settings: dict[str, Any]) -> Video | None:
        """Give each logger its video. Called again after an error, only to those that did not get it."""
        errors: list[Exception] = []
        published = None
        for branch in list(self._branches):
            waiting = list(branch.loggers)
            if branch.error is None:
                errors += branch.publish(name, step, settings)
                published = published or branch.published
            else:  # nobody will get it
                errors.append(branch.error)
                branch.loggers.clear()
            self._next += [logger for logger in waiting if logger not in branch.loggers]
            if not branch.loggers:
                self._branches.remove(branch)
        raise_first(sorted(errors, key=lambda error: isinstance(error, VidrecWarning)))
        return published

    def pictures(self) -> Iterator[Tensor]:
        return self._clips[0].pictures() if self._clips else iter(())

    def discard(self) -> None:
        for clip in self._clips:
            clip.discard()

    def leave(self) -> None:
        for clip in self._clips:
            clip.leave()


def _open(tag: str, settings: dict[str, Any], logger: VideoLogger) -> Clip:
    return logger.open_clip(tag, **settings)


def _wish(clip: Clip | None) -> Any:
    """Return what two clips have in common of which one is enough."""
    if isinstance(clip, TeeClip):
        return clip
    return clip.encoding if isinstance(clip, FileClip) else type(clip)

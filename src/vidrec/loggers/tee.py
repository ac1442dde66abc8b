"""Several loggers as one."""

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torchrl.record.loggers.common import Logger

from vidrec.clips import EncodedClip, Video
from vidrec.compat import LoggerClient
from vidrec.errors import SettingError, VidrecWarning, raise_first, shown
from vidrec.loggers.base import TensorLogger, VideoLogger, answered, write_tensor
from vidrec.loggers.outputs import Output, open_outputs
from vidrec.loggers.service import ServiceLogger, class_of


class TeeLogger(Logger):
    """Names several loggers, of any kind; an object that has no more than `log_video` gets no more than videos.

    A recorder encodes a video once for all loggers that want it encoded in the same way. One logger that fails does not
    keep the others from getting theirs; what it raised is raised in the end. The next `dump` gives the video to those
    that failed, under its own name and step, and to no others. Loggers that take tensors get the same one.

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

    def _create_experiment(self) -> None:
        """Do nothing: the loggers have their own."""

    @property
    def experiment(self) -> tuple[Any, ...]:
        """Those of the loggers."""
        return tuple(getattr(logger, "experiment", None) for logger in self.loggers)

    @experiment.setter
    def experiment(self, value: Any) -> None:
        """Do nothing: the loggers have their own."""

    def log_video(self, name: str, video: Any, step: int | None = None, **settings: Any) -> Video | None:
        """Give a video to every logger; return the first that a logger returns.

        Args:
            name: its tag.
            video: what each of the loggers takes: a tensor or numpy array ``[N, T, C, H, W]``, or a `Video`.
            step: the step it belongs to; None leaves it to each.
            **settings: as for the loggers, each of which must know them.
        """
        outputs = open_outputs(loggers_of(self), name, settings)
        tensor = video
        if isinstance(video, Video):
            tensor = torch.stack([frame.permute(2, 0, 1) for frame in video.iter_frames()])[None]
        published: list[Any] = []
        errors: list[Exception] = []
        for output in outputs:
            try:
                if output.error is not None:
                    raise output.error
                taken, failed = output.publish(name, self._encode(output, tensor, name), step, settings)
                errors += [error for _, error in failed]
                published += [answered(one) for _, one in taken]
            except Exception as error:
                errors.append(error)
            finally:
                if output.clip is not None:
                    output.clip.delete()
        raise_first(errors)
        return next((one for one in published if isinstance(one, Video)), None)

    @staticmethod
    def _encode(output: Output, tensor: Any, name: str) -> Any:
        if not isinstance(output.clip, EncodedClip):
            return tensor
        write_tensor(output.clip, tensor, name)
        return output.clip.finish()

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
        return [logger for logger in self.loggers if isinstance(logger, Logger | LoggerClient)]

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


def loggers_of(logger: Any) -> list[VideoLogger]:
    """Return what a recorder writes into for any logger: those that a `TeeLogger` names, or one.

    One of vidrec's is what it is, a client of one in another process and any other object are made one.

    Raises:
        SettingError: it is no logger.
    """
    if isinstance(logger, TeeLogger):
        return [each for named in logger.loggers for each in loggers_of(named)]
    if issubclass(type(logger), VideoLogger):  # not isinstance: a mock is whatever it is asked to be
        return [logger]
    if logger is not None and not callable(getattr(logger, "log_video", None)):
        raise SettingError(
            f"{shown(logger)} is no logger; expected one of vidrec's or TorchRL's, an object with log_video(name, "
            "video, step, **settings), the path of a folder, or None"
        )
    if (name := class_of(logger)) is None:
        return [ServiceLogger(logger)]
    if name == "TensorboardLogger" and not _torch_writes_videos():
        warnings.warn(
            "torchrl's TensorboardLogger writes no videos here: torch needs moviepy 1 for them. Use "
            "vidrec.TensorboardLogger, which takes the same arguments",
            VidrecWarning,
            stacklevel=2,
        )
    return [TensorLogger(logger)]


def _torch_writes_videos() -> bool:
    """Return whether ``SummaryWriter.add_video`` finds what it imports: ``moviepy.editor``, gone with moviepy 2."""
    spec = importlib.util.find_spec("moviepy")
    folders = spec and spec.submodule_search_locations
    return any(Path(folder, "editor.py").exists() for folder in folders or ())

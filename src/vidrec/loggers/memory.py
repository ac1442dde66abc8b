"""A logger that keeps what it is given, to look at it: for tests."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torchrl.record.loggers.common import Logger


@dataclass(frozen=True)
class Logged:
    """One call of a `MemoryLogger`.

    Attributes:
        name: what was logged.
        value: as it was given; a video is a uint8 tensor ``[1, T, 3, H, W]`` if it comes from a recorder.
        step: the step it belongs to, None if it was not given.
        settings: the other keywords.
    """

    name: str
    value: Any
    step: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


class MemoryLogger(Logger):
    """Keeps all it is given in lists of `Logged`, as it comes.

        >>> import torch
        >>> from vidrec import MemoryLogger, VideoRecorder
        >>> logger = MemoryLogger()
        >>> recorder = VideoRecorder(logger, "video", fps=25)
        >>> _ = recorder._apply_transform(torch.zeros(3, 64, 64, dtype=torch.uint8))
        >>> recorder.dump(step=7)
        >>> logger.videos[0].value.shape, logger.videos[0].step, logger.videos[0].settings
        (torch.Size([1, 1, 3, 64, 64]), 7, {'fps': 25})

    Attributes:
        videos: what `log_video` was called with.
        scalars: what `log_scalar` was called with.
        hparams: what `log_hparams` was called with; their name is empty.
        histograms: what `log_histogram` was called with.
        texts: what `log_str` was called with.
    """

    def __init__(self, exp_name: str = "memory", log_dir: str = "") -> None:
        self.videos: list[Logged] = []
        self.scalars: list[Logged] = []
        self.hparams: list[Logged] = []
        self.histograms: list[Logged] = []
        self.texts: list[Logged] = []
        super().__init__(exp_name, log_dir)

    def _create_experiment(self) -> None:
        """Return None: there is nothing behind it."""

    def log_scalar(self, name: str, value: float, step: int | None = None, **settings: Any) -> None:
        """Keep a scalar."""
        self.scalars.append(Logged(name, value, step, settings))

    def log_video(self, name: str, video: Any, step: int | None = None, **settings: Any) -> None:
        """Keep a video."""
        self.videos.append(Logged(name, video, step, settings))

    def log_hparams(self, cfg: Any) -> None:
        """Keep hyper-parameters."""
        self.hparams.append(Logged("", cfg))

    def log_histogram(self, name: str, data: Sequence[float], step: int | None = None, **settings: Any) -> None:
        """Keep the data of a histogram."""
        self.histograms.append(Logged(name, data, step, settings))

    def log_str(self, name: str, value: str, step: int | None = None) -> None:
        """Keep a text."""
        self.texts.append(Logged(name, value, step))

    def __repr__(self) -> str:
        return f"MemoryLogger(videos={[video.name for video in self.videos]})"

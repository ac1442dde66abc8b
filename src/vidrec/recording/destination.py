"""Where the videos of a recording go, under which names and steps, and which of them are kept."""

import os
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from typing import Any

from vidrec.clips import FileClip
from vidrec.episode import Episode
from vidrec.errors import SettingError, gathered
from vidrec.ffmpeg.encoding import Encoding
from vidrec.files import names
from vidrec.loggers.base import TensorLogger, VideoLogger, whole_step
from vidrec.loggers.csv import csv_logger_of
from vidrec.loggers.outputs import Output, open_outputs
from vidrec.loggers.tee import loggers_of
from vidrec.recording.numbering import Counter, ask
from vidrec.recording.retention import Retention


class Destination:
    """The loggers of a recording, and what they are told of its videos.

    A copy and a pickled one has the same settings, and neither origin nor counter.

    Attributes:
        logger: where videos go; None keeps frames in memory, for `to_animation`.
        loggers: those that it stands for.
        tag: the name of the videos.
        settings: what `log_video` is called with beside name, video and step.
        keep: which episodes are worth a video; None keeps all.
        step: returns the step of a video if `dump` is not told one; None counts, see `counter`.
        counter: the step of the next video, counted together with copies in the same process.
        origin: the rank, actor and worker that records, as it is in the names of its videos; None for the first.
    """

    counter: Counter

    def __init__(self) -> None:
        self.loggers: list[VideoLogger] = []
        self.logger = None
        self.tag: Any = None
        self.settings: dict[str, Any] = {}
        self.keep: Callable[[Episode], bool] | None = None
        self.step: Callable[[], int] | None = None
        self.origin: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("logger", "tag", "settings", "keep", "step")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.loggers = []
        self.logger, self.tag, self.keep, self.step = state["logger"], state["tag"], state["keep"], state["step"]
        self.settings, self.origin = dict(state["settings"]), None

    @property
    def logger(self) -> Any:
        return self._logger

    @logger.setter
    def logger(self, value: Any) -> None:
        if isinstance(value, str | os.PathLike):
            value = csv_logger_of(value)
        loggers = loggers_of(value)
        self._before, self._logger, self.loggers = self.loggers, value, loggers

    def current(self, output: Output) -> list[VideoLogger]:
        """Return the loggers that a video goes to: there may be others by now.

        All take a tensor. A file goes to another logger of the same kind, or else to that for which it was encoded.
        """
        if any(own is logger for own in self.loggers for logger in output.loggers):
            return output.loggers
        if output.clip is not None and output.clip.in_memory:
            new = [own for own in self.loggers if not any(own is logger for logger in self._before)]
            return new or list(self.loggers)
        [own, *more], kinds = self.loggers, {type(logger) for logger in output.loggers}
        return [own] if not more and kinds == {type(own)} else output.loggers

    def rates(self, **more: Any) -> list[Fraction]:
        """Return the frames per second that videos will have, with more settings; raise what a first frame would.

        Tensors have none, on disk or for a logger, unless the logger is told one.
        """
        settings = {**self.settings, **more}
        clips = [output.clip for output in open_outputs(self.loggers, self.tag, settings)]
        encodings = [clip.encoding for clip in clips if isinstance(clip, FileClip) and clip.encoding.format.encoded]
        told = settings.get("fps")
        if self.logger is not None and told is not None and any(clip and clip.in_memory for clip in clips):
            with suppress(SettingError):  # it is for the logger to judge
                encodings.append(Encoding.of(fps=told))
        return [encoding.fps for encoding in encodings]

    @property
    def tag_name(self) -> str | None:
        """The tag as text; None if there is none."""
        return None if self.tag is None else str(self.tag)

    def name(
        self, label: str | None, episode: Episode | None, suffix: str | None = None, output: Output | None = None
    ) -> str:
        """Return the name of a video; a logger that takes tensors is told none of the origin, as in TorchRL."""
        in_memory = output is not None and output.clip is not None and output.clip.in_memory
        where = None if in_memory else self.origin
        parts = [self.tag, where, label, suffix]
        parts += [] if episode is None or not episode.numbered else [f"ep{episode.number}"]
        return "_".join(str(part) for part in parts if part is not None)

    @property
    def _takes_any(self) -> bool:
        """Whether all loggers are others', which take tensors, and what TorchRL's recorder gives them."""
        return all(isinstance(logger, TensorLogger) for logger in self.loggers)

    def check_name(self, name: str) -> None:
        """Raise TagError if a name cannot be that of a file, and a logger needs one."""
        if not self._takes_any:
            names.check_name(name)

    def step_of(self, step: Any) -> Any:
        """Return what the user says is the step, as a logger takes it; see `whole_step`."""
        return step if self._takes_any else whole_step(step)

    def asked(self, errors: list[Exception]) -> int | None:
        """Return what `step` says; None if there is none, or it fails, of which the error is appended."""
        with gathered(errors):
            return None if self.step is None else ask(self.step)
        return None

    def counted(self, began: int | None, errors: list[Exception]) -> int:
        """Return the step at which `step_trigger` began a clip, or count."""
        if began is not None:
            return began
        with gathered(errors):
            self.counter.begin(str(self.tag), self.origin, self.loggers)
        return self.counter.value

    def wants(self, episode: Episode | None, errors: list[Exception]) -> bool:
        """Return whether `keep` wants the video of an episode; that for which it raises stays."""
        with gathered(errors):
            return episode is None or self.keep is None or bool(self.keep(episode))
        return True

    @property
    def retention(self) -> Retention | None:
        """What deletes videos that are displaced by others; None if they all stay."""
        return self.keep if isinstance(self.keep, Retention) else None

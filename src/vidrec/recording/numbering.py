"""The step of a video that `dump` is given none for: what the user's function says, or a counter."""

import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress

from vidrec.errors import SettingError, shown
from vidrec.loggers.base import VideoLogger, whole_step


class Counter:
    """The step of the next video, which a recorder and its copies in one process count together.

    Attributes:
        value: the step.
    """

    def __init__(self, value: int) -> None:
        self.value = value
        self._begun: set[tuple[str, str | None]] = set()

    def begin(self, tag: str, origin: str | None, loggers: Sequence[VideoLogger]) -> None:
        """Go on after what is there of an earlier run; the loggers are asked once for each tag and origin."""
        if (tag, origin) not in self._begun:
            self._begun.add((tag, origin))
            self.value = max(self.value, *(logger.next_step(tag, origin) for logger in loggers))


_counters: "weakref.WeakValueDictionary[str, Counter]" = weakref.WeakValueDictionary()
"""By the id of the recording that others are copies of."""


def counter_of(id: str, value: int) -> Counter:
    """Return the counter of a recording and its copies; it begins at `value` if there is none."""
    return _counters.setdefault(id, Counter(value))


def ask(step: Callable[[], int]) -> int:
    """Return what the user's function says, see `whole_step`.

    Raises:
        SettingError: it is no whole number.
    """
    said = step()
    with suppress(SettingError):
        if (number := whole_step(said)) is not None:
            return number
    raise SettingError(f"step returned {shown(said)}; expected a whole number, such as 1000")

"""The exceptions and warnings of vidrec.

Each is also the built-in one in brackets:

    VidrecError
    ├── FrameError    (ValueError)  a frame that cannot be recorded; the clip is as it was before
    ├── SettingError  (ValueError)  an argument or encoder setting that is unknown or cannot be
    ├── TagError      (ValueError)  a tag, suffix or name that would leave the logger's folder
    ├── ExtraError    (ImportError) a package that only some need is not installed
    ├── ServiceError  (OSError)     a logger in another process has ended, or does not answer
    ├── StoreError    (OSError)     an object store does not take what waits for it on this machine
    └── EncoderError  (OSError)     FFmpeg failed or hangs; carries FFmpeg's stderr and the file it leaves

    VidrecWarning (UserWarning)     what was recorded is safe, but not quite as asked
"""

import importlib.util
import math
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class VidrecError(Exception):
    """The root of every exception that vidrec raises on purpose."""


class FrameError(VidrecError, ValueError):
    """A frame cannot be recorded; the message names its key, shape and dtype."""


class SettingError(VidrecError, ValueError):
    """An argument or an encoder setting is unknown, or its value cannot be."""


class TagError(VidrecError, ValueError):
    """A tag, suffix or name would write outside of the logger's folder."""


class ExtraError(VidrecError, ImportError):
    """A package is not installed that an extra of vidrec brings; the message has the command."""


class StoreError(VidrecError, OSError):
    """An object store does not take what waits for it; the message names the folder of this machine that has it."""


class EncoderError(VidrecError, OSError):
    """FFmpeg failed, died or hangs; the message holds its stderr and the file it leaves."""


class ServiceError(VidrecError, OSError):
    """A logger that runs in another process has ended, or does not answer in time."""


class VidrecWarning(UserWarning):
    """What was recorded is safe, but not quite as asked: another name, frames beyond a bound."""


class Once:
    """A warning that is given once."""

    def __init__(self) -> None:
        self.given = False

    def __reduce__(self) -> tuple[type["Once"], tuple[()]]:
        return Once, ()  # a copy gives it again

    def __call__(self, text: str) -> None:
        """Warn, if this is the first time."""
        if not self.given:
            self.given = True
            warnings.warn(text, VidrecWarning, stacklevel=3)


def warn_or_print(text: str) -> None:
    """Warn at the end of the process; where warnings are errors, print it, so that others have their turn."""
    try:
        warnings.warn(text, VidrecWarning, stacklevel=2)
    except VidrecWarning as warning:
        print(f"VidrecWarning: {warning}", file=sys.stderr)


def need(package: str, what: str, extra: str | None = None) -> None:
    """Raise `ExtraError` unless `package` is installed, which `what` needs, and an extra brings: that of its name."""
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a module without one, which a test has put into sys.modules
        return
    if spec is None or (spec.origin is None and spec.submodule_search_locations is not None):
        # a folder of that name, such as W&B makes, is no package
        raise ExtraError(f'{what} needs {package}, which is not installed: pip install "vidrec[{extra or package}]"')


def positive_seconds(name: str, value: Any) -> float:
    """Return a time-out as a float, above 0; inf is none.

    Raises:
        SettingError: another value.
    """
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not seconds > 0:
        raise SettingError(f"{name}={shown(value)} must be a number of seconds, above 0; inf is no limit")
    return seconds


def shown(value: object) -> str:
    """Return a value as an error shows it, in one short line."""
    try:
        return textwrap.shorten(repr(value), 200)
    except ValueError:  # a number of thousands of digits
        return type(value).__name__


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception; Python 3.10 does not show it in the traceback."""
    vars(error)["__notes__"] = [*getattr(error, "__notes__", []), note]


def message(error: BaseException) -> str:
    """Return what an exception says, its notes included."""
    return "; ".join([str(error), *getattr(error, "__notes__", [])])


def raise_first(errors: Sequence[Exception]) -> None:
    """Raise the first of `errors`, with what the others say as notes; do nothing if there is none."""
    for another in errors[1:]:
        add_note(errors[0], f"and: {message(another)}")
    if errors:
        raise errors[0]


@contextmanager
def gathered(errors: list[Exception], kind: type[Exception] = Exception) -> Iterator[None]:
    """Append what is raised within to `errors`, and go on."""
    try:
        yield
    except kind as error:
        errors.append(error)

"""What went wrong while a recorder with ``on_error="warn"`` went on."""

import warnings
from collections.abc import Hashable
from dataclasses import dataclass

from vidrec.clips.video import Video
from vidrec.errors import VidrecWarning, message

MAX_ERRORS = 10
"""How many errors are told; the others are counted."""


@dataclass(frozen=True)
class Failure:
    """What `vidrec.VideoRecorder.dump` returns with ``on_error="warn"`` if something went wrong; false, unlike a video.

    Attributes:
        errors: what `dump` or a step would have raised, oldest first; the first ten.
        count: how many there were.
        lost: how many frames are not recorded because of them. A batch that cannot be read counts as one; what an
            encoder that failed had written is not among them: its file stays, and the error names it.
        video: the last video that there is all the same; None if there is none, or it is no file.
    """

    errors: tuple[Exception, ...]
    count: int
    lost: int
    video: Video | None = None

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"{self.count} errors, {self.lost} frames lost; the first: {message(self.errors[0])}"


def tell(error: Exception) -> None:
    """Warn of an error that is not raised."""
    warnings.warn(f"recording goes on after an error: {message(error)}", VidrecWarning, stacklevel=3)


class Failures:
    """What went wrong since the last dump."""

    def __init__(self) -> None:
        self._told: dict[Hashable, set[type]] = {}
        self._clear()

    def __bool__(self) -> bool:
        return bool(self._count or self._lost)

    def _clear(self) -> None:
        self._errors: list[Exception] = []
        self._count = self._lost = 0

    def add(self, error: Exception, clip: Hashable, lost: int = 0) -> None:
        """Count an error, and so many frames; warn if it is the first of its kind of this clip."""
        self.count(error)
        self._lost += lost
        if type(error) not in (told := self._told.setdefault(clip, set())):
            told.add(type(error))
            tell(error)

    def count(self, error: Exception) -> None:
        """Count an error, and keep it if there is room."""
        self._count += 1
        if len(self._errors) < MAX_ERRORS:
            self._errors.append(error)

    def join(self, others: "Failures") -> None:
        """Take over what went wrong in a copy of the recorder."""
        self._errors = (self._errors + others._errors)[:MAX_ERRORS]
        self._count, self._lost = self._count + others._count, self._lost + others._lost
        others.take(None)

    def lose(self, frames: int) -> None:
        """Count frames of a clip that has failed."""
        self._lost += frames

    def end(self, clip: Hashable) -> None:
        """Let the next clip tell its first error again."""
        self._told.pop(clip, None)

    def take(self, video: Video | None) -> Failure | Video | None:
        """Return what `dump` returns, and begin anew."""
        errors, count, lost = self._errors, self._count, self._lost
        self._told.clear()
        self._clear()
        return Failure(tuple(errors), count, lost, video) if count else video

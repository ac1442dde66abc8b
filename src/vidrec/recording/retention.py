"""Which videos of many episodes stay: `keep_best` and `keep_last`."""

import heapq
import math
from dataclasses import dataclass, field
from typing import Any

from vidrec.episode import Episode
from vidrec.errors import SettingError
from vidrec.loggers.base import VideoLogger


@dataclass(eq=False)
class Kept:
    """An episode whose videos stay, and where they are."""

    episode: Episode
    order: int
    videos: list[tuple[VideoLogger, Any]] = field(default_factory=list)


class Retention:
    """What to keep of many episodes, given to ``VideoRecorder(keep=...)``.

    It may be shared by recorders. A copy of it, such as in a worker process, begins with nothing kept.
    """

    def __init__(self, n: int) -> None:
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            raise SettingError(f"n={n!r} must be a positive whole number of episodes to keep")
        self.n = n
        self._kept: list[Kept] = []
        self._count = 0

    def __call__(self, episode: Episode) -> bool:
        """Return whether the video of this episode is wanted."""
        return len(self._kept) < self.n or self.rank(Kept(episode, self._count)) > min(map(self.rank, self._kept))

    def rank(self, kept: Kept) -> tuple[float, int]:
        """Return what says which of two episodes stays: that with the higher rank."""
        raise NotImplementedError

    def add(self, episode: Episode, video: Any, logger: VideoLogger) -> None:
        """Count an episode among those kept once a logger has published its video, and remove what that displaces."""
        kept = next((kept for kept in self._kept if kept.episode is episode), None)
        if kept is None:
            kept = Kept(episode, self._count)
            self._count += 1
            self._kept.append(kept)
        if video is not None:
            kept.videos.append((logger, video))
        stay = heapq.nlargest(self.n, self._kept, key=self.rank)
        displaced = [old for old in self._kept if old not in stay]
        self._kept = [old for old in self._kept if old in stay]
        for old in displaced:
            for its_logger, its_video in old.videos:
                its_logger.remove_video(its_video)

    def holds(self, episode: Episode) -> bool:
        """Return whether an episode is among those kept."""
        return any(kept.episode is episode for kept in self._kept)

    def rename(self, old: Any, new: Any) -> None:
        """Note that a video that it keeps has another name, or that it is not there: None."""
        for kept in self._kept:
            videos = [(logger, new if video is old else video) for logger, video in kept.videos]
            kept.videos = [(logger, video) for logger, video in videos if video is not None]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.n,)


class KeepBest(Retention):
    """See `keep_best`."""

    def rank(self, kept: Kept) -> tuple[float, int]:
        """Return the return; of equal ones the first stays, and NaN is the worst."""
        return_ = kept.episode.return_
        return -math.inf if math.isnan(return_) else return_, -kept.order


class KeepLast(Retention):
    """See `keep_last`."""

    def rank(self, kept: Kept) -> tuple[float, int]:
        """Return the order in which they were published."""
        return 0.0, kept.order


def keep_best(n: int) -> KeepBest:
    """Keep the videos of the `n` episodes with the highest return, over all envs of a recorder; delete the others.

    A video that is displaced is deleted by each logger that can: by `CSVLogger` the file and its row, also behind a
    `TeeLogger` or a service. An event file and a W&B run keep what they have. An episode that `dump` or ``env.close()``
    cuts off counts like the others, by its return so far.

        >>> from vidrec import CSVLogger, VideoRecorder, keep_best
        >>> recorder = VideoRecorder(CSVLogger("run"), "best", keep=keep_best(3))
    """
    return KeepBest(n)


def keep_last(n: int) -> KeepLast:
    """Keep the videos of the last `n` episodes, over all envs of a recorder; as `keep_best` for the others."""
    return KeepLast(n)

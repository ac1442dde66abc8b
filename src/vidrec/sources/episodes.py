"""Episodes: which frame belongs to which, how they end, and which are worth keeping."""

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict.utils import NestedKey
from torch import Tensor

from vidrec.episode import Episode
from vidrec.errors import SettingError
from vidrec.frames.frames import Flags


class Episodes:
    """The running episodes of N envs."""

    def __init__(self, env_ids: int, of_grid: bool) -> None:
        self._of_grid = of_grid
        self.number = np.full(env_ids, -1)
        self.length = np.zeros(env_ids, int)
        self.returned = np.zeros(env_ids)
        self.running = np.zeros(env_ids, bool)

    def begin(self, env_ids: Flags) -> None:
        """Begin another in `envs`."""
        self.number[env_ids] += 1
        self.length[env_ids] = 0
        self.returned[env_ids] = 0
        self.running |= env_ids

    def of(self, at: int, env_id: int | None, terminated: bool = False, truncated: bool = False) -> Episode:
        """Return the episode that runs in the env at index `at`."""
        number, length, returned = int(self.number[at]), int(self.length[at]), float(self.returned[at])
        return Episode(env_id, number, length, returned, terminated, truncated and not terminated, self._of_grid)


class Keep:
    """What to keep of many episodes, given to ``VideoRecorder(keep=...)``.

    It may be shared by recorders. A copy of it, such as in a worker process, begins with nothing kept.
    """

    def __init__(self, n: int) -> None:
        if not isinstance(n, int) or n < 1:
            raise SettingError(f"n={n!r} must be a positive whole number of episodes to keep")
        self.n = n
        self._displaced: list[Episode] = []
        self._remove: dict[int, Callable[[], None]] = {}  # by the identity of the episodes that are kept

    def __call__(self, episode: Episode) -> bool:
        """Return whether the video of this episode is wanted."""
        raise NotImplementedError

    def published(self, episode: Episode, remove: Callable[[], None]) -> None:
        """Remember how to remove the video of an episode, and remove those that it displaces."""
        self._remove[id(episode)] = remove
        displaced, self._displaced = self._displaced, []
        for old in displaced:
            if (remove_old := self._remove.pop(id(old), None)) is not None:
                remove_old()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.n,)


class KeepBest(Keep):
    """See `keep_best`."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self._count = 0
        self._kept: list[tuple[float, int, Episode]] = []

    def __call__(self, episode: Episode) -> bool:
        """Return whether it is one of the best so far."""
        self._count += 1
        # of equal ones the first stays; NaN is the worst
        returned = -math.inf if math.isnan(episode.return_) else episode.return_
        entry = (returned, -self._count, episode)
        if len(self._kept) < self.n:
            heapq.heappush(self._kept, entry)
            return True
        worst = heapq.heappushpop(self._kept, entry)
        if worst is entry:
            return False
        self._displaced.append(worst[2])
        return True


class KeepLast(Keep):
    """See `keep_last`."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self._kept: deque[Episode] = deque()

    def __call__(self, episode: Episode) -> bool:
        """Return True: it is the last one."""
        self._kept.append(episode)
        if len(self._kept) > self.n:
            self._displaced.append(self._kept.popleft())
        return True


def keep_best(n: int) -> KeepBest:
    """Keep the videos of the `n` episodes with the highest return, over all envs of a recorder; delete the others.

    A video that was kept and is displaced is deleted, file and row, where the logger can do that: `CSVLogger`. Others
    keep what was one of the best when it was logged. An episode that has not ended when the environment is closed is
    not judged, and its video stays, marked as "unfinished".

        >>> from vidrec import CSVLogger, VideoRecorder, keep_best
        >>> recorder = VideoRecorder(CSVLogger("run"), "best", keep=keep_best(3))
    """
    return KeepBest(n)


def keep_last(n: int) -> KeepLast:
    """Keep the videos of the last `n` episodes, over all envs of a recorder; as `keep_best` for the others."""
    return KeepLast(n)


def each_all(entries: Iterable[Tensor], count: int) -> Flags:
    """Return for each of `count` envs or steps whether all that `entries` hold of it is true; False if none."""
    flags: Flags | None = None
    for entry in entries:
        own: Flags = np.asarray(each(entry, count).astype(bool).all(1))
        flags = own if flags is None else flags & own
    return np.zeros(count, bool) if flags is None else flags


def each_sum(entries: Iterable[Tensor], count: int) -> NDArray[np.float64]:
    """Return for each of `count` envs or steps the sum of all that `entries` hold of it."""
    sums = np.zeros(count)
    for entry in entries:
        sums += each(entry.to(torch.float64), count).sum(1)
    return sums


def each(entry: Tensor, count: int) -> NDArray[Any]:
    """Return an entry as ``[count, all that one env or step holds]``."""
    flat: NDArray[Any] = entry.detach().cpu().numpy().reshape(count, -1)
    return flat


def outermost(keys: Iterable[NestedKey], name: str) -> list[NestedKey]:
    """Return, of the keys that end with `name`, those nearest to the root: "done" there goes before that of agents."""
    found = [key if isinstance(key, tuple) else (key,) for key in keys]
    found = [key for key in found if key[-1] == name]
    depth = min(map(len, found), default=0)
    return [key for key in found if len(key) == depth]

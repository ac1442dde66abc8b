"""How far each env of a batched environment has come: its episode, step, reward and return."""

import numpy as np
from numpy.typing import NDArray
from tensordict import TensorDictBase
from torchrl.envs import EnvBase

from vidrec.sources.flags import Flags, all_of, holds_true, outermost, reader, sum_of


class Progress:
    """Counts the steps of each env of a batch, whatever is recorded of it.

    An env begins another episode when it is reset, or stepped after it was done. One that waits for the others, by the
    entry "_step", stays as it is.

    Attributes:
        episodes: the number of the episode of each env, from 0; -1 before the first.
        steps: how many steps it has.
        rewards: the reward of the last one, summed as for `vidrec.Episode`; 0 at the reset.
        returns: the sum of the rewards so far.
    """

    def __init__(self, env: EnvBase, count: int, *, waits: bool) -> None:
        self._waits = waits
        self.episodes, self.steps = np.full(count, -1), np.zeros(count, int)
        self.rewards: NDArray[np.float64] = np.zeros(count)
        self.returns = np.zeros(count)
        self._done = outermost(env.done_keys, "done")
        self._read_done, self._read_rewards = reader(self._done[0]), [*map(reader, env.reward_keys)]
        self._over: Flags = np.ones(count, bool)
        self._idle = True  # whether that is so of any
        self._last: TensorDictBase | None = None  # which transforms behind the recorder may still mark as done

    def reset(self, tensordict: TensorDictBase) -> None:
        """Begin the episodes of the envs that are reset, by the entries "_reset"; of all if there are none."""
        self._see_ends()
        count = len(self.steps)
        keys = outermost(tensordict.keys(True, True), "_reset")
        self._begin(all_of(keys, tensordict, count) if keys else np.ones(count, bool))

    def step(self, tensordict: TensorDictBase, root: TensorDictBase) -> None:
        """Count a step, of which `tensordict` holds the outcome, and `root` what it was taken with."""
        self._see_ends()
        self._last = tensordict
        rewards = sum_of(self._read_rewards, tensordict, len(self.steps))
        if self._waits and root.get("_step", None) is not None:
            stepped = all_of(["_step"], root, len(self.steps))
            self._begin(self._over & stepped)
            self.steps += stepped
            self.returns[stepped] += rewards[stepped]
            self.rewards = np.where(stepped, rewards, self.rewards)
            return
        if self._idle:
            self._begin(self._over)
        self.steps += 1
        self.returns += rewards
        self.rewards = rewards

    def _see_ends(self) -> None:
        if self._last is not None and holds_true(self._read_done(self._last)):
            self._over |= all_of(self._done, self._last, len(self.steps))
            self._idle = bool(self._over.any())
        self._last = None

    def _begin(self, which: Flags) -> None:
        self.episodes[which] += 1
        self.steps[which] = 0
        self.rewards[which] = 0
        self.returns[which] = 0
        self._over[which] = False
        self._idle = bool(self._over.any())

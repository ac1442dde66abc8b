"""What steps on a device said of each env, which is read a step later, so that nobody waits for the device."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor

from vidrec.frames import transfer
from vidrec.sources.flags import Flags


class Outcomes:
    """Which of `count` envs are done by the step before, and the reward of this one, on their way from a device.

    Those of the step before, because transforms behind the recorder may still mark this one as done.

    Args:
        before: the outcome of the step before; None if there is none.
        now: that of this step.
        done: the entries that say so, see `vidrec.sources.flags.all_of`.
        rewards: the entries with rewards, see `vidrec.sources.flags.sum_of`.
        count: how many envs there are.
        step: the number of the step before.
        device: where the entries are.
    """

    def __init__(
        self,
        before: TensorDictBase | None,
        now: TensorDictBase,
        done: Iterable[NestedKey],
        rewards: Iterable[NestedKey],
        count: int,
        step: int,
        device: torch.device,
    ) -> None:
        self.step, self._count = step, count
        flags = [] if before is None else [entry.bool().all(1) for entry in _rows(done, before, count)]
        sums = [entry.double().sum(1) for entry in _rows(rewards, now, count)]
        zeros = torch.zeros(count, dtype=torch.float64, device=device)
        all_done = torch.stack(flags).all(0) if flags else zeros.bool()
        self._copy = transfer.copy_of(torch.cat([all_done.view(torch.uint8), sum(sums, zeros).view(torch.uint8)]))

    def read(self) -> tuple[Flags, NDArray[np.float64]]:
        """Return which envs are done, and the rewards; waits until they are there, and not for what came later."""
        self._copy.wait()
        done, rewards = np.split(self._copy.host.numpy(), [self._count])
        return done.astype(bool), rewards.copy().view(np.float64)


def _rows(keys: Iterable[NestedKey], tensordict: TensorDictBase, count: int) -> list[Tensor]:
    """Return the entries that are there, each as ``[count, all that one env holds]``."""
    entries = [tensordict.get(key, None) for key in keys]
    return [entry.detach().reshape(count, -1) for entry in entries if entry is not None]

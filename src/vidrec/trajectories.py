"""Trajectories: what a batch from a replay buffer or dataset holds, one after the other, and what in it is padding."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDictBase
from torch import Tensor

from vidrec.episodes import Episode, Flags, each, each_all, each_sum, outermost
from vidrec.frames import is_black

MASK_KEYS = ("mask", ("collector", "mask"))
"""Where a sample says which steps are no padding, as TorchRL's `split_trajectories` does: bool, one for each step."""

ID_KEYS = (("collector", "traj_ids"), "traj_ids", "episode", "trajectory", "traj_id")
"""Where a sample says which trajectory a step belongs to: the names of TorchRL's collectors, samplers and datasets."""


class Batch:
    """The steps of a sample ``[N]`` or ``[B, T]``, in the order of its axes, time last.

    Attributes:
        steps: how many there are.
        rows: B, of which each is a trajectory or a part of one; None if there is one axis.
        valid: which steps are no padding, by entries named "mask".
    """

    def __init__(self, sample: TensorDictBase) -> None:
        self._sample = sample
        following = sample.get("next", None)
        self._next = following if isinstance(following, TensorDictBase) else sample.empty()
        self.steps = sample.numel()
        size = list(sample.batch_size)
        while len(size) > 1 and size[-1] == 1:
            size.pop()
        self.rows = math.prod(size[:-1]) if len(size) > 1 else None
        self.valid: Flags = np.ones(self.steps, bool)
        for key in MASK_KEYS:
            mask = sample.get(key, None)
            if isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.numel() == self.steps:
                self.valid &= each(mask, self.steps)[:, 0]
        self._terminated, self._truncated = self._flag("terminated"), self._flag("truncated")
        self.done = self._flag("done") | self._terminated | self._truncated

    def is_padding(self, pictures: Tensor) -> Flags:
        """Return which pictures of the entry "next" are no observation, but zeros that stand for a missing one.

        `OpenXExperienceReplay` has such behind the last step of an episode.

        Args:
            pictures: ``[N, ...]``, the same number of them for each step.
        """
        padding, each = np.zeros(self.steps, bool), len(pictures) // self.steps
        for at in np.flatnonzero(self.done):
            padding[at] = is_black(pictures[at * each : (at + 1) * each])
        return padding

    def trajectories(self, number: int) -> Iterator[tuple[NDArray[Any], Episode]]:
        """Yield the steps of each trajectory, and what is known of it.

        One ends with a step that is done or truncated, where the id of the trajectory changes, where the "index" in the
        buffer or the "step_count" does not go on, and with a row. Its number is its id, or counts on from `number`
        where there is none. The marks that a `SliceSampler` sets are not there yet when a transform sees the sample;
        the steps that it repeats as padding are known by their "index".
        """
        ids = self._ids()
        ends = self.done.copy()
        ends[-1:] = True
        if ids is not None:
            ends[:-1] |= ids[1:] != ids[:-1]
        valid = self.valid.copy()
        index, count = self._number("index"), self._number("step_count")
        if count is not None:
            ends[:-1] |= np.diff(count) != 1
        if index is not None:
            # the storage begins anew where it is full
            wraps = np.zeros(self.steps - 1, bool) if count is None else (index[1:] == 0) & (np.diff(count) == 1)
            repeats = np.diff(index) == 0
            valid[1:] &= ~repeats
            ends[:-1] |= (np.diff(index) != 1) & ~wraps & ~repeats
        if self.rows is not None:
            ends[self.steps // self.rows - 1 :: self.steps // self.rows] = True
        terminated, truncated = self._terminated, self._truncated
        rewards = each_sum(self._outermost("reward"), self.steps)
        begin = 0
        for end in map(int, np.flatnonzero(ends)):
            steps = np.arange(begin, end + 1)
            steps = steps[valid[begin : end + 1]]
            begin = end + 1
            if not len(steps):
                continue
            last = steps[-1]
            yield (
                steps,
                Episode(
                    lane=None,
                    number=number if ids is None else int(ids[last]),
                    length=len(steps),
                    return_=float(rewards[steps].sum()),
                    terminated=bool(terminated[last] or (self.done[last] and not truncated[last])),
                    truncated=bool(truncated[last] and not terminated[last]),
                ),
            )
            number += 1

    def _ids(self) -> NDArray[Any] | None:
        for key in ID_KEYS:
            if (value := self._number(key)) is not None:
                return value
        return None

    def _number(self, key: Any) -> NDArray[Any] | None:
        """Return an entry of whole numbers, one for each step; None if there is none."""
        value = self._sample.get(key, None)
        if not isinstance(value, Tensor) or value.numel() != self.steps or value.is_floating_point():
            return None
        return each(value, self.steps)[:, 0]

    def _flag(self, name: str) -> Flags:
        return each_all(self._outermost(name), self.steps)

    def _outermost(self, name: str) -> Iterator[Tensor]:
        """Yield an entry of "next", or those of this name that are nearest to it."""
        return (self._next.get(key) for key in outermost(self._next.keys(True, True), name))

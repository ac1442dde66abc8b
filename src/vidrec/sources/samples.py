"""Trajectories: what a batch from a replay buffer or dataset holds, one after the other, and what in it is padding."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor

from vidrec.episode import Episode
from vidrec.frames import Entries, Look, is_black
from vidrec.recording import lifetime
from vidrec.recording.recording import Recording
from vidrec.recording.stream import Stream
from vidrec.sources.captions import Caption, Captions, Data, Moment
from vidrec.sources.flags import Flags, all_of, outermost, reader, rows, sum_of
from vidrec.sources.selection import Selection

MASK_KEYS = ("mask", ("collector", "mask"))
"""Where a sample says which steps are no padding, as TorchRL's `split_trajectories` does: bool, one for each step."""

ID_KEYS = (("collector", "traj_ids"), "traj_ids", "episode", "trajectory", "traj_id")
"""Where a sample says which trajectory a step belongs to: the names of TorchRL's collectors, samplers and datasets."""

CAPTIONED = 16
"""How many frames have their captions drawn at a time: they may be 16 times as large then."""


class Samples:
    """What a recorder without an environment records: frames one after another, as grids, or a video a trajectory.

    Each sample is recorded under the recording's lock: samples that are drawn ahead come by in several threads.
    """

    def __init__(self, recording: Recording, selection: Selection, caption: Caption | None) -> None:
        self._recording, self._selection = recording, selection
        self._trajectories = 0
        self._frames = 0  # that came without a batch
        self._captions = None if caption is None else Captions(caption)

    def record(
        self, entries: Entries, sample: TensorDictBase | None, look: Look, skip: int, dump_on_done: bool
    ) -> None:
        """Keep the frames of a sample; None if they are all there is of it."""
        count = entries.number()
        batch = Batch(sample) if sample is not None and sample.batch_dims and not count % sample.numel() else None
        each = 1 if batch is None else count // batch.steps  # several cameras give several frames a step
        valid = np.ones(count, bool)
        if batch is not None:
            valid = np.repeat(batch.valid, each)
            for entry in entries:
                if entry.name.startswith("('next'"):
                    valid &= ~np.repeat(batch.is_padding(entry.frames), each)
        if self._stream.fresh:
            lifetime.finish_orphans()
        with self._recording.lock:
            rows = None if self._captions is None else self._rows(self._captions, sample, batch, count, each)
            if look.make_grid:
                grids = [np.arange(count)]
                if batch is not None and (n := batch.rows) is not None:
                    grids = list(np.arange(count).reshape(n, -1, each).swapaxes(0, 1).reshape(-1, n * each))
                self._record_grids(entries, grids, valid, look, skip, rows)
            elif self._selection.by_episode(dump_on_done) and batch is not None:
                trigger = self._selection.episode_trigger
                for steps, episode in batch.trajectories(self._trajectories):
                    self._trajectories += 1
                    if trigger is None or trigger(episode.number):
                        steps = (steps[:, None] * each + np.arange(each)).ravel()
                        self._record_run(entries, steps[valid[steps]], look, skip, rows)
                        self._recording.finish(self._stream, episode)
            else:
                self._record_run(entries, np.flatnonzero(valid), look, skip, rows)
            if rows is not None and not self._selection.by_episode(dump_on_done):
                self._trajectories += rows.trajectories

    def _rows(
        self, captions: Captions, sample: TensorDictBase | None, batch: "Batch | None", count: int, each: int
    ) -> "Rows":
        """Return what captions say of the frames of a sample, of which each row has so many."""
        if batch is not None:
            return Rows.of(captions, batch, self._trajectories, each)
        first, self._frames = self._frames, self._frames + count
        return Rows.without_batch(captions, sample, first, count)

    @property
    def _stream(self) -> Stream:
        return self._recording.streams[None]

    def _record_grids(
        self,
        entries: Entries,
        grids: Sequence[NDArray[np.integer]],
        valid: Flags,
        look: Look,
        skip: int,
        rows: "Rows | None",
    ) -> None:
        stream = self._stream
        for steps in grids:
            stream.count += 1
            if not stream.count % skip and valid[steps].any() and self._recording.room(stream):
                blank = [~valid[steps]] * len(entries)
                taken = entries.take(steps)
                if rows is None:
                    frames = taken.convert(look, blank)
                else:
                    frames = rows.draw(taken.convert(look._replace(make_grid=False), blank), steps, tile=True)
                self._recording.write([stream], [frames])

    def _record_run(
        self, entries: Entries, steps: NDArray[np.integer], look: Look, skip: int, rows: "Rows | None"
    ) -> None:
        """Keep the frames at `steps`: of all that come, those at skip - 1, 2 * skip - 1, ..."""
        stream = self._stream
        before = skip - 1 - stream.count % skip
        stream.count += len(steps)
        steps = steps[before::skip]
        if room := self._recording.room(stream, len(steps)):
            steps = steps[:room]
            if rows is None:
                self._recording.write([stream], [entries.take(steps).convert(look)])
                return
            for begin in range(0, len(steps), CAPTIONED):
                block = steps[begin : begin + CAPTIONED]
                self._recording.write([stream], [rows.draw(entries.take(block).convert(look), block, tile=False)])


@dataclass(frozen=True, eq=False)
class Rows:
    """What captions say of the rows of a sample.

    Attributes:
        captions: what they are.
        data: where the rows are; None if frames come without a tensordict.
        each: how many frames a row has.
        episodes: the number of the trajectory of each row, -1 for padding; None without one.
        steps: which of the steps it is that the sample has of it.
        rewards: its reward; None if there is none.
        returns: the sum of the rewards of the trajectory so far.
        trajectories: how many there are.
    """

    captions: Captions
    data: Data | None
    each: int
    episodes: NDArray[np.integer] | None
    steps: NDArray[np.integer]
    rewards: NDArray[np.float64] | None = None
    returns: NDArray[np.float64] | None = None
    trajectories: int = 0

    @classmethod
    def of(cls, captions: Captions, batch: "Batch", number: int, each: int) -> "Rows":
        """Return those of a batch, whose trajectories without an id are counted from `number`."""
        episodes, steps, trajectories = np.full(batch.steps, -1), np.zeros(batch.steps, int), 0
        rewards, returns = batch.rewards, None if batch.rewards is None else np.zeros(batch.steps)
        for at, episode in batch.trajectories(number):
            episodes[at], steps[at] = episode.number, np.arange(len(at))
            if rewards is not None and returns is not None:
                returns[at] = np.cumsum(rewards[at])
            trajectories += 1
        return cls(captions, batch.data(), each, episodes, steps, rewards, returns, trajectories)

    @classmethod
    def without_batch(cls, captions: Captions, sample: TensorDictBase | None, first: int, count: int) -> "Rows":
        """Return those of frames that are counted on from `first`, with a tensordict for all or none."""
        data = None if sample is None else _data(sample, ())
        return cls(captions, data, 1, None, np.arange(first, first + count))

    def draw(self, frames: NDArray[np.uint8], numbers: NDArray[np.integer], *, tile: bool) -> NDArray[np.uint8]:
        """Return the frames of these numbers with their captions."""
        now = datetime.now(timezone.utc)

        def moment(number: int, frame: NDArray[np.uint8]) -> Moment | None:
            at = int(numbers[number]) // self.each
            if self.episodes is not None and self.episodes[at] < 0:
                return None
            return Moment(
                frame=frame,
                env_id=None,
                agent=None,
                episode=None if self.episodes is None else int(self.episodes[at]),
                step=int(self.steps[at]),
                reward=None if self.rewards is None else float(self.rewards[at]),
                return_=None if self.returns is None else float(self.returns[at]),
                time=now,
                _data=self.data,
                _at=0 if self.episodes is None else at,
            )

        return self.captions.draw(frames, moment, tile=tile)


class Batch:
    """The steps of a sample ``[N]`` or ``[B, T]``, in the order of its axes, time last.

    Attributes:
        steps: how many there are.
        rows: B, of which each is a trajectory or a part of one; None if there is one axis.
        valid: which steps are no padding, by entries named "mask".
        done: which steps end a trajectory by a flag of theirs.
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
                self.valid &= rows(mask, self.steps)[:, 0].astype(bool)
        self._terminated, self._truncated = self._flag("terminated"), self._flag("truncated")
        self.done = self._flag("done") | self._terminated | self._truncated

    @cached_property
    def rewards(self) -> NDArray[np.float64] | None:
        """The reward of each step; None if there are none."""
        keys = self._outermost("reward")
        return sum_of(map(reader, keys), self._next, self.steps) if keys else None

    def data(self) -> Data:
        """Return where captions find the entries of a row."""
        return _data(self._sample, self._sample.batch_size)

    def is_padding(self, frames: Tensor) -> Flags:
        """Return which frames of the entry "next" are no observation, but zeros that stand for a missing one.

        `OpenXExperienceReplay` has such behind the last step of an episode.

        Args:
            frames: ``[N, ...]``, the same number of them for each step.
        """
        padding, each = np.zeros(self.steps, bool), len(frames) // self.steps
        for at in np.flatnonzero(self.done):
            padding[at] = is_black(frames[at * each : (at + 1) * each])
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
        rewards = np.zeros(self.steps) if self.rewards is None else self.rewards
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
                    env_id=None,
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
        return rows(value, self.steps)[:, 0]

    def _flag(self, name: str) -> Flags:
        return all_of(self._outermost(name), self._next, self.steps)

    def _outermost(self, name: str) -> list[NestedKey]:
        """Return the keys in "next" of this name that are nearest to it."""
        return outermost(self._next.keys(True, True), name)


def _data(sample: TensorDictBase, shape: Sequence[int]) -> Data:
    following = sample.get("next", None)
    outcome = following if isinstance(following, TensorDictBase) else sample
    return Data(sample, outcome, shape, dict.fromkeys(outermost(sample.keys(True, True), "action"), False))

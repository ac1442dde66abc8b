"""The sub-envs of a batched environment, their episodes, and which of their frames are wanted.

                        dump_on_done=False              dump_on_done=True

    make_grid=True      one video, a grid of all envs   the same, finished when all are done at the same step
    make_grid=False     a video for each env            a video for each env and each of its episodes

A single env is one of one. With agents that have videos of their own, what holds of an env holds of each of them. The
frame after the last step belongs to the episode that ended, that of the reset to the one that begins.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDictBase
from torchrl.envs import EnvBase, TransformedEnv
from torchrl.envs.transforms import AutoResetTransform, VecGymEnvTransform

from vidrec.episode import Episode, RunningEpisode, Steps
from vidrec.errors import FrameError, raise_first
from vidrec.frames import Entries, by_agent, spaced, take
from vidrec.recording.stream import Stream
from vidrec.sources.captions import EnvCaptions
from vidrec.sources.flags import Flags, all_of, holds_true, outermost, reader, sum_of, sums_in
from vidrec.sources.outcomes import Outcomes
from vidrec.sources.selection import Selection

Ended = tuple[Stream, Episode | None]
"""A stream whose clip is to be finished, and the episode that it shows."""


class EnvSource:
    """The envs of one environment that one recorder records.

    Attributes:
        batch_dims: how many axes its batch has.
        by_env: whether each has videos of its own; else all are in one, and count as one env here.
        by_episode: whether each episode has a video of its own.
        picks: whether an entry holds frames of more envs than a stream wants.
        ends: whether a clip may end with a step.
        native_autoreset: whether the environment gives, when an env is done, the first frame of the next episode.
        resets_itself: whether what the environment gives for an unknown last frame may be zeros.
        stepped: the outcome of the last step, which transforms behind the recorder may still mark as done.
        steps: how many steps of the environment came by, since the recorder came into it.
        captions: what is written below the frames; None if nothing is.
    """

    def __init__(
        self,
        env: EnvBase,
        batch_size: torch.Size,
        *,
        agents: int | None,
        make_grid: bool,
        dump_on_done: bool,
        selection: Selection,
        stream: Callable[[int | None, int | None], Stream],
        steps: Steps,
        captions: EnvCaptions | None = None,
    ) -> None:
        self.captions = captions
        self._selection, self._numbered = selection, not make_grid
        self.by_episode = selection.by_episode(dump_on_done)
        self.batch_dims = len(batch_size)
        self._count, self._agents = batch_size.numel(), agents or 1
        chosen = selection.of_envs(self._count)
        self._chosen = np.repeat(chosen, self._agents)
        self.by_env = (self._count > 1 or agents is not None) and not make_grid
        self.streams = [stream(None, None)]
        if self.by_env:
            envs = chosen if self._count > 1 else [None]
            self.streams = [stream(env_id, at) for env_id in envs for at in (range(agents) if agents else [None])]
        numbers = [stream.at(self._agents) for stream in self.streams] if self.by_env else self._chosen
        self._recorded = spaced(np.asarray(numbers))  # which of all frames
        self._all = len(self._chosen) == len(chosen) == self._count
        self.picks = self.by_env or not self._all
        self.ends = self.by_episode or selection.step_trigger is not None
        self._at = {id(stream): at for at, stream in enumerate(self.streams)}
        for each in self.streams:
            each.episode, each.steps = None, steps
        # TorchRL's rule for a grid: its video goes on through a reset that comes before the end
        self._ends_at_reset = not (make_grid and selection.keep is None and selection.episode_trigger is None)
        self.native_autoreset = bool(env.__dict__.get("_torchrl_native_autoreset", False))
        self.resets_itself = _resets_itself(env)
        self._done, self._terminated = (outermost(env.done_keys, name) for name in ("done", "terminated"))
        self._reward_keys = env.reward_keys
        self._running: list[RunningEpisode | None] = [None] * len(self.streams)
        self._numbers = [-1] * len(self.streams)
        self.stepped: TensorDictBase | None = None
        self._whole: list[RunningEpisode | None] = [None] * len(self.streams)
        self._follows = self._follows_late = False  # whether there is one, and what is known of it comes a step later
        self._last: TensorDictBase | None = None
        self._late: Outcomes | None = None
        self._device = torch.device("cpu")
        self._began = [0] * len(self.streams)  # at which step of the env
        self._returns = np.zeros(self._count)  # of all envs, as they are not chosen from at each step
        self._read_done = reader(self._done[0])
        self._read_rewards = [*map(reader, self._reward_keys)]
        self._idle = True  # whether an env has no running episode
        self.steps = steps
        self._wanted = [] if selection.step_trigger is not None else list(self.streams)

    def step(self, tensordict: TensorDictBase, skip: int) -> list[Stream]:
        """Count a step, of which `tensordict` holds the outcome; return the streams that want its frame."""
        self.steps.count += 1
        if self.by_episode:
            self.stepped = tensordict
            if self._idle:  # it was not reset
                self._begin([at for at, episode in enumerate(self._running) if episode is None])
            if self._wanted:
                self._count_step(tensordict)
                if self.native_autoreset:
                    return self._due(self._which(~self._flags(self._done, tensordict)), skip)
        elif self._follows:
            last, self._last = self._last, tensordict
            done = None if last is None else self._read_done(last)
            if done is not None and (done.item() if done.numel() == 1 else holds_true(done)):
                self._leave(self._flags(self._done, last), self.steps.count - 1)
            for read in self._read_rewards:
                if (reward := read(tensordict)) is None:
                    continue
                if reward.numel() == 1:  # takes a fifth of the time, and no call of ours, as above
                    self._returns[0] += reward.item()
                else:
                    self._returns += sums_in(reward, self._count)
        elif self._follows_late:
            self._follow_late(tensordict)
        elif self.ends:  # by a `step_trigger`
            self._trigger()
        wanted = self._wanted
        if len(wanted) == 1:
            stream = wanted[0]
            stream.count += 1
            return [] if stream.count % skip else wanted
        return self._due(wanted, skip) if wanted else wanted

    def begin(self, which: Flags | None, tensordict: TensorDictBase) -> None:
        """Begin the episodes of envs that are reset, of which `tensordict` is what comes of it; None is all."""
        at = range(len(self.streams)) if which is None else np.flatnonzero(which).tolist()
        if self.by_episode:
            self._begin(at)
        elif self._selection.step_trigger is not None:
            self._drop_dumped()
        elif (self.by_env or self._count == 1) and not self.resets_itself and not self.native_autoreset:
            self._catch_up()
            self._begin_whole(at)
            done = self._read_done(tensordict)
            if done is not None and done.is_cuda:
                self._follows, self._follows_late, self._device = False, self._follows, done.device

    def offer(self, which: Flags | None, skip: int) -> list[Stream]:
        """Return the streams that want a frame of the envs that are reset; None is all."""
        reset = self._wanted if which is None else self._which(which)
        for stream in reset:
            stream.resets += 1
        return self._due(reset, skip)

    def settle(self) -> None:
        """Say of each stream whose clip is exactly one episode which one it is; a dump follows."""
        if not (self._follows or self._follows_late) or self._last is None:
            return
        self._catch_up()
        done, terminated = self._flags(self._done, self._last), self._flags(self._terminated, self._last)
        for at, (stream, episode) in enumerate(zip(self.streams, self._whole, strict=True)):
            length = self.steps.count - self._began[at]
            whole = length and stream.resets == 1 and stream.count == 1 + length  # else it was dumped meanwhile
            stream.episode = episode if whole and done[at] else None
            if episode is not None:
                episode.length, episode.return_ = length, float(self._returns[self._chosen[at]])
                episode.terminated, episode.truncated = bool(terminated[at]), not terminated[at]

    def resets(self, tensordict: TensorDictBase) -> Flags | None:
        """Return which envs are reset, by the entries "_reset"; None if there are none, and all are."""
        keys = outermost(tensordict.keys(True, True), "_reset")
        return self._flags(keys, tensordict) if keys else None

    def ended(self, tensordict: TensorDictBase, max_frames: int | None) -> Sequence[Ended]:
        """Return the streams whose clip ends with the outcome of a step; an episode ends once."""
        if not self.by_episode:
            return self.full(max_frames)
        if not holds_true(tensordict.get(self._done[0], None)):
            return ()
        done = self._flags(self._done, tensordict)
        terminated = self._flags(self._terminated, tensordict)
        ended = []
        for at in np.flatnonzero(done):
            if (episode := self._end(int(at))) is not None:
                flag = bool(terminated[at])
                ended.append((self.streams[at], episode.end(terminated=flag, truncated=not flag)))
        return ended

    def cut(self, which: Flags | None = None) -> list[Ended]:
        """Return the streams of running episodes that a reset of these envs ends before they are done."""
        if not self.by_episode or not self._ends_at_reset:
            return []
        return self._cut(range(len(self.streams)) if which is None else np.flatnonzero(which).tolist())

    def leave(self) -> list[Ended]:
        """Return the streams of running episodes: the recorder is in another environment from now on."""
        return self._cut(range(len(self.streams)))

    def pick(self, entries: Entries, streams: Sequence[Stream]) -> Entries:
        """Return, of the frames of all envs, one for each stream; or all if they share a video.

        Raises:
            FrameError: an entry does not hold one frame for each env.
        """
        if not self.picks:
            return entries
        if self.by_env and self._agents > 1:
            entries = entries.choose(lambda frames, name: by_agent(frames, self._agents))
        for entry in entries:
            if len(entry.frames) != (expected := self._count * self._agents):
                raise FrameError(
                    f"{entry.name} holds {len(entry.frames)} frames; expected one for each of {self._count} envs"
                    + (f" and {self._agents} agents" if self._agents > 1 else "")
                )
        if self.by_env and len(streams) == expected:
            return entries
        every = not self.by_env or len(streams) == len(self.streams)
        at = self._recorded if every else np.array([stream.at(self._agents) for stream in streams])
        return entries.choose(lambda frames, name: take(frames, at))

    def envs_of(self, streams: Sequence[Stream]) -> list[tuple[int | None, int | None]]:
        """Return which env and agent each frame that `pick` returns is of."""
        if self.by_env:
            return [(stream.env_id, stream.agent) for stream in streams]
        return [(int(env_id) if self._count > 1 else None, None) for env_id in self._chosen]

    def may_be_zeros(self, tensordict: TensorDictBase, streams: Sequence[Stream]) -> Flags:
        """Return of which frames that `pick` returns zeros say that they are not known.

        Of envs that are done, where TorchRL has the first frame of the next episode, and not always the last one.
        """
        if not self.resets_itself:
            return np.zeros(len(streams if self.by_env else self._chosen), bool)
        flags: Flags = all_of(self._done, tensordict, self._count)[self.shown_in(streams)]
        return flags

    def shown_in(self, streams: Sequence[Stream]) -> NDArray[np.integer]:
        """Return which envs are shown in the videos of these streams, in order."""
        return np.array([stream.env_id or 0 for stream in streams], int) if self.by_env else self._chosen

    @property
    def shows_all(self) -> bool:
        """Whether it records all envs."""
        return len(self._chosen) == self._count * self._agents

    def _due(self, streams: Sequence[Stream], skip: int) -> list[Stream]:
        due = []
        for stream in streams:
            stream.count = count = stream.count + 1
            if not count % skip:
                due.append(stream)
        return due

    def _which(self, which: Flags) -> list[Stream]:
        """Return the streams that are wanted, of those that have a new frame."""
        return [stream for stream in self._wanted if which[self._at[id(stream)]]]

    def _trigger(self) -> None:
        """Begin a clip if `step_trigger` says so."""
        assert self._selection.step_trigger is not None
        step = self.steps.count - 1
        if self._wanted:
            self._drop_dumped()
        if not self._wanted and self._selection.step_trigger(step):
            self._wanted = list(self.streams)
            for stream in self.streams:
                stream.began = step

    def _drop_dumped(self) -> None:
        """End the clips, begun by `step_trigger`, that were dumped in between."""
        self._wanted = [stream for stream in self._wanted if stream.began is not None]

    def full(self, max_frames: int | None) -> list[Ended]:
        """Return the streams whose clip, begun by `step_trigger`, is long enough."""
        if self._selection.step_trigger is None or not self._wanted:
            return []
        full = [stream for stream in self._wanted if max_frames is not None and stream.offered >= max_frames]
        self._wanted = [stream for stream in self._wanted if stream not in full]
        return [(stream, None) for stream in full]

    def _count_step(self, tensordict: TensorDictBase) -> None:
        rewards = sum_of(self._read_rewards, tensordict, self._count)
        own = rewards[self._chosen].tolist() if self.by_env else [float(rewards[self._chosen].mean())]
        for episode, reward in zip(self._running, own, strict=True):
            if episode is not None:
                episode.length += 1
                episode.return_ += reward

    def _begin(self, at: Sequence[int]) -> None:
        """Begin another episode in these envs, and ask whether it is wanted."""
        trigger = self._selection.episode_trigger
        errors: list[Exception] = []
        unwanted = set()
        for i in at:
            stream = self.streams[i]
            self._numbers[i] += 1
            self._running[i] = stream.episode = RunningEpisode(stream.env_id, self._numbers[i], self._numbered)
            try:
                if trigger is not None and not trigger(self._numbers[i]):
                    unwanted.add(i)
            except Exception as error:
                unwanted.add(i)
                errors.append(error)
        if trigger is not None:
            begun, before = set(at), {self._at[id(stream)] for stream in self._wanted}
            self._wanted = [
                stream for i, stream in enumerate(self.streams) if (i not in unwanted if i in begun else i in before)
            ]
        self._idle = None in self._running
        raise_first(errors)

    def _begin_whole(self, at: Sequence[int]) -> None:
        """Follow the episodes that clips begin with; a clip that has frames before is not exactly one episode."""
        for i in at:
            self._numbers[i] += 1
            stream = self.streams[i]
            stream.episode = None
            self._began[i], self._returns[self._chosen[i]] = self.steps.count, 0.0
            self._whole[i] = None if stream.count else RunningEpisode(stream.env_id, self._numbers[i], numbered=False)
        self._follows = any(self._whole)

    def _follow_late(self, tensordict: TensorDictBase) -> None:
        """Do the same for envs on a device, with what arrives a step later."""
        self._catch_up()
        last, self._last = self._last, tensordict
        step = self.steps.count - 1
        self._late = Outcomes(last, tensordict, self._done, self._reward_keys, self._count, step, self._device)

    def _catch_up(self) -> None:
        """Count the rewards that are on their way, and follow no episode that had ended before."""
        late, self._late = self._late, None
        if late is not None:
            done, rewards = late.read()
            self._returns += rewards
            self._leave(done[self._chosen] if self.by_env else np.array([done.all()]), late.step)

    def _leave(self, done: Flags, step: int) -> None:
        """Follow no episode that had ended with an earlier step: its clip shows more."""
        for at in np.flatnonzero(done):
            if self._began[at] < step:  # or else it was reset since
                self._whole[at] = None

    def _end(self, at: int) -> RunningEpisode | None:
        """Return the episode that runs in an env, which has none from now on."""
        episode, self._running[at] = self._running[at], None
        self.streams[at].episode = None
        self._idle = True
        return episode

    def _cut(self, at: Sequence[int]) -> list[Ended]:
        ended = [(self.streams[i], self._end(i)) for i in at]
        return [(stream, episode.end()) for stream, episode in ended if episode is not None]

    def _flags(self, keys: Sequence[Any], tensordict: TensorDictBase) -> Flags:
        """Return for each env here whether all that these entries hold of it is true; False if they are missing."""
        flags = all_of(keys, tensordict, self._count)
        if not self._all:
            flags = flags[self._chosen]
        return flags if self.by_env else np.array([flags.all()])


def _resets_itself(env: EnvBase) -> bool:
    """Return whether one of TorchRL's transforms for envs that reset themselves is in it."""
    while isinstance(env, TransformedEnv):
        if any(isinstance(module, AutoResetTransform | VecGymEnvTransform) for module in env.transform.modules()):
            return True
        env = env.base_env
    return False

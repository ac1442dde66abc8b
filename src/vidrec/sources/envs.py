"""Envs: the sub-envs of a batched environment, their episodes, and which of their frames are wanted.

                        dump_on_done=False              dump_on_done=True

    make_grid=True      one video, a grid of all envs  the same, finished when all are done at the same step
    make_grid=False     a video for each env           a video for each env and each of its episodes

A single env is one env. The frame after the last step belongs to the episode that ended, that of the reset to the
one that begins.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.envs import EnvBase, TransformedEnv
from torchrl.envs.transforms import AutoResetTransform, VecGymEnvTransform

from vidrec.episode import Episode
from vidrec.errors import FrameError, SettingError, raise_first
from vidrec.frames.frames import Flags, take
from vidrec.recording.recording import Recording, Track
from vidrec.sources.episodes import Episodes, each_all, each_sum, outermost


@dataclass
class Choice:
    """Which envs, episodes and steps a recorder is asked for; see `vidrec.VideoRecorder`."""

    env_ids: Sequence[int] | slice | None
    episode_trigger: Callable[[int], bool] | None
    step_trigger: Callable[[int], bool] | None
    dump_on_done: bool
    keep: Callable[[Episode], bool] | None
    max_frames: int | None

    def __post_init__(self) -> None:
        for name in ("episode_trigger", "step_trigger", "keep"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise SettingError(f"{name}={value!r} must be a function, or None")
        if self.step_trigger is not None:
            if self.max_frames is None:
                raise SettingError("step_trigger begins a clip, and needs max_frames to end it")
            if self.by_episode:
                raise SettingError("step_trigger does not go with dump_on_done, episode_trigger or keep")
        if not isinstance(self.env_ids, slice | None):
            given = self.env_ids.tolist() if hasattr(self.env_ids, "tolist") else self.env_ids
            self.env_ids = list(given) if isinstance(given, Sequence) else [given]
            if not self.env_ids or not all(
                isinstance(env_id, Integral) and env_id is not True for env_id in self.env_ids
            ):
                raise SettingError(f"envs={self.env_ids!r} must be the numbers of envs, such as [0, 3], or a slice")

    @property
    def by_episode(self) -> bool:
        """Whether each episode has a video of its own."""
        return self.dump_on_done or self.episode_trigger is not None or self.keep is not None

    def of(self, count: int) -> list[int]:
        """Return which of so many envs are recorded, in order."""
        env_ids = range(count)
        if isinstance(self.env_ids, slice):
            chosen = list(env_ids[self.env_ids])
        elif self.env_ids is not None:
            if not all(-count <= env_id < count for env_id in self.env_ids):
                raise SettingError(f"envs={self.env_ids} are not all there: the environment has {count}")
            chosen = sorted({env_ids[env_id] for env_id in self.env_ids})
        else:
            chosen = list(env_ids)
        if not chosen:
            raise SettingError(f"envs={self.env_ids} are none of the {count} of the environment")
        return chosen


class Envs:
    """The envs of one environment that one recorder records.

    Attributes:
        of: what it was made for; set by the recorder, which makes another for anything else.
        by_lane: whether each has videos of its own; else all are in one, and count as one env here.
        by_episode: whether each episode has a video of its own.
        native_autoreset: whether the environment gives, when a env is done, the first frame of the next episode.
        wanted: of which envs frames are wanted now.
    """

    def __init__(
        self, env: EnvBase, batch_size: torch.Size, recording: Recording, choice: Choice, make_grid: bool
    ) -> None:
        self.of: Any = None
        self._choice, self._recording = choice, recording
        self.by_episode = choice.by_episode
        self._count = batch_size.numel()
        self._chosen = np.array(choice.of(self._count))
        self.by_env = bool(batch_size) and not make_grid
        if self.by_env:
            self._tracks = [recording.track(int(env_id)) for env_id in self._chosen]
        else:
            self._tracks = [recording.track(None)]
        # TorchRL's rule for a grid: its video goes on through a reset that comes before the end
        self._ends_at_reset = self.by_episode and not (
            make_grid and choice.keep is None and choice.episode_trigger is None
        )
        self._episodes = Episodes(len(self._tracks), make_grid)
        self.native_autoreset = bool(env.__dict__.get("_torchrl_native_autoreset", False))
        self._resets_itself = _resets_itself(env)
        self.wanted = np.full(len(self._tracks), choice.step_trigger is None)
        self._steps = 0
        self._frames = [0] * len(self._tracks)
        self._began = 0
        self._keys = {name: outermost(env.done_keys, name) for name in ("done", "terminated")}
        self._reward_keys = env.reward_keys
        if self.by_episode:
            for at, track in enumerate(self._tracks):
                track.episode = partial(self._running, at)

    @torch.compiler.disable
    def step(self, tensordict: TensorDictBase) -> None:
        """Count a step, of which `tensordict` holds the outcome."""
        if self.by_episode:
            if not self._episodes.running.all():  # it was not reset
                self._begin(~self._episodes.running)
            self._episodes.length += 1
            if self.wanted.any():
                self._episodes.returned += self._rewards(tensordict)
        elif self._choice.step_trigger is not None:
            for at, track in enumerate(self._tracks):
                if self._frames[at] and not track.offered:  # it was dumped in between, and has ended with that
                    self.wanted[at] = False
                self._frames[at] = track.offered
            step, self._steps = self._steps, self._steps + 1
            if not self.wanted.any() and self._choice.step_trigger(step):
                self.wanted[:] = True
                self._began = step

    @torch.compiler.disable
    def reset(self, which: Flags | None) -> None:
        """Begin the episodes of envs that are reset; None is all."""
        if which is None:
            which = np.ones(len(self._tracks), bool)
        if self.by_episode:
            if self._ends_at_reset:
                self._finish(which & self._episodes.running, unfinished=True)
            self._begin(which)

    @torch.compiler.disable
    def end(self, tensordict: TensorDictBase) -> None:
        """Finish the videos of the episodes that end with the outcome of a step; those that are finished, stay."""
        if self.by_episode and (done := self.done(tensordict)).any():
            self._finish(done & self._episodes.running, self._all(self._keys["terminated"], tensordict))

    def done(self, tensordict: TensorDictBase) -> Flags:
        """Return which envs are done."""
        return self._all(self._keys["done"], tensordict)

    def resets(self, tensordict: TensorDictBase) -> Flags | None:
        """Return which envs are reset, by the entries "_reset"; None if there are none, and all are."""
        keys = outermost(tensordict.keys(True, True), "_reset")
        return self._all(keys, tensordict) if keys else None

    def leave(self) -> None:
        """Finish what is open in these envs: from now on the recorder is elsewhere."""
        if self.by_episode:
            self._finish(self._episodes.running, unfinished=True)
        for track in self._tracks:
            track.episode = None

    def due(self, which: Flags | None, skip: int) -> list[Track]:
        """Return the tracks to which a frame goes, of those that are offered one."""
        which = self.wanted if which is None else which & self.wanted
        tracks = [self._tracks[at] for at in np.flatnonzero(which)]
        for track in tracks:
            track.count += 1
        return [track for track in tracks if not track.count % skip]

    def may_be_zeros(self, tensordict: TensorDictBase, tracks: list[Track]) -> Flags:
        """Return of which frames that `pick` returns zeros say that they are not known.

        Of envs that are done, where TorchRL has the first frame of the next episode, and not always the last one.
        """
        picked = self._chosen if not self.by_env else np.array([track.env_id for track in tracks])
        if not self._resets_itself:
            return np.zeros(len(picked), bool)
        ended: Flags = each_all(_present(self._keys["done"], tensordict), self._count)[picked]
        return ended

    def pick(self, frames: Tensor, tracks: list[Track], name: str) -> Tensor:
        """Return, of the frames ``[N, H, W, C]`` of all envs, one for each track; or all if they share a video."""
        if not self.by_env and len(self._chosen) == self._count:
            return frames
        if len(frames) != self._count:
            raise FrameError(f"{name} holds {len(frames)} frames; expected one for each of {self._count} envs")
        return take(frames, np.array([track.env_id for track in tracks]) if self.by_env else self._chosen)

    def added(self, track: Track) -> None:
        """End the clip of a track that `step_trigger` began, if it is long enough."""
        if self._choice.step_trigger is not None and track.offered >= (self._recording.max_frames or 0):
            self.wanted[self._tracks.index(track)] = False
            self._recording.finish(track, step=self._began)

    def _begin(self, which: Flags) -> None:
        if not which.any():
            return
        self._episodes.begin(which)
        if self._choice.episode_trigger is not None:
            errors: list[Exception] = []
            for at in np.flatnonzero(which):
                try:
                    self.wanted[at] = bool(self._choice.episode_trigger(int(self._episodes.number[at])))
                except Exception as error:
                    self.wanted[at] = False
                    errors.append(error)
            raise_first(errors)

    def _finish(self, which: Flags, terminated: Flags | None = None, *, unfinished: bool = False) -> None:
        """Finish the episodes of these envs: what is done and has not terminated was truncated."""
        errors: list[Exception] = []
        self._episodes.running &= ~which
        for at in np.flatnonzero(which):
            track = self._tracks[at]
            try:
                ended = terminated is not None and bool(terminated[at])
                self._recording.finish(
                    track, self._episodes.of(int(at), track.env_id, ended, not ended and not unfinished)
                )
            except Exception as error:
                errors.append(error)
        raise_first(errors)

    def _running(self, at: int) -> Episode | None:
        """Return the episode that runs in a track, None if it has ended."""
        return self._episodes.of(at, self._tracks[at].env_id) if self._episodes.running[at] else None

    def _rewards(self, tensordict: TensorDictBase) -> NDArray[np.float64]:
        rewards = each_sum(_present(self._reward_keys, tensordict), self._count)[self._chosen]
        return rewards if self.by_env else np.array([rewards.mean()])

    def _all(self, keys: list[NestedKey], tensordict: TensorDictBase) -> Flags:
        """Return for each track whether all that these entries hold of its envs is true; False if they are missing."""
        flags = each_all(_present(keys, tensordict), self._count)[self._chosen]
        return flags if self.by_env else np.array([flags.all()])


def _present(keys: Sequence[NestedKey], tensordict: TensorDictBase) -> Iterator[Tensor]:
    return (value for key in keys if (value := tensordict.get(key, None)) is not None)


def _resets_itself(env: EnvBase) -> bool:
    """Return whether one of TorchRL's transforms for envs that reset themselves is in it."""
    while isinstance(env, TransformedEnv):
        if any(isinstance(module, AutoResetTransform | VecGymEnvTransform) for module in env.transform.modules()):
            return True
        env = env.base_env
    return False

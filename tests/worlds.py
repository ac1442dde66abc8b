"""Environments whose frames tell what they are, and loggers that keep what they are given."""

import torch
from numbered_frames import numbered
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase


class PixelsEnv(EnvBase):
    """Offers frames number 0, 1, 2, ... over its whole life; ends an episode after `horizon` steps, env by env.

    `frame(number, env)` returns a frame of one env, by default `numbered(number)`.
    """

    def __init__(self, batch_size=(), horizon=10**6, frame=None, key="pixels"):
        self.horizon = torch.as_tensor(horizon).expand(batch_size)
        super().__init__(batch_size=torch.Size(batch_size))
        self.frame = frame or (lambda number, env_id: numbered(number))
        self.key = key
        self.number = 0
        example = self.frame(0, 0)
        shape = (*self.batch_size, *example.shape)
        spec = Unbounded(shape=shape, dtype=example.dtype)
        self.observation_spec = Composite({key: spec}, shape=self.batch_size)
        self.action_spec = Bounded(0, 1, shape=(*self.batch_size, 1))
        self.reward_spec = Unbounded(shape=(*self.batch_size, 1))
        done = Categorical(2, shape=(*self.batch_size, 1), dtype=torch.bool)
        self.done_spec = Composite(done=done, terminated=done.clone(), shape=self.batch_size)
        self.ages = torch.zeros(self.batch_size, dtype=torch.long)

    def _frames(self):
        env_ids = self.batch_size.numel()
        frames = torch.stack([self.frame(self.number, env_id) for env_id in range(env_ids)])
        self.number += 1
        return frames.reshape(*self.batch_size, *frames.shape[1:])

    def _out(self, **entries):
        done = (self.ages >= self.horizon).unsqueeze(-1)
        td = TensorDict({"done": done, "terminated": done.clone(), **entries}, self.batch_size)
        td[self.key] = self._frames()
        return td

    def _reset(self, tensordict: TensorDictBase | None = None) -> TensorDictBase:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        self.ages = torch.where(mask.squeeze(-1), 0, self.ages) if mask is not None else torch.zeros_like(self.ages)
        return self._out()

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        self.ages = self.ages + 1
        return self._out(reward=torch.ones(*self.batch_size, 1))

    def _set_seed(self, seed):
        pass


def name_of(env_id, episode, step):
    """The number of the frame of a env: which env it is, and how far it has come."""
    return env_id << 9 | episode << 5 | step


class EpisodesEnv(EnvBase):
    """Its frames name env, episode and step; `lengths[env]` are those of its episodes, over and over.

    A step gives a env the reward env + 1. Every third episode of a env is truncated, the others terminate.
    """

    def __init__(self, lengths, batch_size=None, size=(24, 32)):
        self.lengths = lengths
        self.size = size
        batch_size = (len(lengths),) if batch_size is None else batch_size
        super().__init__(batch_size=torch.Size(batch_size))
        self.observation_spec = Composite(
            pixels=Unbounded((*batch_size, *size, 3), dtype=torch.uint8), shape=batch_size
        )
        self.action_spec = Bounded(0, 1, (*batch_size, 1))
        self.reward_spec = Unbounded((*batch_size, 1))
        flag = Categorical(2, shape=(*batch_size, 1), dtype=torch.bool)
        self.done_spec = Composite(done=flag, terminated=flag.clone(), truncated=flag.clone(), shape=batch_size)
        self.episodes = [-1] * len(lengths)
        self.steps = [0] * len(lengths)

    def _out(self, **more):
        frames = [
            numbered(name_of(*at), self.size)
            for at in zip(range(len(self.lengths)), self.episodes, self.steps, strict=True)
        ]
        done = [step >= self.length(env_id) for env_id, step in enumerate(self.steps)]
        truncated = [ends and self.episodes[env_id] % 3 == 2 for env_id, ends in enumerate(done)]
        flags = {
            "done": done,
            "terminated": [ends and not cut for ends, cut in zip(done, truncated, strict=True)],
            "truncated": truncated,
        }
        td = TensorDict(
            {name: torch.tensor(flag).reshape(*self.batch_size, 1) for name, flag in flags.items()}, self.batch_size
        )
        td["pixels"] = torch.stack(frames).reshape(*self.batch_size, *self.size, 3)
        return td.update(more)

    def length(self, env_id):
        return self.lengths[env_id][self.episodes[env_id] % len(self.lengths[env_id])]

    def _reset(self, tensordict=None):
        mask = None if tensordict is None else tensordict.get("_reset", None)
        resets = [True] * len(self.lengths) if mask is None else mask.flatten().tolist()
        for env_id, reset in enumerate(resets):
            if reset:
                self.episodes[env_id] += 1
                self.steps[env_id] = 0
        return self._out()

    def _step(self, tensordict):
        self.steps = [step + 1 for step in self.steps]
        reward = torch.arange(1.0, len(self.lengths) + 1).reshape(*self.batch_size, 1)
        return self._out(reward=reward)

    def _set_seed(self, seed):
        pass


class DrawnEnv(EpisodesEnv):
    """The same without pixels in its data; `render` draws them, and `drawn` has the numbers of what was drawn."""

    def __init__(self, lengths, batch_size=None, size=(24, 32)):
        super().__init__(lengths, batch_size, size)
        del self.observation_spec["pixels"]
        self.observation_spec["observation"] = Unbounded((*self.batch_size, 1))
        self.drawn = []

    def _out(self, **more):
        td = super()._out(**more).exclude("pixels")
        return td.set("observation", torch.tensor(self.steps, dtype=torch.float32).reshape(*self.batch_size, 1))

    def render(self):
        numbers = [name_of(*at) for at in zip(range(len(self.lengths)), self.episodes, self.steps, strict=True)]
        self.drawn.append(numbers if self.batch_size else numbers[0])
        frames = torch.stack([numbered(number, self.size) for number in numbers])
        return frames.numpy() if self.batch_size else frames[0].numpy()


class KeepLogger:
    """Any object with `log_video`: keeps each call."""

    def __init__(self):
        self.calls = []

    def log_video(self, name, video, step, **kwargs):
        self.calls.append((name, video, step, kwargs))

    @property
    def videos(self):
        return [call[1] for call in self.calls]


class FailingLogger(KeepLogger):
    """Raises as long as `failures` is above 0."""

    failures = 1

    def log_video(self, name, video, step, **kwargs):
        if self.failures:
            self.failures -= 1
            raise OSError("no space left on the moon")
        super().log_video(name, video, step, **kwargs)


def random_frames(*shape, dtype=torch.uint8):
    """Return `frame(number, env)` for `PixelsEnv`: noise that is the same at every call."""

    def frame(number, env_id):
        generator = torch.Generator().manual_seed(1000 * env_id + number)
        return torch.randint(0, 256, shape, generator=generator).to(dtype)

    return frame

"""Environments whose pictures tell what they are, and loggers that keep what they are given."""

import torch
from pictures import numbered
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase


class PixelsEnv(EnvBase):
    """Offers pictures number 0, 1, 2, ... over its whole life; ends an episode after `horizon` steps, lane by lane.

    `picture(number, lane)` returns a picture of one lane, by default `numbered(number)`.
    """

    def __init__(self, batch_size=(), horizon=10**6, picture=None, key="pixels"):
        self.horizon = torch.as_tensor(horizon).expand(batch_size)
        super().__init__(batch_size=torch.Size(batch_size))
        self.picture = picture or (lambda number, lane: numbered(number))
        self.key = key
        self.number = 0
        example = self.picture(0, 0)
        shape = (*self.batch_size, *example.shape)
        spec = Unbounded(shape=shape, dtype=example.dtype)
        self.observation_spec = Composite({key: spec}, shape=self.batch_size)
        self.action_spec = Bounded(0, 1, shape=(*self.batch_size, 1))
        self.reward_spec = Unbounded(shape=(*self.batch_size, 1))
        done = Categorical(2, shape=(*self.batch_size, 1), dtype=torch.bool)
        self.done_spec = Composite(done=done, terminated=done.clone(), shape=self.batch_size)
        self.ages = torch.zeros(self.batch_size, dtype=torch.long)

    def _pictures(self):
        lanes = self.batch_size.numel()
        pictures = torch.stack([self.picture(self.number, lane) for lane in range(lanes)])
        self.number += 1
        return pictures.reshape(*self.batch_size, *pictures.shape[1:])

    def _out(self, **entries):
        done = (self.ages >= self.horizon).unsqueeze(-1)
        td = TensorDict({"done": done, "terminated": done.clone(), **entries}, self.batch_size)
        td[self.key] = self._pictures()
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


def name_of(lane, episode, step):
    """The number of the picture of a lane: which lane it is, and how far it has come."""
    return lane << 9 | episode << 5 | step


class LanesEnv(EnvBase):
    """Its pictures name lane, episode and step; `lengths[lane]` are those of its episodes, over and over.

    A step gives a lane the reward lane + 1. Every third episode of a lane is truncated, the others terminate.
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
        pictures = [
            numbered(name_of(*at), self.size)
            for at in zip(range(len(self.lengths)), self.episodes, self.steps, strict=True)
        ]
        done = [step >= self.length(lane) for lane, step in enumerate(self.steps)]
        truncated = [ends and self.episodes[lane] % 3 == 2 for lane, ends in enumerate(done)]
        flags = {
            "done": done,
            "terminated": [ends and not cut for ends, cut in zip(done, truncated, strict=True)],
            "truncated": truncated,
        }
        td = TensorDict(
            {name: torch.tensor(flag).reshape(*self.batch_size, 1) for name, flag in flags.items()}, self.batch_size
        )
        td["pixels"] = torch.stack(pictures).reshape(*self.batch_size, *self.size, 3)
        return td.update(more)

    def length(self, lane):
        return self.lengths[lane][self.episodes[lane] % len(self.lengths[lane])]

    def _reset(self, tensordict=None):
        mask = None if tensordict is None else tensordict.get("_reset", None)
        resets = [True] * len(self.lengths) if mask is None else mask.flatten().tolist()
        for lane, reset in enumerate(resets):
            if reset:
                self.episodes[lane] += 1
                self.steps[lane] = 0
        return self._out()

    def _step(self, tensordict):
        self.steps = [step + 1 for step in self.steps]
        reward = torch.arange(1.0, len(self.lengths) + 1).reshape(*self.batch_size, 1)
        return self._out(reward=reward)

    def _set_seed(self, seed):
        pass


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


def random_pictures(*shape, dtype=torch.uint8):
    """Return `picture(number, lane)` for `PixelsEnv`: noise that is the same at every call."""

    def picture(number, lane):
        generator = torch.Generator().manual_seed(1000 * lane + number)
        return torch.randint(0, 256, shape, generator=generator).to(dtype)

    return picture

"""VMAS: a batched env of several agents, whose envs are no sub-envs of TorchRL's and whose entries are nested."""

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import missing, require
from numbered_frames import cells_in, decode, numbered, numbers_in, rows
from tensordict import TensorDict
from torchrl.data import Unbounded
from torchrl.envs import Compose, StepCounter, TransformedEnv
from torchrl.envs.libs.vmas import VmasEnv
from torchrl.envs.transforms import Transform
from worlds import name_of

from vidrec import CSVLogger, VideoRecorder

pytestmark = [
    # of gym, which VMAS asks for, and of pyglet; gym prints what else it has to say
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(gym|pyglet|vmas).*"),
    pytest.mark.filterwarnings("ignore::UserWarning:(gym|pyglet|vmas).*"),
]
N_ENVS = 3
HORIZON = 5


@pytest.fixture
def vmas():
    require("vmas")
    made = []

    def make(*, max_steps=HORIZON, **kwargs):
        made.append(VmasEnv(scenario="balance", num_envs=N_ENVS, max_steps=max_steps, n_agents=2, seed=0, **kwargs))
        return made[-1]

    yield make
    for env in made:
        if (viewer := env._env.viewer) is not None:
            viewer.close()


class Frames(Transform):
    """Draws a frame of each env, which names the env, its episode, and the step that VMAS itself says it is at."""

    def __init__(self, key="pixels", of=lambda inner, numbers: torch.stack([numbered(n, (24, 32)) for n in numbers])):
        super().__init__(in_keys=[], out_keys=[key])
        self.of = of
        self.episodes = [-1] * N_ENVS
        self.seen = []  # a step at a time: the number of each env, None where it has no new frame

    def _draw(self, td, which=(True,) * N_ENVS):
        inner = self.parent.base_env._env
        steps = inner.steps.long().tolist()
        numbers = [name_of(env_id, self.episodes[env_id], steps[env_id]) for env_id in range(N_ENVS)]
        self.seen.append([number if new else None for number, new in zip(numbers, which, strict=True)])
        return td.set(self.out_keys[0], self.of(inner, numbers))

    def _step(self, tensordict, next_tensordict):
        return self._draw(next_tensordict)

    def _reset(self, tensordict, tensordict_reset):
        reset = tensordict.get("_reset", None)
        which = [True] * N_ENVS if reset is None else reset.flatten().tolist()
        self.episodes = [episode + new for episode, new in zip(self.episodes, which, strict=True)]
        return self._draw(tensordict_reset, which)

    def transform_observation_spec(self, observation_spec):
        inner = self.parent.base_env._env
        example = self.of(inner, [0] * N_ENVS)
        observation_spec[self.out_keys[0]] = Unbounded(example.shape, dtype=example.dtype)
        return observation_spec


def recorder(**kwargs):
    return VideoRecorder(CSVLogger("run", video_format="mkv"), "video", **{"skip": 1, **kwargs})


def found():
    assert not list(Path().rglob("*.part-*"))
    return {path.name: path for path in sorted(Path("csv_logs/run/videos").glob("*.mkv"))}


def run(env, steps=13):
    """Two steps, a reset of env 1 in the middle of its episode, and more steps, with resets of what is done."""
    torch.manual_seed(0)
    after = []
    td = env.reset()
    for step in range(steps):
        if step == 2:
            reset = torch.tensor([[False], [True], [False]])
            td = env.reset(td.set("_reset", reset))
        one, td = env.step_and_maybe_reset(env.rand_action(td))
        after.append(one["next"])
    return torch.stack(after, 1)


def by_env(seen):
    return [[numbers[env_id] for numbers in seen if numbers[env_id] is not None] for env_id in range(N_ENVS)]


def by_episode(seen):
    """The numbers of each env and episode."""
    found = defaultdict(list)
    for numbers in by_env(seen):
        for number in numbers:
            found[number >> 9, number >> 5 & 15].append(number)
    return dict(found)


def test_each_env_has_a_video(vmas):
    frames = Frames()
    env = TransformedEnv(vmas(), Compose(frames, recorder(make_grid=False)))
    run(env)
    env.close()
    assert {name: numbers_in(path) for name, path in found().items()} == {
        f"video_env{env_id}_0.mkv": numbers for env_id, numbers in enumerate(by_env(frames.seen))
    }


@pytest.mark.parametrize("counted", [False, True], ids=["max_steps", "StepCounter"])
def test_each_env_has_a_video_for_each_of_its_episodes(vmas, counted):
    frames = Frames()
    own = recorder(make_grid=False, dump_on_done=True)
    cut = [StepCounter(HORIZON)] if counted else []
    env = TransformedEnv(vmas(max_steps=None if counted else HORIZON), Compose(frames, own, *cut))
    after = run(env)
    env.close()
    expected = by_episode(frames.seen)
    assert {tuple(env_id for env_id, episode in expected if episode == number) for number in range(3)} == {(0, 1, 2)}
    videos = {
        tuple(map(int, re.fullmatch(r"video_env(\d)_ep(\d+)_\d+\.mkv", name).groups())): numbers_in(path)
        for name, path in found().items()
    }
    assert videos == expected
    # env 1 was reset after two steps, and goes on three steps behind the others
    ended, done = {}, after["done"].squeeze(-1)
    for env_id in range(N_ENVS):
        episode = 0
        for step in range(done.shape[1]):
            episode += env_id == 1 and step == 2
            if done[env_id, step]:
                ended[env_id, episode] = "terminated" if after["terminated"][env_id, step] else "truncated"
                episode += 1
    assert (1, 0) not in ended
    assert set(ended.values()) == ({"truncated"} if counted else {"terminated"})  # VMAS calls its own so
    reward = after["agents", "reward"].flatten(2).sum(-1)
    returns = defaultdict(float)
    at = {env_id: iter(reward[env_id].tolist()) for env_id in range(N_ENVS)}
    for env_id, episode in expected:
        returns[env_id, episode] = sum(next(at[env_id]) for _ in expected[env_id, episode][1:])
    for row in rows():
        key = int(row["env_id"]), int(row["episode"])
        assert row["ended"] == ended.get(key, "unfinished")
        assert int(row["length"]) == len(expected[key]) - 1
        assert float(row["return"]) == pytest.approx(returns[key], abs=1e-4)


@pytest.mark.parametrize("dump_on_done", [False, True])
def test_a_grid_of_all_envs(vmas, dump_on_done):
    frames = Frames()
    env = TransformedEnv(vmas(), Compose(frames, recorder(dump_on_done=dump_on_done)))
    td = env.rollout(2 * HORIZON + 2, break_when_any_done=False)
    done = td["next", "done"].all(0).flatten().tolist()
    assert sum(done) == 2  # all at once
    env.rollout(2)
    env.reset(TensorDict({"_reset": torch.tensor([[True], [False], [False]])}, [N_ENVS]))
    env.close()
    assert frames.seen.pop().count(None) == 2  # of the last reset: no grid
    videos = [cells_in(path, N_ENVS) for path in found().values()]
    if not dump_on_done:
        assert videos == [frames.seen]
        return
    first = [numbers for numbers in frames.seen if not any(number >> 5 & 15 for number in numbers)]
    second = [numbers for numbers in frames.seen if all(number >> 5 & 15 == 1 for number in numbers)]
    assert len(first) == len(second) == HORIZON + 1
    assert videos == [first, second, frames.seen[len(first) + len(second) :]]
    assert [row["ended"] for row in rows()] == ["terminated", "terminated", "unfinished"]


def test_what_vmas_renders(vmas):
    def render(inner, numbers):
        try:
            frames = [inner.render(mode="rgb_array", env_index=env_id)[::5, ::5].copy() for env_id in range(N_ENVS)]
        except Exception as error:
            if "pyglet" not in type(error).__module__ and not isinstance(error, ImportError):
                raise
            missing(f"VMAS renders with OpenGL, libegl1 and libglu1-mesa: {error}")
        return torch.from_numpy(np.stack(frames))

    frames = Frames(of=render)
    env = TransformedEnv(vmas(), Compose(frames, recorder(make_grid=False)))
    td = env.rollout(4)
    env.close()
    rendered = torch.cat([td["pixels"][:, :1], td["next", "pixels"]], 1).numpy()
    assert len({frame.tobytes() for frame in rendered.reshape(-1, *rendered.shape[2:])}) == 5 * N_ENVS
    for env_id, path in enumerate(found().values()):
        assert np.array_equal(decode(path), rendered[env_id])


def test_the_frames_of_agents_are_side_by_side(vmas):
    def of(inner, numbers):
        return torch.stack([numbered(n, (24, 32)) for n in range(2 * N_ENVS)]).reshape(N_ENVS, 2, 24, 32, 3)

    key = ("agents", "pixels")
    env = TransformedEnv(vmas(), Compose(Frames(key, of), recorder(in_keys=[key])))
    env.rollout(3)
    env.close()
    (path,) = found().values()
    rows = torch.cat([torch.cat([numbered(2 * n + agent, (24, 32)) for agent in range(2)], 1) for n in range(N_ENVS)])
    for frame in decode(path):  # a grid of two columns, each cell an env of two agents
        frame = torch.from_numpy(frame.copy())
        cells = [
            frame[row * 24 : row * 24 + 24, column * 64 : column * 64 + 64] for row, column in [(0, 0), (0, 1), (1, 0)]
        ]
        assert torch.equal(torch.cat(cells), rows)

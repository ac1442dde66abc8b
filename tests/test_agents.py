"""Agents: side by side in the frame of their env, or with videos of their own."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import BATCHED, product, require
from numbered_frames import decode, rows
from tensordict import TensorDict, lazy_stack
from torchrl.data import Bounded, Categorical, Composite, LazyTensorStorage, ReplayBuffer, Unbounded
from torchrl.envs import Compose, EnvBase, MarlGroupMapType, TransformedEnv
from torchrl.envs.transforms import Transform
from worlds import KeepLogger, PixelsEnv

from vidrec import CSVLogger, FrameError, SettingError, VideoRecorder, keep_last
from vidrec.loggers.base import describe

H, W = 24, 32
KEY = ("agents", "pixels")


class AgentsEnv(EnvBase):
    """Agents with random frames of their own; it keeps all that it has given, `seen[key]`, a call at a time.

    Args:
        shapes: of the frames of one env, by key; those of agents with the axis of the agents.
        batch_size: of the env.
        horizon: how many steps an episode of each env takes.
    """

    def __init__(self, shapes, batch_size=(), horizon=None, agents=2, dtype=torch.uint8):
        super().__init__(batch_size=torch.Size(batch_size))
        self.shapes, self.agents, self.dtype = shapes, agents, dtype
        count = max(1, self.batch_size.numel())
        self.horizon = torch.as_tensor([10**6] * count if horizon is None else horizon).reshape(self.batch_size)
        observations = Composite(shape=self.batch_size)
        for key, shape in shapes.items():
            if isinstance(key, tuple) and key[0] not in set(observations.keys()):
                observations[key[0]] = Composite(shape=(*self.batch_size, shape[0]))
            observations[key] = Unbounded((*self.batch_size, *shape), dtype=dtype)
        self.observation_spec = observations
        self.action_spec = Bounded(0, 1, (*self.batch_size, 1))
        reward = Unbounded((*self.batch_size, agents, 1))
        self.reward_spec = Composite(
            agents=Composite(reward=reward, shape=(*self.batch_size, agents)), shape=self.batch_size
        )
        flag = Categorical(2, shape=(*self.batch_size, 1), dtype=torch.bool)
        self.done_spec = Composite(done=flag, terminated=flag.clone(), shape=self.batch_size)
        self.ages = torch.zeros(self.batch_size, dtype=torch.long)
        self.seen = {key: [] for key in shapes}
        self.resets = []

    def _out(self, mask):
        done = (self.ages >= self.horizon).unsqueeze(-1)
        td = self.observation_spec.zero().update({"done": done, "terminated": done.clone()})
        for key, shape in self.shapes.items():
            frames = torch.randint(256, (*self.batch_size, *shape)).to(self.dtype)
            td[key] = frames
            self.seen[key].append(frames)
        self.resets.append(mask)
        return td

    def _reset(self, tensordict=None):
        mask = None if tensordict is None else tensordict.get("_reset", None)
        self.ages = torch.zeros_like(self.ages) if mask is None else torch.where(mask.squeeze(-1), 0, self.ages)
        return self._out(torch.ones(self.batch_size, dtype=torch.bool) if mask is None else mask.squeeze(-1))

    def _step(self, tensordict):
        self.ages = self.ages + 1
        td = self._out(torch.ones(self.batch_size, dtype=torch.bool))
        reward = torch.arange(1.0, self.agents + 1).unsqueeze(-1).expand(*self.batch_size, self.agents, 1)
        return td.set(("agents", "reward"), reward.clone())

    def _set_seed(self, seed):
        torch.manual_seed(0 if seed is None else seed)

    def frames(self, key=KEY):
        """All that was seen, ``[T, B, n, ...]``, one axis for the batch."""
        seen = torch.stack(self.seen[key])
        return seen.reshape(len(seen), max(1, self.batch_size.numel()), *self.shapes[key])


def recorder(logger=None, **kwargs):
    return VideoRecorder(
        logger or CSVLogger("run", video_format="mkv"), "video", **{"skip": 1, "in_keys": [KEY], **kwargs}
    )


def found(folder="csv_logs/run/videos"):
    """The frames of each video, by its name without suffix."""
    assert not list(Path(folder).rglob("*.part-*"))
    return {path.stem: torch.from_numpy(decode(path).copy()) for path in sorted(Path(folder).glob("*.mkv"))}


def rgb(frames, layout):
    """Frames of one layout as ``[..., H, W, 3]``."""
    if layout == "CHW":
        frames = frames.movedim(-3, -1)
    elif layout == "HW":
        frames = frames.unsqueeze(-1)
    return frames.expand(*frames.shape[:-1], 3)


def beside(frames):
    """Frames ``[..., n, H, W, 3]`` from left to right."""
    return torch.cat(list(frames.unbind(-4)), -2)


def grid(frames):
    """Frames ``[T, B, H, W, 3]`` as a grid."""
    columns = int(np.ceil(np.sqrt(frames.shape[1])))
    empty = torch.zeros_like(frames[:, :1])
    cells = list(frames.split(1, 1)) + [empty] * (-frames.shape[1] % columns)
    lines = [torch.cat([cell.squeeze(1) for cell in cells[i : i + columns]], 2) for i in range(0, len(cells), columns)]
    return torch.cat(lines, 1)


def same(got, expected):
    assert list(got) == list(expected)
    for name, frames in expected.items():
        assert got[name].shape == frames.shape, name
        assert torch.equal(got[name], frames), name


LAYOUTS = {
    "HWC": (H, W, 3),
    "CHW": (3, H, W),
    "HW": (H, W),
}


@product(pairs=False, layout=LAYOUTS, batch_size=[(), (1,), (3,), (2, 3)], agents=[1, 2, 3])
def test_agents_are_side_by_side_or_apart(layout, batch_size, agents):
    made = AgentsEnv({KEY: (agents, *LAYOUTS[layout])}, batch_size, agents=agents)
    settings = {"grid": {}, "no grid": {"make_grid": False}, "agents": {"by_agent": True}}
    recorders = [recorder(CSVLogger(name, video_format="mkv"), **more) for name, more in settings.items()]
    env = TransformedEnv(made, Compose(*recorders))
    env.rollout(3)
    env.close()
    frames = rgb(made.frames(), layout)  # [T, B, n, H, W, 3]
    count = frames.shape[1]
    same(found("csv_logs/grid/videos"), {"video_0": grid(beside(frames))})
    names = ["video"] if count == 1 else [f"video_env{env_id}" for env_id in range(count)]
    same(
        found("csv_logs/no grid/videos"),
        {f"{name}_0": beside(frames[:, env_id]) for env_id, name in enumerate(names)},
    )
    same(
        found("csv_logs/agents/videos"),
        {
            f"{name}_agent{agent}_0": frames[:, env_id, agent]
            for env_id, name in enumerate(names)
            for agent in range(agents)
        },
    )
    assert [(row["env_id"], row["agent"]) for row in rows("csv_logs/agents")] == [
        ("" if count == 1 else str(env_id), str(agent)) for env_id in range(count) for agent in range(agents)
    ]
    assert {row["agent"] for row in rows("csv_logs/grid")} == {""}


@product(by_agent=[False, True], env_ids=[[0], [1], [0, 2], slice(1, None)], count=[2, 3])
def test_some_envs(by_agent, env_ids, count):
    if env_ids == [0, 2] and count == 2:
        env_ids = [-1]
    made = AgentsEnv({KEY: (2, H, W, 3)}, (count,))
    own = recorder(by_agent=by_agent, env_ids=env_ids)
    env = TransformedEnv(made, own)
    env.rollout(3)
    own.dump()
    frames = made.frames()
    chosen = list(range(count))[env_ids] if isinstance(env_ids, slice) else [i % count for i in env_ids]
    if by_agent:
        expected = {f"video_env{i}_agent{j}_0": frames[:, i, j] for i in chosen for j in range(2)}
    else:
        expected = {"video_0": grid(beside(frames[:, chosen]))}
    same(found(), expected)


def episodes(made, seen):
    """The frames ``[T, n, ...]`` of each env and episode."""
    found, at = {}, [-1] * seen.shape[1]
    previous = None
    for frames, mask in zip(seen, made.resets, strict=True):
        for env_id, new in enumerate(mask.reshape(-1).tolist()):
            if not new:
                continue
            if (
                previous is None
                or at[env_id] == -1
                or len(found[env_id, at[env_id]]) > made.horizon.reshape(-1)[env_id]
            ):
                at[env_id] += 1
            found.setdefault((env_id, at[env_id]), []).append(frames[env_id])
        previous = mask
    return {key: torch.stack(frames) for key, frames in found.items()}


@product(by_agent=[False, True], env_ids=[None, [0], [1]])
def test_episodes(by_agent, env_ids):
    made = AgentsEnv({KEY: (2, H, W, 3)}, (2,), horizon=[2, 3])
    own = recorder(by_agent=by_agent, dump_on_done=True, make_grid=False, env_ids=env_ids)
    TransformedEnv(made, own).rollout(7, break_when_any_done=False)
    own.dump()
    chosen = range(2) if env_ids is None else env_ids
    expected = {}
    for (env_id, episode), frames in episodes(made, made.frames()).items():
        if env_id in chosen:
            for agent in range(2) if by_agent else [None]:
                name = f"video_env{env_id}" + (f"_agent{agent}" if by_agent else "") + f"_ep{episode}"
                expected[name] = frames[:, agent] if by_agent else beside(frames)
    got = {name.rpartition("_")[0]: frames for name, frames in found().items()}
    same(dict(sorted(got.items())), dict(sorted(expected.items())))
    for row in rows():
        horizon = [2, 3][int(row["env_id"])]
        length = int(row["frames"]) - 1
        assert int(row["length"]) == length
        assert float(row["return"]) == 3.0 * length  # of all agents
        assert row["ended"] == ("terminated" if length == horizon else "unfinished")


def test_the_name_of_an_episode_of_an_agent():
    made = AgentsEnv({KEY: (2, H, W, 3)}, (), horizon=2)
    own = recorder(by_agent=True, episode_trigger=lambda number: number == 1, step=lambda: 7)
    TransformedEnv(made, own).rollout(6, break_when_any_done=False)
    own.dump()
    same(found(), {f"video_agent{j}_ep1_7": made.frames()[3:6, 0, j] for j in range(2)})
    made = AgentsEnv({KEY: (2, H, W, 3)}, (2,), horizon=[2, 2])
    own = recorder(CSVLogger("batch"), by_agent=True, episode_trigger=lambda number: number == 1, step=lambda: 7)
    TransformedEnv(made, own).rollout(6, break_when_any_done=False)
    names = sorted(path.name for path in Path("csv_logs/batch/videos").iterdir())
    assert names == [f"video_env{i}_agent{j}_ep1_7.mp4" for i in range(2) for j in range(2)]


def test_keep_is_asked_for_each_video():
    asked = []

    def keep(episode):
        asked.append((episode.env_id, episode.number))
        return len(asked) % 2 == 0

    made = AgentsEnv({KEY: (2, H, W, 3)}, (2,), horizon=[2, 2])
    own = recorder(by_agent=True, keep=keep)
    TransformedEnv(made, own).rollout(2)
    assert asked == [(0, 0), (0, 0), (1, 0), (1, 0)]
    assert [name.rpartition("_")[0] for name in found()] == ["video_env0_agent1_ep0", "video_env1_agent1_ep0"]


def test_keep_last_counts_videos():
    made = AgentsEnv({KEY: (2, H, W, 3)}, (), horizon=2)
    own = recorder(by_agent=True, keep=keep_last(2))
    TransformedEnv(made, own).rollout(8, break_when_any_done=False)
    got = {name.rpartition("_")[0]: frames for name, frames in found().items()}
    assert list(got) == ["video_agent0_ep3", "video_agent1_ep3"]


@pytest.mark.parametrize("by_agent", [False, True])
def test_clips_of_a_step_trigger(by_agent):
    made = AgentsEnv({KEY: (2, H, W, 3)}, (2,))
    own = recorder(by_agent=by_agent, make_grid=False, step_trigger=lambda step: step % 4 == 0, max_frames=2)
    TransformedEnv(made, own).rollout(7)
    frames = made.frames()[1:]  # of the steps
    expected = {}
    for env_id in range(2):
        for agent in range(2) if by_agent else [None]:
            for step in (0, 4):
                own_frames = frames[step : step + 2, env_id]
                name = f"video_env{env_id}" + (f"_agent{agent}" if by_agent else "") + f"_{step}"
                expected[name] = own_frames[:, agent] if by_agent else beside(own_frames)
    same(found(), expected)


def of_envs(frames, by_agent):
    """Return the videos of frames [T, B, n, ...]: of each agent its own, or the agents of each env side by side."""
    expected = {}
    for env_id in range(frames.shape[1]):
        if by_agent:
            own = range(frames.shape[2])
            expected |= {f"video_env{env_id}_agent{agent}_0": frames[:, env_id, agent] for agent in own}
        else:
            expected[f"video_env{env_id}_0"] = beside(frames[:, env_id])
    return expected


@pytest.mark.parametrize("by_agent", [False, True])
def test_skip_center_crop_and_layout(by_agent):
    made = AgentsEnv({KEY: (2, W, 3, H)}, (2,))  # with the axes in an order of their own
    own = recorder(by_agent=by_agent, make_grid=False, skip=2, center_crop=(8, 12), layout="WCH")
    TransformedEnv(made, own).rollout(5)
    own.dump()
    frames = made.frames()[1::2].permute(0, 1, 2, 5, 3, 4)[..., 8:16, 10:22, :]
    same(found(), of_envs(frames, by_agent))


@product(
    pairs=False, by_agent=[False, True], stack=[4, (4, 0), (4, "all")], shape=[(4, H, W), (12, H, W), (4, H, W, 3)]
)
def test_stacks_inside_of_agents(by_agent, stack, shape):
    made = AgentsEnv({KEY: (2, *shape)}, (3,))
    own = recorder(by_agent=by_agent, make_grid=False, stack=stack)
    TransformedEnv(made, own).rollout(2)
    own.dump()
    frames = made.frames()  # [T, B, n, ...]
    if len(shape) == 3:
        frames = frames.unflatten(3, (4, -1)).movedim(4, -1)
    frames = frames.expand(*frames.shape[:-1], 3)
    shown = beside(frames) if stack == (4, "all") else frames[:, :, :, 0 if stack == (4, 0) else 3]
    same(found(), of_envs(shown, by_agent))


def test_cameras_of_each_agent():
    made = AgentsEnv({KEY: (2, 3, H, W, 3)}, (2,))
    own = recorder(by_agent=True, layout="NHWC")
    TransformedEnv(made, own).rollout(2)
    own.dump()
    frames = made.frames()
    same(found(), {f"video_env{i}_agent{j}_0": beside(frames[:, i, j]) for i in range(2) for j in range(2)})


def padded(*frames):
    height = max(each.shape[-3] for each in frames)
    return torch.cat([torch.nn.functional.pad(each, (0, 0, 0, 0, 0, height - each.shape[-3])) for each in frames], -2)


def test_groups_of_agents_with_frames_of_different_sizes():
    wolf, sheep = ("wolves", "pixels"), ("sheep", "pixels")
    made = AgentsEnv({wolf: (2, 16, 20, 3), sheep: (1, H, W, 3), "pixels": (8, 8, 3)}, (2,))
    own = recorder(in_keys=[wolf, "pixels", sheep], make_grid=False)
    TransformedEnv(made, own).rollout(2)
    own.dump()
    wolves, all_, sheep = beside(made.frames(wolf)), made.frames("pixels"), beside(made.frames(sheep))
    same(found(), {f"video_env{i}_0": padded(wolves[:, i], all_[:, i], sheep[:, i]) for i in range(2)})


def test_agents_of_one_group_with_frames_of_different_sizes():
    sizes = [(16, 20), (H, W)]

    class Draws(Transform):
        def __init__(self):
            super().__init__(in_keys=[], out_keys=[])
            self.seen = []

        def _call(self, next_tensordict):
            frames = [torch.randint(256, (2, *size, 3), dtype=torch.uint8) for size in sizes]
            self.seen.append(frames)
            agents = lazy_stack([TensorDict({"views": each}, [2]) for each in frames], 1)
            return next_tensordict.set("group", agents)

        def _reset(self, tensordict, tensordict_reset):
            return self._call(tensordict_reset)

    for name, make_grid in [("grid", True), ("apart", False)]:
        draws = Draws()
        own = recorder(CSVLogger(name, video_format="mkv"), in_keys=[("group", "views")], make_grid=make_grid)
        env = TransformedEnv(PixelsEnv((2,)), Compose(draws, own))
        td = env.reset()
        for _ in range(2):
            td = env.step(env.rand_action(td))["next"]
        own.dump()
        agents = [torch.stack(each) for each in zip(*draws.seen, strict=True)]
        frames = padded(*agents)
        expected = {f"video_env{i}_0": frames[:, i] for i in range(2)}
        if make_grid:  # one beside the other, as those of several in_keys are
            expected = {"video_0": padded(*map(grid, agents))}
        same(found(f"csv_logs/{name}/videos"), expected)


def test_several_entries_of_each_agent():
    colour, depth = ("agents", "rgb"), ("agents", "depth")
    made = AgentsEnv({colour: (2, 16, 20, 3), depth: (2, H, W)}, (2,))
    own = recorder(in_keys=[colour, depth], by_agent=True)
    TransformedEnv(made, own).rollout(2)
    own.dump()
    a, b = made.frames(colour), rgb(made.frames(depth), "HW")
    same(found(), {f"video_env{i}_agent{j}_0": padded(a[:, i, j], b[:, i, j]) for i in range(2) for j in range(2)})


def test_agents_on_two_axes():
    """Teams of agents: a tensordict in a tensordict in the root."""

    class Teams(Transform):
        def _call(self, next_tensordict):
            pixels = next_tensordict["agents", "pixels"].unflatten(1, (2, 3))
            team = TensorDict({"agents": TensorDict({"pixels": pixels}, (2, 2, 3))}, (2, 2))
            return next_tensordict.set("teams", team)

        def _reset(self, tensordict, tensordict_reset):
            return self._call(tensordict_reset)

        def transform_observation_spec(self, observation_spec):
            pixels = Unbounded((2, 2, 3, H, W, 3), dtype=torch.uint8)
            agents = Composite(pixels=pixels, shape=(2, 2, 3))
            observation_spec["teams"] = Composite(agents=agents, shape=(2, 2))
            return observation_spec

    made = AgentsEnv({KEY: (6, H, W, 3)}, (2,), agents=6)
    key = ("teams", "agents", "pixels")
    apart, together = (
        recorder(in_keys=[key], by_agent=True),
        recorder(CSVLogger("all", video_format="mkv"), in_keys=[key]),
    )
    TransformedEnv(made, Compose(Teams(in_keys=[], out_keys=[]), apart, together)).rollout(2)
    apart.dump()
    together.dump()
    frames = made.frames()
    same(found(), {f"video_env{i}_agent{j}_0": frames[:, i, j] for i in range(2) for j in range(6)})
    same(found("csv_logs/all/videos"), {"video_0": grid(beside(frames))})


def test_an_axis_of_agents_in_the_entry_alone():
    """As that of several cameras: refused, with both readings, until it is said what it is."""
    key = "pixels"
    made = AgentsEnv({key: (3, H, W, 3)}, (2,))
    with pytest.raises(FrameError, match=r"(?s)holds 3 frames of one env.*stack=3.*layout=\"NHWC\""):
        TransformedEnv(made, recorder(in_keys=[key])).rollout(2)
    for name, more in {"beside": {}, "apart": {"by_agent": True}}.items():
        made = AgentsEnv({key: (3, H, W, 3)}, (2,))
        own = recorder(CSVLogger(name, video_format="mkv"), in_keys=[key], layout="NHWC", **more)
        TransformedEnv(made, own).rollout(2)
        own.dump()
        frames = made.frames(key)
        if more:
            expected = {f"video_env{i}_agent{j}_0": frames[:, i, j] for i in range(2) for j in range(3)}
        else:
            expected = {"video_0": grid(beside(frames))}
        same(found(f"csv_logs/{name}/videos"), expected)


@pytest.mark.parametrize("make_grid", [None, False])
def test_samples_of_agents(make_grid):
    frames = torch.randint(256, (5, 2, H, W, 3), dtype=torch.uint8)
    agents = TensorDict({"pixels": frames}, [5, 2])
    buffer = ReplayBuffer(storage=LazyTensorStorage(5), batch_size=5)
    buffer.extend(TensorDict({"agents": agents, "next": {"agents": agents.clone()}}, [5]))
    for name, key in [("root", KEY), ("next", ("next", *KEY))]:
        own = recorder(CSVLogger(name, video_format="mkv"), in_keys=[key], make_grid=make_grid)
        own(buffer[:])
        own.dump()
        same(found(f"csv_logs/{name}/videos"), {"video_0": beside(frames)})


def test_samples_of_rows_of_agents_as_grids():
    frames = torch.randint(256, (3, 5, 2, H, W, 3), dtype=torch.uint8)
    sample = TensorDict({"agents": TensorDict({"pixels": frames}, [3, 5, 2])}, [3, 5])
    own = recorder(make_grid=True)
    own(sample)
    own.dump()
    same(found(), {"video_0": grid(beside(frames).transpose(0, 1))})


def test_samples_have_no_videos_of_agents():
    sample = TensorDict({"agents": TensorDict({"pixels": torch.zeros(5, 2, H, W, 3)}, [5, 2])}, [5])
    with pytest.raises(SettingError, match="by_agent=True needs an environment"):
        recorder(by_agent=True)(sample)


def test_what_does_not_go_with_by_agent():
    with pytest.raises(SettingError, match="does not go with make_grid=True"):
        recorder(by_agent=True, make_grid=True)
    with pytest.raises(SettingError, match=r"one group of agents.*recorder with a tag of its own"):
        recorder(by_agent=True, in_keys=[("a", "pixels"), ("b", "pixels")])

    class Hidden(Transform):
        def _call(self, next_tensordict):
            return next_tensordict.set(("agents", "hidden"), next_tensordict[KEY])

        def _reset(self, tensordict, tensordict_reset):
            return self._call(tensordict_reset)

    own = recorder(by_agent=True, in_keys=[("agents", "hidden")])
    env = TransformedEnv(AgentsEnv({KEY: (2, H, W, 3)}), Compose(Hidden(in_keys=[], out_keys=[]), own))
    with pytest.raises(SettingError, match=r"by the spec of .*transform_observation_spec"):
        env.reset()


def test_make_grid_that_is_assigned_later():
    made = AgentsEnv({KEY: (2, H, W, 3)}, (2,))
    own = recorder(by_agent=True)
    env = TransformedEnv(made, own)
    own._make_grid = True
    env.rollout(2)
    own.dump()
    same(found(), {"video_0": grid(beside(made.frames()))})


def test_an_entry_with_another_number_of_agents_than_the_spec_says():
    class Third(Transform):
        def _reset(self, tensordict, tensordict_reset):
            return tensordict_reset

        def _step(self, tensordict, next_tensordict):
            pixels = torch.zeros(2, 3, H, W, 3, dtype=torch.uint8)
            return next_tensordict.exclude("agents").set("agents", TensorDict({"pixels": pixels}, (2, 3)))

    own = recorder(by_agent=True)
    env = TransformedEnv(AgentsEnv({KEY: (2, H, W, 3)}, (2,)), Compose(Third(in_keys=[], out_keys=[]), own))
    td = env.reset()
    with pytest.raises(FrameError, match="expected one for each of 2 envs and 2 agents"):
        env.step(env.rand_action(td))


@pytest.mark.parametrize("batch_size", [(), (2,)])
def test_an_env_without_agents(batch_size):
    own = recorder(by_agent=True, in_keys=["pixels"])
    env = TransformedEnv(PixelsEnv(batch_size), own)
    env.rollout(2)
    own.dump()
    assert [row["file"] for row in rows()] == (
        [f"videos/video_env{i}_0.mkv" for i in range(2)] if batch_size else ["videos/video_0.mkv"]
    )


@pytest.mark.parametrize("copy", ["clone", "pickle"])
def test_a_copy_has_videos_of_agents_too(copy):
    own = recorder(by_agent=True)
    own = own.clone() if copy == "clone" else pickle.loads(pickle.dumps(own))
    made = AgentsEnv({KEY: (2, H, W, 3)})
    TransformedEnv(made, own).rollout(2)
    own.dump()
    same(found(), {f"video_agent{j}_0": made.frames()[:, 0, j] for j in range(2)})


def test_a_clip_that_is_one_episode():
    for batch_size in [(), (2,)]:
        own = recorder(CSVLogger(f"run{len(batch_size)}"), by_agent=True)
        made = AgentsEnv({KEY: (2, H, W, 3)}, batch_size, horizon=[3] * max(1, torch.Size(batch_size).numel()))
        TransformedEnv(made, own).rollout(9)
        own.dump()
        assert {(row["return"], row["length"], row["ended"]) for row in rows(f"csv_logs/run{len(batch_size)}")} == {
            ("9.0", "3", "terminated")
        }


def test_one_of_two_envs_is_one_episode():
    """As many agents as there are envs."""
    own = recorder(by_agent=True, env_ids=[1])
    made = AgentsEnv({KEY: (2, H, W, 3)}, (2,), horizon=[9, 3])
    TransformedEnv(made, own).rollout(3)
    own.dump()
    assert [(row["env_id"], row["agent"], row["ended"]) for row in rows()] == [
        ("1", "0", "terminated"),
        ("1", "1", "terminated"),
    ]


def test_what_videos_and_captions_say():
    own = recorder(by_agent=True, dump_on_done=True)
    made = AgentsEnv({KEY: (2, H, W, 3)}, (2,), horizon=[3, 9])
    TransformedEnv(made, own).rollout(3)
    own.dump()
    assert [(video.env_id, video.agent) for video in own.videos] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [describe(video) for video in own.videos] == [
        "env 0, agent 0, episode 0, return 9, length 3, terminated",
        "env 0, agent 1, episode 0, return 9, length 3, terminated",
        "env 1, agent 0, episode 0, return 9, length 3, unfinished",
        "env 1, agent 1, episode 0, return 9, length 3, unfinished",
    ]


def test_a_logger_that_takes_tensors_and_suffixes():
    logger = KeepLogger()
    made = AgentsEnv({KEY: (2, 3, H, W)}, (2,))
    own = recorder(logger, by_agent=True)
    TransformedEnv(made, own).rollout(2)
    own.dump("end", 4)
    assert [(name, step) for name, _, step, _ in logger.calls] == [
        (f"video_env{i}_agent{j}_end", 4) for i in range(2) for j in range(2)
    ]
    for at, video in enumerate(logger.videos):
        assert torch.equal(video[0], made.frames()[:, at // 2, at % 2])


class Own:
    """Makes an env with a recorder of its own, for a worker."""

    def __call__(self):
        return TransformedEnv(AgentsEnv({KEY: (2, H, W, 3)}, horizon=2), recorder(by_agent=True))


class Made:
    def __call__(self):
        return AgentsEnv({KEY: (2, H, W, 3)})


@BATCHED
def test_recorders_in_workers(batched):
    env = batched(2, [Own(), Own()])
    try:
        td = env.rollout(2)
    finally:
        env.close()
    frames = torch.cat([td[:, :1][KEY], td["next"][KEY]], 1)
    got = found()
    assert list(got) == [
        "video_agent0_0", "video_agent1_0", "video_worker1_agent0_0", "video_worker1_agent1_0"
    ]  # fmt: skip
    for at, video in enumerate(got.values()):
        assert torch.equal(video, frames[at // 2, :, at % 2])
    assert {row["ended"] for row in rows()} == {"terminated"}


@BATCHED
def test_a_recorder_around_workers(batched):
    env = TransformedEnv(batched(2, Made()), recorder(by_agent=True))
    try:
        td = env.rollout(2)
    finally:
        env.close()
    frames = torch.cat([td[:, :1][KEY], td["next"][KEY]], 1)
    same(found(), {f"video_env{i}_agent{j}_0": frames[i, :, j] for i in range(2) for j in range(2)})


# PettingZoo


@pytest.fixture
def pong():
    require("pettingzoo", "pygame")
    from pettingzoo.butterfly import cooperative_pong_v6
    from torchrl.envs.libs.pettingzoo import PettingZooWrapper

    made = []

    def make(group_map=None):
        env = cooperative_pong_v6.parallel_env(max_cycles=9, render_mode="rgb_array")
        made.append(PettingZooWrapper(env, use_mask=False, group_map=group_map))
        return made[-1]

    yield make
    for env in made:
        env.close(raise_if_closed=False)


pettingzoo = pytest.mark.filterwarnings("ignore:PettingZoo in TorchRL is tested")
pettingzoo_prints = pytest.mark.filterwarnings("ignore::DeprecationWarning:(pygame|pkg_resources|pettingzoo).*")


@pettingzoo
@pettingzoo_prints
@pytest.mark.parametrize("by_agent", [False, True])
def test_pettingzoo(by_agent):
    require("pymunk")
    from pettingzoo.butterfly import pistonball_v6
    from torchrl.envs.libs.pettingzoo import PettingZooWrapper

    key = ("piston", "observation")
    own = recorder(in_keys=[key], by_agent=by_agent)
    made = pistonball_v6.parallel_env(n_pistons=3, max_cycles=5, continuous=False, render_mode="rgb_array")
    env = TransformedEnv(PettingZooWrapper(made, use_mask=False), own)
    td = env.rollout(100)
    video = own.dump()
    frames = torch.cat([td[:1][key], td["next"][key]])
    assert frames.shape[1:] == (3, 457, 120, 3)
    assert not torch.equal(frames[:, 0], frames[:, 1])
    if by_agent:
        same(found(), {f"video_agent{j}_0": frames[:, j] for j in range(3)})
    else:
        same(found(), {"video_0": beside(frames)})
    for row in rows():
        assert int(row["length"]) == len(td)
        assert float(row["return"]) == pytest.approx(float(td["next", "piston", "reward"].double().sum()))
        assert row["ended"] == ("terminated" if td["next", "terminated"][-1] else "truncated")
    assert video.episode is not None
    env.close()


@pettingzoo
@pettingzoo_prints
def test_pettingzoo_with_a_group_for_each_agent(pong):
    keys = [(f"paddle_{j}", "observation") for j in range(2)]
    together = recorder(in_keys=keys)
    apart = [
        VideoRecorder(CSVLogger("apart", video_format="mkv"), key[0], in_keys=[key], by_agent=True, skip=1)
        for key in keys
    ]
    env = TransformedEnv(pong(MarlGroupMapType.ONE_GROUP_PER_AGENT), Compose(together, *apart))
    td = env.rollout(3)
    env.close()
    frames = [torch.cat([td[:1][key], td["next"][key]])[:, 0] for key in keys]
    same(found(), {"video_0": torch.cat(frames, 2)})
    same(found("csv_logs/apart/videos"), {f"paddle_{j}_agent0_0": frames[j] for j in range(2)})


@pettingzoo
@pettingzoo_prints
def test_pettingzoo_in_one_group_episode_by_episode(pong):
    key = ("agents", "observation")
    own = recorder(in_keys=[key], by_agent=True, dump_on_done=True)
    env = TransformedEnv(pong(MarlGroupMapType.ALL_IN_ONE_GROUP), own)
    td = env.rollout(100)
    frames = torch.cat([td[:1][key], td["next"][key]])
    same(found(), {f"video_agent{j}_ep0_{j}": frames[:, j] for j in range(2)})

"""Wherever TorchRL puts a recorder: over a batched env, in its workers, in collectors and evaluators."""

import functools
import gc
import re
from collections import defaultdict
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from conftest import START_METHODS, product, require, since_torchrl, some
from numbered_frames import cells_in, numbered, read_number, rows
from tensordict import TensorDict
from torchrl.collectors import Collector, MultiAsyncCollector, MultiSyncCollector
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import (
    Compose,
    EnvCreator,
    GymEnv,
    GymWrapper,
    ParallelEnv,
    SerialEnv,
    StepCounter,
    TransformedEnv,
)
from torchrl.envs.transforms import Transform
from workers import (
    EpisodeEnv,
    check_nothing_is_left,
    collected,
    endings,
    episodes,
    found,
    frames_in,
    of_workers,
    place,
    recorder,
    worker_env,
)
from worlds import EpisodesEnv, name_of

from vidrec import CSVLogger

NESTED = pytest.mark.filterwarnings("ignore:Nested TransformedEnvs")
LENGTHS = [[3, 5], [4, 2, 2], [7, 1]]
"""Of the episodes of three envs, over and over."""


def by_episode(videos):
    """Videos by the env and episode in their names."""
    pattern = re.compile(r"video_env(\d+)_ep(\d+)_\d+\.mkv")
    named = {tuple(map(int, pattern.fullmatch(name).groups())): numbers for name, numbers in videos.items()}
    assert len(named) == len(videos)
    return named


def check_episodes(*rollouts):
    """Check that the videos hold what the rollouts do, env by env and episode by episode, and their rows as well."""
    videos = found()
    assert by_episode(videos) == episodes(frames_in(*rollouts))
    ended = endings(*rollouts)
    for row in rows():
        env_id, episode = int(row["env_id"]), int(row["episode"])
        numbers = videos[Path(row["file"]).name]
        assert row["ended"] == ended.get((env_id, episode), "unfinished")
        assert (int(row["frames"]), int(row["length"])) == (len(numbers), len(numbers) - 1)
    assert len(rows()) == len(videos)


# over a batched env


def batched(kind, lengths=LENGTHS):
    more = {"mp_start_method": "fork"} if kind is ParallelEnv else {}
    return kind(
        len(lengths), [functools.partial(EpisodeEnv, env_id, own) for env_id, own in enumerate(lengths)], **more
    )


BATCHED = pytest.mark.parametrize("kind", [SerialEnv, ParallelEnv])


@BATCHED
def test_each_sub_env_has_a_video_for_each_of_its_episodes(kind):
    env = TransformedEnv(batched(kind), recorder(make_grid=False, dump_on_done=True))
    rollouts = [env.rollout(steps, break_when_any_done=False) for steps in (13, 6)]
    env.close()
    assert by_episode(found())[1, 0] == [name_of(1, 0, step) for step in range(5)]
    check_episodes(*rollouts)


@BATCHED
def test_each_sub_env_has_its_videos_when_rollouts_stop_at_the_first_that_is_done(kind):
    env = TransformedEnv(batched(kind), recorder(make_grid=False, dump_on_done=True))
    rollouts = [env.rollout(20) for _ in range(4)]
    assert all(td.shape[1] < 20 for td in rollouts)
    env.close()
    check_episodes(*rollouts)


@product(kind=[SerialEnv, ParallelEnv], place=["before", "behind"])
def test_what_a_step_counter_cuts_off_is_truncated(kind, place):
    own, counter = recorder(make_grid=False, dump_on_done=True), StepCounter(4)
    env = TransformedEnv(batched(kind), Compose(counter, own) if place == "before" else Compose(own, counter))
    rollouts = [env.rollout(17, break_when_any_done=False)]
    rollouts += [env.rollout(6) for _ in range(2)]
    env.close()
    check_episodes(*rollouts)
    assert {row["ended"] for row in rows()} == {"terminated", "truncated", "unfinished"}


@BATCHED
def test_by_default_all_sub_envs_are_in_one_grid_without_stutter(kind):
    env = TransformedEnv(batched(kind), recorder())
    rollouts = [env.rollout(15, break_when_any_done=False), env.rollout(9)]
    env.close()
    expected = []
    for td in rollouts:
        pixels, after, done = td["pixels"], td["next", "pixels"], td["next", "done"].squeeze(-1)
        for step in range(td.shape[1]):
            if step == 0 or done[:, step - 1].all():
                expected.append([read_number(frame) for frame in pixels[:, step]])
            expected.append([read_number(frame) for frame in after[:, step]])
    (path,) = Path("csv_logs/run/videos").iterdir()
    assert path.name == "video_0.mkv"
    assert cells_in(path, 3) == expected


# gymnasium's vectorised envs


class GymSubEnv(gymnasium.Env):
    """Like `LaneEnv`, its observation is the frame."""

    def __init__(self, env_id, lengths):
        self.observation_space = gymnasium.spaces.Box(0, 255, (24, 32, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.env_id, self.lengths = env_id, lengths
        self.episode, self.step_ = -1, 0

    def _frame(self):
        return numbered(name_of(self.env_id, self.episode, self.step_), (24, 32)).numpy()

    def reset(self, *, seed=None, options=None):
        self.episode, self.step_ = self.episode + 1, 0
        return self._frame(), {}

    def step(self, action):
        self.step_ += 1
        done = self.step_ >= self.lengths[self.episode % len(self.lengths)]
        return self._frame(), 1.0, done, False, {}


def vectorised(mode):
    # the envs are never all done at once: TorchRL would then reset those that did so themselves a second time
    return gymnasium.vector.SyncVectorEnv(
        [functools.partial(GymSubEnv, env_id, own) for env_id, own in enumerate([[3, 5], [4, 2, 3], [7]])],
        autoreset_mode=mode,
    )


@NESTED
@pytest.mark.parametrize("mode", ["SAME_STEP", "DISABLED"])
def test_each_env_of_a_gymnasium_vector_env_has_its_videos(mode):
    vector = vectorised(gymnasium.vector.AutoresetMode[mode])
    inner = GymWrapper(vector)
    for env_id in vector.envs:
        env_id.episode = -1  # TorchRL has tried it
    env = TransformedEnv(inner, recorder(in_keys=["observation"], make_grid=False, dump_on_done=True))
    rollout = env.rollout(13, break_when_any_done=False)
    env.close()
    rollout["pixels"], rollout["next", "pixels"] = rollout["observation"], rollout["next", "observation"]
    check_episodes(rollout)


class Frame(Transform):
    """Makes a frame of an observation: the bits of a float of it."""

    def __init__(self):
        super().__init__(in_keys=["observation"], out_keys=["pixels"])

    @staticmethod
    def number(observation):
        return int(observation[0].clamp(-2, 2).nan_to_num(0) * 1000) + 2048

    def _apply_transform(self, observation):
        flat = observation.flatten(0, -2) if observation.ndim > 1 else observation[None]
        frames = torch.stack([numbered(self.number(one), (24, 32)) for one in flat])
        return frames.reshape(*observation.shape[:-1], 24, 32, 3)

    _call = Transform._call

    def _reset(self, tensordict, tensordict_reset):
        return self._call(tensordict_reset)

    def transform_observation_spec(self, observation_spec):
        shape = observation_spec.shape
        observation_spec["pixels"] = Unbounded((*shape, 24, 32, 3), dtype=torch.uint8)
        return observation_spec


@NESTED
def test_gym_env_with_num_envs_has_a_video_for_each_env_and_a_grid_of_all():
    require("gymnasium")
    env_ids, grid = recorder(make_grid=False, dump_on_done=True), recorder(CSVLogger("grid", video_format="mkv"))
    env = TransformedEnv(GymEnv("CartPole-v1", num_envs=3), Compose(Frame(), env_ids, grid))
    try:
        env.set_seed(0)
        torch.manual_seed(0)  # of the actions: each env ends an episode in this rollout
        td = env.rollout(45, break_when_any_done=False)
    finally:
        env.close()
    done = td["next", "done"].squeeze(-1)
    assert done.any(1).all()
    # gymnasium resets at the step after: TorchRL gives zeros for what the last step showed, which it puts, by mistake,
    # at the beginning of the next episode; the recorder shows what it is given
    assert not td["next", "observation"][done].any()
    expected = {}
    for env_id in range(3):
        episode, frames = 0, []
        for step in range(td.shape[1]):
            if not frames:
                frames.append(Frame.number(td["observation"][env_id, step]))
            frames.append(Frame.number(td["next", "observation"][env_id, step]))
            if done[env_id, step] or step == td.shape[1] - 1:
                expected[env_id, episode] = frames
                episode, frames = episode + 1, []
    assert by_episode(found()) == expected
    (path,) = Path("csv_logs/grid/videos").iterdir()
    after = td["next", "observation"]
    assert cells_in(path, 3) == [
        [Frame.number(one) for one in all_]
        for all_ in [td["observation"][:, 0], *(after[:, step] for step in range(td.shape[1]))]
    ]


# envs that reset themselves


class SelfResettingEnv(EpisodesEnv):
    """At the end of an episode offers the first frame of the next one, and is never told to reset."""

    def _step(self, tensordict):
        td = super()._step(tensordict)
        for env_id, done in enumerate(td["done"].flatten().tolist()):
            if done:
                self.episodes[env_id] += 1
                self.steps[env_id] = 0
                td["pixels"][env_id] = numbered(name_of(env_id, self.episodes[env_id], 0), self.size)
        return td

    def _reset(self, tensordict=None):
        if tensordict is not None and tensordict.get("_reset", None) is not None:
            return tensordict.exclude("_reset")
        return super()._reset(tensordict)


@NESTED
def test_an_env_that_resets_itself_has_no_terminal_frame_and_its_first_ones_are_in_the_next_episode():
    env = TransformedEnv(SelfResettingEnv(LENGTHS, auto_reset=True), recorder(make_grid=False, dump_on_done=True))
    td = env.rollout(13, break_when_any_done=False)
    env.close()
    expected = defaultdict(list)
    for env_id in range(3):
        episode = 0
        for step in range(13):
            if not expected[env_id, episode]:
                expected[env_id, episode].append(read_number(td["pixels"][env_id, step]))
            frame = td["next", "pixels"][env_id, step]
            if td["next", "done"][env_id, step]:  # what TorchRL gives there is no frame
                assert not frame.any()
                episode += 1
            else:
                expected[env_id, episode].append(read_number(frame))
    expected = {at: numbers for at, numbers in expected.items() if numbers}
    got = by_episode(found())
    assert got == expected
    for (env_id, episode), numbers in got.items():
        length = LENGTHS[env_id][episode % len(LENGTHS[env_id])]
        steps = [name_of(env_id, episode, step) for step in range(len(numbers))]
        assert numbers[:length] == steps[:length]  # all but the terminal one, which is TorchRL's filling: black


@since_torchrl("0.13")
def test_a_natively_resetting_env_has_the_frames_of_the_next_episode_in_its_video():
    inner = SelfResettingEnv(LENGTHS)
    inner._torchrl_native_autoreset = True  # as Isaac Lab's and mjlab's with native_autoreset=True
    env = TransformedEnv(inner, recorder(make_grid=False, dump_on_done=True))
    td = env.rollout(13, break_when_any_done=False)
    env.close()
    # the frame after a last step is the next episode's first one; there is no terminal one
    numbers = {read_number(frame) for frame in td["pixels"].flatten(0, 1)}
    numbers |= {name_of(env_id, inner.episodes[env_id], inner.steps[env_id]) for env_id in range(3)}
    assert by_episode(found()) == episodes(numbers)


@NESTED
def test_an_env_that_resets_itself_may_have_frames_of_floats_which_torchrl_fills_with_nan():
    class FloatEnv(SelfResettingEnv):
        def __init__(self, lengths):
            super().__init__(lengths)
            self.observation_spec = Composite(pixels=Unbounded((len(lengths), *self.size, 3)), shape=(len(lengths),))

        def _out(self, **more):
            td = super()._out(**more)
            return td.set("pixels", td["pixels"] / 255)

        def _step(self, tensordict):
            td = super()._step(tensordict)
            return td.set("pixels", td["pixels"].clamp(0, 1))

    env = TransformedEnv(FloatEnv(LENGTHS, auto_reset=True), recorder(make_grid=False, dump_on_done=True))
    env.rollout(13, break_when_any_done=False)
    env.close()
    for (env_id, episode), numbers in by_episode(found()).items():
        length = LENGTHS[env_id][episode % len(LENGTHS[env_id])]
        assert numbers[:length] == [name_of(env_id, episode, step) for step in range(length)][: len(numbers)]


# several done keys


class AgentsEnv(EpisodesEnv):
    """Two agents a env, with done entries of their own; the second is done a step before the env, if that has one."""

    def __init__(self, lengths, root_done):
        self.root_done = root_done
        super().__init__(lengths)
        env_ids = len(lengths)
        flag = Categorical(2, shape=(env_ids, 2, 1), dtype=torch.bool)
        nested = Composite(
            agents=Composite(done=flag, terminated=flag.clone(), truncated=flag.clone(), shape=(env_ids, 2)),
            shape=(env_ids,),
        )
        if root_done:
            nested.update(self.full_done_spec.clone())
        self.done_spec = nested
        self.action_spec = Composite(
            agents=Composite(action=Bounded(0, 1, (env_ids, 2, 1)), shape=(env_ids, 2)), shape=(env_ids,)
        )
        self.reward_spec = Composite(
            agents=Composite(reward=Unbounded((env_ids, 2, 1)), shape=(env_ids, 2)), shape=(env_ids,)
        )

    def _out(self, **more):
        reward = more.pop("reward", None)
        td = super()._out()
        agents = TensorDict(batch_size=(len(self.lengths), 2))
        early = torch.tensor([step >= self.length(env_id) - 1 and step > 0 for env_id, step in enumerate(self.steps)])
        for name in ("done", "terminated", "truncated"):
            own = td[name]
            other = own
            if self.root_done:
                other = (early[:, None] | td["done"]) if name != "truncated" else torch.zeros_like(own)
            agents[name] = torch.stack([own, other], 1)
        if not self.root_done:
            td = td.exclude("done", "terminated", "truncated")
        if reward is not None:
            agents["reward"] = reward[:, None].expand(-1, 2, -1).clone()
        return td.set("agents", agents)

    def _reset(self, tensordict=None):
        mask = None
        if tensordict is not None and (mask := tensordict.get("_reset", None)) is None:
            mask = tensordict.get(("agents", "_reset"), None)
        return super()._reset(None if mask is None else TensorDict({"_reset": mask.flatten(1).any(1)}))


def assert_each_env_has_its_episodes(inner):
    env = TransformedEnv(inner, recorder(make_grid=False, dump_on_done=True))
    steps, td = [], env.reset()
    for _ in range(14):
        step, td = env.step_and_maybe_reset(env.rand_action(td))
        steps.append(step)
    env.close()
    # TorchRL leaves what is not under "agents" as it was when only they are reset: the last frames are not in `td`
    now = {name_of(env_id, inner.episodes[env_id], inner.steps[env_id]) for env_id in range(3)}
    assert by_episode(found()) == episodes(frames_in(*steps) | now)


def test_with_a_done_for_each_agent_beside_the_root_one_an_episode_ends_with_the_root():
    assert_each_env_has_its_episodes(AgentsEnv(LENGTHS, root_done=True))


def test_with_only_nested_done_entries_each_env_has_its_episodes():
    assert_each_env_has_its_episodes(AgentsEnv(LENGTHS, root_done=False))
    # env + 1 for each of two agents, each step
    assert {(row["env_id"], float(row["return"])) for row in rows()} == {
        (row["env_id"], 2.0 * (int(row["env_id"]) + 1) * int(row["length"])) for row in rows()
    }


# in the workers


@since_torchrl("0.13")
@pytest.mark.parametrize("start_method", START_METHODS)
def test_recorders_in_the_workers_each_write_their_own_videos(start_method, tmp_path):
    logger = CSVLogger("run", video_format="mkv")
    env = ParallelEnv(
        3,
        [functools.partial(worker_env, logger, env_id, own) for env_id, own in enumerate(LENGTHS)],
        mp_start_method=start_method,
    )
    first = env.rollout(8, break_when_any_done=False)
    dumped = env.transform.dump(step=7)
    assert sorted(int(video.frames) for video in dumped) == sorted(
        1 + 8 + sum(done[:-1]) for done in first["next", "done"].squeeze(-1).int().tolist()
    )
    second = env.rollout(5, break_when_any_done=False)
    env.close()
    check_nothing_is_left(tmp_path)
    assert {name.rpartition("_")[2] for name in found()} == {"7.mkv", "8.mkv"}
    expected = {env_id: [sorted(frames_in(td[env_id : env_id + 1])) for td in (first, second)] for env_id in range(3)}
    assert of_workers(found()) == expected


@pytest.mark.parametrize("start_method", some(["fork", "forkserver", "spawn"], "fork", "forkserver"))
def test_recorders_in_the_workers_write_a_video_for_each_episode(start_method, tmp_path):
    logger = CSVLogger("run", video_format="mkv")
    env = ParallelEnv(
        3,
        [functools.partial(worker_env, logger, env_id, own, dump_on_done=True) for env_id, own in enumerate(LENGTHS)],
        mp_start_method=start_method,
    )
    rollout = env.rollout(13, break_when_any_done=False)
    env.close()
    check_nothing_is_left(tmp_path)
    expected = episodes(frames_in(rollout))
    assert of_workers(found()) == {
        env_id: [expected[at] for at in sorted(expected) if at[0] == env_id] for env_id in range(3)
    }
    ended = endings(rollout)
    assert sorted(row["ended"] for row in rows()) == sorted(ended.get(at, "unfinished") for at in expected)
    assert {row["env_id"] for row in rows()} == {""}


def test_one_creator_for_all_workers_gives_each_its_own_videos(tmp_path):
    logger = CSVLogger("run", video_format="mkv")
    env = ParallelEnv(3, EnvCreator(lambda: worker_env(logger, 0, [4])), mp_start_method="fork")
    rollout = env.rollout(9, break_when_any_done=False)
    env.close()
    check_nothing_is_left(tmp_path)
    expected = sorted(frames_in(rollout[:1]))
    assert sorted(found().values()) == [expected] * 3
    assert not any(re.search(r"_0_\d", name) for name in found())  # the next free name


def step_and_leave(logger):
    worker_env(logger, 1, [4]).rollout(6, break_when_any_done=False)


@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_process_that_ends_without_closing_its_env_finishes_its_video(start_method, tmp_path):
    logger = CSVLogger("run", video_format="mkv")
    process = torch.multiprocessing.get_context(start_method).Process(target=step_and_leave, args=(logger,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    check_nothing_is_left(tmp_path)
    assert of_workers(found()) == {1: [[name_of(1, 0, step) for step in range(5)] + [name_of(1, 1, 0), 545, 546]]}


def test_workers_of_an_env_that_is_forgotten_finish_their_videos(tmp_path):
    # not so one that is there at the end of the interpreter: TorchRL's then waits for its workers forever
    logger = CSVLogger("run", video_format="mkv")
    makers = [functools.partial(worker_env, logger, env_id, [4]) for env_id in range(2)]
    env = ParallelEnv(2, makers, mp_start_method="fork")
    env.rollout(6, break_when_any_done=False)
    del env
    gc.collect()
    check_nothing_is_left(tmp_path)
    assert {env_id: len(video) for env_id, (video,) in of_workers(found()).items()} == {0: 8, 1: 8}


@NESTED
def test_workers_of_workers_have_names_of_their_own(tmp_path):
    logger = CSVLogger("run", video_format="mkv")
    collector = MultiSyncCollector(
        [functools.partial(parallel_env, logger, first) for first in (0, 2)], frames_per_batch=24, total_frames=24
    )
    numbers = collected(collector)
    check_nothing_is_left(tmp_path)
    videos = of_workers(found())
    assert len(videos) == 4
    for env_id, (video,) in videos.items():
        own = sorted(number for number in numbers if place(number)[0] == env_id)
        assert video[: len(own)] == own


def parallel_env(logger, first):
    makers = [functools.partial(worker_env, logger, env_id, [9, 12]) for env_id in (first, first + 1)]
    return ParallelEnv(2, makers, mp_start_method="fork")


# collectors


@NESTED
def test_a_collector_records_what_it_collects(tmp_path):
    env = TransformedEnv(batched(SerialEnv), recorder(make_grid=False, dump_on_done=True))
    collector = Collector(env, frames_per_batch=12, total_frames=48, trust_policy=True)
    batches = [td.clone() for td in collector]
    collector.shutdown()
    check_nothing_is_left(tmp_path)
    expected = episodes(frames_in(*batches))
    for env_id, episode in endings(batches[-1][:, -1:]):
        expected[env_id, episode + 1] = [
            name_of(env_id, episode + 1, 0)
        ]  # the collector has reset it for its next batch
    assert by_episode(found()) == expected


@NESTED
@pytest.mark.parametrize("kind", some([MultiSyncCollector, MultiAsyncCollector], MultiSyncCollector))
def test_a_collector_of_several_processes_records_what_it_collects(kind, tmp_path):
    logger = CSVLogger("run", video_format="mkv")
    collector = kind(
        [functools.partial(worker_env, logger, env_id, own) for env_id, own in enumerate([[9, 12], [14, 8]])],
        frames_per_batch=20 if kind is MultiSyncCollector else 10,
        total_frames=60,
    )
    try:
        numbers = sorted(set().union(*(frames_in(td) for td in collector)))
    finally:
        collector.shutdown()
    check_nothing_is_left(tmp_path)
    videos = of_workers(found())
    assert set(videos) == {place(number)[0] for number in numbers} == {0, 1}
    for env_id in videos:
        own = [number for number in numbers if place(number)[0] == env_id]
        recorded = [number for video in videos[env_id] for number in video]
        assert recorded[: len(own)] == own
        # what was stepped, but not given out before the end, is there as well
        assert recorded == [n for at in sorted(episodes(recorded)) for n in episodes(recorded)[at]]


# evaluators


def zeros(env_ids, td):
    return td.set("action", torch.zeros(*env_ids, 1))


def evaluated_env(logger):
    return TransformedEnv(EpisodesEnv(LENGTHS), recorder(logger, make_grid=False))


@NESTED
@pytest.mark.filterwarnings("ignore:trajs_per_batch")
@since_torchrl("0.14")
@pytest.mark.parametrize("backend", ["thread", "process"])
def test_an_evaluator_dumps_a_video_for_each_env(backend, tmp_path):
    from torchrl.collectors import Evaluator

    logger = CSVLogger("run", video_format="mkv")
    policy = functools.partial(zeros, (3,))
    evaluator = Evaluator(
        functools.partial(evaluated_env, logger),
        None if backend == "process" else policy,
        policy_factory=(lambda: policy) if backend == "process" else None,
        num_trajectories=3, max_steps=6, backend=backend, dump_video=True,
    )  # fmt: skip
    try:
        for step in (10, 100):
            evaluator.evaluate(step=step)
    finally:
        evaluator.shutdown()
    check_nothing_is_left(tmp_path)
    pattern = re.compile(r"video_env(\d)_(\d+)\.mkv")
    videos = {tuple(map(int, pattern.fullmatch(name).groups())): numbers for name, numbers in found().items()}
    assert {(env_id, step) for env_id in range(3) for step in (10, 100)} <= videos.keys()
    for env_id in range(3):
        # the evaluator's process goes on where the evaluation before was, its thread begins anew
        recorded = [number for at in sorted(videos) if at[0] == env_id for number in videos[at]]
        complete = episodes(recorded)
        if backend == "process":
            assert recorded == [number for at in sorted(complete) for number in complete[at]]
        else:
            assert recorded == sorted(set(recorded))
            assert all(videos[env_id, step][0] in {own[0] for own in complete.values()} for step in (10, 100))

"""What `dump` knows of a clip that is exactly one episode: return, length and how it ended."""

import functools
import os
import signal
from pathlib import Path

import pytest
import torch
from conftest import BATCHED, FORKED, some
from numbered_frames import decode, numbers_in, rows
from tensordict import TensorDict
from torchrl.collectors import Collector
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import (
    Compose,
    EnvBase,
    FrameSkipTransform,
    GymEnv,
    RewardScaling,
    SerialEnv,
    StepCounter,
    TransformedEnv,
)
from torchrl.envs.transforms import Transform
from worlds import EpisodesEnv, KeepLogger, name_of

from vidrec import CSVLogger, TensorboardLogger, VideoRecorder, WandbLogger, keep_best, keep_last


def recorder(logger=None, **kwargs):
    return VideoRecorder(logger or CSVLogger("run", video_format="mkv"), "video", **{"skip": 1, **kwargs})


def cartpole(own, *behind, max_episode_steps=None, seed=0):
    env = GymEnv("CartPole-v1", from_pixels=True, pixels_only=False, max_episode_steps=max_episode_steps)
    env = TransformedEnv(env, Compose(SmallFrames(), own, *behind))
    env.set_seed(seed)
    torch.manual_seed(seed)
    return env


class SmallFrames(Transform):
    """Every tenth pixel of the frames of CartPole, which are then fast to encode."""

    def __init__(self):
        super().__init__(in_keys=["pixels"], out_keys=["pixels"])

    def _apply_transform(self, pixels):
        return pixels[..., ::10, ::10, :].contiguous()

    def _reset(self, tensordict, tensordict_reset):
        return self._call(tensordict_reset)

    def transform_observation_spec(self, observation_spec):
        spec = observation_spec["pixels"]
        shape = (*spec.shape[:-3], spec.shape[-3] // 10, spec.shape[-2] // 10, 3)
        observation_spec["pixels"] = Unbounded(shape, dtype=torch.uint8)
        return observation_spec


def said(folder="csv_logs/run"):
    """What each row says of an episode: its number, return, length and end."""
    return [(row["episode"], row["return"], row["length"], row["ended"]) for row in rows(folder)]


NOTHING = ("", "", "", "")


# one env


def test_an_episode_that_terminates():
    own = recorder()
    td = cartpole(own).rollout(1000)  # random actions: it falls
    video = own.dump()
    assert td["next", "terminated"][-1]
    assert said() == [("0", str(float(len(td))), str(len(td)), "terminated")]
    assert video.path.name == "video_0.mkv"  # no _ep
    assert (video.episode.length, video.episode.return_, video.episode.terminated) == (len(td), len(td), True)
    assert not video.episode.numbered
    expected = torch.cat([td["pixels"][:1], td["next", "pixels"]])
    assert torch.equal(torch.from_numpy(decode(video.path).copy()), expected)


@pytest.mark.parametrize("where", ["gymnasium", "before", "behind", "outside"])
def test_an_episode_that_a_bound_on_its_steps_cuts_off(where):
    own = recorder()
    behind = [StepCounter(5)] if where == "behind" else []
    env = cartpole(own, *behind, max_episode_steps=5 if where == "gymnasium" else None)
    if where == "before":
        own = recorder()
        env = TransformedEnv(GymEnv("CartPole-v1", from_pixels=True), Compose(SmallFrames(), StepCounter(5), own))
    elif where == "outside":
        env = TransformedEnv(env, StepCounter(5), auto_unwrap=False)
    assert len(env.rollout(100)) == 5
    own.dump()
    assert said() == [("0", "5.0", "5", "truncated")]


def test_a_rollout_that_ends_before_the_episode_says_nothing():
    own = recorder()
    cartpole(own).rollout(3)
    assert own.dump().episode is None
    assert said() == [NOTHING]


def test_two_episodes_in_one_clip():
    own = recorder()
    env = TransformedEnv(EpisodesEnv([[3, 2]], batch_size=()), own)
    env.rollout(5, break_when_any_done=False)
    own.dump()
    env.rollout(3)
    env.rollout(3)
    own.dump()
    assert said() == [NOTHING, NOTHING]


def test_episodes_that_are_dumped_one_by_one():
    own = recorder()
    env = TransformedEnv(EpisodesEnv([[3, 2, 4]], batch_size=()), own)
    for step in range(3):
        env.rollout(100)
        own.dump(step=step)
    assert said() == [("0", "3.0", "3", "terminated"), ("1", "2.0", "2", "terminated"), ("2", "4.0", "4", "truncated")]
    files = [numbers_in(Path("csv_logs/run", row["file"])) for row in rows()]
    assert files == [[name_of(0, e, step) for step in range(n + 1)] for e, n in enumerate([3, 2, 4])]


def test_a_dump_in_the_middle_of_an_episode():
    own = recorder()
    env = TransformedEnv(EpisodesEnv([[5]], batch_size=()), own)
    td = env.rollout(2)
    own.dump()
    env.rollout(100, auto_reset=False, tensordict=td[-1]["next"].clone())
    own.dump()  # the rest of it
    env.rollout(100)
    own.dump()
    assert said() == [NOTHING, NOTHING, ("1", "5.0", "5", "terminated")]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_what_is_reset_before_it_is_done_is_not_one_episode(at):
    own = recorder()
    env = TransformedEnv(EpisodesEnv([[3]], batch_size=()), own)
    env.rollout(at) if at else env.reset()
    env.rollout(100)
    own.dump()
    assert said() == [NOTHING]


def test_a_reset_behind_the_last_step_belongs_to_another_episode():
    own = recorder()
    env = TransformedEnv(EpisodesEnv([[3]], batch_size=()), own)
    env.rollout(100)
    env.reset()
    own.dump()
    env.rollout(100)  # whole, but its clip has not begun with the reset before
    own.dump()
    assert said() == [NOTHING, ("2", "3.0", "3", "truncated")]


def test_steps_behind_the_end_belong_to_no_episode():
    """As of an env that resets itself and does not say so, or with `break_when_all_done`."""
    own = recorder()
    env = TransformedEnv(EpisodesEnv([[3]], batch_size=()), Compose(own, StepCounter(2)))
    td = env.reset()
    for _ in range(3):
        td = env.step(env.rand_action(td))["next"]
    own.dump()
    assert said() == [NOTHING]


class ResetsItself(EpisodesEnv):
    """Goes on with the next episode in the step behind one that is done, and says nothing of it."""

    def _step(self, tensordict):
        for env_id, step in enumerate(self.steps):
            if step >= self.length(env_id):
                self.episodes[env_id] += 1
                self.steps[env_id] = -1
        return super()._step(tensordict)


def test_an_env_that_resets_itself_and_does_not_say_so():
    own = recorder()
    env = TransformedEnv(ResetsItself([[3]], batch_size=()), own)
    td = env.reset()
    for _ in range(7):
        td = env.step(env.rand_action(td))["next"]
    assert td["done"].item()  # of the second one
    own.dump()
    env.rollout(3)
    own.dump()
    assert said() == [NOTHING, ("1", "3.0", "3", "truncated")]


def test_gymnasiums_vector_envs():
    class Draws(Transform):
        def _call(self, next_tensordict):
            pixels = (next_tensordict["observation"][..., :1, None, None].abs() * 100).byte().expand(2, 8, 8, 3)
            return next_tensordict.set("pixels", pixels)

        def _reset(self, tensordict, tensordict_reset):
            return self._call(tensordict_reset)

    own = recorder(make_grid=False)
    env = GymEnv("CartPole-v1", num_envs=2, max_episode_steps=4)
    env = env.append_transform(Draws(in_keys=[], out_keys=[])).append_transform(own)
    env.rollout(9, break_when_any_done=False)
    env.rollout(4, break_when_any_done=False)
    own.dump()
    assert said() == [NOTHING, NOTHING]


@pytest.mark.parametrize(
    ("settings", "frames"), [({"skip": 2}, 3), ({"max_frames": 2}, 2), ({"last": 2}, 2)], ids=["skip", "max", "last"]
)
@pytest.mark.filterwarnings("ignore:.*came after max_frames")
def test_length_and_return_are_those_of_the_episode_not_of_the_clip(settings, frames):
    own = recorder(**settings)
    env = TransformedEnv(EpisodesEnv([[5]], batch_size=()), own)
    env.rollout(100)
    assert own.dump().frames == frames
    env.rollout(100)
    own.dump()
    assert said() == [("0", "5.0", "5", "terminated"), ("1", "5.0", "5", "terminated")]


def test_a_skip_that_is_assigned_while_it_runs():
    own = recorder(skip=3)
    env = TransformedEnv(EpisodesEnv([[5]], batch_size=()), own)
    td = env.rollout(2)
    own.skip = 2
    env.rollout(100, auto_reset=False, tensordict=td[-1]["next"].clone())
    own.dump()
    assert said() == [("0", "5.0", "5", "terminated")]


def test_env_close_knows_as_much_as_dump():
    own = recorder()
    env = TransformedEnv(EpisodesEnv([[3]], batch_size=()), own)
    env.rollout(100)
    env.close()
    assert said() == [("0", "3.0", "3", "terminated")]
    own.dump("final", 7)
    assert said() == [("0", "3.0", "3", "terminated")]
    assert [path.name for path in Path("csv_logs/run/videos").iterdir()] == ["video_final_7.mkv"]


def test_an_env_that_is_gone_when_dump_is_called():
    own = recorder()
    env = TransformedEnv(EpisodesEnv([[3]], batch_size=()), own)
    env.rollout(100)
    del env
    own.dump()
    assert said() == [("0", "3.0", "3", "terminated")]


def test_what_a_copy_records_is_known_too():
    own = recorder()
    env = TransformedEnv(EpisodesEnv([[3]], batch_size=()), own.clone())
    env.rollout(100)
    own.dump()
    assert said() == [("0", "3.0", "3", "terminated")]


def test_a_recorder_behind_one_whose_dump_fails():
    class Fails(KeepLogger):
        def log_video(self, *args, **kwargs):
            raise RuntimeError("no")

    own = recorder()
    first = VideoRecorder(Fails(), "first", skip=1)
    env = TransformedEnv(EpisodesEnv([[3]], batch_size=()), Compose(first, own))
    env.rollout(100)
    with pytest.raises(RuntimeError, match="no"):
        env.transform.dump()
    assert said() == [("0", "3.0", "3", "terminated")]


def test_a_transform_that_steps_its_parent():
    own = recorder()
    env = TransformedEnv(EpisodesEnv([[6]], batch_size=()), Compose(own, FrameSkipTransform(2)))
    assert len(env.rollout(100)) == 3
    own.dump()
    assert said() == [("0", "6.0", "6", "terminated")]


def test_rewards_are_those_that_the_recorder_sees():
    own, scaled = recorder(), recorder(CSVLogger("scaled"))
    env = TransformedEnv(EpisodesEnv([[4]], batch_size=()), Compose(own, RewardScaling(0.5, 3.0), scaled))
    env.rollout(100)
    env.close()
    assert said() == [("0", "4.0", "4", "terminated")]
    assert said("csv_logs/scaled") == [("0", "14.0", "4", "terminated")]


class Rewards(EnvBase):
    """A reward of several values, under several keys, or none at all."""

    def __init__(self, rewards, batch_size=()):
        super().__init__(batch_size=torch.Size(batch_size))
        self.rewards = rewards
        pixels = Unbounded((*batch_size, 24, 32, 3), dtype=torch.uint8)
        self.observation_spec = Composite(pixels=pixels, shape=self.batch_size)
        self.action_spec = Bounded(0, 1, (*batch_size, 1))
        specs = {key: Unbounded((*batch_size, *value.shape)) for key, value in rewards.items()}
        self.reward_spec = Composite(specs, shape=self.batch_size)
        flag = Categorical(2, shape=(*batch_size, 1), dtype=torch.bool)
        self.done_spec = Composite(done=flag, terminated=flag.clone(), truncated=flag.clone(), shape=self.batch_size)
        self.at = 0

    def _out(self):
        done = torch.full((*self.batch_size, 1), self.at >= 3)
        flags = {"done": done, "terminated": torch.zeros_like(done), "truncated": done.clone()}
        pixels = torch.randint(256, (*self.batch_size, 24, 32, 3), dtype=torch.uint8)
        return TensorDict({**flags, "pixels": pixels}, self.batch_size)

    def _reset(self, tensordict=None):
        self.at = 0
        return self._out()

    def _step(self, tensordict):
        self.at += 1
        rewards = {key: value.expand(*self.batch_size, *value.shape).clone() for key, value in self.rewards.items()}
        return self._out().update(rewards)

    def _set_seed(self, seed):
        pass


@pytest.mark.parametrize("batch_size", [(), (1,), (2,)])
@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ({"reward": torch.tensor([1.0, 2.0, 0.25])}, 9.75),
        ({"reward": torch.tensor([0.5]), "cost": torch.tensor([-0.25, -1.0])}, -2.25),
        ({"reward": torch.tensor([16777217.0])}, 3 * 16777216.0),
        ({"reward": torch.tensor([0.5], dtype=torch.bfloat16)}, 1.5),
        ({"reward": torch.tensor([7], dtype=torch.uint8)}, 21.0),
        ({"reward": torch.tensor([0.5, 1.0], requires_grad=True)}, 4.5),
    ],
    ids=["several values", "several keys", "large", "bfloat16", "uint8", "with a gradient"],
)
def test_the_return_is_the_sum_of_all_that_the_reward_holds(rewards, expected, batch_size):
    own = recorder(make_grid=False)
    env = TransformedEnv(Rewards(rewards, batch_size), own)
    env.rollout(100)
    own.dump()
    assert said() == [("0", str(expected), "3", "truncated")] * max(1, torch.Size(batch_size).numel())


def test_a_reward_that_is_missing():
    class NoReward(Transform):
        def _step(self, tensordict, next_tensordict):
            return next_tensordict.exclude("reward")

    own = recorder()
    base = TransformedEnv(Rewards({"reward": torch.ones(1)}), Compose(NoReward(in_keys=[], out_keys=[]), own))
    env = base
    td = env.reset()
    for _ in range(3):
        next_td = env.base_env.step(env.rand_action(td))["next"]
        env.transform._step(td, next_td)
    own.dump()
    assert said() == [("0", "0.0", "3", "truncated")]


def test_the_default_device_does_not_matter():
    own = recorder(make_grid=False)
    env = TransformedEnv(Rewards({"reward": torch.ones(1)}, (7,)), own)
    td = env.reset()
    for _ in range(3):
        next_td = env.base_env.step(env.rand_action(td))["next"]
        with torch.device("meta"):
            own._step(td, next_td)
    own.dump()
    assert said() == [("0", "3.0", "3", "truncated")] * 7


# several envs


def test_envs_with_videos_of_their_own():
    own = recorder(make_grid=False)
    env = TransformedEnv(EpisodesEnv([[4], [2], [9]]), own)
    env.rollout(4, break_when_any_done=False)  # env 1 has two episodes, env 2 is not done
    own.dump()
    assert said() == [("0", "4.0", "4", "terminated"), NOTHING, NOTHING]
    assert [row["env_id"] for row in rows()] == ["0", "1", "2"]


def test_an_env_that_waits_for_the_others_is_stepped_on():
    own = recorder(make_grid=False)
    env = TransformedEnv(EpisodesEnv([[4], [2]]), own)
    env.rollout(100, break_when_all_done=True)
    own.dump()
    assert said() == [("0", "4.0", "4", "terminated"), NOTHING]


@pytest.mark.parametrize("dumps", [0, 1], ids=["before a step", "behind a step"])
def test_a_partial_reset_of_another_env(dumps):
    own = recorder(make_grid=False)
    env = TransformedEnv(EpisodesEnv([[3], [3]]), own)
    td = env.rollout(3, break_when_any_done=False)
    td = env.reset(td[:, -1]["next"].clone().set("_reset", torch.tensor([[True], [False]])))
    if dumps:
        env.step(env.rand_action(td))
    own.dump()
    assert said() == [NOTHING, NOTHING if dumps else ("0", "6.0", "3", "terminated")]


def test_clips_of_envs_that_are_dumped_at_the_end_of_each():
    own = recorder(make_grid=False)
    env = TransformedEnv(EpisodesEnv([[2], [4]]), own)
    td = env.reset()
    for step in range(8):
        td = env.step(env.rand_action(td))["next"]
        if td["done"].any():
            own.dump(step=step)
            td = env.reset(td.set("_reset", td["done"].clone()))
    assert [(row["step"], row["env_id"], *what) for row, what in zip(rows(), said(), strict=True)] == [
        ("1", "0", "0", "2.0", "2", "terminated"),
        ("1", "1", *NOTHING),
        ("3", "0", "1", "2.0", "2", "terminated"),
        ("3", "1", *NOTHING),
        ("5", "0", "2", "2.0", "2", "truncated"),
        ("5", "1", *NOTHING),
        ("7", "0", "3", "2.0", "2", "terminated"),
        ("7", "1", *NOTHING),
    ]


def test_a_grid_says_nothing():
    own = recorder()
    TransformedEnv(EpisodesEnv([[3], [3]]), own).rollout(100)
    own.dump()
    assert said() == [NOTHING]


@pytest.mark.parametrize("make_grid", [True, False])
def test_a_batch_of_one(make_grid):
    own = recorder(make_grid=make_grid)
    TransformedEnv(EpisodesEnv([[3]]), own).rollout(100)
    own.dump()
    assert said() == [("0", "3.0", "3", "terminated")]
    assert rows()[0]["env_id"] == ""


def test_some_envs_of_a_nested_batch():
    own = recorder(make_grid=False, env_ids=[1, 5])
    env = TransformedEnv(EpisodesEnv([[9], [3], [9], [9], [9], [3]], batch_size=(2, 3)), own)
    env.rollout(3, break_when_any_done=False)
    own.dump()
    assert said() == [("0", "6.0", "3", "terminated"), ("0", "18.0", "3", "terminated")]


class Own:
    """Makes an env with a recorder of its own, for a worker."""

    def __init__(self, length):
        self.length = length

    def __call__(self):
        return TransformedEnv(EpisodesEnv([[self.length]], batch_size=()), recorder())


@pytest.mark.parametrize(
    ("batched", "close"), [(FORKED, False), (FORKED, True), (SerialEnv, True)], ids=["dump", "close", "SerialEnv"]
)
def test_recorders_in_workers(batched, close):
    env = batched(2, [Own(3), Own(3)])
    try:
        env.rollout(100)
        if not close:
            env.transform.dump()
    finally:
        env.close()
    assert said() == [("0", "3.0", "3", "terminated")] * 2


@BATCHED
def test_a_recorder_around_workers(batched):
    own = recorder(make_grid=False)
    env = TransformedEnv(batched(2, functools.partial(EpisodesEnv, [[3]], batch_size=())), own)
    env.rollout(100)
    env.close()
    assert said() == [("0", "3.0", "3", "terminated")] * 2


def test_a_collector_says_nothing_wrong():
    own = recorder()
    env = TransformedEnv(EpisodesEnv([[4]], batch_size=()), own)
    collector = Collector(env, env.rand_action, frames_per_batch=4, total_frames=12)
    for step, _ in enumerate(collector):
        own.dump(step=step)
    collector.shutdown()
    # the reset behind the last step of a batch is in its clip
    assert [what for what, row in zip(said(), rows(), strict=True) if row["frames"] == "6"] == [NOTHING]
    assert set(said()) == {NOTHING}


# other loggers


def test_a_caption_of_wandb(tmp_path):
    pytest.importorskip("wandb")
    own = recorder(WandbLogger("run", project="p", offline=True, save_dir=str(tmp_path)))
    TransformedEnv(EpisodesEnv([[3]], batch_size=()), own).rollout(100)
    logged = []
    own.logger.experiment.log, before = lambda data, **k: logged.append(data), own.logger.experiment.log
    own.dump()
    own.logger.experiment.log = before
    (entry,) = logged
    (media,) = [value for value in entry.values() if hasattr(value, "_caption")]
    assert media._caption == "episode 0, return 3, length 3, terminated"
    assert next(iter(entry)) == "video"


def test_a_text_of_tensorboard():
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    own = recorder(TensorboardLogger("run", "tb"))
    TransformedEnv(EpisodesEnv([[3]], batch_size=()), own).rollout(100)
    own.dump(step=5)
    events = EventAccumulator("tb/run")
    events.Reload()
    texts = [
        event.tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"] for event in events.Tensors(tag)
    ]
    assert any("episode 0, return 3, length 3, terminated" in text for text in texts), texts


def test_a_logger_that_takes_tensors_gets_what_it_got():
    logger = KeepLogger()
    own = recorder(logger, fps=7)
    env = TransformedEnv(EpisodesEnv([[3]], batch_size=()), own)
    env.rollout(100)
    own.dump()
    ((name, video, step, kwargs),) = logger.calls
    assert (name, tuple(video.shape), step, kwargs) == ("video", (1, 4, 3, 24, 32), 0, {"fps": 7})


# signals, and what `dump` returns


def test_a_dump_of_a_signal_handler_at_each_step():
    own = recorder(make_grid=False)

    class Draws(EpisodesEnv):
        def _step(self, tensordict):
            os.kill(os.getpid(), signal.SIGUSR1)
            return super()._step(tensordict)

    before = signal.signal(signal.SIGUSR1, lambda *_: own.dump())
    try:
        env = TransformedEnv(Draws([[2], [3]]), own)
        env.rollout(7, break_when_any_done=False)
        own.dump()
    finally:
        signal.signal(signal.SIGUSR1, before)
    shown = [(int(row["env_id"]), number) for row in rows() for number in numbers_in(Path("csv_logs/run", row["file"]))]
    for env_id, lengths in enumerate([[2, 2, 2, 1], [3, 3, 1]]):
        expected = [name_of(env_id, e, step) for e, n in enumerate(lengths) for step in range(n + 1)]
        assert [number for at, number in shown if at == env_id] == expected
    assert set(said()) == {NOTHING}


@pytest.mark.parametrize("writes", range(5))
def test_a_dump_of_a_signal_handler_while_a_frame_is_written(writes, monkeypatch):
    from vidrec.recording.stream import Stream

    own, write, seen = recorder(), Stream.write, []

    def interrupted(self, frames):
        if len(seen) == writes:
            os.kill(os.getpid(), signal.SIGUSR1)
        seen.append(1)
        write(self, frames)

    monkeypatch.setattr(Stream, "write", interrupted)
    before = signal.signal(signal.SIGUSR1, lambda *_: own.dump())
    try:
        TransformedEnv(EpisodesEnv([[3]], batch_size=()), own).rollout(100)
        own.dump()
    finally:
        signal.signal(signal.SIGUSR1, before)
    whole = [("0", "3.0", "3", "terminated")]
    assert said() == (whole if writes >= 3 else [NOTHING, NOTHING])


def test_videos_lists_them_with_their_episodes():
    own = recorder(make_grid=False)
    env = TransformedEnv(EpisodesEnv([[3], [3]]), own)
    env.rollout(100)
    last = own.dump()
    assert [(video.env_id, video.episode.return_) for video in own.videos] == [(0, 3.0), (1, 6.0)]
    assert last == own.videos[-1]
    assert own.dump() is None


# what `keep` and `episode_trigger` choose for make_grid


@pytest.mark.parametrize(
    "settings", [{"keep": lambda episode: True}, {"episode_trigger": lambda n: True}], ids=["keep", "episode_trigger"]
)
@pytest.mark.parametrize("make_grid", some([None, False, True], None))
def test_a_video_for_each_env_of_a_batch(settings, make_grid):
    own = recorder(make_grid=make_grid, **settings)
    env = SerialEnv(2, lambda: GymEnv("CartPole-v1", from_pixels=True, max_episode_steps=4))
    env = TransformedEnv(env, Compose(SmallFrames(), own))
    td = env.rollout(4)
    env.close()
    frames = torch.cat([td["pixels"][:, :1], td["next", "pixels"]], 1)
    found = {path.name: decode(path) for path in sorted(Path("csv_logs/run/videos").iterdir())}
    if make_grid:
        assert list(found) == ["video_0.mkv"]
        assert (found["video_0.mkv"] == torch.cat(list(frames), 2).numpy()).all()
        return
    assert list(found) == ["video_env0_ep0_0.mkv", "video_env1_ep0_1.mkv"]
    for env_id, video in enumerate(found.values()):
        assert (video == frames[env_id].numpy()).all()


@pytest.mark.parametrize("keep", [keep_best(2), keep_last(2)], ids=["best", "last"])
def test_those_that_are_kept_are_single_envs(keep):
    own = recorder(keep=keep)
    env = TransformedEnv(EpisodesEnv([[2], [3], [4]]), own)
    env.rollout(4, break_when_any_done=False)
    env.close()
    kept = sorted((row["env_id"], row["return"], row["ended"]) for row in rows())
    assert len(kept) == 2
    assert {env_id for env_id, *_ in kept} <= {"0", "1", "2"}
    if keep.__class__.__name__ == "KeepBest":
        assert kept == [("1", "6.0", "terminated"), ("2", "12.0", "terminated")]


@pytest.mark.parametrize("make_grid", [None, True, False])
def test_the_names_of_a_single_env_that_keeps(make_grid):
    own = recorder(make_grid=make_grid, keep=lambda episode: True)
    TransformedEnv(EpisodesEnv([[3]], batch_size=()), own).rollout(100)
    (row,) = rows()
    assert row["file"] == ("videos/video_0.mkv" if make_grid else "videos/video_ep0_0.mkv")


def test_dump_on_done_alone_is_a_grid_as_in_torchrl():
    own = recorder(dump_on_done=True)
    TransformedEnv(EpisodesEnv([[3], [3]]), own).rollout(100)
    assert [row["file"] for row in rows()] == ["videos/video_0.mkv"]

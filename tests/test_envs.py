"""Each frame in the right video: envs and episodes."""

import csv
import os
import pickle
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from conftest import require
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered_frames import decode, numbered, numbers_in, read_number, rows
from tensordict import TensorDict
from test_real import run_example
from torchrl.envs import Compose, StepCounter, TransformedEnv
from torchrl.envs.utils import step_mdp
from worlds import EpisodesEnv, FailingLogger, KeepLogger, PixelsEnv, name_of

from vidrec import (
    CSVLogger,
    EncoderError,
    Episode,
    FrameError,
    SettingError,
    TensorboardLogger,
    VideoRecorder,
    VidrecWarning,
    WandbLogger,
    keep_best,
    keep_last,
)
from vidrec.ffmpeg.encoder import Encoder


def found(folder="csv_logs/run/videos"):
    """The names of all finished videos, and the numbers in their frames."""
    paths = [path for path in sorted(Path(folder).rglob("*.m*")) if ".part-" not in path.name]
    return {str(path.relative_to(folder)): numbers_in(path) for path in paths}


def model(lengths, steps, *, skip, env_ids, by_episode, dumps):
    """Say what is in which video after rollouts of so many steps each, by the rules of the table alone.

    Returns a dict of env, episode (None if not by episode) and how often the env was dumped before, to the numbers.
    """
    videos, counts, dumped = defaultdict(list), defaultdict(int), 0
    at = {env_id: [-1, 0] for env_id in env_ids}

    def offer(env_id):
        key = (env_id, at[env_id][0] if by_episode else None, dumped)
        counts[key] += 1
        if counts[key] % skip == 0:
            videos[key].append(name_of(env_id, *at[env_id]))

    def reset(env_id):
        at[env_id][:] = [at[env_id][0] + 1, 0]
        offer(env_id)

    for rollout, length in enumerate(steps):
        for env_id in env_ids:
            reset(env_id)
        for step in range(length):
            for env_id in env_ids:
                at[env_id][1] += 1
                offer(env_id)
            for env_id in env_ids:
                if at[env_id][1] >= lengths[env_id][at[env_id][0] % len(lengths[env_id])] and step < length - 1:
                    reset(env_id)
        if dumps[rollout]:
            dumped += 1
    return dict(videos)


@settings(max_examples=25, deadline=None, database=None)
@given(data=st.data())
def test_each_frame_is_in_the_video_that_the_model_says(tmp_path_factory, data):
    os.chdir(tmp_path_factory.mktemp("run"))
    count = data.draw(st.integers(1, 4), "env_ids")
    lengths = [
        data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3), f"lengths {env_id}") for env_id in range(count)
    ]
    by_episode = data.draw(st.booleans(), "by episode")
    skip = data.draw(st.integers(1, 3), "skip")
    env_ids = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1), "recorded"))
    steps = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=2), "steps")
    dumps = [data.draw(st.booleans(), "dump") for _ in steps[1:]] + [True]
    recorder = VideoRecorder(
        CSVLogger("run", video_format="mkv"),
        "video",
        make_grid=False,
        dump_on_done=by_episode,
        skip=skip,
        env_ids=env_ids,
    )
    env = TransformedEnv(EpisodesEnv(lengths), recorder)
    for length, dump in zip(steps, dumps, strict=True):
        env.rollout(length, break_when_any_done=False)
        if dump:
            recorder.dump()
    expected = model(lengths, steps, skip=skip, env_ids=env_ids, by_episode=by_episode, dumps=dumps)
    got = found()
    # the step in a name counts videos or dumps, and is not what is compared
    assert sorted((name.rpartition("_")[0], tuple(numbers)) for name, numbers in got.items()) == sorted(
        (
            (f"video_env{env_id}" if count > 1 else "video") + ("" if episode is None else f"_ep{episode}"),
            tuple(numbers),
        )
        for (env_id, episode, _), numbers in expected.items()
        if numbers
    )
    assert {row["file"] for row in rows()} == {f"videos/{name}" for name in got} if got else True


# the table


def record(env, steps, logger=None, **kwargs):
    """Roll out once through all ends of episodes; return the recorder."""
    recorder = VideoRecorder(logger or CSVLogger("run", video_format="mkv"), "video", **{"skip": 1, **kwargs})
    env = TransformedEnv(env, recorder)
    env.rollout(steps, break_when_any_done=False)
    return recorder


def numbers(env_id, episode, steps):
    return [name_of(env_id, episode, step) for step in steps]


def test_one_video_for_each_env_until_dump():
    recorder = record(EpisodesEnv([[2], [9]]), 5, make_grid=False)
    assert recorder.dump(step=7).env_id == 1
    assert [video.env_id for video in recorder.videos] == [0, 1]
    assert recorder.dump(step=8) is None
    assert found() == {
        "video_env0_7.mkv": [*numbers(0, 0, range(3)), *numbers(0, 1, range(3)), *numbers(0, 2, range(2))],
        "video_env1_7.mkv": numbers(1, 0, range(6)),
    }
    assert [(row["tag"], row["env_id"], row["episode"], row["ended"]) for row in rows()] == [
        ("video", "0", "", ""),
        ("video", "1", "", ""),
    ]


def test_one_video_for_each_episode_of_each_env_and_the_rest_by_dump():
    recorder = record(EpisodesEnv([[2], [3], [9]]), 7, make_grid=False, dump_on_done=True)
    assert len(found()) == 3 + 2
    recorder.dump(suffix="end", step=70)
    videos = {name.rpartition("_")[0]: numbers for name, numbers in found().items()}
    assert videos == {
        "video_env0_ep0": numbers(0, 0, range(3)),
        "video_env0_ep1": numbers(0, 1, range(3)),
        "video_env0_ep2": numbers(0, 2, range(3)),
        "video_env0_end_ep3": numbers(0, 3, range(2)),
        "video_env1_ep0": numbers(1, 0, range(4)),
        "video_env1_ep1": numbers(1, 1, range(4)),
        "video_env1_end_ep2": numbers(1, 2, range(2)),
        "video_env2_end_ep0": numbers(2, 0, range(8)),
    }
    ended = {(row["env_id"], row["episode"]): (row["length"], row["return"], row["ended"]) for row in rows()}
    assert ended == {
        ("0", "0"): ("2", "2.0", "terminated"),
        ("0", "1"): ("2", "2.0", "terminated"),
        ("0", "2"): ("2", "2.0", "truncated"),
        ("0", "3"): ("1", "1.0", "unfinished"),
        ("1", "0"): ("3", "6.0", "terminated"),
        ("1", "1"): ("3", "6.0", "terminated"),
        ("1", "2"): ("1", "2.0", "unfinished"),
        ("2", "0"): ("7", "21.0", "unfinished"),
    }


def test_a_single_env_has_no_env_in_its_names():
    recorder = record(EpisodesEnv([[2]], batch_size=()), 5, make_grid=False, dump_on_done=True)
    recorder.dump()
    videos = {name.rpartition("_")[0]: numbers for name, numbers in found().items()}
    assert videos == {f"video_ep{e}": numbers(0, e, range(n)) for e, n in enumerate([3, 3, 2])}
    assert {row["env_id"] for row in rows()} == {""}


def test_a_reset_in_the_middle_ends_an_episode_that_is_unfinished():
    recorder = VideoRecorder(CSVLogger("run", video_format="mkv"), "video", skip=1, make_grid=False, dump_on_done=True)
    env = TransformedEnv(EpisodesEnv([[9], [9]]), recorder)
    env.rollout(2)
    env.rollout(3)
    recorder.dump()
    assert sorted(found().values()) == sorted(
        numbers(env_id, episode, range(steps + 1)) for env_id in (0, 1) for episode, steps in ((0, 2), (1, 3))
    )
    assert {row["ended"] for row in rows()} == {"unfinished"}


def test_the_grid_of_all_envs_is_finished_when_all_are_done_at_once():
    logger = KeepLogger()
    recorder = record(EpisodesEnv([[4], [2]]), 8, logger, dump_on_done=True)
    assert [(call[0], call[2], call[1].shape[1]) for call in logger.calls] == [("video", 0, 5), ("video", 1, 5)]
    assert recorder.dump() is None


def test_envs_of_several_batch_axes_are_counted_through():
    recorder = record(EpisodesEnv([[9]] * 6, batch_size=(2, 3)), 2, make_grid=False, env_ids=slice(1, None, 3))
    recorder.dump(step=0)
    assert found() == {f"video_env{env_id}_0.mkv": numbers(env_id, 0, range(3)) for env_id in (1, 4)}


def test_only_the_chosen_envs_are_in_a_grid():
    recorder = record(EpisodesEnv([[9]] * 5), 2, env_ids=[-1, 1])
    video = recorder.dump()
    frames = decode(video.path)
    assert frames.shape == (3, 24, 64, 3)
    for step, frame in enumerate(frames):
        assert [read_number(frame[:, :32]), read_number(frame[:, 32:])] == [name_of(1, 0, step), name_of(4, 0, step)]


def test_frames_of_envs_that_are_not_chosen_are_not_looked_at():
    class Broken(EpisodesEnv):
        def _out(self, **more):
            td = super()._out(**more)
            td["pixels"] = td["pixels"].float() / 255
            td["pixels"][1:] = float("nan")  # refused, if they were looked at
            return td

    env = Broken([[9]] * 3)
    env.observation_spec = env.observation_spec.clone()
    recorder = VideoRecorder(KeepLogger(), "video", skip=1, make_grid=False, env_ids=[0])
    env = TransformedEnv(env, recorder)
    td = env.base_env._reset()
    recorder._reset(TensorDict({}, [3]), td)
    recorder.dump()
    assert len(recorder.logger.calls) == 1


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"env_ids": []}, "must be the numbers of envs"),
        ({"env_ids": ["a"]}, "must be the numbers of envs"),
        ({"step_trigger": lambda step: True}, "needs max_frames"),
        ({"step_trigger": lambda step: True, "max_frames": 3, "dump_on_done": True}, "does not go with"),
        ({"keep": 3}, "keep=3 must be a function"),
        ({"episode_trigger": 3}, "episode_trigger=3 must be a function"),
    ],
)
def test_what_cannot_be_is_refused_when_the_recorder_is_made(kwargs, words):
    with pytest.raises(SettingError, match=words):
        VideoRecorder(CSVLogger("run"), "video", **kwargs)
    for n in (0, -1, 2.5):
        with pytest.raises(SettingError, match="positive whole number"):
            keep_best(n)


@pytest.mark.parametrize(("env_ids", "words"), [([0, 4], "the environment has 4"), (slice(4, 9), "none of the 4")])
def test_envs_that_are_not_there_are_refused_at_the_first_frame(env_ids, words):
    env = TransformedEnv(EpisodesEnv([[9]] * 4), VideoRecorder(CSVLogger("run"), "video", env_ids=env_ids))
    with pytest.raises(SettingError, match=words):
        env.reset()


# which episodes, which steps


def test_episode_trigger_chooses_by_number_and_opens_no_encoder_for_the_others(monkeypatch):
    started = []
    monkeypatch.setattr("vidrec.clips.encoded.Encoder", lambda *args: started.append(args) or Encoder(*args))
    recorder = record(EpisodesEnv([[2], [3]]), 12, make_grid=False, episode_trigger=lambda episode: episode % 2 == 1)
    recorder.dump()
    assert {name.rpartition("_")[0] for name in found()} == {
        f"video_env{n}_ep{e}" for n, e in [(0, 1), (0, 3), (0, 5), (1, 1), (1, 3)]
    }
    assert len(started) == 5


def test_episode_trigger_of_a_single_env_needs_nothing_else():
    record(EpisodesEnv([[2]], batch_size=()), 9, episode_trigger=lambda episode: episode == 1)
    assert list(found().values()) == [numbers(0, 1, range(3))]
    assert rows()[0]["episode"] == "1"


def test_step_trigger_begins_a_clip_of_max_frames():
    recorder = record(EpisodesEnv([[5]], batch_size=()), 20, step_trigger=lambda step: step % 8 == 0, max_frames=4)
    recorder.dump()
    frames = [name_of(0, step // 5, step % 5) for step in range(30)]
    stream = []  # what is offered: each reset, and each step
    for episode in range(5):
        stream += [(name_of(0, episode, step), step > 0) for step in range(6)]
    steps = [at for at, (_, is_step) in enumerate(stream) if is_step]
    assert frames
    assert found() == {
        f"video_{began}.mkv": [number for number, _ in stream[steps[began] : steps[began] + 4]] for began in (0, 8, 16)
    }


def test_keep_is_asked_when_an_episode_ends_and_what_it_refuses_leaves_no_file():
    asked = []

    def keep(episode):
        asked.append(episode)
        return not episode.terminated

    recorder = record(EpisodesEnv([[2], [3]]), 9, make_grid=False, keep=keep)
    assert asked[0] == Episode(env_id=0, number=0, length=2, return_=2.0, terminated=True, truncated=False)
    assert {(episode.env_id, episode.number) for episode in asked} == {
        *((0, number) for number in range(4)),
        *((1, number) for number in range(3)),
    }
    assert {name.rpartition("_")[0] for name in found()} == {"video_env0_ep2", "video_env1_ep2"}
    recorder.dump()
    assert not list(Path("csv_logs").rglob("*.part-*"))


class Scored(EpisodesEnv):
    """A single env whose episodes return 5, 1, 9, 9, 3, 10."""

    returns = (5, 1, 9, 9, 3, 10)

    def __init__(self):
        super().__init__([[2]], batch_size=())

    def _step(self, tensordict):
        td = super()._step(tensordict)
        td["reward"] = torch.full((1,), self.returns[self.episodes[0]] / 2)
        return td


@pytest.mark.parametrize(
    ("keep", "kept"), [(keep_best(2), {2, 5}), (keep_last(2), {4, 5}), (keep_best(9), set(range(6)))]
)
def test_keep_best_and_keep_last_delete_what_they_displace_with_its_row(keep, kept):
    recorder = record(Scored(), 12, make_grid=False, keep=keep)
    assert {numbers[0] >> 5 for numbers in found().values()} == kept
    assert {int(row["episode"]) for row in rows()} == kept
    assert {row["file"] for row in rows()} == {f"videos/{name}" for name in found()}
    recorder.dump()
    assert not list(Path("csv_logs").rglob("*.part-*"))


def test_a_keep_that_raises_loses_no_frame():
    calls = []

    def keep(episode):
        calls.append(episode)
        if len(calls) == 1:
            raise RuntimeError("a bug in keep")
        return True

    recorder = VideoRecorder(CSVLogger("run", video_format="mkv"), "video", skip=1, make_grid=False, keep=keep)
    env = TransformedEnv(EpisodesEnv([[2]], batch_size=()), recorder)
    td = env.reset()
    td = env.step(env.rand_action(td))["next"]
    with pytest.raises(RuntimeError, match="a bug in keep"):
        env.step(env.rand_action(td))
    recorder.dump()
    assert list(found().values()) == [numbers(0, 0, range(3))]


# what else may happen


def test_other_loggers_have_the_same_names():
    logger = KeepLogger()
    record(EpisodesEnv([[2], [9]]), 4, logger, make_grid=False, dump_on_done=True).dump()
    names = [call[0] for call in logger.calls]
    assert names == ["video_env0_ep0", "video_env0_ep1", "video_env1_ep0"]


def test_a_logger_that_fails_for_one_env_does_not_keep_the_others_from_theirs():
    logger = FailingLogger()
    recorder = record(EpisodesEnv([[9]] * 3), 2, logger, make_grid=False)
    with pytest.raises(OSError, match="moon"):
        recorder.dump(step=3)
    assert [call[0] for call in logger.calls] == ["video_env1", "video_env2"]
    recorder.dump(step=3)
    assert logger.calls[-1][0] == "video_env0"


def test_an_encoder_that_dies_costs_the_other_envs_nothing():
    recorder = VideoRecorder(CSVLogger("run", video_format="mkv"), "video", skip=1, make_grid=False)
    env = TransformedEnv(EpisodesEnv([[20]] * 3), recorder)
    td = env.reset()
    process = recorder._recording.streams[0].clip._encoder._process
    process.kill()
    process.wait()
    with pytest.raises(EncoderError, match="exit code -9"):
        td = env.step(env.rand_action(td))["next"]
    recorder.dump(step=0)
    assert found()["video_env1_0.mkv"] == numbers(1, 0, range(2))
    assert found()["video_env2_0.mkv"] == numbers(2, 0, range(2))


def test_a_number_of_frames_that_is_not_that_of_envs_is_refused():
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1, make_grid=False)
    env = TransformedEnv(EpisodesEnv([[9]] * 3), recorder)
    assert env.transform is recorder
    with pytest.raises(
        FrameError, match=r"holds 2 frames of one env; they could be a stack \(stack=2 .*layout=\"NHWC\""
    ):
        recorder._reset(TensorDict({}, [3]), TensorDict({"pixels": torch.zeros(3, 2, 24, 32, 3)}, [3]))


def test_max_frames_is_for_each_env_and_each_episode():
    recorder = record(EpisodesEnv([[5], [9]]), 8, make_grid=False, dump_on_done=True, max_frames=3)
    with pytest.warns(VidrecWarning, match="max_frames=3"):
        recorder.dump()
    assert [len(numbers) for numbers in found().values()] == [3, 3, 3]


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("loop", ["rollout", "steps"])
def test_the_bound_of_a_step_counter_ends_episodes_wherever_it_stands(behind, loop):
    recorder = VideoRecorder(CSVLogger("run", video_format="mkv"), "video", skip=1, make_grid=False, dump_on_done=True)
    transforms = [recorder, StepCounter(max_steps=3)]
    env = TransformedEnv(EpisodesEnv([[9], [2]]), Compose(*(transforms[::-1] if behind else transforms)))
    if loop == "rollout":
        env.rollout(6, break_when_any_done=False)
    else:
        td = env.reset()
        for _ in range(6):
            td = step_mdp(env.step(env.rand_action(td)))
            if td["done"].any():
                td = env.reset(td.set("_reset", td["done"].clone()))
    recorder.dump()
    ended = {(row["env_id"], row["episode"]): row["ended"] for row in rows()}
    assert ended["0", "0"] == "truncated"
    assert ended["1", "0"] == ended["1", "1"] == "terminated"
    assert numbers(0, 0, range(4)) in found().values()


@pytest.mark.parametrize("episodes", [40, *(pytest.param(many, marks=pytest.mark.long) for many in (160, 1000))])
def test_64_envs_at_once_and_1000_episodes_leave_nothing_behind(episodes):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    recorder = record(EpisodesEnv([[9]] * 64, size=(12, 16)), 3, make_grid=False)
    threads = {
        args[args.index("-threads") + 1]
        for args in (track.clip._encoder._process.args for track in recorder._recording.streams.values() if track.clip)
    }
    assert threads == {"1"}
    recorder.dump(step=0)
    assert {len(numbers) for numbers in found().values()} == {4}
    assert len(found()) == 64
    record(EpisodesEnv([[1]] * 8, size=(12, 16)), episodes // 8, make_grid=False, dump_on_done=True, max_frames=1)
    assert len(rows()) == 64 + episodes
    assert descriptors() <= before + 1
    assert not list(Path("csv_logs").rglob("*.part-*"))


# what TensorBoard and W&B can hold of it


def test_tensorboard_shows_the_episodes_of_a_env_under_one_tag_with_what_they_were():
    require("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record(EpisodesEnv([[2], [9]]), 4, TensorboardLogger("run"), make_grid=False, dump_on_done=True).dump()
    events = EventAccumulator("tb_logs/run", {"images": 0, "tensors": 0}).Reload()
    assert {tag: len(events.Images(tag)) for tag in events.Tags()["images"]} == {"video_env0": 2, "video_env1": 1}
    texts = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("video_env0/episode/text_summary")]
    assert texts == [f"env 0, episode {n}, return 2, length 2, terminated" for n in range(2)]


def test_wandb_has_what_an_episode_was_in_the_caption(monkeypatch):
    require("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger("run", offline=True, log_env_packages=False)
    logged = []
    log = logger.experiment.log
    monkeypatch.setattr(
        logger.experiment, "log", lambda payload, **more: logged.append(payload) or log(payload, **more)
    )
    record(EpisodesEnv([[2]], batch_size=()), 2, logger, make_grid=False, dump_on_done=True)
    logger.experiment.finish()
    assert logged[0]["video"]._caption == "episode 0, return 2, length 2, terminated"


@pytest.mark.long
def test_the_examples_of_envs_run():
    require("pygame")
    run_example("keep_best")
    with open("videos/best/videos.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
    assert len(list(Path("videos/best/videos").glob("cartpole_ep*.mp4"))) == 3
    run_example("workers")
    names = {path.stem.partition("_ep")[0] for path in Path("videos/workers/videos").iterdir()}
    assert names == {"cartpole", "cartpole_worker1"}
    run_example("replay_buffer")
    assert {len(decode(path)) for path in Path("videos/samples/videos").glob("slices_ep*.mp4")} == {10}


# what a second look found


def test_an_episode_that_could_not_be_published_is_a_video_of_its_own():
    logger = FailingLogger()
    recorder = VideoRecorder(logger, "video", skip=1, make_grid=False, dump_on_done=True)
    env = TransformedEnv(EpisodesEnv([[2]], batch_size=()), recorder)
    td = env.reset()
    td = step_mdp(env.step(env.rand_action(td)))
    with pytest.raises(OSError, match="moon"):
        env.step(env.rand_action(td))
    env.rollout(2)
    recorder.dump()
    assert [(call[0], call[1].shape[1]) for call in logger.calls] == [("video_ep1", 3), ("video_ep0", 3)]


def test_keep_tells_episodes_that_are_equal_from_one_another():
    recorder = record(EpisodesEnv([[2]], batch_size=()), 2, make_grid=False, keep=keep_last(1))
    recorder._source_of = recorder._source = None  # an environment made anew counts from 0 again
    TransformedEnv(EpisodesEnv([[2]], batch_size=()), recorder.clone())
    other = VideoRecorder(
        CSVLogger("run", video_format="mkv"), "other", skip=1, make_grid=False, keep=recorder._selection.keep
    )
    TransformedEnv(EpisodesEnv([[2]], batch_size=()), other).rollout(2, break_when_any_done=False)
    assert [name.rpartition("_")[0] for name in found()] == ["other_ep0"]
    assert [(row["tag"], row["file"]) for row in rows()] == [("other", "videos/other_ep0_0.mkv")]


def test_keep_best_takes_nan_for_the_worst_and_copies_begin_anew():
    keep = keep_best(1)
    episodes = [Episode(None, n, 1, value, True, False) for n, value in enumerate([float("nan"), 1.0, 3.0, 2.0, 3.0])]
    wanted = []
    for episode in episodes:
        wanted.append(keep(episode))
        if wanted[-1]:
            keep.add(episode, None, None)
    assert wanted == [True, True, True, False, False]
    other = pickle.loads(pickle.dumps(keep))
    assert other(episodes[0])


@pytest.mark.parametrize("env_ids", [[0], [1]])
def test_a_grid_of_some_envs_has_the_reset_frames_of_these(env_ids):
    recorder = record(EpisodesEnv([[2], [3]]), 6, env_ids=env_ids)
    expected = [name_of(env_ids[0], e, s) for e in range(3) for s in range((3, 4)[env_ids[0]])]
    assert numbers_in(recorder.dump().path) == expected[: 6 + len([0, 1, 2][: 3 - env_ids[0]])]


def test_the_return_of_the_default_grid_begins_anew_with_each_reset():
    recorder = VideoRecorder(CSVLogger("run", video_format="mkv"), "video", skip=1, dump_on_done=True)
    env = TransformedEnv(EpisodesEnv([[3]], batch_size=()), recorder)
    env.rollout(2)
    env.rollout(3)
    assert [(row["length"], row["return"], row["ended"], row["frames"]) for row in rows()] == [
        ("3", "3.0", "terminated", "7")
    ]


def test_all_envs_done_at_once_in_different_ways_is_not_unfinished():
    class Mixed(EpisodesEnv):
        def _out(self, **more):
            td = super()._out(**more)
            td["truncated"][1] = td["done"][1]
            td["terminated"][1] = False
            return td

    record(Mixed([[2], [2]]), 2, dump_on_done=True)
    assert [row["ended"] for row in rows()] == ["truncated"]


def test_a_transform_added_later_ends_episodes_as_truncated():
    recorder = VideoRecorder(CSVLogger("run", video_format="mkv"), "video", make_grid=False, dump_on_done=True)
    env = TransformedEnv(EpisodesEnv([[9]] * 2), Compose(recorder))
    env.rollout(2)
    env.append_transform(StepCounter(max_steps=3))
    env.rollout(4, break_when_any_done=False)
    assert [row["ended"] for row in rows()].count("truncated") == 2


def test_what_passes_by_hand_leaves_the_envs_as_they_are():
    recorder = VideoRecorder(CSVLogger("run", video_format="mkv"), "video", skip=1, make_grid=False, dump_on_done=True)
    env = TransformedEnv(EpisodesEnv([[4]] * 2), recorder)
    td = env.reset()
    for _ in range(4):
        td = step_mdp(env.step(env.rand_action(td)))
        recorder(TensorDict({"pixels": torch.zeros(2, 3, 24, 32, 3, dtype=torch.uint8)}, [2, 3]))
    assert {name.rpartition("_")[0]: numbers for name, numbers in found().items() if "env" in name} == {
        f"video_env{env_id}_ep0": numbers(env_id, 0, range(5)) for env_id in (0, 1)
    }


def test_dump_on_done_and_make_grid_may_be_set_later():
    recorder = VideoRecorder(CSVLogger("run", video_format="mkv"), "video", skip=1, make_grid=False)
    env = TransformedEnv(EpisodesEnv([[2]] * 2), recorder)
    recorder.dump_on_done = True
    env.rollout(2)
    assert {name.rpartition("_")[0] for name in found()} == {"video_env0_ep0", "video_env1_ep0"}
    recorder.make_grid = True
    env.rollout(2)
    assert {name.rpartition("_")[0] for name in found()} == {"video_env0_ep0", "video_env1_ep0", "video"}


def test_a_clip_of_step_trigger_ends_with_a_dump():
    recorder = VideoRecorder(
        CSVLogger("run", video_format="mkv"), "video", skip=1, step_trigger=lambda step: step == 0, max_frames=10
    )
    env = TransformedEnv(EpisodesEnv([[99]], batch_size=()), recorder)
    td = env.reset()
    for step in range(30):
        td = step_mdp(env.step(env.rand_action(td)))
        if step == 4:
            assert recorder.dump().frames == 5
    assert recorder.dump() is None


def test_frames_beyond_max_frames_are_counted_over_episodes():
    recorder = record(EpisodesEnv([[6]], batch_size=()), 12, make_grid=False, dump_on_done=True, max_frames=3)
    with pytest.warns(VidrecWarning, match="8 frames of 'video' came after max_frames=3"):
        recorder.dump()


@pytest.mark.parametrize("env_ids", [[True, False], True])
def test_envs_are_numbers_and_no_flags(env_ids):
    with pytest.raises(SettingError, match="must be the numbers of envs"):
        VideoRecorder(CSVLogger("run"), "video", env_ids=env_ids)


def test_envs_may_come_as_an_array_or_a_tensor():
    for env_ids in (torch.tensor([0, 2]), torch.tensor([0, 2]).numpy(), range(0, 3, 2)):
        recorder = record(EpisodesEnv([[9]] * 3), 1, KeepLogger(), make_grid=False, env_ids=env_ids)
        recorder.dump()
        assert [call[0] for call in recorder.logger.calls] == ["video_env0", "video_env2"]


def test_a_frame_that_is_nan_all_over_is_left_out_of_the_video_of_its_env_alone():
    def drawn(number, env_id):
        frame = numbered(number).float() / 255
        return frame * float("nan") if (number, env_id) == (2, 1) else frame

    env = TransformedEnv(
        PixelsEnv((4,), frame=drawn), VideoRecorder(CSVLogger("run"), "video", make_grid=False, env_ids=[0, 1], skip=1)
    )
    env.rollout(3)
    env.transform.dump()
    assert found() == {"video_env0_0.mp4": [0, 1, 2, 3], "video_env1_0.mp4": [0, 1, 3]}

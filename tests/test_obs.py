"""`recorder.obs` is the list that it is in TorchRL, and the env may be closed before the video is dumped."""

import copy
from pathlib import Path

import pytest
import torch
import torchrl.record
from conftest import product, since_torchrl
from numbered_frames import numbered, numbers_in, read_number, rows
from torch import nn
from torchrl.envs import Compose, TransformedEnv
from torchrl.envs.transforms import FrameSkipTransform, NoopResetEnv
from worlds import KeepLogger, PixelsEnv

import vidrec
from vidrec import CSVLogger, FrameError, TensorboardLogger, VideoRecorder

LOGGERS = {
    "csv": lambda: CSVLogger("run", video_format="mkv"),
    "pt": lambda: CSVLogger("run", video_format="pt"),
    "tensors": KeepLogger,
    "none": lambda: None,
}


@pytest.fixture(params=LOGGERS)
def world(request):
    """An env and its recorder, once for each kind of clip, and once for TorchRL's own recorder."""
    recorder = VideoRecorder(LOGGERS[request.param](), "video", skip=1)
    return TransformedEnv(PixelsEnv(), recorder), recorder


def shown(frames):
    return [read_number(frame.permute(1, 2, 0)) for frame in frames]


# the list


def test_obs_is_a_list_in_all_that_is_done_with_it(world):
    env, recorder = world
    env.rollout(3)
    obs = recorder.obs
    assert type(obs) is list
    assert torch.stack(obs).shape == torch.stack(recorder.obs).shape == (4, 3, 48, 64)
    assert shown(obs + obs) == shown(copy.copy(obs)) * 2 == [0, 1, 2, 3] * 2
    assert shown(obs.copy()) == shown(obs[:]) == shown([*reversed(obs)])[::-1] == [0, 1, 2, 3]
    assert (obs[1] == recorder.obs[1]).all()
    assert all(frame.dtype == torch.uint8 for frame in obs)
    assert nn.utils.rnn.pad_sequence(obs).shape == (3, 4, 48, 64)  # a function in C


def test_a_list_grows_with_the_video_and_keeps_its_frames_over_the_dump(world):
    env, recorder = world
    before = recorder.obs
    env.rollout(1)
    between = recorder.obs
    assert between is before
    env.rollout(2)
    recorder.dump()
    env.rollout(3)
    assert shown(before) == [0, 1, 2, 3, 4]
    assert shown(recorder.obs) == [5, 6, 7, 8]
    assert recorder.obs is not before


def test_a_list_that_is_asked_for_late_costs_no_frame(tmp_path):
    env, recorder = _recorded()
    env.rollout(5)
    late = recorder.obs
    env.rollout(2)
    video = recorder.dump()
    assert shown(late) == numbers_in(video.path) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert [path.name for path in video.path.parent.iterdir()] == ["video_0.mkv"]


def _recorded(batch=(), **kwargs):
    recorder = VideoRecorder(CSVLogger("run", video_format="mkv"), "video", **{"skip": 1, **kwargs})
    return TransformedEnv(PixelsEnv(batch), recorder), recorder


def other(number):
    return numbered(number).permute(2, 0, 1)


CHANGES = {
    "append": lambda obs: obs.append(other(77)),
    "extend": lambda obs: obs.extend([other(77), other(78)]),
    "insert": lambda obs: obs.insert(0, other(77)),
    "pop": lambda obs: obs.pop(),
    "pop the first": lambda obs: obs.pop(0),
    "del": lambda obs: obs.__delitem__(slice(1, 3)),
    "clear": lambda obs: obs.clear(),
    "reverse": lambda obs: obs.reverse(),
    "replace": lambda obs: obs.__setitem__(1, other(77)),
    "draw over": lambda obs: obs[1].copy_(other(77)),
    "swap": lambda obs: obs.__setitem__(slice(0, 2), obs[1::-1]),
}


@product(change=CHANGES, when=["before", "after"])
def test_what_is_done_to_the_list_is_in_the_video_as_with_torchrl(when, change):
    env, recorder = _recorded()
    logger = KeepLogger()
    reference = torchrl.record.VideoRecorder(logger, "video", skip=1)
    twin = TransformedEnv(PixelsEnv(), reference)
    for one, each in ((env, recorder), (twin, reference)):
        one.rollout(3)
        CHANGES[change](each.obs)
        if when == "before":
            one.rollout(2)
    video = recorder.dump()
    reference.dump()
    expected = [shown(tensor[0]) for tensor in logger.videos]
    got = [] if video is None else [numbers_in(video.path)]
    assert got == expected
    assert sum(path.stat().st_size > 0 for path in Path("csv_logs/run").rglob("*.mkv")) == len(got)
    assert not list(Path("csv_logs/run").rglob("*.part-*"))


@pytest.mark.parametrize("change", [list, lambda obs: obs[1:], lambda obs: [], lambda obs: obs + obs], ids=range(4))
def test_a_list_that_is_assigned_takes_the_place_of_the_other_and_counts_for_no_skip(change):
    loggers, recorders = (KeepLogger(), KeepLogger()), []
    for logger, module in zip(loggers, (vidrec, torchrl.record), strict=True):
        recorder = module.VideoRecorder(logger, "video", skip=2)
        env = TransformedEnv(PixelsEnv(), recorder)
        env.rollout(6)
        recorder.obs = change(recorder.obs)
        env.rollout(6)
        recorder.dump()
        recorders.append(recorder)
    assert shown(loggers[0].videos[0][0]) == shown(loggers[1].videos[0][0])


def test_a_list_that_is_assigned_leaves_the_videos_of_other_envs():
    env, recorder = _recorded(batch=(3,), make_grid=False)
    env.rollout(3)
    recorder.obs = recorder.obs[1:]
    recorder.dump()
    assert {row["file"].split("_")[1]: row["frames"] for row in rows()} == {"env0": "3", "env1": "4", "env2": "4"}
    env.rollout(3)
    recorder.obs = []
    assert recorder.dump() is None


def test_frames_appended_to_an_empty_list_are_a_video():
    _, recorder = _recorded()
    recorder.obs.append(other(5))
    recorder.obs += [other(6)]
    assert numbers_in(recorder.dump().path) == [5, 6]


def test_a_list_that_is_no_video_is_refused_and_can_be_mended():
    env, recorder = _recorded()
    env.rollout(2)
    recorder.obs.append(torch.zeros(3, 8, 8, dtype=torch.uint8))
    with pytest.raises(FrameError):
        recorder.dump()
    recorder.obs.pop()
    assert numbers_in(recorder.dump().path) == [0, 1, 2]


# closed before it is dumped


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("kwargs", [{}, {"make_grid": False}, {"dump_on_done": True}, {"skip": 2}], ids=str)
def test_an_env_that_is_reset_closed_and_used_again_makes_no_video_of_the_reset(steps, batch, kwargs):
    recorder = VideoRecorder(CSVLogger("run", video_format="mkv"), "video", **{"skip": 1, **kwargs})
    env = TransformedEnv(PixelsEnv(batch), recorder)
    env.reset()
    env.close()
    assert not Path("csv_logs/run/videos.csv").exists()
    assert not list(Path("csv_logs/run/videos").rglob("*.*"))
    if steps:
        env.rollout(steps)
        env.close()
        assert {row["frames"] for row in rows()} == {str((steps + 1) // recorder.skip)}


def test_a_video_of_resets_alone_is_there_when_it_is_dumped():
    env, recorder = _recorded()
    env.reset()
    assert numbers_in(recorder.dump().path) == [0]
    for _ in range(3):
        env.reset()
    env.close()
    assert [row["frames"] for row in rows()] == ["1", "3"]


@pytest.mark.parametrize(
    ("suffix", "step", "name"),
    [
        ("final", 1000, "video_final_1000"),
        ("final", None, "video_final_0"),
        (None, 7, "video_7"),
        (None, None, "video_0"),
    ],
)
def test_a_dump_after_close_gives_the_video_its_name(suffix, step, name):
    env, recorder = _recorded()
    env.rollout(3)
    env.close()
    [row] = rows()
    assert row["file"] == "videos/video_0.mkv"  # whole, and where one looks for it
    recorder.dump(suffix, step)
    [row] = rows()
    assert row["file"] == f"videos/{name}.mkv"
    [path] = CSVLogger("run").experiment._videos.iterdir()
    assert (path.stem, numbers_in(path)) == (name, [0, 1, 2, 3])
    env.rollout(1)
    assert numbers_in(recorder.dump("more").path) == [4, 5]


def test_what_was_closed_keeps_its_name_once_the_env_is_used_again():
    env, recorder = _recorded()
    env.rollout(3)
    env.close()
    env.rollout(1)
    recorder.dump("final", 1000)
    assert [row["file"] for row in rows()] == ["videos/video_0.mkv", "videos/video_final_1000.mkv"]


def test_every_env_of_a_batch_is_renamed():
    recorder = VideoRecorder(CSVLogger("run", video_format="mkv"), "video", skip=1, make_grid=False)
    env = TransformedEnv(PixelsEnv((2,)), recorder)
    env.rollout(3)
    env.close()
    recorder.dump("final", 9)
    assert {row["file"] for row in rows()} == {f"videos/video_env{env_id}_final_9.mkv" for env_id in range(2)}


def test_tensorboard_shows_it_under_the_name_that_follows_as_well():
    from test_tensorboard import images, left

    logger = TensorboardLogger("run")
    env = TransformedEnv(PixelsEnv(), VideoRecorder(logger, "video", skip=1))
    env.rollout(3)
    env.close()
    assert list(images()) == ["video"]
    env.transform.dump("final", 1000)
    found = images()
    assert [(tag, [step for step, _ in entries]) for tag, entries in found.items()] == [
        ("video", [0]),
        ("video_final", [1000]),
    ]
    assert found["video"][0][1] == found["video_final"][0][1]
    assert left() == []


def test_frames_in_memory_stay_over_close_as_in_torchrl():
    calls = {}
    for module in (torchrl.record, vidrec):
        logger = KeepLogger()
        recorder = module.VideoRecorder(logger, "video", skip=1)
        env = TransformedEnv(PixelsEnv(), recorder)
        env.rollout(3)
        env.close()
        recorder.dump("final", 1000)
        calls[module] = logger.calls
    [(name, video, step, _)], [(reference_name, reference, reference_step, _)] = calls.values()
    assert (name, step) == (reference_name, reference_step) == ("video_final", 1000)
    assert (video == reference).all()


@since_torchrl("0.13")
def test_without_a_logger_frames_stay_for_the_animation():
    pytest.importorskip("matplotlib").use("agg")
    recorder = VideoRecorder(None, None, skip=1)
    env = TransformedEnv(PixelsEnv(), recorder)
    env.rollout(3)
    env.close()
    assert shown(recorder.obs) == [0, 1, 2, 3]
    assert recorder.to_animation() is not None


@pytest.mark.parametrize("transform", [lambda: FrameSkipTransform(3), lambda: NoopResetEnv(4, random=False)])
def test_no_copy_holds_frames_that_nobody_can_reach(transform):
    import gc

    from vidrec.recording.recording import Recording

    recorder = VideoRecorder(None, None, skip=1)
    env = TransformedEnv(PixelsEnv(), Compose(recorder, transform()))
    for _ in range(5):
        env.rollout(4)
        recorder.obs.clear()
        recorder.dump()
    gc.collect()
    held = [item for item in gc.get_objects() if type(item) is Recording]
    assert sum(stream.frames for recording in held for stream in recording.streams.values()) == 0

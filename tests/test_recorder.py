"""The recorder under TorchRL: which frames reach the file, and what becomes of the data."""

import copy
import functools
import io
import pickle
import threading
import warnings
from fractions import Fraction
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
import torchrl.record
from conftest import BATCHED, ENCODED, product, require, since_torchrl
from numbered_frames import decode, numbered, numbers_in, read_number, rows
from PIL import Image
from tensordict import NonTensorData, NonTensorStack, TensorDict
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, ReplayBuffer
from torchrl.envs import (
    Compose,
    EnvCreator,
    GymEnv,
    ParallelEnv,
    StepCounter,
    TransformedEnv,
    check_env_specs,
)
from torchrl.envs.transforms import FrameSkipTransform, NoopResetEnv
from worlds import FailingLogger, KeepLogger, PixelsEnv

from vidrec import (
    CSVLogger,
    FrameError,
    PixelRenderTransform,
    SettingError,
    TagError,
    TeeLogger,
    Video,
    VideoRecorder,
    VidrecWarning,
)


def record(env, *transforms, **kwargs):
    """Return `env` under a recorder into a CSV logger, and the recorder."""
    kwargs = {"skip": 1, **kwargs}
    recorder = VideoRecorder(CSVLogger("run", video_format=kwargs.pop("video_format", "mp4")), "video", **kwargs)
    return TransformedEnv(env, Compose(recorder, *transforms) if transforms else recorder), recorder


def videos(exp_name="run", pattern="*"):
    return sorted(Path("csv_logs", exp_name, "videos").rglob(pattern))


# every frame exactly once


@product(video_format=[*ENCODED, "pt", "memmap"], fps=[24, 25, "30000/1001", 30, 50, 60])
def test_a_rollout_of_numbered_frames_comes_back_complete_and_in_order(video_format, fps):
    env, recorder = record(PixelsEnv(), video_format=video_format, fps=fps)
    first = 0
    for length in (1, 2, 3, 17, 400):
        env.reset() if length == 1 else env.rollout(length - 1)
        video = recorder.dump()
        if video_format == "memmap":  # which no other program reads
            numbers = [read_number(frame) for frame in video.iter_frames()]
        else:
            numbers = numbers_in(video.path)
        assert numbers == list(range(first, first + length))
        assert (video.frames, video.fps, video.seconds) == (
            length,
            Fraction(fps),
            pytest.approx(length / Fraction(fps)),
        )
        first += length
    assert len(videos()) == 5


@pytest.mark.parametrize(
    "lengths",
    [[*range(1, 9), 40, 173, 400], pytest.param([*range(1, 40), *range(40, 400, 19), 400], marks=pytest.mark.long)],
    ids=["some", "all"],
)
def test_every_length_up_to_400_is_whole(lengths):
    env, recorder = record(PixelsEnv(frame=lambda number, env_id: numbered(number % 4096)), preset="ultrafast", scale=1)
    first = 0
    for length in lengths:
        env.reset() if length == 1 else env.rollout(length - 1)
        assert numbers_in(recorder.dump().path) == [number % 4096 for number in range(first, first + length)]
        first += length


@pytest.mark.parametrize(("skip", "kept"), [(None, [1, 3, 5]), (1, [0, 1, 2, 3, 4, 5, 6]), (2, [1, 3, 5]), (3, [2, 5])])
def test_the_reset_offers_the_first_frame_and_skip_keeps_the_last_of_each_group(skip, kept):
    env, recorder = record(PixelsEnv(), skip=skip)
    env.rollout(6)
    assert recorder.count == 7
    assert numbers_in(recorder.dump().path) == kept
    assert recorder.count == 0


@pytest.mark.parametrize("skip", [1, 2, 3, 7])
def test_skip_counts_along_the_batches_of_a_dataset(skip):
    recorder = VideoRecorder(CSVLogger("run"), "video", in_keys=[("next", "image")], skip=skip)
    numbers = iter(range(10**6))
    for size in (5, 1, 4, 10):
        images = torch.stack([numbered(next(numbers)) for _ in range(size)])
        data = TensorDict({"next": {"image": images}}, [size])
        assert recorder(data) is data
    assert numbers_in(recorder.dump().path) == list(range(20))[skip - 1 :: skip]


def test_max_frames_bounds_the_clip_and_says_once_what_is_beyond():
    env, recorder = record(PixelsEnv(), max_frames=4)
    env.rollout(9)
    with pytest.warns(VidrecWarning, match="6 frames of 'video' came after max_frames=4") as caught:
        video = recorder.dump()
    assert len(caught) == 1
    assert numbers_in(video.path) == [0, 1, 2, 3]
    env.rollout(2)
    assert numbers_in(recorder.dump().path) == [10, 11, 12]


def test_checking_specs_records_its_rollout_and_a_fake_tensordict_nothing():
    env, recorder = record(PixelsEnv())
    env.fake_tensordict()
    assert recorder.count == 0
    check_env_specs(env)
    assert recorder.count == 4  # a reset and three steps
    env.reset()
    env.rollout(2)
    assert numbers_in(recorder.dump().path) == list(range(8))


# the data


def test_the_data_passes_through_as_the_same_object():
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)
    pixels = numbered(5)
    data = TensorDict({"pixels": pixels, "other": torch.zeros(3)})
    assert recorder._call(data) is data
    assert data["pixels"] is pixels
    assert (pixels == numbered(5)).all()
    assert recorder._apply_transform(pixels) is pixels
    recorder.dump()


@pytest.mark.parametrize("key", ["pixels", ("agents", "pixels")])
def test_nested_keys_are_read_and_specs_hold(key):
    env, recorder = record(PixelsEnv(key=key), in_keys=[key])
    check_env_specs(env)
    recorder.dump()
    rollout = env.rollout(3)
    assert numbers_in(recorder.dump().path) == [4, 5, 6, 7]
    assert rollout["next", key].shape == (3, 48, 64, 3) if isinstance(key, str) else (3, 48, 64, 3)


def test_a_missing_key_is_a_key_error_unless_it_is_tolerated():
    recorder = VideoRecorder(CSVLogger("run"), "video")
    with pytest.raises(
        KeyError, match=r"no entry 'pixels' to record; there are 'image'\. Pixels come with from_pixels="
    ):
        recorder(TensorDict({"image": numbered(0)}))
    recorder.set_missing_tolerance(True)
    recorder(TensorDict({"image": numbered(0)}))
    assert recorder.dump() is None


@pytest.mark.parametrize(
    "data",
    [
        numbered(9).numpy()[::-1, ::-1].copy()[::-1, ::-1],
        NonTensorData(numbered(9).numpy()),
        NonTensorData([numbered(9).numpy()]),
        NonTensorStack(NonTensorData(numbered(9).numpy())),
        numbered(9).permute(2, 0, 1),
        numbered(9)[..., :1],
        numbered(9)[..., 0],
        numbered(9).bool(),
        numbered(9).float() / 255,
        (numbered(9) / 255).bfloat16(),
        numbered(9).to(torch.int32),
        NonTensorData(Image.fromarray(numbered(9).numpy()).convert("RGBA")),
    ],
    ids=lambda data: f"{type(data).__name__}-{getattr(data, 'dtype', '')}-{tuple(getattr(data, 'shape', ()))}",
)
def test_frames_are_taken_in_any_form(data):
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)
    if isinstance(data, np.ndarray):
        recorder._apply_transform(data)
    else:
        td = TensorDict({}, [1] if isinstance(data, NonTensorStack) else [])
        recorder(td.set("pixels", data))
    assert numbers_in(recorder.dump().path) == [9]


def test_a_refused_frame_names_its_key_shape_and_dtype_and_leaves_the_clip_as_it_was():
    recorder = VideoRecorder(CSVLogger("run"), "video", in_keys=[("a", "b")])
    for number, bad in enumerate([torch.full((48, 64, 3), 1.2), torch.zeros(48, 64, 2), torch.zeros(0, 64, 3)]):
        recorder(TensorDict({"a": {"b": numbered(number)}}))
        shape = str(tuple(bad.shape))[1:-1]
        with pytest.raises(FrameError, match=rf"\('a', 'b'\) of shape .*{shape}.*float32"):
            recorder(TensorDict({"a": {"b": bad}}))
    assert numbers_in(recorder.dump().path) == [0, 1, 2]


def test_layout_says_what_the_shape_does_not():
    logger = KeepLogger()
    stack = torch.stack([numbered(number)[..., 0] for number in range(4)])
    VideoRecorder(logger, "rgba", layout="CHW")._apply_transform(stack)
    with pytest.raises(FrameError, match="no axis of 1, 3 or 4 channels; say which with layout="):
        VideoRecorder(logger, "stack")._apply_transform(torch.cat([stack, stack, stack]))
    recorder = VideoRecorder(CSVLogger("run"), "video", layout="NHW")
    recorder._apply_transform(stack)
    assert numbers_in(recorder.dump().path) == [0, 1, 2, 3]


# real sources of frames


@BATCHED
@pytest.mark.parametrize("inside", [True, False])
def test_frames_rendered_inside_and_outside_of_a_batched_env(batched, inside):
    require("gymnasium", "pygame")

    def make_env():
        env = GymEnv("CartPole-v1", render_mode="rgb_array")
        return env.append_transform(PixelRenderTransform()) if inside else env

    env = batched(2, EnvCreator(make_env))
    env.reset()
    if not inside:
        env = env.append_transform(PixelRenderTransform())
    env = env.append_transform(VideoRecorder(CSVLogger("run"), "video", skip=1))
    try:
        if inside:
            check_env_specs(env)
            env.transform.dump()
        env.rollout(10, break_when_any_done=False)
        env.transform.dump()
    finally:
        env.close()
    assert decode(videos()[-1]).shape == (11, 400, 1200, 3)


def test_a_batch_is_tiled_into_a_grid_whose_cells_are_the_envs():
    env, recorder = record(
        PixelsEnv((3,), frame=lambda number, env_id: numbered(10 * number + env_id)), video_format="mkv"
    )
    env.rollout(2)
    grids = list(recorder.dump().iter_frames())
    cells = [[read_number(grid[y : y + 48, x : x + 64]) for y in (0, 48) for x in (0, 64)] for grid in grids]
    assert cells == [[0, 1, 2, 0], [10, 11, 12, 0], [20, 21, 22, 0]]


@pytest.mark.parametrize("storage_shape", [(), (8,)], ids=["scalars", "batch"])
def test_a_replay_buffer_records_what_it_samples(storage_shape):
    recorder = VideoRecorder(CSVLogger("run"), "video")
    buffer = ReplayBuffer(storage=LazyTensorStorage(32), batch_size=8, transform=recorder)
    buffer.extend(TensorDict({"pixels": torch.stack([numbered(number) for number in range(32)])}, [32]))
    sample = buffer.sample()
    assert numbers_in(recorder.dump().path) == [read_number(frame) for frame in sample["pixels"]]
    assert buffer.state_dict()["_transforms"] == {}


# settings


def test_settings_are_checked_at_construction():
    logger = CSVLogger("run")
    with pytest.raises(SettingError, match="unknown encoder setting 'bitrat'"):
        VideoRecorder(logger, "video", bitrat=3)
    with pytest.raises(SettingError, match="fps=0"):
        VideoRecorder(logger, "video", fps=0)
    for wrong in ({"skip": 0}, {"skip": 2.5}, {"center_crop": -4}, {"center_crop": (3, 0)}, {"center_crop": (3,)}):
        with pytest.raises(SettingError, match=f"{next(iter(wrong))}=.* must be a positive whole number"):
            VideoRecorder(logger, "video", **wrong)
    with pytest.raises(ValueError, match="max_frames=0"):
        VideoRecorder(logger, "video", max_frames=0)
    with pytest.raises(SettingError, match="layout='HWX2'"):
        VideoRecorder(logger, "video", layout="HWX2")
    with pytest.raises(SettingError, match="2 in_keys need as many out_keys"):
        VideoRecorder(logger, "video", in_keys=["a", "b"], out_keys=["c"])
    for tag in ("../video", "/video", "a/../../b", "", None):
        with pytest.raises(TagError, match="name"):
            VideoRecorder(logger, tag)
    assert videos() == []


def test_settings_of_the_recorder_go_before_those_of_the_logger():
    recorder = VideoRecorder(CSVLogger("run", video_fps=12), "video", fps=60, options={"crf": "30", "preset": "faster"})
    recorder._apply_transform(numbered(1))
    video = recorder.dump()
    assert (video.fps, video.encoding.crf, video.encoding.preset) == (60, 30, "faster")
    assert recorder.video_kwargs == {"fps": 60, "options": {"crf": "30", "preset": "faster"}}


def test_settings_that_are_changed_while_a_file_grows_are_those_of_the_next():
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)
    fps = []
    for number in range(2):
        recorder._apply_transform(numbered(number))
        recorder.video_kwargs["fps"] = 7
        fps.append(recorder.dump().fps)
    assert fps == [30, 7]


def test_a_tag_changed_later_is_the_name_and_a_logger_changed_later_gets_the_video():
    recorder = VideoRecorder(CSVLogger("run"), "video")
    recorder.tag = "other/name"
    recorder._apply_transform(numbered(1))
    video = recorder.dump(suffix="end", step=7)
    assert video.path.samefile("csv_logs/run/videos/other/name_end_7.mp4")
    recorder.logger = KeepLogger()
    recorder._apply_transform(numbered(1))
    assert recorder.dump() is None
    assert recorder.logger.calls[0][2] == 1


@pytest.mark.parametrize("before", [None, KeepLogger()], ids=["none", "tensors"])
@pytest.mark.parametrize("later", ["csv", "path", "tensors", "tee"])
def test_frames_in_memory_go_to_the_logger_that_is_set_when_they_are_dumped(before, later):
    keep, csv_logger = KeepLogger(), CSVLogger("run", "videos", video_format="mkv")
    recorder = VideoRecorder(before, "video", skip=1)
    env = TransformedEnv(PixelsEnv(), recorder)
    env.rollout(3)
    recorder.logger = {
        "csv": csv_logger,
        "path": Path("videos/run"),
        "tensors": keep,
        "tee": TeeLogger(csv_logger, keep),
    }[later]
    recorder.dump()
    for folder in ["videos/run/videos"] * (later != "tensors"):
        assert [numbers_in(path) for path in Path(folder).iterdir()] == [[0, 1, 2, 3]]
    for video in keep.videos:
        assert [read_number(frame.permute(1, 2, 0)) for frame in video[0]] == [0, 1, 2, 3]
    assert len(keep.videos) == (later in ("tensors", "tee"))
    assert before is None or before.videos == []
    env.rollout(1)
    recorder.dump()
    assert len(keep.videos) == 2 * (later in ("tensors", "tee"))


def test_a_logger_that_stays_in_another_tee_gets_its_video_once():
    csv_logger, keep = CSVLogger("run", video_format="mkv"), KeepLogger()
    recorder = VideoRecorder(TeeLogger(csv_logger, KeepLogger()), "video", skip=1)
    recorder._apply_transform(numbered(1))
    recorder.logger = TeeLogger(csv_logger, keep)
    recorder.dump()
    assert [numbers_in(path) for path in videos()] == [[1]]
    assert [read_number(video[0, 0].permute(1, 2, 0)) for video in keep.videos] == [1]


@pytest.mark.parametrize("step", [torch.tensor(4), np.int64(4), np.array(4)], ids=["tensor", "number", "array"])
def test_a_step_is_a_whole_number_of_any_kind(step):
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)
    recorder._apply_transform(numbered(1))
    recorder.dump(step=step)
    CSVLogger("run").log_video("other", numbered(2).permute(2, 0, 1)[None], step=step)
    assert [(row["step"], row["file"]) for row in rows()] == [("4", "videos/video_4.mp4"), ("4", "videos/other_4.mp4")]
    recorder._apply_transform(numbered(2))
    for wrong in (2.5, "4", True, torch.tensor(2.5)):
        with pytest.raises(SettingError, match="must be a whole number, such as 1000, or None"):
            recorder.dump(step=wrong)
        with pytest.raises(SettingError, match="must be a whole number"):
            CSVLogger("run").log_video("other", numbered(2).permute(2, 0, 1)[None], step=wrong)
    assert recorder.dump().path.name == "video_5.mp4"


def test_a_logger_that_takes_tensors_is_given_the_step_as_it_is():
    logger = KeepLogger()
    recorder = VideoRecorder(logger, "video", skip=1)
    recorder._apply_transform(numbered(1))
    recorder.dump(step=2.5)
    assert logger.calls[0][2] == 2.5


# dump


def test_dump_names_counts_and_returns_the_video():
    recorder = VideoRecorder(CSVLogger("run"), "video")
    assert recorder.dump() is None
    names = []
    for kwargs in ({}, {"suffix": "end"}, {"step": 70}, {"suffix": "end", "step": 0}, {}):
        recorder._apply_transform(numbered(3))
        video = recorder.dump(**kwargs)
        assert isinstance(video, Video)
        assert numbers_in(video.path) == [3]
        assert video.size == (192, 256)
        names.append(video.path.name)
        assert recorder.dump() is None
    assert names == ["video_0.mp4", "video_end_1.mp4", "video_70.mp4", "video_end_0.mp4", "video_4.mp4"]
    assert recorder.iter == 5


def test_compose_dumps_every_recorder_also_behind_one_that_fails():
    loggers = [KeepLogger(), FailingLogger(), KeepLogger(), CSVLogger("run")]
    env = TransformedEnv(PixelsEnv(), Compose(*(VideoRecorder(logger, "video", skip=1) for logger in loggers)))
    env.rollout(2)
    with pytest.raises(OSError, match="moon") as caught:
        env.transform.dump(step=3)
    assert "kept, in memory; call dump() again" in caught.value.__notes__[0]
    assert [len(logger.calls) for logger in loggers[:3]] == [1, 0, 1]
    assert [path.name for path in videos()] == ["video_3.mp4"]
    env.transform.dump(step=3)
    assert [len(logger.calls) for logger in loggers[:3]] == [1, 1, 1]
    assert [path.name for path in videos()] == ["video_3.mp4"]


def test_compose_in_compose_records_and_dumps_all_also_behind_one_that_fails():
    inner = [VideoRecorder(KeepLogger(), "one", skip=1, make_grid=True), VideoRecorder(FailingLogger(), "two", skip=1)]
    outer = VideoRecorder(KeepLogger(), "three", skip=1, make_grid=True)
    inner[1].make_grid = True
    env = TransformedEnv(PixelsEnv(), Compose(Compose(*inner), outer))
    env.rollout(3)
    with pytest.raises(OSError, match="moon"):
        env.transform.dump()
    assert [video.shape[1] for recorder in (inner[0], outer) for video in recorder.logger.videos] == [4, 4]


def test_a_mocked_logger_gets_a_tensor():
    logger = MagicMock(spec=["open_clip", "log_video"])
    recorder = VideoRecorder(logger, "video")
    recorder._apply_transform(numbered(1))
    recorder.dump(step=3)
    assert logger.log_video.call_args.kwargs["video"].shape == (1, 1, 3, 48, 64)


def test_obs_may_be_read_while_another_thread_records():
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)
    recorder._apply_transform(numbered(0))

    def record():
        for number in range(1, 300):
            recorder._apply_transform(numbered(number))

    thread = threading.Thread(target=record)
    thread.start()
    for _ in range(3):
        seen = [read_number(frame.permute(1, 2, 0)) for frame in recorder.obs]
        assert seen == list(range(len(seen)))
    thread.join()
    assert numbers_in(recorder.dump().path) == list(range(300))


def test_frames_beyond_max_frames_are_not_even_looked_at():
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1, max_frames=1)
    recorder._apply_transform(numbered(1))
    recorder._apply_transform(torch.full((48, 64, 3), torch.nan))
    with pytest.warns(VidrecWarning, match="1 frames"):
        assert recorder.dump().frames == 1


def test_closing_the_env_finishes_what_is_open():
    env, _ = record(PixelsEnv(), StepCounter())
    env.rollout(4)
    env.close()
    assert [numbers_in(path) for path in videos()] == [[0, 1, 2, 3, 4]]


@since_torchrl("0.13")
@pytest.mark.parametrize("logger", [None, KeepLogger(), "csv"], ids=["none", "tensors", "csv"])
def test_to_animation_shows_what_was_recorded_and_recording_goes_on(logger):
    require("matplotlib")
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    recorder = VideoRecorder(CSVLogger("run") if logger == "csv" else logger, "video")

    def shown(animation):
        animation._draw_was_started = True  # what saving it would set; it warns of an animation that nobody saw
        return [read_number(artists[0].get_array()) for artists in animation._framedata]

    with pytest.raises(RuntimeError, match="at least one recorded frame"):
        recorder.to_animation()
    for number in range(3):
        recorder._apply_transform(numbered(number))
    assert shown(recorder.to_animation(title="three")) == [0, 1, 2]
    recorder._apply_transform(numbered(3))
    obs = recorder.obs
    assert len(obs) == 4
    assert shown(recorder.to_animation(clear=True)) == [0, 1, 2, 3]
    assert len(obs) == len(recorder.obs) == recorder.count == 0
    recorder._apply_transform(numbered(4))
    assert shown(recorder.to_animation()) == [4]
    assert plt.get_fignums() == []
    if logger == "csv":
        recorder._apply_transform(numbered(5))
        assert numbers_in(recorder.dump().path) == [4, 5]
    assert videos(pattern="*part*") == []


def test_obs_is_what_torchrl_keeps_and_can_be_set():
    recorder = VideoRecorder(CSVLogger("run", video_format="mkv"), "video")
    for number in range(3):
        recorder._apply_transform(numbered(number))
    assert [frame.shape for frame in recorder.obs] == [(3, 48, 64)] * 3
    assert (recorder.obs[2].permute(1, 2, 0) == numbered(2)).all()
    recorder.obs = [recorder.obs[1]]
    assert numbers_in(recorder.dump().path) == [1]
    recorder._apply_transform(numbered(0))
    recorder.obs = []
    assert recorder.dump() is None


# TorchRL's protocol


def test_it_is_torchrls_recorder_with_torchrls_attributes_and_an_empty_state():
    logger = CSVLogger("run")
    recorder = VideoRecorder(logger, "video", max_frames=9, dump_on_done=True, center_crop=8, fps=3)
    assert isinstance(recorder, torchrl.record.VideoRecorder)
    theirs = torchrl.record.VideoRecorder(logger, "video")
    public = {name for name in vars(theirs) if not name.startswith("_")} - {"training"}
    assert {name for name in public if not hasattr(recorder, name)} == set()
    values = {name: getattr(recorder, name) for name in ("tag", "max_frames", "dump_on_done", "center_crop", "in_keys")}
    assert values == {
        "tag": "video", "max_frames": 9, "dump_on_done": True, "center_crop": 8, "in_keys": ["pixels"]
    }  # fmt: skip
    assert recorder.logger is logger
    assert recorder.state_dict() == theirs.state_dict() == {}
    assert not hasattr(recorder, "load")
    env = TransformedEnv(PixelsEnv(), Compose(recorder, StepCounter()))
    found = []
    env.apply(lambda module: found.append(module) if isinstance(module, torchrl.record.VideoRecorder) else None)
    assert found == [recorder]


def copies(recorder):
    stream = io.BytesIO()
    torch.save(recorder, stream)
    stream.seek(0)
    return {
        "clone": recorder.clone(),
        "deepcopy": copy.deepcopy(recorder),
        "pickle": pickle.loads(pickle.dumps(recorder)),
        "torch.save": torch.load(stream, weights_only=False),
    }


@pytest.mark.parametrize("way", ["clone", "deepcopy", "pickle", "torch.save"])
def test_a_copy_records_for_itself_and_the_original_finishes_it(way):
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)
    recorder._apply_transform(numbered(1))
    other = copies(recorder)[way]
    grandchild = copies(other)[way]
    assert (other.count, len(other.obs)) == (0, 0)
    for number in (10, 11):
        other._apply_transform(numbered(number))
    grandchild._apply_transform(numbered(20))
    recorder._apply_transform(numbered(2))
    assert numbers_in(other.dump(suffix="other").path) == [20]
    assert [numbers_in(video.path) for video in other.videos] == [[10, 11], [20]]  # its own, and the grandchild's
    other._apply_transform(numbered(12))
    assert numbers_in(recorder.dump().path) == [12]
    assert [numbers_in(video.path) for video in recorder.videos] == [[10, 11], [20], [1, 2], [12]]
    assert [numbers_in(path) for path in videos()] == [[1, 2], [12], [10, 11], [20]]
    assert recorder.iter == other.iter == 4
    assert other.dump() is None


def test_a_copy_of_a_copy_that_is_gone_is_finished_by_the_original():
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)
    grandchild = recorder.clone().clone()
    grandchild._apply_transform(numbered(5))
    assert numbers_in(recorder.dump().path) == [5]
    assert grandchild.dump() is None


def test_a_copy_that_is_gone_is_finished_by_the_original():
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)
    other = recorder.clone()
    other._apply_transform(numbered(5))
    del other
    assert numbers_in(recorder.dump().path) == [5]


@pytest.mark.filterwarnings("ignore:Nested TransformedEnvs")
def test_the_users_recorder_dumps_what_a_collector_recorded_again_and_again():
    env, recorder = record(PixelsEnv(horizon=5))
    collector = Collector(env, frames_per_batch=6, total_frames=18, max_frames_per_traj=4)
    dumped = [recorder.dump() for _ in collector]
    collector.shutdown()
    assert [video.path.name for video in dumped] == [path.name for path in videos()]  # the last is of the close
    assert [path.name for path in videos()] == ["video_0.mp4", "video_1.mp4", "video_2.mp4"]
    seen = [number for path in videos() for number in numbers_in(path)]
    assert seen == list(range(seen[0], seen[0] + len(seen)))


@since_torchrl("0.14")
@pytest.mark.filterwarnings("ignore:Nested TransformedEnvs", "ignore:trajs_per_batch")
@pytest.mark.parametrize("backend", ["thread", "process"])
def test_an_evaluator_dumps_a_video_for_each_evaluation(backend):
    from torchrl.collectors import Evaluator

    def make_env():
        return record(PixelsEnv(horizon=5))[0]

    evaluator = Evaluator(
        make_env, None if backend == "process" else lambda td: td.set("action", torch.zeros(1)),
        policy_factory=(lambda: lambda td: td.set("action", torch.zeros(1))) if backend == "process" else None,
        num_trajectories=1, max_steps=5, backend=backend, dump_video=True,
    )  # fmt: skip
    try:
        for step in (0, 100):
            evaluator.evaluate(step=step)
    finally:
        evaluator.shutdown()
    assert {"video_0.mp4", "video_100.mp4"} <= {path.name for path in videos()}
    assert not any("worker" in path.name for path in videos())
    assert all(len(numbers_in(path)) >= 6 for path in videos(pattern="video_*0.mp4"))


def test_a_worker_side_recorder_finishes_its_videos_when_the_env_is_closed():
    def make_env(worker):
        recorder = VideoRecorder(CSVLogger(f"worker{worker}"), "video", skip=1)
        return TransformedEnv(PixelsEnv(), recorder)

    makers = [EnvCreator(functools.partial(make_env, worker)) for worker in range(2)]
    env = ParallelEnv(2, makers, mp_start_method="fork")
    env.rollout(5)
    env.close()
    for worker in range(2):
        assert [numbers_in(path) for path in videos(f"worker{worker}", "*.mp4")] == [list(range(6))]


@pytest.mark.parametrize("wrap", [EnvCreator, lambda make: make])
def test_an_env_that_is_made_to_read_its_specs_has_no_video(wrap):
    def make_env():
        return record(PixelsEnv())[0]

    env = ParallelEnv(2, wrap(make_env), mp_start_method="fork")
    assert videos() == []
    env.rollout(2)
    env.close()
    assert [numbers_in(path) for path in videos(pattern="*.mp4")] == [[0, 1, 2]] * 2


def test_recording_stays_out_of_the_graph_of_torch_compile():
    torch._dynamo.reset()
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=2)
    compiled = torch.compile(lambda td: recorder(td).get("pixels") + 1, backend="eager")
    counts = torch._dynamo.utils.counters
    counts.clear()
    for number in range(40):
        compiled(TensorDict({"pixels": numbered(number)}))
    assert numbers_in(recorder.dump().path) == list(range(1, 40, 2))
    assert counts["stats"]["unique_graphs"] <= 3
    assert not counts["recompiles"]


def test_what_a_transform_that_steps_its_parent_sees_is_in_the_same_video():
    env, recorder = record(PixelsEnv(), FrameSkipTransform(3))
    env.rollout(3)
    recorder.dump()
    assert [numbers_in(path) for path in videos()] == [list(range(10))]


@pytest.mark.parametrize("theirs", [True, False])
def test_the_steps_of_noops_are_in_the_video_of_each_dump_and_in_torchrls_of_the_first_only(theirs):
    logger = KeepLogger()
    recorder = (torchrl.record.VideoRecorder if theirs else VideoRecorder)(logger, "video", skip=1)
    env = TransformedEnv(PixelsEnv(), Compose(recorder, NoopResetEnv(3, random=False)))
    for _ in range(2):
        env.rollout(4)
        recorder.dump()
    seen = [[read_number(frame.permute(1, 2, 0)) for frame in video[0]] for video in logger.videos]
    assert seen == [list(range(8)), [8, 12, 13, 14, 15] if theirs else list(range(8, 16))]


def test_in_inference_mode_and_with_gradients_frames_are_recorded_all_the_same():
    recorder = VideoRecorder(CSVLogger("run"), "video")
    with torch.inference_mode():
        recorder._apply_transform(numbered(1).clone())
        recorder.dump()
    recorder._apply_transform((numbered(2) / 255).requires_grad_())
    assert numbers_in(recorder.dump().path) == [2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_frames_on_a_cuda_device_are_recorded():
    recorder = VideoRecorder(CSVLogger("run"), "video", make_grid=True)
    recorder._apply_transform(torch.stack([numbered(1), numbered(2)]).cuda())
    recorder._apply_transform(torch.stack([numbered(1), numbered(2)]).cuda().float() / 255)
    assert recorder.dump().frames == 2


def test_no_warning_comes_from_importing_and_constructing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VideoRecorder(CSVLogger("run"), "video")
        VideoRecorder(None, None)

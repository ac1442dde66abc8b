"""Ours beside TorchRL's: equal where nothing else was intended, and each intended difference by name.

`docs/differences.md` lists the tests of the second half.
"""

import pytest
import torch
import torchrl.record
from conftest import since_torchrl
from tensordict import TensorDict
from torchrl.envs import Compose, StepCounter, TransformedEnv
from worlds import FailingLogger, KeepLogger, PixelsEnv, random_frames

from vidrec import FrameError, VideoRecorder

LAYOUTS = {"HWC": (6, 8, 3), "CHW": (3, 6, 8), "HW1": (6, 8, 1), "1HW": (1, 6, 8)}

# before, TorchRL's grids are torchvision's, with a margin of two pixels around each frame
GRID = since_torchrl("0.14")


def both(env, steps=11, dumps=1, rollout=None, **kwargs):
    """Record the same rollouts by TorchRL's recorder and ours; return what their loggers were given."""
    theirs, ours = KeepLogger(), KeepLogger()
    recorders = [torchrl.record.VideoRecorder(theirs, "tag", **kwargs), VideoRecorder(ours, "tag", **kwargs)]
    env = TransformedEnv(env, Compose(*recorders))
    for _ in range(dumps):
        env.rollout(steps, **(rollout or {}))
        env.transform.dump()
    return theirs.calls, ours.calls


def assert_equal(theirs, ours):
    assert [(name, step, kwargs) for name, _, step, kwargs in ours] == [
        (name, step, kwargs) for name, _, step, kwargs in theirs
    ]
    for (_, their_video, *_), (_, our_video, *_) in zip(theirs, ours, strict=True):
        assert our_video.dtype == their_video.dtype == torch.uint8
        assert our_video.shape == their_video.shape
        assert (our_video == their_video).all()


@pytest.mark.parametrize(
    ("batch_size", "make_grid"),
    [
        *[((), None), ((), False)],
        *[
            pytest.param(*case, marks=GRID)
            for case in [((1,), None), ((3,), None), ((4,), True), ((7,), None), ((2, 3), None)]
        ],
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "layout", ["HWC", "CHW", *(pytest.param(grey, marks=since_torchrl("0.13")) for grey in ("HW1", "1HW"))]
)
@pytest.mark.parametrize("skip", [None, 1, 3])
def test_a_rollout_gives_the_same_tensors_as_torchrl(batch_size, layout, skip, make_grid):
    env = PixelsEnv(batch_size, frame=random_frames(*LAYOUTS[layout]))
    theirs, ours = both(env, dumps=2, skip=skip, make_grid=make_grid, fps=12)
    assert len(ours) == 2
    assert_equal(theirs, ours)


@pytest.mark.parametrize("make_grid", [None, pytest.param(True, marks=GRID)])
@pytest.mark.parametrize("shape", [(5, 6, 8, 3), (2, 5, 3, 6, 8), (6, 8, 3)], ids=str)
def test_a_dataset_batch_gives_the_same_tensors_as_torchrl(make_grid, shape):
    frame = random_frames(*shape)
    theirs, ours = KeepLogger(), KeepLogger()
    recorders = [
        recorder(logger, "tag", in_keys=[("next", "image")], make_grid=make_grid)
        for recorder, logger in ((torchrl.record.VideoRecorder, theirs), (VideoRecorder, ours))
    ]
    for recorder in recorders:
        for i in range(3):
            recorder(TensorDict({"next": {"image": frame(i, 0)}}))
        recorder.dump()
    assert_equal(theirs.calls, ours.calls)


@since_torchrl("0.14")
@pytest.mark.parametrize("kwargs", [{"max_frames": 5}, {"max_frames": 5, "skip": 2}], ids=str)
@pytest.mark.filterwarnings("ignore:.*max_frames")
def test_max_frames_keeps_the_same_frames_as_torchrl(kwargs):
    assert_equal(*both(PixelsEnv((3,), frame=random_frames(6, 8, 3)), dumps=2, **{"skip": 1, **kwargs}))


@since_torchrl("0.14")
def test_dump_on_done_dumps_at_the_same_steps_as_torchrl():
    theirs, ours = both(
        PixelsEnv((2,), horizon=4, frame=random_frames(6, 8, 3)),
        steps=14,
        dump_on_done=True,
        rollout={"break_when_any_done": False},
    )
    assert len(ours) == 4
    assert_equal(theirs, ours)


def test_center_crop_is_the_middle_as_torchvision_cuts_it():
    # torchvision's offset is int(round((size - crop) / 2)), in Python, which rounds halves to even
    for side in range(6, 12):
        for crop in range(1, 7):
            logger = KeepLogger()
            frame = random_frames(side, side + 1, 3)(0, 0)
            recorder = VideoRecorder(logger, "tag", center_crop=crop)
            recorder._apply_transform(frame)
            recorder.dump()
            top, left = round((side - crop) / 2), round((side + 1 - crop) / 2)
            expected = frame[top : top + crop, left : left + crop].permute(2, 0, 1)
            assert (logger.videos[0][0, 0] == expected).all()


# the differences


def test_grey_frames_without_channels_have_three_in_the_video():
    theirs, ours = both(PixelsEnv(frame=random_frames(6, 8)), skip=1)
    assert theirs[0][1].shape == (1, 12, 1, 6, 8)
    assert ours[0][1].shape == (1, 12, 3, 6, 8)
    assert (theirs[0][1] == ours[0][1]).all()


def test_a_frame_that_is_drawn_over_in_place_stays_as_it_was():
    canvas = torch.zeros(6, 8, dtype=torch.uint8)
    theirs, ours = KeepLogger(), KeepLogger()
    for recorder in (torchrl.record.VideoRecorder(theirs, "tag"), VideoRecorder(ours, "tag")):
        for value in (1, 2):
            recorder._apply_transform(canvas.fill_(value))
        recorder.dump()
    assert theirs.videos[0].unique().tolist() == [2]
    assert ours.videos[0][0, :, 0, 0, 0].tolist() == [1, 2]


def test_floats_are_scaled_and_not_cast_to_black():
    theirs, ours = both(PixelsEnv(frame=lambda number, env_id: torch.full((6, 8, 3), 0.5)), skip=1)
    assert theirs[0][1].unique().tolist() == [0]
    assert ours[0][1].unique().tolist() == [128]


def of_value(value, dtype):
    return PixelsEnv(frame=lambda number, env_id: torch.full((6, 8, 3), value, dtype=dtype))


def test_bool_is_black_and_white():
    theirs, ours = both(of_value(True, torch.bool), skip=1)
    assert theirs[0][1].unique().tolist() == [1]
    assert ours[0][1].unique().tolist() == [255]


@pytest.mark.parametrize(("value", "theirs_has"), [(300, 44), (-100, 156)])
def test_other_integers_beyond_255_are_refused_and_not_cast(value, theirs_has):
    logger = KeepLogger()
    env = TransformedEnv(of_value(value, torch.int16), torchrl.record.VideoRecorder(logger, "tag", skip=1))
    env.reset()
    env.transform.dump()
    assert logger.videos[0].unique().tolist() == [theirs_has]
    env = TransformedEnv(of_value(value, torch.int16), VideoRecorder(logger, "tag", skip=1))
    with pytest.raises(FrameError, match=r"expected 0 to 255\. value_range="):
        env.reset()


def test_four_channels_are_refused_until_layout_says_rgba_on_black():
    frame = torch.tensor([200, 100, 50, 128], dtype=torch.uint8).expand(6, 8, 4)
    with pytest.raises(RuntimeError, match="Invalid observation shape"):
        torchrl.record.VideoRecorder(KeepLogger(), "tag")._apply_transform(frame)
    with pytest.raises(FrameError, match=r'one RGBA frame \(layout="HWC"\) or a stack of 4 grey frames \(stack=4'):
        VideoRecorder(KeepLogger(), "tag")._apply_transform(frame)
    logger = KeepLogger()
    recorder = VideoRecorder(logger, "tag", layout="HWC")
    recorder._apply_transform(frame)
    recorder.dump()
    assert logger.videos[0][0, 0, :, 0, 0].tolist() == [100, 50, 25]


def test_the_batch_size_tells_grey_envs_from_an_rgb_frame():
    theirs, ours = both(PixelsEnv((3,), frame=random_frames(6, 8)), skip=1)
    assert theirs[0][1].shape == (1, 12, 3, 6, 8)  # three envs as one frame's channels
    assert ours[0][1].shape == (1, 12, 3, 12, 16)  # a grid of three


def test_skip_counts_the_frames_of_a_dataset_and_not_its_batches():
    theirs, ours = KeepLogger(), KeepLogger()
    batches = [random_frames(200, 6, 8, 3)(i, 0) for i in range(5)]
    for recorder in (torchrl.record.VideoRecorder(theirs, "tag", skip=10), VideoRecorder(ours, "tag", skip=10)):
        for batch in batches:
            recorder(TensorDict({"pixels": batch}, [200]))
        recorder.dump()
    assert theirs.videos == []
    expected = torch.cat(batches)[9::10].permute(0, 3, 1, 2)
    assert (ours.videos[0][0] == expected).all()


def test_several_in_keys_stand_side_by_side_and_not_in_turns():
    def record(recorder_class):
        logger = KeepLogger()
        recorder = recorder_class(logger, "tag", in_keys=["a", "b"])
        recorder(TensorDict({"a": torch.full((6, 8, 3), 1).byte(), "b": torch.full((5, 5, 3), 2).byte()}))
        recorder.dump()
        return logger.videos[0][0]

    with pytest.raises(RuntimeError):
        record(torchrl.record.VideoRecorder)  # one list, two sizes
    video = record(VideoRecorder)
    assert video.shape == (1, 3, 6, 13)
    assert (video[..., :8] == 1).all()
    assert (video[..., :5, 8:] == 2).all()
    assert (video[..., 5:, 8:] == 0).all()


def test_an_empty_dump_does_not_advance_the_step():
    theirs = torchrl.record.VideoRecorder(KeepLogger(), "tag")
    ours = VideoRecorder(KeepLogger(), "tag")
    for recorder in (theirs, ours):
        recorder.dump()
    assert (theirs.iter, ours.iter) == (1, 0)


@GRID
def test_a_partial_reset_adds_no_frame_of_the_whole_batch():
    horizon = torch.tensor([2, 4])
    theirs, ours = both(
        PixelsEnv((2,), horizon=horizon, frame=random_frames(6, 8, 3)),
        steps=12,
        rollout={"break_when_any_done": False},
    )
    assert theirs[0][1].shape[1] == 18
    # the reset, 12 steps, and the two resets of both envs at once, after steps 4 and 8
    assert ours[0][1].shape[1] == 13 + 2


@since_torchrl("0.14")
@pytest.mark.parametrize("behind", [False, True])
def test_dump_on_done_sees_what_transforms_behind_it_end(behind):
    def record(recorder_class):
        logger = KeepLogger()
        transforms = [recorder_class(logger, "tag", dump_on_done=True, skip=1), StepCounter(max_steps=3)]
        env = TransformedEnv(PixelsEnv(frame=random_frames(6, 8, 3)), Compose(*transforms[:: -1 if behind else 1]))
        env.rollout(7, break_when_any_done=False)
        return [video.shape[1] for video in logger.videos]

    assert record(torchrl.record.VideoRecorder) == ([4, 4] if behind else [])
    assert record(VideoRecorder) == [4, 4]


def test_dump_on_done_sees_it_in_a_loop_of_steps_too():
    logger = KeepLogger()
    env = TransformedEnv(
        PixelsEnv(frame=random_frames(6, 8, 3)),
        Compose(VideoRecorder(logger, "tag", dump_on_done=True, skip=1), StepCounter(max_steps=3)),
    )
    td = env.reset()
    for _ in range(3):
        td = env.step(env.rand_action(td))["next"]
    assert td["done"].all()
    env.reset()
    assert [video.shape[1] for video in logger.videos] == [4]


def test_a_logger_that_raises_loses_nothing():
    theirs, ours = FailingLogger(), FailingLogger()
    for recorder in (torchrl.record.VideoRecorder(theirs, "tag"), VideoRecorder(ours, "tag")):
        recorder._apply_transform(torch.zeros(6, 8, 3, dtype=torch.uint8))
        with pytest.raises(OSError, match="moon"):
            recorder.dump()
        recorder._apply_transform(torch.ones(6, 8, 3, dtype=torch.uint8))
        recorder.dump()
    assert theirs.videos[0].shape[1] == 1
    assert [video[0, :, 0, 0, 0].tolist() for video in ours.videos] == [[0], [1]]


def test_a_frame_of_another_size_is_refused_at_once_and_the_clip_goes_on():
    logger = KeepLogger()
    recorder = VideoRecorder(logger, "tag")
    small, large = torch.zeros(6, 8, 3, dtype=torch.uint8), torch.zeros(8, 8, 3, dtype=torch.uint8)
    recorder._apply_transform(small)
    with pytest.raises(FrameError, match=r"frame 1 is \(8, 8\).* began with \(6, 8\); call dump\(\)"):
        recorder._apply_transform(large)
    recorder._apply_transform(small)
    recorder.dump()
    recorder._apply_transform(large)
    recorder.dump()
    assert [video.shape[1:] for video in logger.videos] == [(2, 3, 6, 8), (1, 3, 8, 8)]


def test_out_keys_of_other_names_hold_the_same_entry_in_data_and_specs():
    env = TransformedEnv(
        PixelsEnv(frame=random_frames(6, 8, 3)), VideoRecorder(KeepLogger(), "tag", out_keys=[("seen", "pixels")])
    )
    td = env.reset()
    assert td["seen", "pixels"] is td["pixels"]
    assert env.observation_spec["seen", "pixels"] == env.observation_spec["pixels"]
    rollout = env.rollout(3)
    assert (rollout["next", "seen", "pixels"] == rollout["next", "pixels"]).all()


def test_center_crop_takes_a_pair_and_refuses_what_is_larger_than_the_frame():
    logger = KeepLogger()
    recorder = VideoRecorder(logger, "tag", center_crop=(2, 4))
    recorder._apply_transform(torch.zeros(6, 8, 3, dtype=torch.uint8))
    recorder.dump()
    assert logger.videos[0].shape == (1, 1, 3, 2, 4)
    recorder.center_crop = 7
    with pytest.raises(FrameError, match=r"\(6, 8\).*too small for center_crop=7"):
        recorder._apply_transform(torch.zeros(6, 8, 3, dtype=torch.uint8))

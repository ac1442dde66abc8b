"""Of several frames in one entry, one is in the video, or all are side by side; what could be both is refused."""

import copy
import pickle
import sys
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from conftest import FORKED, require
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, TransformObservation
from numbered_frames import decode
from tensordict import TensorDict
from torch.nn import functional
from torchrl import set_auto_unwrap_transformed_env
from torchrl.data import LazyTensorStorage, ReplayBuffer, SliceSampler, Unbounded
from torchrl.envs import Compose, GymEnv, GymWrapper, SerialEnv, TransformedEnv
from torchrl.envs.transforms import (
    CatFrames,
    GrayScale,
    ObservationTransform,
    PermuteTransform,
    RenameTransform,
    ToTensorImage,
    UnsqueezeTransform,
)
from worlds import PixelsEnv, random_frames

from vidrec import CSVLogger, FrameError, SettingError, VideoRecorder
from vidrec.frames import grid

BOTH = r'could be one RGBA frame \(layout="{}"\) or a stack of 4 grey frames \(stack=4 shows the newest'


def named(value):
    return None if callable(value) else str(value)


class Shrink(ObservationTransform):
    """Half as large, without torchvision, which TorchRL's Resize asks for."""

    def _apply_transform(self, observation):
        return functional.avg_pool2d(observation, 2)

    def transform_observation_spec(self, spec):
        for key in self.in_keys:
            spec[key] = Unbounded(functional.avg_pool2d(spec[key].zero(), 2).shape)
        return spec

    def _reset(self, tensordict, tensordict_reset):
        return self._call(tensordict_reset)


def recorder(key="pixels", name="run", **settings):
    keys = [key] if isinstance(key, str) else key
    return VideoRecorder(CSVLogger(name, video_format="pt"), "video", in_keys=keys, skip=1, **settings)


def video_of(env, key="pixels", *before, steps=5, **settings):
    """Return what is in the video of a rollout, ``[T, H, W, 3]``, and what each step had under `key`, time first."""
    env = TransformedEnv(env, Compose(*before, recorder(key, **settings)))
    try:
        rollout = env.rollout(steps, break_when_any_done=False)
        video = env.transform[-1].dump()
        last = key if isinstance(key, str) else key[0]
        time = rollout.ndim - 1
        first = rollout.get(last).narrow(time, 0, 1)
        return decode(video.path), torch.cat([first, rollout["next", last]], time).movedim(time, 0)
    finally:
        env.close()


def rgb(frames):
    """Return frames [..., H, W] or [..., H, W, 3], uint8 or in [0, 1], as the video has them."""
    frames = frames if frames.dtype == torch.uint8 else (frames * 255).round().to(torch.uint8)
    return frames[..., None].expand(*frames.shape, 3).numpy() if frames.shape[-1] != 3 else frames.numpy()


def different(frames):
    """The frames of a stack differ, so that a test can tell them apart."""
    return not torch.equal(frames[-1].select(0, 0), frames[-1].select(0, -1))


# real environments


@pytest.fixture
def opencv(monkeypatch):
    """AtariPreprocessing asks for OpenCV, to make frames smaller."""

    def resize(image, size, interpolation):
        x = torch.as_tensor(image, dtype=torch.float32)
        x = x[None, None] if x.ndim == 2 else x.movedim(-1, 0)[None]
        x = functional.interpolate(x, size[::-1], mode="area")[0].round().to(torch.uint8)
        return (x[0] if len(x) == 1 else x.movedim(0, -1)).numpy()

    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(INTER_AREA=0, resize=resize))


def atari(count=4, wrap=lambda env: env, **settings):
    require("ale_py")
    import ale_py

    gymnasium.register_envs(ale_py)
    env = AtariPreprocessing(gymnasium.make("ALE/Pong-v5", frameskip=1), noop_max=0, **settings)
    return GymWrapper(wrap(FrameStackObservation(env, count)))


def test_atari_in_grey_shows_the_newest_frame(opencv):
    video, seen = video_of(atari(), "observation", steps=30)
    assert seen.shape == (31, 4, 84, 84)
    assert different(seen)
    assert np.array_equal(video, rgb(seen[:, -1]))


def test_atari_in_colour_shows_the_newest_frame(opencv):
    video, seen = video_of(atari(grayscale_obs=False, screen_size=(70, 60)), "observation", steps=30)
    assert seen.shape[1:] in [(4, 60, 70, 3), (4, 70, 60, 3)]
    assert np.array_equal(video, rgb(seen[:, -1]))


@pytest.mark.parametrize("settings", [{}, {"grayscale_newaxis": True}, {"scale_obs": True}], ids=named)
def test_a_stack_of_three_is_no_rgb_if_gymnasium_made_it(opencv, settings):
    video, seen = video_of(atari(3, **settings), "observation", steps=20)
    newest = seen[:, -1] if seen.ndim == 4 else seen[:, -1, ..., 0]
    assert np.array_equal(video, rgb(newest))


def test_a_stack_of_three_rgb_frames_shows_the_newest(opencv):
    video, seen = video_of(atari(3, grayscale_obs=False), "observation", steps=20)
    assert seen.shape[1:] == (3, 84, 84, 3)
    assert np.array_equal(video, rgb(seen[:, -1]))


def test_a_stack_whose_axes_a_wrapper_moves_is_not_known_and_refused(opencv):
    def last(env):
        space = gymnasium.spaces.Box(0, 255, (84, 84, 4), np.uint8)
        return TransformObservation(env, lambda obs: np.moveaxis(obs, 0, -1), space)

    with pytest.raises(FrameError, match=BOTH.format("HWC")):
        video_of(atari(wrap=last), "observation")
    video, seen = video_of(atari(wrap=last), "observation", stack=4, name="said")
    assert np.array_equal(video, rgb(seen[..., -1]))


def test_a_dict_of_observations_in_a_stack(opencv):
    class Cameras(gymnasium.ObservationWrapper):
        def __init__(self, env):
            super().__init__(env)
            state = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
            self.observation_space = gymnasium.spaces.Dict(camera=env.observation_space, state=state)

        def observation(self, obs):
            return {"camera": obs, "state": np.zeros(4, np.float32)}

    require("ale_py")
    import ale_py

    gymnasium.register_envs(ale_py)
    env = AtariPreprocessing(gymnasium.make("ALE/Pong-v5", frameskip=1), noop_max=0)
    video, seen = video_of(GymWrapper(FrameStackObservation(Cameras(env), 4)), "camera", steps=20)
    assert np.array_equal(video, rgb(seen[:, -1]))


def test_pixels_beside_a_stacked_state_are_no_stack():
    env = FrameStackObservation(gymnasium.make("CartPole-v1", render_mode="rgb_array"), 4)
    video, seen = video_of(GymWrapper(env, from_pixels=True, pixels_only=False), steps=3)
    assert np.array_equal(video, rgb(seen))


def greys():
    return [
        ToTensorImage(in_keys=["pixels"]),
        GrayScale(in_keys=["pixels"]),
        Shrink(in_keys=["pixels"], out_keys=["pixels"]),
        CatFrames(4, dim=-3, in_keys=["pixels"]),
    ]


def cartpole():
    """It moves by some pixels within four steps of these actions."""
    torch.manual_seed(0)
    env = GymEnv("CartPole-v1", from_pixels=True)
    env.set_seed(0)
    return env


def test_cat_frames_behind_to_tensor_image_and_grey_scale():
    video, seen = video_of(cartpole(), "pixels", *greys())
    assert seen.shape == (6, 4, 200, 300)
    assert different(seen)
    assert np.array_equal(video, rgb(seen[:, -1]))


def test_cat_frames_nested_in_a_compose_and_in_an_env_of_an_env():
    with set_auto_unwrap_transformed_env(False):
        inner = TransformedEnv(cartpole(), Compose(*greys()[:2], Compose(*greys()[2:])))
        video, seen = video_of(TransformedEnv(inner, Compose()), "pixels")
    assert np.array_equal(video, rgb(seen[:, -1]))


# CatFrames of all kinds


def noise(*shape, dtype=torch.uint8, **more):
    return PixelsEnv(frame=random_frames(*shape, dtype=dtype), **more)


@pytest.mark.parametrize(
    ("shape", "count", "dim", "newest"),
    [
        ((3, 24, 32), 4, -3, lambda x: x[:, -3:].movedim(1, -1)),
        ((3, 24, 32), 3, -3, lambda x: x[:, -3:].movedim(1, -1)),
        ((1, 24, 32), 3, -3, lambda x: x[:, -1]),
        ((1, 24, 32), 5, -3, lambda x: x[:, -1]),
        ((24, 32, 3), 4, -1, lambda x: x[..., -3:]),
        ((24, 32, 1), 3, -1, lambda x: x[..., -1]),
        ((24, 32, 1), 4, -1, lambda x: x[..., -1]),
        ((1, 3, 24, 32), 4, -4, lambda x: x[:, -1].movedim(1, -1)),
        ((1, 24, 32, 3), 3, -4, lambda x: x[:, -1]),
        # along the height or the width: one frame, which is longer
        ((3, 24, 32), 3, -1, lambda x: x.movedim(1, -1)),
        ((3, 24, 32), 4, -2, lambda x: x.movedim(1, -1)),
        ((24, 32, 3), 3, -2, lambda x: x),
        ((24, 32, 3), 1, -1, lambda x: x),
    ],
    ids=named,
)
def test_cat_frames_says_what_is_stacked(shape, count, dim, newest):
    video, seen = video_of(noise(*shape), "pixels", CatFrames(count, dim=dim, in_keys=["pixels"]))
    assert np.array_equal(video, rgb(newest(seen)))


def test_three_channels_without_cat_frames_are_rgb():
    video, seen = video_of(noise(3, 24, 32))
    assert np.array_equal(video, rgb(seen.movedim(1, -1)))


def test_out_keys_of_cat_frames_and_a_rename_behind_it():
    before = [
        CatFrames(4, dim=-3, in_keys=["pixels"], out_keys=["stacked"]),
        RenameTransform(["stacked"], ["history"]),
    ]
    video, seen = video_of(noise(1, 24, 32), "history", *before)
    assert seen.shape[1:] == (4, 24, 32)
    assert np.array_equal(video, rgb(seen[:, -1]))


def test_the_entry_that_cat_frames_leaves_is_no_stack():
    cat = CatFrames(3, dim=-3, in_keys=["pixels"], out_keys=["stacked"])
    video, seen = video_of(noise(3, 24, 32), "pixels", cat)
    assert np.array_equal(video, rgb(seen.movedim(1, -1)))


def test_channels_that_move_behind_cat_frames():
    before = [CatFrames(4, dim=-1, in_keys=["pixels"]), PermuteTransform((-1, -3, -2), in_keys=["pixels"])]
    video, seen = video_of(noise(24, 32, 3), "pixels", *before)
    assert seen.shape[1:] == (12, 24, 32)
    assert np.array_equal(video, rgb(seen[:, -3:].movedim(1, -1)))


def test_frames_that_get_an_axis_for_the_stack():
    before = [
        UnsqueezeTransform(dim=-4, allow_positive_dim=False, in_keys=["pixels"]),
        CatFrames(3, dim=-4, in_keys=["pixels"]),
    ]
    video, seen = video_of(noise(3, 24, 32), "pixels", *before)
    assert seen.shape[1:] == (3, 3, 24, 32)
    assert np.array_equal(video, rgb(seen[:, -1].movedim(1, -1)))


def test_cat_frames_in_a_nested_entry():
    key = ("camera", "pixels")
    before = [RenameTransform(["pixels"], [key]), CatFrames(3, dim=-3, in_keys=[key])]
    video, seen = video_of(noise(1, 24, 32), [key], *before)
    assert np.array_equal(video, rgb(seen[:, -1]))


# batched environments


def stacked(count=4):
    return TransformedEnv(noise(1, 24, 32), CatFrames(count, dim=-3, in_keys=["pixels"]))


def stacked_rgb():
    return TransformedEnv(noise(3, 24, 32), CatFrames(4, dim=-3, in_keys=["pixels"]))


def test_stacks_within_a_serial_env_make_a_grid():
    video, seen = video_of(SerialEnv(3, stacked))
    assert seen.shape == (6, 3, 4, 24, 32)
    grids = [grid(torch.from_numpy(rgb(frames[:, -1]).copy()))[0].numpy() for frames in seen]
    assert np.array_equal(video, grids)


def test_gymnasium_within_a_serial_env(opencv):
    video, seen = video_of(SerialEnv(2, atari), "observation", steps=10)
    assert np.array_equal(video, np.concatenate([rgb(seen[:, 0, -1]), rgb(seen[:, 1, -1])], axis=2))


def test_stacks_of_a_batch_have_a_video_for_each_env():
    env = TransformedEnv(noise(1, 24, 32, batch_size=(2,)), CatFrames(3, dim=-3, in_keys=["pixels"]))
    env.append_transform(recorder(make_grid=False))
    rollout = env.rollout(4)
    env.transform[-1].dump()
    seen = torch.cat([rollout["pixels"][:, :1], rollout["next", "pixels"]], 1)
    for video in env.transform[-1].videos:
        assert np.array_equal(decode(video.path), rgb(seen[video.env_id, :, -1]))
    assert [video.env_id for video in env.transform[-1].videos] == [0, 1]


def test_what_is_within_a_parallel_env_cannot_be_known():
    with pytest.raises(FrameError, match=BOTH.format("CHW")):
        video_of(FORKED(2, stacked))


@pytest.mark.parametrize("make_grid", [True, False])
def test_a_stack_within_a_parallel_env_is_said(make_grid):
    env = TransformedEnv(FORKED(2, stacked), recorder(stack=4, make_grid=make_grid))
    rollout = env.rollout(3)
    env.transform.dump()
    seen = torch.cat([rollout["pixels"][:, :1], rollout["next", "pixels"]], 1)
    each = [rgb(seen[i, :, -1]) for i in range(2)]
    expected = [np.concatenate(each, axis=2)] if make_grid else each
    videos = [decode(video.path) for video in env.transform.videos]
    env.close()
    assert all(map(np.array_equal, videos, expected))
    assert len(videos) == len(expected)


def test_twelve_channels_within_a_parallel_env_are_refused_until_it_is_said():
    with pytest.raises(FrameError, match=r"no axis of 1, 3 or 4 channels.* or stack= for how many frames"):
        video_of(FORKED(2, stacked_rgb))
    video, seen = video_of(FORKED(2, stacked_rgb), stack=4, name="said")
    newest = rgb(seen[:, :, -3:].movedim(2, -1))
    assert np.array_equal(video, np.concatenate([newest[:, 0], newest[:, 1]], axis=2))


# what is said


@pytest.mark.parametrize(
    ("shape", "settings", "shown"),
    [
        ((4, 24, 32), {"stack": 4}, lambda x: x[:, -1]),
        ((24, 32, 4), {"stack": 4}, lambda x: x[..., -1]),
        ((24, 32, 4), {"stack": (4, 0)}, lambda x: x[..., 0]),
        ((24, 32, 12), {"stack": 4}, lambda x: x[..., 9:]),
        ((24, 32, 12), {"stack": (4, -4)}, lambda x: x[..., :3]),
        ((24, 32, 12), {"stack": np.int64(4)}, lambda x: x[..., 9:]),
        ((12, 24, 32), {"stack": (4, 1)}, lambda x: x[:, 3:6].movedim(1, -1)),
        ((6, 24, 32), {"stack": (6, 2)}, lambda x: x[:, 2]),
        ((3, 24, 32), {"stack": 3}, lambda x: x[:, -1]),
        ((3, 24, 32), {"stack": 1}, lambda x: x.movedim(1, -1)),
        ((4, 24, 32, 3), {"stack": (4, 2)}, lambda x: x[:, 2]),
        ((3, 24, 32, 3), {"stack": 3}, lambda x: x[:, -1]),
        ((3, 3, 24, 32), {"stack": 3}, lambda x: x[:, -1].movedim(1, -1)),
        ((24, 32, 3, 4), {"stack": 4}, lambda x: x[..., -1]),
        ((24, 32, 1, 4), {"stack": 4}, lambda x: x[..., 0, -1]),
        ((3, 24, 32, 4), {"stack": 4}, lambda x: x[..., -1].movedim(1, -1)),
        ((5, 24, 32), {"stack": 5, "layout": "SHW"}, lambda x: x[:, -1]),
        ((24, 32, 3, 4), {"stack": 4, "layout": "HWCS"}, lambda x: x[..., -1]),
        ((24, 4, 32, 3), {"stack": (4, 0), "layout": "HSWC"}, lambda x: x[:, :, 0]),
        ((12, 32, 24), {"stack": 4, "layout": "CWH"}, lambda x: x[:, 9:].movedim(1, -1).transpose(1, 2)),
        ((24, 32, 4), {"layout": "HWC"}, None),
        ((4, 24, 32), {"layout": "NHW"}, lambda x: torch.cat(list(x.movedim(1, 0)), -1)),
        ((4, 24, 32), {"stack": (4, "all")}, lambda x: torch.cat(list(x.movedim(1, 0)), -1)),
        ((4, 24, 32, 3), {"stack": (4, "all")}, lambda x: torch.cat(list(x.movedim(1, 0)), -2)),
        ((24, 32, 6), {"stack": (2, "all")}, lambda x: torch.cat([x[..., :3], x[..., 3:]], -2)),
        ((4, 24, 32), {"stack": 4, "center_crop": (10, 20)}, lambda x: x[:, -1, 7:17, 6:26]),
        (
            (4, 24, 32),
            {"stack": (4, "all"), "center_crop": 8},
            lambda x: torch.cat(list(x.movedim(1, 0)[..., 8:16, 12:20]), -1),
        ),
    ],
    ids=named,
)
def test_a_stack_that_is_said(shape, settings, shown):
    video, seen = video_of(noise(*shape), **settings)
    if shown is None:  # RGBA on black
        colours, alpha = seen[..., :3].int(), seen[..., 3:].int()
        expected = ((colours * alpha + 127) // 255).to(torch.uint8).numpy()
    else:
        expected = rgb(shown(seen))
    assert np.array_equal(video, expected)


@pytest.mark.parametrize(
    "stack",
    [0, -4, 4.0, "4", True, [4, 0], (4,), (4, 4), (4, -5), (4, "newest"), (4, None), (4, 0, 1), ("all", 4), {}.keys()],
    ids=named,
)
def test_a_stack_that_cannot_be_is_refused_at_once(stack):
    with pytest.raises(SettingError, match=r"^stack=.*(must be how many frames|that a stack of .* does not have)"):
        recorder(stack=stack)


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((5, 24, 32), {"stack": 4}, r"holds no stack of 4 frames; expected an axis of 4, or of 4, 12, 16 for channels"),
        ((24, 32), {"stack": 4}, r"holds no stack of 4 frames"),
        ((4, 24, 4), {"stack": 4}, r"several ways; say which with layout="),
        ((4, 4, 24, 32), {"stack": 4}, r"several ways; say which with layout=.*S for the axis of the stack"),
        ((24, 32, 12), {"stack": 4, "layout": "SHW"}, r"has 24 frames in a stack by layout='SHW'; expected 4"),
        ((4, 24, 32), {"stack": 4, "layout": "HW"}, r"no axis for a stack by layout='HW'; name it S, such as in"),
        ((24, 32, 9), {"stack": 4, "layout": "HWC"}, r"has 9 channels by layout='HWC'; expected 4 times 1, 3 or 4"),
        ((5, 24, 32), {"layout": "CHW"}, r"has 5 channels by layout='CHW'.*say stack=5"),
        ((4, 24, 32), {}, BOTH.format("CHW")),
        ((24, 32, 4), {}, BOTH.format("HWC")),
        ((4, 24, 32, 3), {}, r"holds 4 frames of one env.*stack=4 shows the newest.*layout=\"NHWC\""),
    ],
    ids=named,
)
def test_a_shape_that_is_no_such_stack_is_refused_at_the_first_frame(shape, settings, message):
    with pytest.raises(FrameError, match=rf"'pixels' of shape \({shape[0]}, .*{message}"):
        video_of(noise(*shape), **settings)


def test_a_stack_for_one_of_several_entries():
    class Both(PixelsEnv):
        def _out(self, **entries):
            td = super()._out(**entries)
            return td.set("observation", torch.stack([td["pixels"][..., 0] // n for n in (4, 3, 2, 1)], -3))

    env = Both(frame=random_frames(24, 32, 3))
    spec = env.observation_spec.clone()
    env.observation_spec = spec.update({"observation": Unbounded((4, 24, 32), dtype=torch.uint8)})
    wrapped = TransformedEnv(env, recorder(["pixels", "observation"], stack={"observation": 4}))
    rollout = wrapped.rollout(3)
    video = decode(wrapped.transform.dump().path)
    assert video.shape == (4, 24, 64, 3)
    assert np.array_equal(video[1:, :, :32], rgb(rollout["next", "pixels"]))
    assert np.array_equal(video[1:, :, 32:], rgb(rollout["next", "observation"][:, -1]))


def test_a_stack_of_an_entry_that_is_none_of_in_keys():
    with pytest.raises(SettingError, match=r"stack has the key 'observation', which is none of in_keys=\['pixels'\]"):
        recorder(stack={"observation": 4})


# copies


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r)), lambda r: r.clone()], ids=named
)
def test_a_copy_keeps_what_was_said(copied):
    other = copied(recorder(stack=(4, 1), value_range=(0, 128), colormap="gray"))
    env = TransformedEnv(noise(4, 24, 32), other)
    rollout = env.rollout(3)
    video = decode(other.dump().path)
    expected = (rollout["next", "pixels"][:, 1].double() * 255 / 128).clamp(max=255).round().to(torch.uint8)
    assert np.array_equal(video[1:], rgb(expected))


def test_two_recorders_of_one_stack_show_each_its_own():
    oldest, newest = recorder(name="oldest", stack=(4, 0)), recorder(name="newest")
    cat = CatFrames(4, dim=-3, in_keys=["pixels"])
    env = TransformedEnv(noise(1, 24, 32), Compose(recorder(name="before"), cat, oldest, newest))
    rollout = env.rollout(5)
    videos = [decode(one.dump().path)[1:] for one in (env.transform[0], oldest, newest)]
    seen = rollout["next", "pixels"]
    assert np.array_equal(videos[0], videos[2])
    assert np.array_equal(videos[1], rgb(seen[:, 0]))
    assert np.array_equal(videos[2], rgb(seen[:, -1]))


def test_a_recorder_that_moves_to_another_env_asks_anew():
    one = recorder()
    env = TransformedEnv(noise(1, 24, 32), Compose(CatFrames(3, dim=-3, in_keys=["pixels"]), one))
    env.rollout(2)
    one.dump()
    one.reset_parent()
    env = TransformedEnv(noise(3, 24, 32), one)
    rollout = env.rollout(2)
    assert np.array_equal(decode(one.dump().path)[1:], rgb(rollout["next", "pixels"].movedim(1, -1)))


# replay buffers


def sample(*shape, batch_size):
    pixels = torch.randint(0, 256, (*batch_size, *shape), dtype=torch.uint8)
    return TensorDict({"pixels": pixels}, batch_size)


@pytest.mark.parametrize("batch_size", [(5,), (2, 3)])
def test_stacks_in_a_sample(batch_size):
    td = sample(4, 84, 84, batch_size=batch_size)
    with pytest.raises(FrameError, match=BOTH.format("CHW")):
        recorder()(td)
    one = recorder(stack=4)
    one(td)
    assert np.array_equal(decode(one.dump().path), rgb(td["pixels"].flatten(0, -4)[:, -1]))


@pytest.mark.parametrize("batch_size", [(3,), (2, 3)])
def test_stacks_of_three_in_a_sample_of_three(batch_size):
    td = sample(3, 24, 32, 3, batch_size=batch_size)
    one = recorder(stack=3)
    one(td)
    assert np.array_equal(decode(one.dump().path), rgb(td["pixels"].flatten(0, -5)[:, -1]))


def test_cat_frames_of_the_buffer_say_what_is_stacked():
    buffer = ReplayBuffer(
        storage=LazyTensorStorage(40), sampler=SliceSampler(num_slices=1, end_key=("next", "done")), batch_size=6
    )
    one = recorder()
    buffer.append_transform(ToTensorImage(in_keys=["pixels", ("next", "pixels")]))
    buffer.append_transform(lambda td: td.refine_names("time"))
    buffer.append_transform(CatFrames(3, dim=-3, in_keys=["pixels", ("next", "pixels")]))
    buffer.append_transform(one)
    buffer.extend(noise(24, 32, 1).rollout(20))
    drawn = buffer.sample()
    assert drawn["pixels"].shape[-3:] == (3, 24, 32)
    assert np.array_equal(decode(one.dump().path), rgb(drawn["pixels"][:, -1]))

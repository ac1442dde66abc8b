"""What values mean, which colours they get, how large the file is, and what is said of a video that shows nothing."""

import copy
import math
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import product
from numbered_frames import decode, numbered, probe
from tensordict import TensorDict
from torch.nn import functional
from torchrl.data import Bounded, Unbounded
from torchrl.envs import Compose, GymEnv, SerialEnv, TransformedEnv
from torchrl.envs.transforms import ObservationNorm, ObservationTransform, RenameTransform, ToTensorImage, VecNormV2
from worlds import KeepLogger, PixelsEnv, random_frames

from vidrec import CSVLogger, ExtraError, FrameError, SettingError, TeeLogger, VideoRecorder
from vidrec.errors import VidrecWarning
from vidrec.ffmpeg.encoding import Encoding
from vidrec.tools.verify import verify


def recorder(key="pixels", name="run", video_format="pt", **settings):
    keys = [key] if isinstance(key, str) else key
    return VideoRecorder(CSVLogger(name, video_format=video_format), "video", in_keys=keys, skip=1, **settings)


def video_of(env, *before, steps=4, key="pixels", **settings):
    """Return what is in the video of a rollout, ``[T, H, W, 3]``, and the entry of each step, time first."""
    env = TransformedEnv(env, Compose(*before, recorder(key, **settings)))
    try:
        rollout = env.rollout(steps, break_when_any_done=False)
        video = decode(env.transform[-1].dump().path)
        time = rollout.ndim - 1
        seen = torch.cat([rollout[key].narrow(time, 0, 1), rollout["next", key]], time)
        return video, seen.movedim(time, 0)
    finally:
        env.close()


def noise(*shape, low=0, high=255, dtype=torch.float32, **more):
    """An environment whose frames are noise from `low` to `high`, both of which are there."""
    draw = random_frames(*shape, dtype=torch.float64)

    def frame(number, env_id):
        x = draw(number, env_id)
        x.view(-1)[:2] = torch.tensor([0.0, 255.0])
        x = low + x / 255 * (high - low)
        return x.to(dtype) if dtype.is_floating_point else x.round().to(dtype)

    return PixelsEnv(frame=frame, **more)


def bounded(env, low, high, key="pixels"):
    spec = env.observation_spec.clone()
    spec[key] = Bounded(low, high, shape=spec[key].shape, dtype=spec[key].dtype)
    env.observation_spec = spec
    return env


def mapped(seen, low, high):
    """What values become, as docs say: linear, clamped, rounded."""
    levels = np.rint(np.clip((seen.double().numpy() - low) * (255 / (high - low)), 0, 255)).astype(np.uint8)
    return levels if levels.shape[-1] == 3 else np.repeat(levels[..., None], 3, -1)


def told(caught, text):
    return [str(one.message) for one in caught if text in str(one.message)]


# value_range


def test_floats_up_to_255_are_refused_until_their_range_is_said():
    with pytest.raises(FrameError, match=r"values from 0 to 255; expected floats in \[0, 1\]\. value_range=\(0, 255\)"):
        video_of(noise(24, 32, 3))
    video, seen = video_of(noise(24, 32, 3), value_range=(0, 255), name="said")
    assert np.array_equal(video, seen.round().to(torch.uint8).numpy())


@pytest.mark.parametrize(
    ("low", "high", "dtype", "what"),
    [
        (-2, 2, torch.float32, r'value_range=\(low, high\), or "auto" for the bounds of the spec'),
        (0, 3, torch.float32, r'value_range=\(low, high\), or "auto"'),
        (0, 10, torch.float64, r'value_range=\(low, high\), or "auto"'),
        (0, 5000, torch.float32, r'value_range=\(low, high\), or "auto"'),
        (0, 5000, torch.int32, r"value_range=\(low, high\) says which.*such as \(0, 10_000\) for a depth in mm"),
        (-100, 100, torch.int8, r"value_range=\(low, high\) says which"),
        (-1, 300, torch.float16, r'value_range=\(low, high\), or "auto"'),
    ],
)
def test_values_far_beyond_are_refused_with_what_to_do(low, high, dtype, what):
    with pytest.raises(FrameError, match=rf"'pixels' of shape .*values from {low} to {high}; expected.*{what}"):
        video_of(noise(24, 32, low=low, high=high, dtype=dtype))


@pytest.mark.parametrize(
    ("shape", "low", "high", "dtype", "value_range"),
    [
        ((24, 32), 0, 5000, torch.uint16, (0, 10_000)),
        ((24, 32), 0, 60_000, torch.uint16, (0, 10_000)),
        ((24, 32, 1), 0, 40, torch.int32, (0, 40)),
        ((1, 24, 32), -3, 40, torch.int64, [-3, 40]),
        ((24, 32, 3), -1, 1, torch.float32, (-1, 1)),
        ((24, 32, 3), -1, 1, torch.float16, (np.float32(-1), np.int64(1))),
        ((24, 32, 3), 0, 1, torch.bfloat16, (0, 2)),
        ((24, 32), 0, 10, torch.float64, (10, 0)),
        ((24, 32, 3), 0, 255, torch.uint8, (255, 0)),
        ((24, 32, 3), 0, 255, torch.uint8, (50, 100)),
        ((24, 32), 0, 1, torch.bool, (1, 0)),
        ((24, 32), -1e300, 1e300, torch.float64, (-8e307, 8e307)),
    ],
    ids=str,
)
def test_a_range_of_values(shape, low, high, dtype, value_range):
    video, seen = video_of(noise(*shape, low=low, high=high, dtype=dtype), value_range=value_range)
    seen = seen.squeeze(1) if shape[0] == 1 else seen.squeeze(-1) if shape[-1] == 1 else seen
    assert np.array_equal(video, mapped(seen, *map(float, value_range)))


@pytest.mark.parametrize(
    "value_range",
    [
        *[(0, 0), (0,), (0, 1, 2), 255, "full", "01", (0, math.nan), (-math.inf, 1), (0, 10**400), (0, "1"), (0, None)],
        *[(2**60, 2**60 + 1), (-1e308, 1e308), [], {0, 1}, (0, 1j), torch.tensor([0, 255])],
    ],
    ids=str,
)
def test_a_range_that_cannot_be_is_refused_at_once(value_range):
    with pytest.raises(SettingError, match=r"^value_range=.* must be two numbers, the value of black.*\"auto\""):
        recorder(value_range=value_range)


def test_infinity_is_clamped_and_nan_is_refused():
    def frame(number, env_id):
        x = torch.linspace(0, 5, 24 * 32).reshape(24, 32)
        x[0, :3] = torch.tensor([-math.inf, math.inf, math.nan if number == 2 else 0])
        return x

    env = TransformedEnv(PixelsEnv(frame=frame), recorder(value_range=(0, 5)))
    with pytest.raises(FrameError, match=r"holds NaN; expected numbers, which value_range=\(0\.0, 5\.0\) maps"):
        env.rollout(4)
    video = decode(env.transform.dump().path)
    assert video[:, 0, :3, 0].tolist() == [[0, 255, 0]] * 2


def test_nan_is_not_said_to_need_a_range():
    frame = torch.rand(24, 32)
    frame[3, 4] = math.nan
    with pytest.raises(FrameError, match=r"from nan to nan; expected floats in \[0, 1\]\. NaN has no colour; replace"):
        video_of(PixelsEnv(frame=lambda number, env_id: frame))


def test_frames_of_nan_that_stand_for_none_are_left_out():
    def frame(number, env_id):
        return torch.full((24, 32), math.nan) if number == 2 else torch.linspace(0, 9, 24 * 32).reshape(24, 32)

    env = TransformedEnv(PixelsEnv(frame=frame), recorder(value_range=(0, 9), colormap="viridis"))
    env.rollout(4)
    assert len(decode(env.transform.dump().path)) == 4


def test_blank_cells_of_a_grid_stay_black():
    def frame(number, env_id):
        return torch.full((24, 32), math.nan) if env_id == 1 else torch.full((24, 32), 5.0)

    env = PixelsEnv(frame=frame, batch_size=(3,))
    video, _ = video_of(env, value_range=(0, 9), colormap="viridis")
    assert video.shape == (5, 48, 64, 3)
    assert (video[:, :24, :32] == video[0, 0, 0]).all()
    assert video[0, 0, 0].any()
    assert not video[:, :24, 32:].any()  # NaN
    assert not video[:, 24:, 32:].any()  # unused


def test_observation_norm_of_real_pixels():
    before = [
        ToTensorImage(in_keys=["pixels"]),
        ObservationNorm(loc=0.5, scale=0.25, in_keys=["pixels"], standard_normal=True),
    ]
    video, seen = video_of(GymEnv("CartPole-v1", from_pixels=True), *before, value_range=(-2, 2))
    assert seen.max() > 1
    assert np.array_equal(video, mapped(seen.movedim(1, -1), -2, 2))


def test_vec_norm_is_refused_until_its_range_is_said():
    def before():
        return [ToTensorImage(in_keys=["pixels"]), VecNormV2(in_keys=["pixels"], decay=0.9)]

    with pytest.raises(FrameError, match=r'value_range=\(low, high\), or "auto" for the bounds'):
        video_of(GymEnv("CartPole-v1", from_pixels=True), *before(), steps=30)
    with pytest.raises(FrameError, match=r'no bounds in the spec of an env, which value_range="auto" takes; give'):
        video_of(GymEnv("CartPole-v1", from_pixels=True), *before(), value_range="auto", name="auto")
    env = GymEnv("CartPole-v1", from_pixels=True)
    video, seen = video_of(env, *before(), value_range=(-3, 3), name="said")
    assert np.array_equal(video, mapped(seen.movedim(1, -1), -3, 3))


@pytest.mark.parametrize(
    ("env", "low", "high"),
    [
        (lambda: bounded(noise(24, 32, low=-1, high=1), -1, 1), -1, 1),
        (lambda: bounded(noise(24, 32, low=0, high=5000, dtype=torch.int32), 0, 8000), 0, 8000),
        (lambda: bounded(noise(24, 32, dtype=torch.uint8), 0, 100), 0, 100),
        (lambda: noise(24, 32, dtype=torch.uint8), 0, 255),
        (lambda: noise(24, 32, low=0, high=1, dtype=torch.bool), 0, 1),
    ],
)
def test_auto_takes_the_bounds_of_the_spec(env, low, high):
    video, seen = video_of(env(), value_range="auto")
    assert np.array_equal(video, mapped(seen, low, high))


def test_auto_behind_observation_norm():
    before = [
        ToTensorImage(in_keys=["pixels"]),
        ObservationNorm(loc=0.5, scale=0.25, in_keys=["pixels"], standard_normal=True),
    ]
    env = bounded(noise(24, 32, 3, dtype=torch.uint8), 0, 255)
    video, seen = video_of(env, *before, value_range="auto")
    assert np.array_equal(video, mapped(seen.movedim(1, -1), -2, 2))


def test_auto_within_a_serial_env():
    env = SerialEnv(2, lambda: bounded(noise(24, 32, low=-1, high=1), -1, 1))
    video, seen = video_of(env, value_range="auto")
    assert np.array_equal(video, mapped(torch.cat([seen[:, 0], seen[:, 1]], -1), -1, 1))


@pytest.mark.parametrize(
    "env",
    [
        lambda: noise(24, 32),
        lambda: bounded(noise(24, 32), -math.inf, math.inf),
        lambda: bounded(noise(24, 32), 0, math.inf),
        lambda: noise(24, 32, dtype=torch.int32),
        lambda: bounded(noise(24, 32, dtype=torch.int32), -(2**31), 2**31 - 1),
        lambda: bounded(noise(24, 32, dtype=torch.int64), 0, 2**63 - 1),
    ],
)
def test_auto_without_bounds_is_refused(env):
    with pytest.raises(FrameError, match=r'has no bounds in the spec .* value_range="auto" .* give value_range=\(low,'):
        video_of(env(), value_range="auto")


def test_auto_without_an_env_is_refused():
    with pytest.raises(FrameError, match=r"give value_range=\(low, high\)"):
        recorder(value_range="auto")(TensorDict({"pixels": torch.rand(5, 24, 32)}, [5]))


class Split(ObservationTransform):
    """Adds a depth to the RGB frames."""

    def __init__(self):
        super().__init__(in_keys=["pixels"], out_keys=["depth"])

    def _apply_transform(self, observation):
        return observation[..., :1].float() * 10

    def _reset(self, tensordict, tensordict_reset):
        return self._call(tensordict_reset)

    def transform_observation_spec(self, spec):
        spec["depth"] = Unbounded((*spec["pixels"].shape[:-1], 1))
        return spec


def test_range_and_colormap_of_one_of_several_entries():
    env = noise(24, 32, 3, dtype=torch.uint8)
    video, seen = video_of_two(env, value_range={"depth": (0, 2550)}, colormap={"depth": "magma"})
    assert np.array_equal(video[:, :, :32], seen.numpy())
    assert np.array_equal(video[:, :, 32:], colours("magma", seen[..., 0].numpy()))


def test_a_colormap_for_all_colours_those_of_one_channel():
    env = noise(24, 32, 3, dtype=torch.uint8)
    video, seen = video_of_two(env, value_range={"depth": (0, 2550)}, colormap="viridis")
    assert np.array_equal(video[:, :, :32], seen.numpy())
    assert np.array_equal(video[:, :, 32:], colours("viridis", seen[..., 0].numpy()))


def video_of_two(env, **settings):
    env = TransformedEnv(env, Compose(Split(), recorder(["pixels", "depth"], **settings)))
    rollout = env.rollout(4)
    seen = torch.cat([rollout["pixels"][:1], rollout["next", "pixels"]])
    return decode(env.transform[-1].dump().path), seen


# overshoot


class Resize(ObservationTransform):
    """TorchRL's asks for torchvision, which calls the same function."""

    def _apply_transform(self, observation):
        x = observation if observation.ndim == 4 else observation[None]
        x = functional.interpolate(x, scale_factor=0.75, mode="bicubic", antialias=True)
        return x if observation.ndim == 4 else x[0]

    def _reset(self, tensordict, tensordict_reset):
        return self._call(tensordict_reset)

    def transform_observation_spec(self, spec):
        for key in self.in_keys:
            spec[key] = Unbounded(self._apply_transform(spec[key].zero()).shape)
        return spec


def soft(number, env_id):
    x = 0.5 + 0.5 * torch.sin(torch.linspace(0, 9 + number, 48 * 64)).reshape(48, 64)
    return torch.where(x > 0.3, 1.0, 0.7).expand(3, 48, 64).contiguous()


def test_what_a_bicubic_resize_makes_is_clamped_and_said_once():
    env = PixelsEnv(frame=soft)
    with pytest.warns(VidrecWarning, match="What lies outside is clamped, as after a resize; value_range=") as caught:
        video, seen = video_of(env, Resize(in_keys=["pixels"], out_keys=["pixels"]), steps=20)
    assert len(caught) == 1
    assert seen.max() > 1 + 0.5 / 255
    assert np.array_equal(video, mapped(seen.movedim(1, -1), 0, 1))


def test_what_it_makes_of_the_sharpest_edges_is_refused_with_what_to_do():
    def before():
        return [ToTensorImage(in_keys=["pixels"]), Resize(in_keys=["pixels"], out_keys=["pixels"])]

    with pytest.raises(FrameError, match=r"value_range=\(0, 1\) clamps what lies outside, as after a bicubic resize"):
        video_of(GymEnv("CartPole-v1", from_pixels=True), *before())
    env = GymEnv("CartPole-v1", from_pixels=True)
    video, seen = video_of(env, *before(), value_range=(0, 1), name="said")
    assert np.array_equal(video, mapped(seen.movedim(1, -1), 0, 1))


def overshoot(number, env_id):
    return torch.linspace(-0.04, 1.04, 24 * 32).reshape(24, 32)


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r)), lambda r: r.clone()],
    ids=["deep", "pickle", "clone"],
)
def test_each_recorder_says_it_once(copied):
    one = recorder()
    env = TransformedEnv(PixelsEnv(frame=overshoot), one)
    with pytest.warns(VidrecWarning, match="clamped") as caught:
        env.rollout(3)
    assert len(caught) == 1
    one.dump()
    env.rollout(3)
    other = TransformedEnv(PixelsEnv(frame=overshoot), copied(one))
    with pytest.warns(VidrecWarning, match="clamped") as caught:
        other.rollout(3)
    assert len(caught) == 1
    one.dump()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_five_percent_is_an_overshoot(dtype):
    def frame(number, env_id):
        return torch.linspace(-0.05, 1.05, 24 * 32, dtype=torch.float64).reshape(24, 32).to(dtype)

    with pytest.warns(VidrecWarning, match="clamped"):
        video, _ = video_of(PixelsEnv(frame=frame))
    assert (video[:, 0, 0] == 0).all()
    assert (video[:, -1, -1] == 255).all()


@pytest.mark.parametrize(("low", "high"), [(-0.06, 1), (0, 1.06), (-0.5, 0.5), (0, math.inf)])
def test_more_is_none(low, high):
    def frame(number, env_id):
        x = torch.rand(24, 32)
        x[0, :2] = torch.tensor([low, high])
        return x

    with pytest.raises(FrameError, match="value_range="):
        video_of(PixelsEnv(frame=frame))


def test_integers_overshoot_too():
    frame = torch.linspace(-12, 267, 24 * 32).reshape(24, 32).to(torch.int16)
    with pytest.warns(VidrecWarning, match="values from -12 to 267; expected 0 to 255. What lies outside is clamped"):
        video, _ = video_of(PixelsEnv(frame=lambda number, env_id: frame))
    assert np.array_equal(video[0, ..., 0], frame.clamp(0, 255).numpy())
    with pytest.raises(FrameError, match="values from 0 to 270"):
        video_of(noise(24, 32, high=270, dtype=torch.int16), name="more")


def test_a_range_that_is_said_clamps_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        video, seen = video_of(PixelsEnv(frame=overshoot), value_range=(0, 1))
    assert np.array_equal(video, mapped(seen, 0, 1))


# colormap


def colours(name, levels):
    """Return matplotlib's own colours of uint8 levels."""
    from matplotlib import colormaps

    return np.rint(colormaps[name](levels / 255)[..., :3] * 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["viridis", "gray", "tab20", "twilight_r"])
def test_every_level_has_the_colour_of_matplotlib(name):
    levels = torch.arange(256, dtype=torch.uint8).reshape(16, 16)
    video, _ = video_of(PixelsEnv(frame=lambda number, env_id: levels), colormap=name, steps=1)
    assert np.array_equal(video[0], colours(name, levels.numpy()))


@pytest.mark.parametrize(
    ("shape", "dtype", "settings"),
    [
        ((24, 32), torch.uint8, {}),
        ((24, 32, 1), torch.uint8, {}),
        ((1, 24, 32), torch.uint8, {}),
        ((24, 32), torch.float32, {"value_range": (0, 255)}),
        ((24, 32), torch.uint16, {"value_range": (0, 255)}),
        ((24, 32, 4), torch.uint8, {"stack": 4}),
        ((24, 32), torch.uint8, {"video_format": "mkv"}),
    ],
    ids=str,
)
def test_frames_of_one_channel_are_coloured(shape, dtype, settings):
    video, seen = video_of(noise(*shape, dtype=dtype), colormap="viridis", **settings)
    seen = seen[..., -1] if shape[-1] in (1, 4) else seen.reshape(-1, 24, 32)
    expected = colours("viridis", np.rint(seen.numpy()).astype(np.uint8))
    assert np.array_equal(video, expected) if "video_format" not in settings else close(video, expected)


def close(video, expected):
    return np.abs(video.astype(int) - expected).mean() < 8


def test_a_grid_is_coloured_but_for_its_unused_cells():
    video, seen = video_of(noise(24, 32, dtype=torch.uint8, batch_size=(3,)), colormap="viridis")
    cells = [video[:, :24, :32], video[:, :24, 32:], video[:, 24:, :32]]
    assert all(np.array_equal(cells[i], colours("viridis", seen[:, i].numpy())) for i in range(3))
    assert not video[:, 24:, 32:].any()


def test_a_sample_is_coloured():
    td = TensorDict({"pixels": torch.rand(2, 3, 24, 32)}, [2, 3])
    one = recorder(colormap="magma")
    one(td)
    levels = (td["pixels"].reshape(6, 24, 32) * 255).round().numpy()
    assert np.array_equal(decode(one.dump().path), colours("magma", levels))


@pytest.mark.parametrize(
    ("name", "near"), [("virids", "viridis"), ("grayz", "gr[ae]y"), (3, "viridis"), ("", "viridis")]
)
def test_an_unknown_colormap_is_refused_with_those_near(name, near):
    with pytest.raises(
        SettingError, match=rf"colormap={name!r} is none of matplotlib's; expected one such as .*{near}"
    ):
        recorder(colormap=name)


def test_a_colormap_without_matplotlib(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ExtraError, match=r'colormap= needs matplotlib, .*pip install "vidrec\[colormap\]"'):
        recorder(colormap="viridis")


@pytest.mark.parametrize("shape", [(24, 32, 3), (3, 24, 32)])
@pytest.mark.parametrize("colormap", ["viridis", {"pixels": "viridis"}], ids=str)
def test_a_colormap_that_colours_nothing_is_refused(shape, colormap):
    with pytest.raises(FrameError, match=r"'pixels' of shape .* has 3 channels; colormap= colours frames of one"):
        video_of(noise(*shape, dtype=torch.uint8), colormap=colormap)


# how large the file is

SIZES = [(100, 8192), (8192, 64), (64, 1500), (5000, 20), (30, 30), (20, 2049), (4095, 33), (1025, 2), (2, 4097)]


@product(size=SIZES, video_format=["mp4", "webm"])
def test_a_file_is_enlarged_to_4096_at_the_most(size, video_format):
    env = TransformedEnv(PixelsEnv(frame=random_frames(*size, 3)), recorder(video_format=video_format))
    env.rollout(2)
    video = env.transform.dump()
    frames = decode(video.path)
    height, width = frames.shape[1:3]
    assert len(frames) == 3
    assert (height, width) == Encoding.of(video_format).file_size(size)
    assert max(height, width) <= max(4096, *(side + side % 2 for side in size))
    assert height >= size[0]
    assert width >= size[1]
    factor = Encoding.of(video_format).factor(size)
    assert factor in (1, 2, 4)
    assert min(size) * factor >= 256 or factor == 4 or max(size) * factor * 2 > 4096
    assert "yuv420p" in probe(video.path)
    assert list(verify(Path())) == []


# one colour


def plain(*values, size=(24, 32, 3)):
    """An environment whose frames have one colour each, frame number i that of `values`, the last from then on."""

    def frame(number, env_id):
        value = values[min(number, len(values) - 1)]
        return value if isinstance(value, torch.Tensor) else torch.full(size, value, dtype=torch.uint8)

    return frame


def warned(env, *recorders, steps=3, dumps=1):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = TransformedEnv(env, Compose(*recorders))
        for _ in range(dumps):
            env.rollout(steps, break_when_any_done=False)
            for one in recorders:
                one.dump()
    return told(caught, "all ")


@pytest.mark.parametrize(
    ("values", "colour"),
    [
        ((0,), "black"),
        ((7,), r"of one colour, (7, 7, 7)"),
        ((torch.full((24, 32), 0.5),), "of one colour, (128, 128, 128)"),
    ],
    ids=["black", "grey", "float"],
)
@pytest.mark.parametrize("settings", [{}, {"video_format": "mp4"}, {"last": 2}], ids=str)
def test_a_video_of_one_colour_is_said(values, colour, settings):
    (text,) = warned(PixelsEnv(frame=plain(*values)), recorder(**settings))
    number = settings.get("last", 4)
    assert text.startswith(f"all frames of 'video', {number} in number, are {colour}. If they should not be, look")
    assert "value_range=" in text


@pytest.mark.parametrize(
    "values", [(0, 0, numbered(5, (24, 32))), (numbered(5, (24, 32)), 0), (0, 0, 0, 1), (0, 1)], ids=range(4)
)
def test_a_video_of_several_colours_is_not(values):
    assert warned(PixelsEnv(frame=plain(*values)), recorder()) == []


def test_one_pixel_is_enough():
    frame = torch.zeros(24, 32, 3, dtype=torch.uint8)
    frame[-1, -1, 2] = 1
    assert warned(PixelsEnv(frame=lambda number, env_id: frame), recorder()) == []


def test_it_is_said_once_for_each_recorder():
    assert len(warned(PixelsEnv(frame=plain(0)), recorder(), dumps=3)) == 1
    two = recorder(name="one"), recorder(name="two")
    assert len(warned(PixelsEnv(frame=plain(0)), *two, dumps=2)) == 2


def test_a_later_video_of_one_colour_is_said():
    frame = plain(*[numbered(5, (24, 32))] * 4, 0)
    (text,) = warned(PixelsEnv(frame=frame), recorder(), dumps=3)
    assert text.startswith("all frames of 'video', 4 in number")


@pytest.mark.parametrize("make_grid", [True, False])
def test_a_batch_says_it_once(make_grid):
    env = PixelsEnv(frame=plain(0), batch_size=(3,))
    assert len(warned(env, recorder(make_grid=make_grid))) == 1


def test_episodes_say_it_once():
    env = PixelsEnv(frame=plain(0), horizon=2)
    one = recorder(dump_on_done=True)
    assert len(warned(env, one, steps=8)) == 1
    assert len(one.videos) == 4


def test_a_colormap_makes_no_difference():
    (text,) = warned(PixelsEnv(frame=plain(0, size=(24, 32))), recorder(colormap="viridis"))
    assert "of one colour, (68, 1, 84)" in text


def test_loggers_that_take_tensors_say_it_too():
    logger = KeepLogger()
    assert len(warned(PixelsEnv(frame=plain(0)), VideoRecorder(logger, "video", skip=1))) == 1
    assert logger.videos[0].shape == (1, 4, 3, 24, 32)


def test_several_loggers_say_it_once():
    logger = TeeLogger(CSVLogger("one", video_format="pt"), CSVLogger("two", video_format="mkv"))
    assert len(warned(PixelsEnv(frame=plain(0)), VideoRecorder(logger, "video", skip=1))) == 1


def test_on_error_warn_says_it_and_is_no_failure():
    one = recorder(on_error="warn")
    TransformedEnv(PixelsEnv(frame=plain(0)), one).rollout(3)
    with pytest.warns(VidrecWarning, match="all frames of 'video', 4 in number, are black"):
        video = one.dump()
    assert len(decode(video.path)) == 4


def finished(env, recorder):
    env.rollout(3)
    recorder.dump()


@pytest.mark.parametrize("settings", [{}, {"dump_on_done": True}, {"make_grid": False}], ids=str)
def test_warnings_that_are_errors_lose_no_video(settings):
    one = recorder(**settings)
    env = TransformedEnv(PixelsEnv(frame=plain(0), horizon=3, batch_size=(2,)), one)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(VidrecWarning, match="are black"):
            finished(env, one)
        one.dump()
    assert [len(decode(video.path)) for video in one.videos] == [4] * len(one.videos)
    assert len(one.videos) == (2 if settings.get("make_grid") is False else 1)


# missing entries


@pytest.mark.parametrize("key", ["pixel", ("agents", "pixels")], ids=str)
def test_a_missing_entry_is_named_with_what_to_do(key):
    env = TransformedEnv(PixelsEnv(), recorder([key]))
    with pytest.raises(KeyError) as raised:
        env.rollout(2)
    text = raised.value.args[0]
    assert text.startswith(
        f"there is no entry {key!r} to record; there are 'done', 'pixels', 'terminated'. Pixels come"
    )
    assert "from_pixels=True" in text
    assert "tensor(" not in text
    assert "\\" not in str(raised.value)


def test_a_nested_entry_is_among_those_that_are_there():
    rename = RenameTransform(["pixels"], [("agents", "camera")])
    env = TransformedEnv(PixelsEnv(), Compose(rename, recorder([("agents", "pixels")])))
    with pytest.raises(
        KeyError, match=r"no entry \('agents', 'pixels'\) to record; there are .*\('agents', 'camera'\)"
    ):
        env.rollout(2)


def test_a_missing_entry_of_a_sample():
    with pytest.raises(KeyError, match=r"there is no entry 'pixels' to record; there are 'image', \('next', 'image'\)"):
        recorder()(TensorDict({"image": torch.rand(3, 8, 8), "next": {"image": torch.rand(3, 8, 8)}}, [3]))
    with pytest.raises(KeyError, match="there are none"):
        recorder()(TensorDict({}, [3]))


def test_hundreds_of_entries_are_not_all_named():
    td = TensorDict({f"entry_{i}": torch.zeros(3) for i in range(500)}, [3])
    with pytest.raises(KeyError) as raised:
        recorder()(td)
    assert len(str(raised.value)) < 600


def test_a_missing_entry_can_be_tolerated():
    one = recorder()
    one.set_missing_tolerance(True)
    TransformedEnv(PixelsEnv(key="image"), one).rollout(2)
    assert one.dump() is None


def test_the_pixels_of_a_real_env_without_a_picture():
    env = TransformedEnv(GymEnv("CartPole-v1"), recorder())
    with pytest.raises(KeyError, match=r"there is no entry 'pixels' .* 'observation'.*from_pixels=True of GymEnv"):
        env.rollout(2)

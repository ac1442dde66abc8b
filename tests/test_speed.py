"""fps="env", a video in real time, and the warning of a video that is not."""

import functools
import itertools
import pickle
import re
import sys
import warnings
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import START_METHODS, cheetah, require, since_torchrl, some
from numbered_frames import probe
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import Compose, GymEnv, GymWrapper, ParallelEnv, SerialEnv, TransformedEnv
from torchrl.envs.transforms import FrameSkipTransform, StepCounter
from worlds import KeepLogger, PixelsEnv

from vidrec import CSVLogger, MemoryLogger, SettingError, TeeLogger, TensorboardLogger, VideoRecorder, VidrecWarning
from vidrec.errors import Once
from vidrec.sources import speed

pytestmark = [
    # of simulators, about themselves
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(gym|pygame|pyglet|vmas|pkg_resources|pettingzoo).*"),
    pytest.mark.filterwarnings("ignore:Nested TransformedEnvs are automatically unwrapped:UserWarning"),
    pytest.mark.filterwarnings("ignore:PettingZoo in TorchRL is tested using version:UserWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:(gym|pygame|pyglet|vmas|highway_env|pettingzoo).*"),
]


def gym(name, wrap=None, **settings):
    """Return a function that makes an environment of Gymnasium, with the pixels of its ``render``."""

    def make():
        require("gymnasium", "pygame", "ale_py", "mujoco", "minigrid", "highway_env")
        import ale_py
        import gymnasium
        import highway_env
        import minigrid

        gymnasium.register_envs(ale_py)
        gymnasium.register_envs(minigrid)
        gymnasium.register_envs(highway_env)
        if wrap is None:
            return GymEnv(name, from_pixels=True, **settings)
        env = gymnasium.make(name, render_mode="rgb_array", **settings)
        return GymWrapper(wrap(env), from_pixels=True)

    return make


def frozen_lake():
    return gym("FrozenLake-v1")()


def pixels_env():
    return PixelsEnv()


def preprocessed(env):
    from gymnasium.wrappers import AtariPreprocessing

    return AtariPreprocessing(env, frame_skip=4)


def max_and_skip(env):
    from gymnasium.wrappers import MaxAndSkipObservation

    return MaxAndSkipObservation(env, skip=3)


def pixels_of_cheetah(**settings):
    return functools.partial(cheetah, from_pixels=True, **settings)


def pistonball():
    require("pettingzoo", "pymunk")
    from pettingzoo.butterfly import pistonball_v6
    from torchrl.envs import PettingZooWrapper

    return PettingZooWrapper(pistonball_v6.parallel_env(render_mode="rgb_array"), return_state=True)


def vmas():
    require("vmas")
    from torchrl.envs import VmasEnv

    return VmasEnv("balance", num_envs=2, seed=0)


numbers = itertools.count()


def rate(path):
    """Return the frames per second that FFmpeg finds in a file, which it rounds to two decimals."""
    return float(re.search(r"([\d.]+) fps", probe(path))[1])


def enter(env, *behind, before=(), logger=None, **settings):
    """Reset an environment with a recorder in it, and return both."""
    recorder = VideoRecorder(logger or CSVLogger("run"), "video", **settings)
    env = TransformedEnv(env, Compose(*before, recorder, *behind))
    env.reset()
    return env, recorder


def in_real_time(env, *behind, **settings):
    """Record a few steps and return the fps of the video, as the file has it."""
    env, recorder = enter(env, *behind, fps="env", logger=CSVLogger(f"run{next(numbers)}"), **settings)
    env.rollout(6, break_when_any_done=False)
    video = recorder.dump()
    assert rate(video.path) == pytest.approx(float(video.fps), abs=0.01)
    env.close()
    return video.fps


REAL = {
    "FrozenLake": (frozen_lake, 4),
    "CartPole": (gym("CartPole-v1"), 50),
    "CartPole, frame_skip": (gym("CartPole-v1", frame_skip=2), 25),
    "HalfCheetah": (gym("HalfCheetah-v5"), 20),
    "HalfCheetah, frame_skip": (gym("HalfCheetah-v5", frame_skip=4), 5),
    "Humanoid, whose render_fps is rounded": (gym("Humanoid-v5"), Fraction(200, 3)),
    "ALE": (gym("ALE/Pong-v5"), 60),
    "ALE, frame_skip": (gym("ALE/Pong-v5", frame_skip=4), 15),
    "ALE, frame skips that are drawn": (gym("ALE/Pong-v5", lambda env: env, frameskip=(2, 5)), 20),
    "ALE, preprocessed": (gym("ALE/Pong-v5", preprocessed, frameskip=1), 15),
    "ALE, MaxAndSkip": (gym("ALE/Pong-v5", max_and_skip, frameskip=2), 10),
    "MiniGrid": (gym("MiniGrid-Empty-5x5-v0"), 10),
    "highway-env": (gym("highway-fast-v0"), 1),
    "highway-env, configured": (gym("highway-fast-v0", config={"policy_frequency": 5}), 5),
    "dm_control": (pixels_of_cheetah(), 100),
    "dm_control, frame_skip": (pixels_of_cheetah(frame_skip=4), 25),
}


ONE_OF_EACH = [
    "FrozenLake",
    "Humanoid, whose render_fps is rounded",
    "ALE, frame skips that are drawn",
    "ALE, MaxAndSkip",
    "MiniGrid",
    "highway-env, configured",
    "dm_control, frame_skip",
]


@pytest.mark.parametrize("name", some(REAL, *ONE_OF_EACH))
def test_a_video_of_a_real_environment_plays_in_real_time(name, monkeypatch):
    make, fps = REAL[name]
    # AtariPreprocessing asks for OpenCV, for smaller observations, which are not what is recorded
    shrink = SimpleNamespace(INTER_AREA=0, resize=lambda image, size, interpolation: np.zeros(size[::-1], image.dtype))
    monkeypatch.setitem(sys.modules, "cv2", shrink)
    assert in_real_time(make(), skip=1) == fps


@pytest.mark.long
def test_a_video_of_pettingzoo_plays_in_real_time():
    assert in_real_time(pistonball(), in_keys=["state"], skip=1) == 20


def test_a_video_of_vmas_plays_in_real_time():
    env = vmas()

    class Render(StepCounter):
        def _step(self, tensordict, following):
            return self._reset(tensordict, following)

        def _reset(self, tensordict, following):
            following["pixels"] = torch.zeros(2, 24, 32, 3, dtype=torch.uint8)
            return following

    assert in_real_time(env, before=[Render()]) == 10


@since_torchrl("0.14")
def test_a_video_of_torchrls_mujoco_plays_in_real_time():
    require("mujoco")
    from torchrl.envs import HopperEnv

    assert in_real_time(HopperEnv(backend="mujoco", from_pixels=True)) == 40


def test_the_speed_of_a_vector_environment_is_that_of_its_envs():
    env = gym("CartPole-v1", num_envs=2)()
    assert speed.seconds_per_step(env, None) == Fraction(1, 50)
    env.close()


def test_skip_is_in_the_speed():
    assert in_real_time(frozen_lake()) == 2  # the default of a single env is to keep every other frame
    assert in_real_time(gym("CartPole-v1")(), skip=4) == Fraction(25, 2)


def test_a_frame_skip_before_the_recorder_counts_and_one_behind_it_does_not():
    skip = [FrameSkipTransform(5)]
    assert in_real_time(gym("CartPole-v1")(), before=skip, skip=1) == 10
    assert in_real_time(gym("CartPole-v1")(), FrameSkipTransform(5), skip=1) == 50
    inner = TransformedEnv(gym("CartPole-v1", frame_skip=2)(), FrameSkipTransform(5))
    assert in_real_time(SerialEnv(1, lambda: inner)) == 5

    recorder = VideoRecorder(CSVLogger("run"), "video", fps="env", skip=1)
    inner = TransformedEnv(gym("CartPole-v1")(), FrameSkipTransform(5))
    env = TransformedEnv(inner, recorder, auto_unwrap=False)
    env.reset()
    assert (type(env.base_env), recorder.dump().fps) == (TransformedEnv, 10)
    # TorchRL cannot run a transform in a Compose in a Compose that asks for its parent
    within = Compose(StepCounter(), Compose(FrameSkipTransform(5)), recorder := recorder.clone(), FrameSkipTransform(7))
    assert speed.seconds_per_step(TransformedEnv(gym("CartPole-v1")(), within), recorder) == Fraction(1, 10)


def test_the_envs_of_a_serial_env_say_it():
    assert in_real_time(SerialEnv(2, frozen_lake)) == 4


@pytest.mark.parametrize("start", START_METHODS[:2])
@pytest.mark.parametrize("use_buffers", some([True, False], True))
def test_the_first_worker_of_a_parallel_env_says_it_and_goes_on(start, use_buffers):
    def make():
        return ParallelEnv(2, [frozen_lake, frozen_lake], mp_start_method=start, use_buffers=use_buffers)

    env, recorder = enter(make(), fps="env", skip=2)
    env.rollout(10, break_when_all_done=True, break_when_any_done=False)
    assert env.training
    env.set_seed(0)
    recorder.dump("before")
    assert env.rollout(20, break_when_any_done=False).shape == (2, 20)
    video = recorder.dump()
    assert video.frames >= 10
    assert video.fps == round(rate(video.path)) == 2
    env.close()


@pytest.mark.parametrize("use_buffers", [True, False])
def test_a_worker_that_does_not_know_goes_on(use_buffers):
    env = TransformedEnv(
        ParallelEnv(2, pixels_env, mp_start_method="fork", use_buffers=use_buffers),
        VideoRecorder(CSVLogger("run"), "video", fps="env"),
    )
    with pytest.raises(SettingError, match="how long a step of ParallelEnv takes"):
        env.reset()
    assert env.base_env.rollout(5).shape == (2, 5)
    env.close()


def test_a_recorder_inside_a_worker_plays_in_real_time():
    def make():
        return TransformedEnv(frozen_lake(), VideoRecorder(CSVLogger("run"), "video", fps="env", skip=1))

    env = ParallelEnv(1, make, mp_start_method="fork")
    env.rollout(4, break_when_any_done=False)
    env.close()
    assert rate(Path("csv_logs/run/videos/video_0.mp4")) == 4


class Declared(PixelsEnv):
    """Says of itself what it is told."""

    def __init__(self, **attributes):
        super().__init__()
        self.__dict__.update(attributes)


def test_an_env_of_torchrls_kind_says_it_by_dt_or_metadata():
    assert in_real_time(Declared(dt=0.04), skip=1) == 25
    assert in_real_time(Declared(dt=torch.tensor(0.5)), skip=1) == 2
    assert in_real_time(Declared(metadata={"render_fps": np.int64(12)}), skip=1) == 12
    assert in_real_time(Declared(metadata={"render_fps": 29.97}), skip=1) == Fraction(2997, 100)
    assert in_real_time(Declared(metadata={"render_fps": 0}, dt=0.04), skip=1) == 25  # what is nonsense is not taken


NONSENSE = [0, -4, float("nan"), float("inf"), True, "30", None, [4], 1e-300]


@pytest.mark.parametrize("value", NONSENSE, ids=repr)
@pytest.mark.parametrize("place", ["render_fps", "dt"])
def test_what_is_no_rate_is_refused_at_the_first_reset_and_at_each_that_follows(place, value):
    env = Declared(**({"dt": value} if place == "dt" else {"metadata": {"render_fps": value}}))
    recorder = VideoRecorder(CSVLogger("run"), "video", fps="env")
    env = TransformedEnv(env, recorder)
    looked_at = "metadata.*render_fps.*dt.*_frameskip.*control_timestep.*world.dt.*policy_frequency"
    for _ in range(2):
        with pytest.raises(SettingError, match=f"a step of Declared takes.*{looked_at}.*give fps=<number>"):
            env.reset()
    assert recorder.dump() is None
    env.base_env.dt = 0.1
    env.reset()
    assert recorder.video_kwargs["fps"] == 5
    recorder.dump()


def test_an_attribute_that_raises_is_unknown():
    class Broken(PixelsEnv):
        @property
        def dt(self):
            raise RuntimeError("not before the first step")

    with pytest.raises(SettingError, match="of Broken takes"):
        enter(Broken(), fps="env")


def test_a_rate_that_the_format_cannot_have_is_refused_at_the_first_reset():
    with pytest.raises(SettingError, match="fps=200 is beyond GIF"):
        enter(Declared(dt=0.005), logger=CSVLogger("run", video_format="gif"), fps="env", skip=1)


def test_settings_are_checked_at_once_beside_a_speed_that_is_not_known_yet():
    with pytest.raises(SettingError, match="crf"):
        VideoRecorder(CSVLogger("run"), "video", fps="env", crf="good")
    with pytest.raises(SettingError, match="fps='real'"):
        VideoRecorder(CSVLogger("run"), "video", fps="real")


def test_with_warn_an_unknown_speed_is_that_of_the_logger():
    with pytest.warns(VidrecWarning, match="fps='env' needs to know"):
        env, recorder = enter(PixelsEnv(), logger=CSVLogger("run", video_fps=12), fps="env", skip=1, on_error="warn")
    env.rollout(3)
    failure = recorder.dump()
    assert (failure.video.frames, failure.video.fps) == (5, 12)


def test_with_warn_a_copy_in_an_environment_that_is_unknown_has_not_the_speed_of_the_one_before():
    _, recorder = enter(Declared(dt=0.1), fps="env", skip=1, on_error="warn")
    recorder.dump()
    env = TransformedEnv(PixelsEnv(), recorder.clone())
    with pytest.warns(VidrecWarning, match="fps='env' needs to know"):
        env.reset()
    assert "fps" not in env.transform.video_kwargs


def test_samples_without_an_environment_have_no_speed():
    data = TensorDict({"pixels": torch.zeros(8, 3, 24, 32, dtype=torch.uint8)}, [8])

    def buffer(**settings):
        recorder = VideoRecorder(CSVLogger("run", video_fps=12), "video", in_keys=["pixels"], fps="env", **settings)
        filled = TensorDictReplayBuffer(storage=LazyTensorStorage(8), batch_size=4, transform=recorder)
        filled.extend(data)
        return filled, recorder

    filled, recorder = buffer()
    for _ in range(2):
        with pytest.raises(SettingError, match=r"needs an environment.*give fps=<number>"):
            filled.sample()
    assert recorder.dump() is None
    filled, recorder = buffer(on_error="warn")
    with pytest.warns(VidrecWarning, match="needs an environment"):
        filled.sample()
    filled.sample()
    assert (recorder.dump().video.frames, recorder.count) == (8, 0)


def test_a_copy_in_another_environment_has_its_speed():
    _, recorder = enter(Declared(dt=0.1), fps="env", skip=1)
    for copy in (recorder.clone(), pickle.loads(pickle.dumps(recorder.clone()))):
        other = TransformedEnv(Declared(dt=0.5), copy)
        other.reset()
        assert (copy.video_kwargs["fps"], recorder.video_kwargs["fps"]) == (2, 10)
        with pytest.raises(SettingError, match="of PixelsEnv"):
            TransformedEnv(PixelsEnv(), copy.clone()).reset()
        copy.dump()
    recorder.dump()


def test_a_skip_that_is_assigned_counts_at_the_next_entering():
    env, recorder = enter(Declared(dt=0.1), fps="env", skip=1)
    recorder.skip = 2
    env.rollout(4)
    assert recorder.dump().fps == 10
    env = TransformedEnv(Declared(dt=0.1), recorder.clone())
    env.rollout(4)
    assert env.transform.dump().fps == 5


@pytest.mark.parametrize(("dt", "fps"), [(0.25, 4), (0.4, 2.5)])
def test_a_logger_that_takes_tensors_is_given_a_number(dt, fps):
    logger = KeepLogger()
    _, recorder = enter(Declared(dt=dt), logger=logger, fps="env", skip=1)
    recorder.dump()
    assert logger.calls[0][3] == {"fps": fps}


def test_a_transform_that_steps_its_parent_does_not_change_the_speed():
    env, recorder = enter(Declared(dt=0.1), FrameSkipTransform(3), fps="env", skip=1)
    env.rollout(4)
    video = recorder.dump()
    assert (video.frames, video.fps) == (2 + 4 * 3, 10)


# the warning

MESSAGE = "this video plays"


@pytest.fixture
def warned(monkeypatch):
    """Have the warning back, and return the messages of those that were given."""
    monkeypatch.setattr(speed, "warn_once", Once())
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", MESSAGE)
        messages = SimpleNamespace(
            all=lambda: [str(one.message) for one in caught if isinstance(one.message, VidrecWarning)]
        )
        yield messages


def test_a_video_that_is_too_fast_is_warned_of_once_in_a_process(warned):
    enter(frozen_lake(), skip=1)
    enter(frozen_lake(), skip=1)
    assert warned.all() == [
        "this video plays 7.5 times as fast as FrozenLake-v1: fps=30 and skip=1, and the env makes 4 steps a second; "
        "fps='env' plays in real time"
    ]


@pytest.mark.parametrize(
    ("make", "settings", "expected"),
    [
        (gym("HalfCheetah-v5"), {"skip": 1}, "1.5 times as fast as HalfCheetah-v5: fps=30 and skip=1"),
        (gym("ALE/Pong-v5"), {"skip": 1}, "at 0.5 of the speed of ALE/Pong-v5: fps=30 and skip=1"),
        (gym("CartPole-v1"), {"fps": 60}, "2.4 times as fast as CartPole-v1: fps=60 and skip=2"),
        (
            pixels_of_cheetah(),
            {},
            "at 0.6 of the speed of DMControlEnv: fps=30 and skip=2, and the env makes 100 steps a second",
        ),
    ],
    ids=["HalfCheetah", "ALE", "given", "dm_control"],
)
def test_the_warning_says_how_fast(make, settings, expected, warned):
    enter(make(), **settings)
    assert [expected in message for message in warned.all()] == [True]


def test_the_fps_of_every_logger_counts(warned):
    env = Declared(dt=1 / 30)
    enter(env, logger=TensorboardLogger("run"), skip=1)
    assert [message.split(":")[1].split(",")[0] for message in warned.all()] == [" fps=4 and skip=1"]
    speed.warn_once.given = False
    enter(env, logger=TeeLogger(MemoryLogger(), CSVLogger("run", video_fps=60)), skip=1)
    enter(env, logger=CSVLogger("run"), skip=1)
    assert len(warned.all()) == 2


def test_nothing_is_said_of_what_is_near_or_has_no_speed(warned):
    enter(Declared(dt=1 / 24.0), skip=1)  # 1.25 times as fast
    enter(Declared(dt=0.8 / 30), skip=1)
    enter(frozen_lake(), fps="env")
    enter(PixelsEnv(), skip=1)
    enter(Declared(dt=10), logger=KeepLogger(), skip=1)
    enter(Declared(dt=10), logger=CSVLogger("run", video_format="pt"), skip=1)
    recorder = VideoRecorder(CSVLogger("run"), "video", in_keys=["pixels"])
    recorder(TensorDict({"pixels": torch.zeros(8, 3, 24, 32, dtype=torch.uint8)}, [8]))
    assert warned.all() == []
    enter(Declared(dt=10), logger=KeepLogger(), skip=1, fps=30)  # it is told
    assert len(warned.all()) == 1


def test_where_warnings_are_errors_the_next_reset_goes_on(monkeypatch):
    monkeypatch.setattr(speed, "warn_once", Once())
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)
    env = TransformedEnv(Declared(dt=1), recorder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(VidrecWarning, match="30 times as fast as Declared"):
            env.reset()
        env.rollout(3)
        assert recorder.dump().frames == 4

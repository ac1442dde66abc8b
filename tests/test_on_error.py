"""What goes wrong while recording stops the program, or with ``on_error="warn"`` it does not, and is told."""

import copy
import os
import pickle
import shutil
import signal
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import pytest
import torch
from conftest import SERVICE, since_torchrl
from numbered_frames import numbered, numbers_in
from processes import children, encoders, ended, run_python, started, within
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, ReplayBuffer
from torchrl.envs import TransformedEnv
from torchrl.envs.utils import step_mdp
from worlds import EpisodesEnv, KeepLogger, PixelsEnv, name_of

from vidrec import (
    CSVLogger,
    EncoderError,
    Failure,
    FrameError,
    MemoryLogger,
    SettingError,
    TagError,
    TeeLogger,
    Video,
    VideoRecorder,
    VidrecWarning,
)


@pytest.fixture(autouse=True)
def _nothing_hangs():
    with within(120):
        yield


@contextmanager
def told():
    """Collect what is told in warnings, of which there are no others."""
    said = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    assert [w.category for w in caught] == [VidrecWarning] * len(caught)
    said += [str(w.message) for w in caught]


def videos(folder="csv_logs/run/videos", pattern="*.mp4"):
    """The names of the finished videos, and the numbers that they show."""
    paths = sorted(path for path in Path(folder).glob(pattern) if ".part-" not in path.name)
    return {path.name: numbers_in(path) for path in paths}


def kill_encoder(at=0):
    """Kill the encoder that was started as number `at`."""
    while len(ffmpegs := [pid for pid in children() if pid in encoders(Path.cwd())]) <= at:
        time.sleep(0.01)
    os.kill(ffmpegs[at], signal.SIGKILL)
    while not ended(ffmpegs[at]):
        time.sleep(0.01)


class Broken(CSVLogger):
    """Raises as long as `broken` is set."""

    broken = False

    def log_video(self, *args, **settings):
        if self.broken:
            raise RuntimeError("the service is down")
        return super().log_video(*args, **settings)


class World:
    """An environment that offers 10 frames, numbered, in each of two rollouts; something happens at number 5."""

    def __init__(self, harm, heal=None, **settings):
        self.at = {5: harm} if heal is None else {5: harm, 6: heal}
        self.shows = numbered
        self.logger = Broken("run")
        self.recorder = VideoRecorder(self.logger, "game", skip=1, **settings)
        self.base = PixelsEnv(frame=self._frame)
        self.env = TransformedEnv(self.base, self.recorder)

    def _frame(self, number, env_id):
        self.at.pop(number, lambda world: None)(self)
        return self.shows(number)

    def roll(self):
        td = self.env.reset()
        for _ in range(9):
            td = step_mdp(self.env.step(self.env.rand_action(td)))
        return self.recorder.dump()


def shows(frame):
    return lambda world: setattr(world, "shows", frame)


BLUE = [number for number in range(10) if number != 5]


@dataclass
class Case:
    harm: object
    error: type[Exception]
    match: str
    lost: int
    frames: list[int] | None
    """The numbers in the video that there is all the same."""
    heal: object = None
    count: int = 1
    after: tuple = tuple(range(10, 20))
    """The numbers in the next video."""


def break_logger(world):
    world.logger.broken = True


def remove_folder(world):
    wait_for_output()
    shutil.rmtree("csv_logs")


def wait_for_output():
    while not list(Path("csv_logs/run/videos").glob("*.part-*.mp4")):
        pass


CASES = {
    "a frame that is refused": Case(
        shows(lambda number: torch.zeros(48, 64, 7)), FrameError, "pixels.*48, 64, 7", 1, BLUE, heal=shows(numbered)
    ),
    "frames of another size": Case(
        shows(lambda number: numbered(number, (24, 32))), FrameError, r"\(24, 32\).*\(48, 64\)", 5, [*range(5)], count=5
    ),
    "a key that is missing": Case(
        lambda world: setattr(world.base, "key", "elsewhere"), KeyError, "no entry 'pixels' to record", 1, BLUE,
        heal=lambda world: setattr(world.base, "key", "pixels"),
    ),
    "an encoder that is killed": Case(lambda world: kill_encoder(), EncoderError, "exit code -9.*game.part-", 5, None),
    "a folder that is removed": Case(remove_folder, EncoderError, "game.part-", 0, None),
    "a logger that raises at dump": Case(
        break_logger, RuntimeError, "the service is down", 0, None
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_with_warn_the_program_goes_on_and_dump_says_what_happened(what):
    case = CASES[what]
    world = World(case.harm, case.heal, on_error="warn")
    with told() as said:
        failure = world.roll()
    assert len(said) == 1
    assert "recording goes on" in said[0]
    assert not failure
    assert isinstance(failure, Failure)
    assert (failure.count, failure.lost, len(failure.errors)) == (case.count, case.lost, case.count)
    assert isinstance(failure.errors[0], case.error)
    assert str(failure.errors[0]) in said[0]
    assert f"{case.count} errors, {case.lost} frames lost" in str(failure)
    assert (failure.video and numbers_in(failure.video.path)) == case.frames
    world.shows, world.logger.broken = numbered, False
    with told() as said:
        video = world.roll()
    assert said == []
    assert isinstance(video, Video)
    assert [*videos().values()][-1] == [*case.after]
    if case.harm is break_logger:  # what it did not take is published under its own step
        assert [*videos().values()] == [[*range(10)], [*range(10, 20)]]
    assert encoders(Path.cwd()) == []


@pytest.mark.parametrize("what", CASES)
def test_with_raise_the_same_is_raised(what):
    case = CASES[what]
    world = World(case.harm)
    with pytest.raises(case.error, match=case.match):
        world.roll()


@pytest.mark.parametrize("value", ["ignore", None, True, "Warn", ["warn"]])
def test_on_error_is_raise_or_warn(value):
    with pytest.raises(SettingError, match=r"on_error=.* must be 'raise' or 'warn'"):
        VideoRecorder(None, "game", on_error=value)


# an FFmpeg that is not there when the first frame comes, and is there later

NO_FFMPEG = """
    import sys, warnings
    from pathlib import Path
    from numbered_frames import numbered
    from vidrec import CSVLogger, VideoRecorder

    warnings.simplefilter("always")
    recorder = VideoRecorder(CSVLogger("run"), "game", skip=1, on_error=sys.argv[2])
    here, away = Path(sys.argv[1]), Path(sys.argv[1] + ".away")
    here.rename(away)
    for number in range(10):
        recorder._apply_transform(numbered(number))
    failure = recorder.dump()
    print(type(failure.errors[0]).__name__, failure.count, failure.lost, failure.video)
    away.rename(here)
    recorder._apply_transform(numbered(7))
    print(recorder.dump().frames)
"""


@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_an_ffmpeg_that_is_missing_at_the_first_frame(on_error, tmp_path):
    ffmpeg = tmp_path / "ffmpeg"
    ffmpeg.symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    with started(NO_FFMPEG, ffmpeg, on_error, env={"FFMPEG_BINARY": str(ffmpeg)}) as child:
        output, errors = child.communicate(timeout=60)
    if on_error == "raise":
        assert child.returncode == 1
        assert b"EncoderError: FFmpeg could not be started for " in errors
    else:
        assert output.decode().split("\n")[:2] == ["EncoderError 1 10 None", "1"], errors.decode()
        assert errors.count(b"VidrecWarning: recording goes on after an error: FFmpeg could not be started") == 1


# what the user's functions raise


def fails_at(bad, when=lambda number: True):
    """Return a function of a number that raises when it is `bad`, each time."""

    def of(number):
        if number == bad:
            raise ZeroDivisionError(f"number {bad}")
        return when(number)

    return of


def envs_of(lengths, on_error="warn", logger=None, **settings):
    recorder = VideoRecorder(logger or CSVLogger("run"), "envs", skip=1, on_error=on_error, **settings)
    return recorder, TransformedEnv(EpisodesEnv(lengths), recorder)


def test_an_episode_trigger_that_raises_costs_no_other_episode():
    recorder, env = envs_of([[3]], make_grid=False, episode_trigger=fails_at(1))
    with told() as said:
        env.rollout(12, break_when_any_done=False)
        failure = recorder.dump()
    assert [type(error) for error in failure.errors] == [ZeroDivisionError]
    assert len(said) == 1
    whole = [[name_of(0, episode, step) for step in range(4)] for episode in range(3)]
    assert [numbers for numbers in videos().values() if numbers in whole] in (whole, [whole[0], whole[2]])


def test_an_episode_trigger_that_raises_of_one_env_is_asked_of_the_others():
    asked = []

    def trigger(number):
        asked.append(number)
        if len(asked) == 1:
            raise ZeroDivisionError
        return True

    recorder, env = envs_of([[3], [3]], make_grid=False, episode_trigger=trigger)
    with told() as said:
        env.rollout(3)
        failure = recorder.dump()
    assert (failure.count, len(said)) == (1, 1)
    assert asked == [0, 0]
    assert videos()["envs_env1_ep0_0.mp4"] == [name_of(1, 0, step) for step in range(4)]


def test_a_step_trigger_that_raises_is_asked_of_the_next_step_next():
    recorder, env = envs_of([[100]], step_trigger=fails_at(3, lambda step: step == 5), max_frames=4)
    with told() as said:
        env.rollout(12)
        failure = recorder.dump()
    assert (failure.count, len(said)) == (1, 1)
    assert [*videos().values()] == [[name_of(0, 0, step) for step in range(6, 10)]]


def test_of_a_keep_that_raises_the_video_is_kept():
    def keep(episode):
        if episode.number == 1:
            raise ZeroDivisionError("keep")
        return episode.number == 2

    recorder, env = envs_of([[3]], make_grid=False, keep=keep)
    with told() as said:
        env.rollout(11, break_when_any_done=False)
        failure = recorder.dump()
    assert (failure.count, failure.lost, len(said)) == (1, 0, 1)
    assert sorted(numbers[0] for numbers in videos().values()) == [name_of(0, episode, 0) for episode in (1, 2)]


@pytest.mark.parametrize("name", ["episode_trigger", "step_trigger", "keep"])
def test_with_raise_what_the_users_functions_raise_stops_the_program(name):
    settings = {"max_frames": 2} if name == "step_trigger" else {}
    _, env = envs_of([[3]], "raise", **{name: lambda *_: 1 / 0}, **settings)
    with pytest.raises(ZeroDivisionError):
        env.rollout(5)


# what goes wrong in one video does not in another


def test_of_a_env_whose_encoder_dies_the_others_have_their_videos_and_it_has_the_next():
    recorder, env = envs_of([[100]] * 3, make_grid=False)
    td = env.reset()
    with told() as said:
        for step in range(1, 10):
            if step == 5:
                kill_encoder(1)
            td = step_mdp(env.step(env.rand_action(td)))
        failure = recorder.dump()
    assert len(said) == 1
    assert (failure.count, failure.lost) == (1, 5)
    assert videos() == {f"envs_env{i}_0.mp4": [name_of(i, 0, step) for step in range(10)] for i in (0, 2)}
    assert failure.video.env_id == 2
    env.rollout(2)
    assert isinstance(recorder.dump(), Video)
    assert videos()["envs_env1_1.mp4"] == [name_of(1, 1, step) for step in range(3)]


def test_an_encoder_that_dies_costs_its_episode_and_each_episode_tells_its_own():
    recorder, env = envs_of([[3]], make_grid=False, dump_on_done=True)
    td = env.reset()
    with told() as said:
        for step in range(12):
            if step in (1, 4):
                kill_encoder()
            _, td = env.step_and_maybe_reset(env.rand_action(td))
        failure = recorder.dump()
    assert len(said) == 2
    assert (failure.count, failure.lost) == (2, 4)
    shown = [numbers[0] for name, numbers in videos().items() if len(numbers) == 4]
    assert shown == [name_of(0, episode, 0) for episode in (2, 3)]


@pytest.mark.parametrize("frames", [1, 3])
def test_an_encoder_that_dies_in_a_clip_of_a_step_trigger_costs_no_other_clip(frames):
    recorder, env = envs_of([[100]], step_trigger=lambda step: step % 10 == 0, max_frames=5)
    td = env.reset()
    with told() as said:
        for step in range(30):
            td = step_mdp(env.step(env.rand_action(td)))
            if step == 10 + frames - 1:
                kill_encoder()
        failure = recorder.dump()
    assert len(said) == 1
    assert (failure.count, failure.lost) == (1, 5 - frames)
    assert [numbers[0] for numbers in videos().values()] == [name_of(0, 0, step) for step in (1, 21)]


def test_a_logger_that_raises_at_the_end_of_an_episode_gets_the_video_at_dump():
    logger = Broken("run")
    recorder, env = envs_of([[3]], logger=logger, make_grid=False, dump_on_done=True)
    logger.broken = True
    with told() as said:
        env.rollout(3)
        logger.broken = False
        env.rollout(3)
        failure = recorder.dump()
    assert len(said) == 1
    assert (failure.count, failure.lost) == (1, 0)
    assert failure.video.path.name == "envs_ep0_0.mp4"
    assert [*videos().values()] == [[name_of(0, episode, step) for step in range(4)] for episode in (0, 1)]
    assert recorder.dump() is None


def test_a_step_that_is_no_number_is_told_and_the_video_has_the_next():
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1, on_error="warn")
    recorder._apply_transform(numbered(1))
    with told() as said:
        failure = recorder.dump(step=2.5)
    assert isinstance(failure, Failure)
    assert ["step=2.5 must be a whole number" in text for text in said] == [True]
    assert videos() == {"video_0.mp4": [1]}


def test_a_grid_goes_on_after_a_frame_that_is_refused():
    world = World(shows(lambda number: torch.zeros(48, 64, 7)), shows(numbered), on_error="warn", make_grid=True)
    with told():
        failure = world.roll()
    assert (failure.count, failure.lost) == (1, 1)
    assert numbers_in(failure.video.path) == BLUE


def test_of_many_errors_ten_are_told_and_all_are_counted():
    recorder = VideoRecorder(CSVLogger("run"), "game", skip=1, on_error="warn")
    with told() as said:
        for _ in range(25):
            recorder._apply_transform(torch.zeros(48, 64, 7))
        recorder._apply_transform("no frame")
        failure = recorder.dump()
    assert (failure.count, failure.lost, len(failure.errors)) == (26, 26, 10)
    assert len(said) == len({type(error) for error in failure.errors}) <= 2
    assert recorder.dump() is None


def test_a_dataset_passes_on_whatever_is_in_it():
    recorder = VideoRecorder(CSVLogger("run"), "data", in_keys=["pixels"], on_error="warn")
    buffer = ReplayBuffer(storage=LazyTensorStorage(10), batch_size=4, transform=recorder)
    good = TensorDict({"pixels": torch.stack([numbered(number) for number in range(4)])}, [4])
    bad = TensorDict({"pixels": torch.zeros(4, 48, 64, 7)}, [4])
    with told() as said:
        for data in (good, bad, good, TensorDict({"other": torch.zeros(4)}, [4])):
            assert recorder(data) is data
        failure = recorder.dump()
    assert len(said) == 2
    assert [type(error) for error in failure.errors] == [FrameError, KeyError]
    assert numbers_in(failure.video.path) == [0, 1, 2, 3] * 2
    buffer.extend(good)
    assert buffer.sample().shape == (4,)
    assert isinstance(recorder.dump(), Video)


def test_a_trajectory_whose_logger_fails_is_published_by_dump():
    logger = Broken("run")
    recorder = VideoRecorder(logger, "data", in_keys=["pixels"], dump_on_done=True, make_grid=False, on_error="warn")
    done = torch.tensor([False, True, False, True]).unsqueeze(-1)
    pixels = torch.stack([numbered(number) for number in range(4)])
    data = TensorDict({"pixels": pixels, "next": {"done": done}}, [4])
    logger.broken = True
    with told() as said:
        recorder(data)
        logger.broken = False
        failure = recorder.dump()
    assert (failure.count, failure.lost, len(said)) == (2, 0, 2)
    assert [*videos().values()] == [[0, 1], [2, 3]]


def test_a_tee_gives_the_others_theirs_and_the_failed_one_its_own_later():
    broken, memory = Broken("run"), MemoryLogger()
    recorder = VideoRecorder(TeeLogger(broken, memory), "game", skip=1, on_error="warn")
    broken.broken = True
    recorder._apply_transform(numbered(1))
    with told() as said:
        failure = recorder.dump()
    assert isinstance(failure, Failure)
    assert [str(error) for error in failure.errors] == ["the service is down"]
    assert len(said) == len(memory.videos) == 1
    broken.broken = False
    recorder._apply_transform(numbered(2))
    assert recorder.dump()
    assert [*videos().values()] == [[1], [2]]
    assert len(memory.videos) == 2


# copies


@pytest.mark.parametrize("way", [lambda recorder: recorder.clone(), copy.deepcopy], ids=["clone", "deepcopy"])
def test_what_goes_wrong_in_a_copy_is_in_the_originals_dump(way):
    recorder = VideoRecorder(CSVLogger("run"), "game", skip=1, on_error="warn")
    other = way(recorder)
    with told() as said:
        for each in (other, recorder):
            each._apply_transform(numbered(1))
            each._apply_transform(torch.zeros(48, 64, 7))
        failure = recorder.dump()
    assert len(said) == 2
    assert (failure.count, failure.lost, len(failure.errors)) == (2, 2, 2)
    assert isinstance(failure.video, Video)
    assert other.dump() is recorder.dump() is None


def test_what_went_wrong_in_a_copy_that_is_gone_is_in_the_originals_dump():
    recorder = VideoRecorder(CSVLogger("run"), "game", skip=1, on_error="warn")
    other = recorder.clone()
    with told():
        other._apply_transform(torch.zeros(48, 64, 7))
        del other
        failure = recorder.dump()
    assert isinstance(failure, Failure)


def test_a_pickled_recorder_goes_on_as_well_and_begins_with_no_errors():
    recorder = VideoRecorder(CSVLogger("run"), "game", skip=1, on_error="warn")
    with told():
        recorder._apply_transform(torch.zeros(48, 64, 7))
    other = pickle.loads(pickle.dumps(recorder))
    assert other.dump() is None
    with told() as said:
        other._apply_transform(torch.zeros(48, 64, 7))
    assert len(said) == 1
    assert isinstance(other.dump(), Failure)


# loggers


@since_torchrl("0.14")
def test_a_service_whose_logger_raises_leaves_the_video_for_the_next_dump():
    service = Broken("run", **SERVICE)
    try:
        recorder = VideoRecorder(service.client(), "game", skip=1, on_error="warn")
        recorder._apply_transform(numbered(1))
        service_logger = recorder._recording.destination.loggers[0]
        publish, service_logger.log_video = service_logger.log_video, fails_at("game")
        with told() as said:
            assert (failure := recorder.dump()).count == 1
        assert len(said) == 1
        assert "game" in str(failure)
        service_logger.log_video = publish
        assert numbers_in(recorder.dump().path) == [1]
    finally:
        service.shutdown()


@dataclass
class Unhashable(Exception):  # noqa: N818
    """A dataclass is equal to others, and so not hashable."""

    what: str = "down"


def test_an_exception_that_is_not_hashable_is_an_error_like_others():
    class Logger(KeepLogger):
        def log_video(self, *args, **settings):
            raise Unhashable

    recorder = VideoRecorder(Logger(), "game", skip=1, on_error="warn")
    recorder._apply_transform(numbered(1))
    with told() as said:
        failure = recorder.dump()
    assert len(said) == 1
    assert isinstance(failure.errors[0], Unhashable)


def test_a_suffix_that_cannot_be_is_a_failure_and_the_video_has_its_name_later():
    recorder = VideoRecorder(CSVLogger("run"), "game", skip=1, on_error="warn")
    recorder._apply_transform(numbered(1))
    with told():
        failure = recorder.dump(suffix="../../up")
    assert isinstance(failure.errors[0], TagError)
    assert recorder.dump(suffix="fine").path.name == "game_fine_0.mp4"


# warnings that are errors, the end of the environment, of the process


def test_where_warnings_are_errors_the_first_is_raised_and_what_came_before_is_safe():
    recorder = VideoRecorder(CSVLogger("run"), "game", skip=1, on_error="warn")
    recorder._apply_transform(numbered(1))
    with pytest.raises(VidrecWarning, match=r"recording goes on.*48, 64, 7"):
        recorder._apply_transform(torch.zeros(48, 64, 7))
    recorder._apply_transform(numbered(2))
    failure = recorder.dump()
    assert (failure.count, failure.lost) == (1, 1)
    assert numbers_in(failure.video.path) == [1, 2]


def test_where_warnings_are_errors_dump_gives_all_videos_their_turn_before_one_is_raised():
    broken = Broken("run")
    recorder, env = envs_of([[100]] * 3, logger=broken, make_grid=False)
    env.rollout(2)
    publish, calls = broken.log_video, []

    def log_video(name, *args, **settings):
        calls.append(name)
        if name != "envs_env2":
            raise RuntimeError("the service is down")
        return publish(name, *args, **settings)

    broken.log_video = log_video
    with pytest.raises(VidrecWarning, match="the service is down"):
        recorder.dump()
    assert calls == ["envs_env0", "envs_env1", "envs_env2"]
    assert [*videos()] == ["envs_env2_0.mp4"]
    del broken.log_video
    assert recorder.dump().count == 2
    assert len(videos()) == 3


def test_closing_the_environment_does_not_raise():
    logger = Broken("run")
    recorder, env = envs_of([[100]], logger=logger)
    env.rollout(2)
    logger.broken = True
    with told() as said:
        env.close()
    assert len(said) == 1
    assert "game" in said[0] or "is kept" in said[0]
    logger.broken = False
    assert recorder.dump().frames == 3


EXIT = """
    import sys, warnings
    from numbered_frames import numbered
    from vidrec import CSVLogger, VideoRecorder
    from worlds import FailingLogger

    warnings.simplefilter(sys.argv[2], UserWarning)
    failing = FailingLogger()
    failing.failures = 100
    for tag, logger in (("failing", failing), ("fine", CSVLogger("run"))):
        recorder = VideoRecorder(logger, tag, skip=1, on_error=sys.argv[1])
        recorder._apply_transform(numbered(1))
        globals()[tag] = recorder
"""


@pytest.mark.parametrize("action", ["default", "error"])
@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_what_fails_at_exit_is_told_and_the_others_are_finished(on_error, action):
    done = run_python(EXIT, on_error, action)
    assert "no space left on the moon" in done.stderr
    assert videos() == {"fine_0.mp4": [1]}

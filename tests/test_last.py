"""last=N: each video is the end of what it would be."""

import copy
import os
import pickle
import signal
import sys
from pathlib import Path

import pytest
import torch
from numbered_frames import cells_in, numbered, numbers_in, read_number, rows
from processes import encoders, started, wait_for_encoders
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer
from torchrl.envs import TransformedEnv
from worlds import EpisodesEnv, FailingLogger, KeepLogger, PixelsEnv, name_of

from vidrec import CSVLogger, Episode, FrameError, SettingError, TeeLogger, TensorboardLogger, VideoRecorder
from vidrec.clips import TailClip

VIDEOS = Path("csv_logs/run/videos")


def record(env, logger=None, **settings):
    recorder = VideoRecorder(logger or CSVLogger("run"), "video", **{"skip": 1, **settings})
    return TransformedEnv(env, recorder), recorder


def found():
    return {path.name: numbers_in(path) for path in sorted(VIDEOS.glob("*.m*"))}


def numbers_of(video):
    return [read_number(frame) for frame in video.iter_frames()]


@pytest.mark.parametrize("video_format", ["mp4", "mkv", "gif", "pt", "memmap"])
def test_a_video_has_the_last_frames(video_format):
    env, recorder = record(PixelsEnv(), CSVLogger("run", video_format=video_format), last=5)
    env.rollout(20)
    assert encoders(Path.cwd()) == []
    assert list(VIDEOS.iterdir()) == []
    video = recorder.dump()
    assert (video.frames, numbers_of(video)) == (5, [16, 17, 18, 19, 20])
    assert list(VIDEOS.absolute().iterdir()) == [video.path]
    assert [row["frames"] for row in rows()] == ["5"]
    env.rollout(2)  # 21, 22, 23: fewer than there may be
    assert numbers_of(recorder.dump()) == [21, 22, 23]
    assert recorder.dump() is None


def test_they_are_the_last_of_those_that_skip_keeps():
    env, recorder = record(PixelsEnv(), last=3, skip=4)
    env.rollout(20)
    assert numbers_in(recorder.dump().path) == [11, 15, 19]


def test_each_episode_of_each_env_has_its_last_frames():
    env, recorder = record(EpisodesEnv([[4, 2], [6]]), make_grid=False, dump_on_done=True, last=3)
    env.rollout(7, break_when_any_done=False)
    recorder.dump()
    assert found() == {
        "video_env0_ep0_0.mp4": [name_of(0, 0, step) for step in (2, 3, 4)],
        "video_env0_ep1_1.mp4": [name_of(0, 1, step) for step in (0, 1, 2)],
        "video_env0_ep2_3.mp4": [name_of(0, 2, step) for step in (0, 1)],
        "video_env1_ep0_2.mp4": [name_of(1, 0, step) for step in (4, 5, 6)],
        "video_env1_ep1_3.mp4": [name_of(1, 1, step) for step in (0, 1)],
    }
    assert [(row["env_id"], row["episode"], row["length"], row["ended"]) for row in rows()][:3] == [
        ("0", "0", "4", "terminated"),
        ("0", "1", "2", "terminated"),
        ("1", "0", "6", "terminated"),
    ]


def test_how_did_it_fail():
    env, recorder = record(EpisodesEnv([[5]], ()), make_grid=False, keep=lambda e: e.terminated, last=2)
    for _ in range(3):  # the third is truncated
        env.rollout(10)
    recorder.dump()
    assert found() == {f"video_ep{n}_{n}.mp4": [name_of(0, n, 4), name_of(0, n, 5)] for n in (0, 1)}


def test_a_grid_has_its_last_frames():
    env, recorder = record(EpisodesEnv([[9], [9]]), last=2, scale=1)
    env.rollout(6)
    assert cells_in(recorder.dump().path, 2) == [[name_of(0, 0, step), name_of(1, 0, step)] for step in (5, 6)]


def test_a_logger_that_takes_tensors_gets_the_last_frames_and_keeps_them_over_close():
    logger = KeepLogger()
    env, recorder = record(PixelsEnv(), logger, last=4)
    env.rollout(10)
    env.close()
    assert logger.calls == []
    assert recorder.dump() is None
    (video,) = logger.videos
    assert [read_number(frame.permute(1, 2, 0)) for frame in video[0]] == [7, 8, 9, 10]
    assert (video.shape, video.dtype) == ((1, 4, 3, 48, 64), torch.uint8)


def test_closing_the_env_finishes_a_video_and_a_dump_that_follows_names_it():
    env, recorder = record(PixelsEnv(), last=4)
    env.rollout(10)
    env.close()
    assert found() == {"video_0.mp4": [7, 8, 9, 10]}
    recorder.dump("final", 100)
    assert found() == {"video_final_100.mp4": [7, 8, 9, 10]}


def test_several_loggers_get_the_same_frames():
    tensors = KeepLogger()
    loggers = [CSVLogger("run"), CSVLogger("raw", video_format="pt"), TensorboardLogger("events"), tensors]
    env, recorder = record(PixelsEnv(), TeeLogger(*loggers), last=4)
    env.rollout(10)
    assert numbers_of(recorder.dump()) == [7, 8, 9, 10]
    assert numbers_in(Path("csv_logs/raw/videos/video_0.pt")) == [7, 8, 9, 10]
    assert [read_number(frame.permute(1, 2, 0)) for frame in tensors.videos[0][0]] == [7, 8, 9, 10]


def test_a_logger_that_fails_gets_each_frame_once_at_the_next_dump():
    class Failing(CSVLogger):
        failures = 2

        def log_video(self, *args, **settings):
            if self.failures:
                self.failures -= 1
                raise OSError("no space left on the moon")
            return super().log_video(*args, **settings)

    env, recorder = record(PixelsEnv(), TeeLogger(Failing("run"), failing := FailingLogger()), last=4)
    env.rollout(10)
    for _ in range(2):
        with pytest.raises(OSError, match="on the moon"):
            recorder.dump()
    env.rollout(2)
    recorder.dump()
    assert found() == {"video_0.mp4": [7, 8, 9, 10], "video_1.mp4": [11, 12, 13]}
    first, second = failing.videos
    assert (len(first[0]), len(second[0])) == (4, 3)


def test_a_finish_that_is_interrupted_writes_what_is_left():
    class Interrupted:
        """Stands for a clip whose third frame meets with Ctrl-C."""

        frames = 0
        written = ()

        def write(self, frames):
            if self.frames == 2 and not isinstance(self.written, list):
                self.written = [*self.written]
                raise KeyboardInterrupt
            self.frames += len(frames)
            self.written = type(self.written)([*self.written, *map(read_number, frames)])

        def finish(self):
            return self.written

    clip = TailClip(Interrupted(), 4)
    clip.write(torch.stack([numbered(number) for number in range(9)]))
    with pytest.raises(KeyboardInterrupt):
        clip.finish()
    assert clip.finish() == [5, 6, 7, 8]
    assert clip.finish() == [5, 6, 7, 8]


def test_the_trajectories_of_a_dataset_have_their_last_frames():
    recorder = VideoRecorder(CSVLogger("run"), "video", in_keys=["pixels"], dump_on_done=True, last=3)
    steps = TensorDict(
        {"pixels": torch.stack([numbered(number) for number in range(20)]), "episode": torch.arange(20) // 10}, [20]
    )
    recorder(steps)
    assert found() == {"video_ep0_0.mp4": [7, 8, 9], "video_ep1_1.mp4": [17, 18, 19]}


def test_of_a_sample_that_is_larger_the_last_frames_are_kept():
    recorder = VideoRecorder(CSVLogger("run"), "video", in_keys=["pixels"], last=6)
    buffer = TensorDictReplayBuffer(
        storage=LazyTensorStorage(40), sampler=SliceSampler(slice_len=8), batch_size=8, transform=recorder
    )
    data = {"pixels": torch.stack([numbered(number) for number in range(40)]), "episode": torch.zeros(40).long()}
    buffer.extend(TensorDict(data, [40]))
    expected = []
    for _ in range(3):
        expected += [read_number(frame) for frame in buffer.sample()["pixels"]]
    assert numbers_in(recorder.dump().path) == expected[-6:]


def test_obs_is_the_list_of_the_last_frames():
    env, recorder = record(PixelsEnv(), last=3)
    assert recorder.obs == []
    env.rollout(10)
    assert [read_number(frame.permute(1, 2, 0)) for frame in recorder.obs] == [8, 9, 10]
    assert recorder.count == 11
    del recorder.obs[0]
    assert numbers_in(recorder.dump().path) == [9, 10]
    recorder.obs = [numbered(number).permute(2, 0, 1) for number in range(5)]
    assert numbers_in(recorder.dump().path) == [2, 3, 4]


def test_a_frame_of_another_size_is_refused_and_the_video_goes_on():
    recorder = VideoRecorder(CSVLogger("run"), "video", last=3, skip=1)
    for number in range(5):
        recorder._apply_transform(numbered(number))
    with pytest.raises(FrameError, match=r"\(24, 32\).*began with \(48, 64\)"):
        recorder._apply_transform(numbered(5, (24, 32)))
    recorder._apply_transform(numbered(6))
    assert numbers_in(recorder.dump().path) == [3, 4, 6]


@pytest.mark.parametrize("last", [0, -1, True, 2.5, "3"], ids=repr)
def test_last_is_a_positive_whole_number(last):
    with pytest.raises(SettingError, match=r"last=.* must be a positive whole number, or None"):
        VideoRecorder(CSVLogger("run"), "video", last=last)


@pytest.mark.parametrize("beside", [{"max_frames": 9}, {"max_frames": 9, "step_trigger": lambda step: True}], ids=len)
def test_last_does_not_go_with_what_keeps_the_beginning(beside):
    with pytest.raises(SettingError, match="does not go with max_frames or step_trigger"):
        VideoRecorder(CSVLogger("run"), "video", last=3, **beside)


def test_copies_keep_it():
    recorder = VideoRecorder(CSVLogger("run"), "video", last=2, skip=1)
    for made in (recorder.clone(), copy.deepcopy(recorder), pickle.loads(pickle.dumps(recorder))):
        for number in range(5):
            made._apply_transform(numbered(number))
        assert numbers_in(made.dump().path) == [3, 4]


def test_the_video_says_which_episode_it_is():
    env, recorder = record(EpisodesEnv([[5]], ()), make_grid=False, last=2)
    env.rollout(3)
    assert recorder.dump().episode is None
    env, recorder = record(EpisodesEnv([[5]], ()), CSVLogger("other"), make_grid=False, dump_on_done=True, last=2)
    env.rollout(3)
    assert recorder.dump().episode == Episode(None, 0, 3, 3.0, False, False)


def test_a_forked_child_writes_nothing():
    env, recorder = record(PixelsEnv(), last=3)
    env.rollout(10)
    child = os.fork()
    if not child:
        os._exit(0 if recorder.dump() is None else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert numbers_in(recorder.dump().path) == [8, 9, 10]


END = """
    import signal, sys
    from numbered_frames import numbered
    from processes import wait_for_signals
    from vidrec import CSVLogger, VideoRecorder

    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1, last=3)
    for number in range(10):
        recorder._apply_transform(numbered(number))
    print("ready", flush=True)
    if sys.argv[1] == "SIGTERM":
        wait_for_signals()
"""


@pytest.mark.parametrize("end", ["exit", "SIGTERM"])
def test_the_end_of_the_program_finishes_it(end):
    with started(END, end) as child:
        assert child.stdout.readline() == b"ready\n", child.stderr.read().decode()
        if end == "SIGTERM":
            child.send_signal(signal.SIGTERM)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == (143 if end == "SIGTERM" else 0), errors.decode()
    wait_for_encoders(Path.cwd())
    assert found() == {"video_0.mp4": [7, 8, 9]}


MEMORY = """
    import resource, sys
    import torch
    from vidrec import CSVLogger, VideoRecorder

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1, last=50)
    frame = torch.zeros(100, 120, 3, dtype=torch.uint8)
    most = 0
    for number in range(10_000):
        frame[:, number % 100] += 1
        recorder._apply_transform(frame)
        if number == 200:
            before = resident()
        if number > 200 and number % 100 == 0:
            most = max(most, resident())
    print(most - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_the_last_frames_however_many_there_were():
    with started(MEMORY) as child:
        output, errors = child.communicate()
    assert child.returncode == 0, errors.decode()
    assert int(output) < 4 * 2**20  # 10,000 frames are 360 MB, and 50 are 1.8

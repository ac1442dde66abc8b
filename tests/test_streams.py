"""Streams and their outputs: whose video a frame is in, who gets it, and what ends a clip."""

import json
import signal
import subprocess
import threading
import warnings
from pathlib import Path

import pytest
import torch
from conftest import some
from numbered_frames import numbered, numbers_in, rows
from tensordict import TensorDict
from torchrl.envs import Compose, NoopResetEnv, StepCounter, TransformedEnv
from torchrl.envs.transforms import FrameSkipTransform
from worlds import EpisodesEnv, FailingLogger, PixelsEnv

from vidrec import CSVLogger, MemoryLogger, SettingError, TeeLogger, VideoRecorder, VidrecWarning, keep_best
from vidrec.files import manifest


def record(recorder, numbers):
    for number in numbers:
        recorder._apply_transform(numbered(number))


def found(folder="csv_logs/run"):
    paths = sorted(Path(folder, "videos").rglob("*.mp4"))
    return {path.name: numbers_in(path) for path in paths if ".part-" not in path.name}


def unfinished(folder="csv_logs"):
    return sorted(path for path in Path(folder).rglob("*.part-*") if path.suffix != ".log")


# a dump from a signal handler


@pytest.mark.parametrize("on_error", some(["raise", "warn"], "raise"))
def test_a_dump_in_a_signal_handler_waits_until_the_frame_is_whole(on_error):
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1, scale=1, preset="ultrafast", on_error=on_error)
    env = TransformedEnv(PixelsEnv(frame=lambda number, env_id: numbered(number, (480, 640))), recorder)
    before = signal.signal(signal.SIGUSR1, lambda *_: recorder.dump())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        stop = threading.Event()

        def interrupt():
            while not stop.wait(0.02):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

        thread = threading.Thread(target=interrupt)
        thread.start()
        env.rollout(40)
        stop.set()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    env.close()
    numbers = [numbers_in(path) for path in Path("csv_logs/run/videos").glob("*.mp4")]
    assert len(numbers) > 3
    assert sorted(number for video in numbers for number in video) == list(range(41))
    assert all(video == list(range(video[0], video[0] + len(video))) for video in numbers)
    assert not unfinished()


def test_a_dump_in_the_middle_of_a_dump_comes_after_it():
    class Asks(MemoryLogger):
        def log_video(self, name, video, step=None, **settings):
            super().log_video(name, video, step, **settings)
            if len(self.videos) == 1:
                assert recorder.dump(step=7) is None

    logger = Asks()
    recorder = VideoRecorder(logger, "video")
    record(recorder, range(3))
    recorder.dump(step=1)
    assert [(video.step, video.value.shape[1]) for video in logger.videos] == [(1, 3)]
    record(recorder, range(2))
    recorder.dump(step=2)
    assert [(video.step, video.value.shape[1]) for video in logger.videos] == [(1, 3), (2, 2)]


# copies


def test_what_noops_at_a_reset_show_is_in_the_same_video_in_order():
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)
    env = TransformedEnv(PixelsEnv(), Compose(recorder, StepCounter(), NoopResetEnv(noops=3, random=False)))
    for step in range(2):
        env.rollout(2)
        assert recorder.dump().frames == 6  # the reset, three no-ops and two steps
        assert recorder.iter == step + 1
    env.close()
    assert found() == {"video_0.mp4": list(range(6)), "video_1.mp4": list(range(6, 12))}


def test_a_step_of_many_frames_is_in_one_video_and_counts_for_skip():
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=2)
    env = TransformedEnv(PixelsEnv(), Compose(recorder, FrameSkipTransform(3)))
    env.rollout(3)
    recorder.dump()
    assert found() == {"video_0.mp4": [1, 3, 5, 7, 9]}


def test_a_recorder_cloned_into_another_environment_is_not_cut_by_the_first():
    first = VideoRecorder(CSVLogger("run"), "video", skip=1)
    envs = [TransformedEnv(PixelsEnv(), recorder) for recorder in (first, first.clone())]
    for env in envs:
        env.rollout(2)
    assert numbers_in(first.dump().path) == [0, 1, 2]
    assert len(found()) == 1
    envs[1].rollout(2)
    assert numbers_in(envs[1].transform.dump().path) == [0, 1, 2, 3, 4, 5]


def test_a_setting_of_a_copy_leaves_the_original_as_it_is():
    original = VideoRecorder(CSVLogger("run"), "video", skip=1, make_grid=False, dump_on_done=True)
    copy = original.clone()
    copy.dump_on_done = False
    for recorder in (original, copy):
        TransformedEnv(EpisodesEnv([[2]], batch_size=()), recorder).rollout(5, break_when_any_done=False)
    assert [name.rpartition("_")[0] for name in found()] == ["video_ep0", "video_ep1"]


@pytest.mark.parametrize("later", [True, False])
def test_dump_on_done_may_be_set_later_for_a_dataset(later):
    recorder = VideoRecorder(CSVLogger("run"), "video", in_keys=["pixels"], dump_on_done=not later)
    recorder.dump_on_done = later
    done = torch.tensor([False, True, False, True]).unsqueeze(-1)
    recorder(TensorDict({"pixels": torch.stack([*map(numbered, range(4))]), "next": {"done": done}}, [4]))
    recorder.dump()
    assert [*found().values()] == ([[0, 1], [2, 3]] if later else [[0, 1, 2, 3]])


# several loggers


def test_behind_a_tee_the_manifest_tells_env_and_episode_and_encoders_share_the_processors():
    recorder = VideoRecorder(TeeLogger(CSVLogger("a"), MemoryLogger()), "v", skip=1, make_grid=False, dump_on_done=True)
    env = TransformedEnv(EpisodesEnv([[9], [9]]), recorder)
    env.rollout(3)
    about = [manifest.read(path) for path in Path("csv_logs").rglob("*.log")]
    assert sorted((each["env_id"], each["episode"]) for each in about) == [(0, 0), (1, 0)]
    clips = [recorder._recording.streams[env_id].clip for env_id in (0, 1)]
    assert [clip.beside for clip in clips] == [2, 2]
    commands = [clip._encoder._process.args for clip in clips]
    assert all(command[command.index("-threads") + 1] == "1" for command in commands)
    env.close()


def test_after_a_failed_publish_the_next_clip_has_the_name_of_its_own_episode():
    recorder = VideoRecorder(
        TeeLogger(CSVLogger("a"), FailingLogger()), "v", skip=1, make_grid=False, dump_on_done=True, on_error="warn"
    )
    env = TransformedEnv(EpisodesEnv([[2]], batch_size=()), recorder)
    with pytest.warns(VidrecWarning, match="moon"):
        env.rollout(3, break_when_any_done=False)
    assert list(Path("csv_logs/a/videos").glob("v_ep1.part-*"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VidrecWarning)
        env.close()


@pytest.mark.parametrize("around", [lambda logger: logger, lambda logger: TeeLogger(logger, MemoryLogger())])
def test_what_is_displaced_is_deleted_behind_every_logger(around):
    keep = keep_best(1)
    recorder = VideoRecorder(around(CSVLogger("run")), "v", skip=1, make_grid=False, keep=keep)
    env = TransformedEnv(EpisodesEnv([[1, 2, 3, 4]], batch_size=()), recorder)
    env.rollout(10, break_when_any_done=False)
    assert [name.rpartition("_")[0] for name in found()] == ["v_ep3"]
    assert [row["episode"] for row in rows()] == ["3"]


def test_one_of_the_best_that_could_not_be_published_is_no_second_one_later():
    logger = CSVLogger("run")
    publish, failures = logger.experiment.add_video, [OSError("full")]

    def add_video(*args, **settings):
        if failures:
            raise failures.pop()
        return publish(*args, **settings)

    logger.experiment.add_video = add_video
    recorder = VideoRecorder(logger, "v", skip=1, make_grid=False, keep=keep_best(1), on_error="warn")
    env = TransformedEnv(EpisodesEnv([[1, 2]], batch_size=()), recorder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VidrecWarning)
        env.rollout(3, break_when_any_done=False)
        recorder.dump()
    assert [row["episode"] for row in rows()] == ["1"]
    assert len(found()) == 1
    assert not unfinished()


# warnings, triggers, arguments


def test_a_warning_that_is_an_error_keeps_no_copy_from_its_video():
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1, max_frames=1)
    copy = recorder.clone()
    record(recorder, range(3))
    record(copy, range(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error", VidrecWarning)
        with pytest.raises(VidrecWarning, match="2 frames of 'video' came after max_frames=1"):
            recorder.dump()
    assert found() == {"video_0.mp4": [0], "video_1.mp4": [0]}


def test_a_clip_that_a_step_began_goes_on_when_its_bound_is_taken_away_and_keeps_its_step():
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1, step_trigger=lambda step: step == 4, max_frames=3)
    env = TransformedEnv(PixelsEnv(), recorder)
    env.reset()
    recorder.max_frames = None
    env.rollout(12)
    env.close()
    assert found() == {"video_4.mp4": list(range(6, 14))}


@pytest.mark.parametrize(
    "bad", [{"skip": True}, {"center_crop": True}, {"max_frames": True}, {"center_crop": (2, True)}]
)
def test_a_flag_is_no_number(bad):
    with pytest.raises(SettingError, match="must be a positive whole number"):
        VideoRecorder(CSVLogger("run"), "video", **bad)


@pytest.mark.parametrize("bad", [3, object(), {"log_video": print}, print, b"videos"])
def test_what_is_no_logger_is_refused_at_once(bad):
    with pytest.raises(SettingError, match="is no logger; expected"):
        VideoRecorder(bad, "video")


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_a_csv_folder(kind):
    recorder = VideoRecorder(kind("runs/eval"), "video", skip=1)
    record(recorder, range(3))
    assert recorder.dump().path.relative_to(Path.cwd()) == Path("runs/eval/videos/video_0.mp4")


def test_the_file_of_a_users_own_video_stays():
    own = CSVLogger("own").log_video("video", torch.rand(1, 3, 3, 48, 64))
    there = CSVLogger("other").log_video("video", own)
    assert own.path.is_file()
    assert there.path.is_file()
    assert json.dumps(str(there.path)) != json.dumps(str(own.path))
    assert subprocess.run(["cmp", own.path, there.path]).returncode == 0

"""What a row of ``videos.csv`` says, which step a video has, and which videos `dump` tells of."""

import fcntl
import pickle
import signal
import time
from collections import deque
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cloudpickle
import pytest
import torch
from conftest import require
from numbered_frames import numbered, rows
from processes import started
from tensordict import TensorDict
from torchrl.envs import SerialEnv, TransformedEnv
from torchrl.envs.utils import step_mdp
from worlds import EpisodesEnv, FailingLogger, KeepLogger, PixelsEnv

from vidrec import (
    CSVLogger,
    Episode,
    Failure,
    SettingError,
    TeeLogger,
    TensorboardLogger,
    VideoLogger,
    VideoRecorder,
    VidrecWarning,
    WandbLogger,
    keep_best,
    keep_last,
)
from vidrec.files.index import VideoIndex
from vidrec.files.names import in_use
from vidrec.recording import left
from vidrec.tools.repair import repair

RUN = Path("csv_logs/run")
TENSOR = torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8)


def recorder_of(logger=None, tag="video", **settings):
    logger = CSVLogger("run", video_format="memmap") if logger is None else logger
    return VideoRecorder(logger, tag, **{"skip": 1, **settings})


def env_of(recorder, lengths=((99,),), batch_size=()):
    return TransformedEnv(EpisodesEnv(lengths, batch_size=batch_size), recorder)


def steps(env, count, td=None):
    td = env.reset() if td is None else td
    for _ in range(count):
        td = step_mdp(env.step(env.rand_action(td)))
    return td


def of_rows(*columns):
    return [tuple(row[column] for column in columns) for row in rows()]


# step=


class Frames:
    """A step that another part of the program counts."""

    def __init__(self, value=100):
        self.value = value

    def __call__(self):
        self.value += 1
        return self.value


def test_the_step_of_an_automatic_video_is_what_the_program_says():
    recorder = recorder_of(step=Frames(), make_grid=False, dump_on_done=True)
    env = env_of(recorder, [[2, 2, 99]])
    env.rollout(7, break_when_any_done=False)
    assert of_rows("file") == [("videos/video_ep0_101.memmap",), ("videos/video_ep1_102.memmap",)]
    assert recorder.dump().path.name == "video_ep2_103.memmap"
    env.rollout(1)
    assert recorder.dump(step=7).path.name == "video_ep3_7.memmap"  # what dump is told, wins
    env.rollout(1)
    env.close()
    assert [row["step"] for row in rows()] == ["101", "102", "103", "7", "104"]
    assert recorder.iter == 5


def test_the_step_of_a_clip_of_step_trigger_is_what_the_program_says():
    for step, expected in [(None, ["0", "4"]), (lambda: 5000, ["5000", "5000"])]:
        recorder = recorder_of(CSVLogger(f"run{expected[0]}", video_format="memmap"), step=step, max_frames=2,
                               step_trigger=lambda number: number % 4 == 0)  # fmt: skip
        with pytest.warns(VidrecWarning) if step else nullcontext():  # the second one finds the name taken
            steps(env_of(recorder), 8)
        assert [row["step"] for row in rows(f"csv_logs/run{expected[0]}")] == expected


def test_dump_asks_for_the_step_once_for_all_envs_and_not_where_nothing_is():
    frames = Frames()
    recorder = recorder_of(step=frames, make_grid=False)
    assert recorder.dump() is None
    assert frames.value == 100
    steps(env_of(recorder, [[9], [9]], (2,)), 1)
    recorder.dump()
    assert of_rows("step") == [("101",), ("101",)]


def test_the_end_of_the_program_asks_for_the_step_too(tmp_path):
    script = """
    from numbered_frames import numbered
    from vidrec import CSVLogger, VideoRecorder

    recorder = VideoRecorder(CSVLogger("run", video_format="memmap"), "video", skip=1, step=lambda: 77)
    recorder._apply_transform(numbered(1))
    """
    with started(script, cwd=tmp_path) as program:
        assert program.wait(60) == 0, program.stderr.read().decode()
    assert [row["step"] for row in rows(tmp_path / RUN)] == ["77"]


@pytest.mark.parametrize("way", ["clone", "pickle"])
def test_a_copy_asks_as_well(way):
    recorder = recorder_of(step=lambda: 12)
    other = recorder.clone() if way == "clone" else pickle.loads(cloudpickle.dumps(recorder))
    other._apply_transform(numbered(1))
    assert other.dump().path.name == "video_12.memmap"


@pytest.mark.parametrize("step", [7, "step", [1]])
def test_a_step_that_is_no_function_is_refused(step):
    with pytest.raises(SettingError, match="must be a function that returns a whole number"):
        recorder_of(step=step)


@pytest.mark.parametrize("returned", [None, 1.5, "7", True, ZeroDivisionError])
@pytest.mark.parametrize("at", ["the end of an episode", "dump"])
@pytest.mark.parametrize("on_error", ["raise", "warn"])
def test_a_step_that_cannot_be_is_an_error_and_costs_no_video(returned, at, on_error):
    def step():
        return 1 / 0 if returned is ZeroDivisionError else returned

    kind = ZeroDivisionError if returned is ZeroDivisionError else SettingError
    recorder = recorder_of(step=step, make_grid=False, dump_on_done=True, on_error=on_error)
    env = env_of(recorder, [[2]])
    td = steps(env, 1)
    call = recorder.dump if at == "dump" else lambda: steps(env, 1, td)
    if on_error == "raise":
        with pytest.raises(kind):
            call()
    else:
        with pytest.warns(VidrecWarning, match="recording goes on"):
            failure = call()
        failure = failure if at == "dump" else recorder.dump()
        assert isinstance(failure, Failure)
        assert [type(error) for error in failure.errors] == [kind]
    recorder.dump()
    assert of_rows("step", "frames") == [("0", "2" if at == "dump" else "3")]


@pytest.mark.parametrize("number", [torch.tensor(8), torch.arange(9).numpy()[8]], ids=["torch", "numpy"])
def test_numbers_of_torch_and_numpy_are_steps(number):
    recorder = recorder_of(step=lambda: number)
    recorder._apply_transform(numbered(1))
    assert recorder.dump().path.name == "video_8.memmap"


# env_step and time


def test_a_row_says_how_many_steps_the_env_had_made_at_the_first_frame():
    recorder = recorder_of(env_ids=[1], make_grid=False)
    env = env_of(recorder, [[99], [99]], (2,))
    td = steps(env, 3)
    assert recorder.dump().env_step == 0
    td = steps(env, 5, td)
    recorder.dump()
    steps(env, 2)  # after a reset
    video = recorder.dump()
    assert video.env_step == 8
    assert of_rows("env_step") == [("0",), ("4",), ("8",)]


@pytest.mark.parametrize("settings", [{"dump_on_done": True}, {"episode_trigger": lambda number: number > 0}])
def test_env_step_counts_also_what_is_not_recorded(settings):
    recorder = recorder_of(make_grid=False, **settings)
    env_of(recorder, [[3, 2]]).rollout(7, break_when_any_done=False)
    wanted = {"0": "0", "1": "3", "2": "5"}
    assert of_rows("episode", "env_step") == [
        (number, wanted[number]) for number in ("0", "1")[len(settings.keys() & {"episode_trigger"}) :]
    ]


def test_a_clip_of_step_trigger_begins_with_the_frame_after_that_step():
    recorder = recorder_of(step_trigger=lambda step: step in (0, 5), max_frames=2)
    steps(env_of(recorder), 8)
    assert of_rows("step", "env_step") == [("0", "1"), ("5", "6")]


def test_env_step_goes_on_when_the_way_of_recording_changes_and_begins_anew_in_another_env():
    recorder = recorder_of(make_grid=False)
    env = env_of(recorder)
    td = steps(env, 3)
    recorder.dump()
    recorder.dump_on_done = True
    steps(env, 3, td)
    assert recorder.dump().env_step == 4
    other = TransformedEnv(EpisodesEnv([[9]], batch_size=()), recorder.clone())
    steps(other, 1)
    assert other.transform.dump().env_step == 0


@pytest.mark.parametrize("video_format", ["mp4", "memmap"])
def test_what_the_user_makes_of_obs_keeps_env_step_and_time(video_format):
    recorder = recorder_of(CSVLogger("run", video_format=video_format))
    env = env_of(recorder)
    td = steps(env, 3)
    recorder.dump()
    steps(env, 3, td)
    time = recorder._recording.shown.time
    recorder.obs.pop()
    video = recorder.dump()
    assert (video.frames, video.env_step, video.time) == (2, 4, time)


def test_without_an_env_there_is_no_env_step():
    recorder = recorder_of(dump_on_done=True)
    done = torch.tensor([[0], [1], [0], [1]], dtype=torch.bool)
    recorder(TensorDict({"pixels": numbered(1).expand(4, -1, -1, -1), "next": {"done": done}}, [4]))
    assert of_rows("env_step", "episode") == [("", "0"), ("", "1")]
    assert [video.env_step for video in recorder.videos] == [None, None]


def test_time_is_when_the_first_frame_was_recorded():
    recorder = recorder_of()
    begin = datetime.now(timezone.utc)
    recorder._apply_transform(numbered(1))
    end = datetime.now(timezone.utc)
    while datetime.now(timezone.utc) < end + timedelta(seconds=1.1):
        recorder._apply_transform(numbered(2))
    video = recorder.dump()
    assert begin <= video.time <= end
    [(text,)] = of_rows("time")
    assert text == video.time.strftime("%Y-%m-%dT%H:%M:%S+00:00")


@pytest.mark.parametrize("header", ["tag,step,file,frames", "file", "note,time,file"])
def test_an_index_of_another_version_gets_the_columns(header):
    recorder = recorder_of()
    (RUN / "videos.csv").write_text(f"{header}\n{','.join('x' for _ in header.split(','))}\n")
    steps(env_of(recorder), 2)
    recorder.dump()
    old, new = VideoIndex(RUN).rows()
    assert {old[column] for column in header.split(",")} == {"x"}
    assert (new["tag"], new["env_step"], new["time"][-6:]) == ("video", "0", "+00:00")


# tag


def test_the_tag_of_a_row_is_that_of_the_recorder():
    recorder = recorder_of(tag="eval/game", make_grid=False, dump_on_done=True)
    steps(env_of(recorder, [[2], [9]], (2,)), 2)
    recorder.dump("best", 9)
    assert of_rows("tag", "file") == [
        ("eval/game", "videos/eval/game_env0_ep0_0.memmap"),
        ("eval/game", "videos/eval/game_env1_best_ep0_9.memmap"),
    ]
    assert {video.tag for video in recorder.videos} == {"eval/game"}


def test_the_tag_of_a_worker_is_that_of_the_first():
    def make():
        return TransformedEnv(PixelsEnv(), recorder_of())

    env = SerialEnv(2, make)
    env.rollout(2)
    env.close()
    assert sorted(of_rows("tag", "file")) == [
        ("video", "videos/video_0.memmap"),
        ("video", "videos/video_worker1_0.memmap"),
    ]


def test_a_tag_that_changes_is_the_one_at_the_end():
    recorder = recorder_of(make_grid=False)
    steps(env_of(recorder, [[9], [9]], (2,)), 1)
    recorder.tag = "other"
    assert recorder.dump().tag == "other"
    assert of_rows("tag", "file") == [("other", f"videos/other_env{env_id}_0.memmap") for env_id in (0, 1)]


@pytest.mark.parametrize("video_format", ["mp4", "pt"])
def test_the_tag_of_a_video_that_is_logged_is_its_name(video_format):
    logger = CSVLogger("run", video_format=video_format)
    assert logger.log_video("some/name_7", TENSOR, step=1).tag == "some/name_7"
    recorder = recorder_of(logger)
    recorder._apply_transform(numbered(1))
    assert logger.log_video("best", recorder.dump(), step=2).tag == "best"
    assert of_rows("tag", "step") == [("some/name_7", "1"), ("video", "0"), ("best", "2")]


CRASH = """
    import os, signal
    from torchrl.envs import TransformedEnv
    from vidrec import CSVLogger, VideoRecorder
    from worlds import EpisodesEnv

    recorder = VideoRecorder(CSVLogger("run", video_format="memmap"), "eval/game", skip=1, make_grid=False,
                             dump_on_done=True)
    TransformedEnv(EpisodesEnv([[4], [7]]), recorder).rollout(10, break_when_any_done=False)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def crash(folder, script=CRASH):
    with started(script, cwd=folder) as program:
        assert program.wait(60) == -signal.SIGKILL, program.stderr.read().decode()


def test_a_repaired_video_has_the_tag_the_env_step_and_the_time_of_its_clip(tmp_path):
    begin = datetime.now(timezone.utc).replace(microsecond=0)
    crash(tmp_path)
    before = of_rows("tag", "step", "file")
    assert [file for *_, file in before] == [
        f"videos/eval/game_{name}.memmap" for name in ("env0_ep0_0", "env1_ep0_1", "env0_ep1_2")
    ]
    said = list(repair(RUN.absolute(), dry_run=True))
    done = list(repair(RUN.absolute()))
    assert [one.video for one in said] == [one.video for one in done]
    assert of_rows("tag", "step", "file", "env_step")[3:] == [
        ("eval/game", "3", "videos/eval/game_env0_ep2_3.memmap", "8"),
        ("eval/game", "3", "videos/eval/game_env1_ep1_3.memmap", "7"),
    ]
    for row in rows():
        assert begin <= datetime.fromisoformat(row["time"]) <= datetime.now(timezone.utc)


# a restarted run


@pytest.mark.parametrize("settings", [{}, {"make_grid": False, "dump_on_done": True}])
def test_a_restarted_run_goes_on_after_the_highest_step_of_its_folder(settings):
    logger = CSVLogger("run", video_format="memmap")
    for step in (3, 41, 7):
        logger.log_video("video", TENSOR, step=step)
    logger.log_video("other", TENSOR, step=99)
    recorder = recorder_of(**settings)
    assert recorder.iter == 0
    for _ in range(2):
        steps(env_of(recorder, [[2]]), 2)
        recorder.dump()
    assert of_rows("step")[4:] == [("42",), ("43",)]
    assert recorder.iter == 44


def test_the_index_is_read_once(monkeypatch):
    read = []
    rows_of = VideoIndex.rows
    monkeypatch.setattr(VideoIndex, "rows", lambda self: read.append(self) or rows_of(self))
    recorder = recorder_of()
    for number in range(5):
        recorder._apply_transform(numbered(number))
        recorder.clone()._apply_transform(numbered(number))
        recorder.dump()
    assert len(read) == 1
    other = recorder_of(tag="other")
    for step in range(3):
        other._apply_transform(numbered(1))
        other.dump(step=step)
    assert len(read) == 1


def test_an_explicit_step_that_exists_keeps_its_name_and_warning():
    CSVLogger("run", video_format="memmap").log_video("video", TENSOR, step=5)
    recorder = recorder_of()
    recorder._apply_transform(numbered(1))
    with pytest.warns(VidrecWarning, match=r"video_5.memmap exists and is kept; this video is .*video_5_1"):
        recorder.dump(step=5)


@pytest.mark.parametrize("data", [b'"tag' + b"x" * 140_000, b"tag,step\nvideo,7\n", b"file\nvideo\n"])
def test_an_index_that_cannot_be_read_is_no_error_of_the_counter(data):
    recorder = recorder_of()
    (RUN / "videos.csv").write_bytes(data)
    recorder._apply_transform(numbered(1))
    if data[:4] == b'"tag':
        with pytest.warns(VidrecWarning, match="no row"):
            recorder.dump()
    else:
        recorder.dump()
    assert (RUN / "videos/video_0.memmap").exists()


def test_of_several_loggers_the_highest_step_counts():
    CSVLogger("one").log_video("video", TENSOR, step=4)
    CSVLogger("two").log_video("video", TENSOR, step=8)
    recorder = recorder_of(TeeLogger(CSVLogger("one"), KeepLogger(), CSVLogger("two")))
    recorder._apply_transform(numbered(1))
    recorder.dump()
    assert [rows(f"csv_logs/{name}")[-1]["step"] for name in ("one", "two")] == ["9", "9"]
    assert recorder.logger.loggers[1].calls[0][2] == 9


def test_a_logger_begins_at_0_unless_it_says_otherwise():
    assert VideoLogger().next_step("video") == 0


def test_each_worker_goes_on_after_its_own_videos():
    def make():
        return TransformedEnv(PixelsEnv(), recorder_of())

    for _ in range(2):
        env = SerialEnv(3, make)
        env.rollout(2)
        env.close()
    names = [f"videos/video{origin}_{step}.memmap" for origin in ("", "_worker1", "_worker2") for step in (0, 1)]
    assert sorted(row["file"] for row in rows()) == names


# what a crash left


LEFT = r"1 clip is left unfinished in .*run, such as videos/video\.part-.*`vidrec repair .*run` makes videos of them"


def leave(recorder):
    """Leave what a recorder records as a crash does."""
    recorder._apply_transform(numbered(1))
    recorder._recording.detach()
    while any(in_use(path) for path in Path().rglob("*.part-*.log")):  # FFmpeg finishes the file
        time.sleep(0.01)


def test_a_clip_that_a_crash_left_is_named_at_start_and_once():
    leave(recorder_of())
    left._looked.clear()  # another process
    recorder = recorder_of(tag="other/name")
    with pytest.warns(VidrecWarning, match=LEFT) as told:
        recorder._apply_transform(numbered(2))
    assert len(told) == 1
    assert Path(str(told[0].message).partition("in ")[2].partition(",")[0]) == RUN.absolute()
    recorder._apply_transform(numbered(3))
    recorder_of(tag="third")._apply_transform(numbered(3))  # no more warnings


def test_a_real_crash_is_named_by_the_next_run(tmp_path):
    crash(tmp_path)
    recorder = recorder_of(tag="eval/game")
    with pytest.warns(VidrecWarning, match=r"2 clips are left unfinished in .*such as videos/eval/game_env0_ep2\."):
        recorder._apply_transform(numbered(2))
    list(repair(RUN.absolute()))
    left._looked.clear()
    recorder_of()._apply_transform(numbered(2))  # no warning


@pytest.mark.filterwarnings("error")
def test_where_warnings_are_errors_the_frame_is_recorded_before():
    leave(recorder_of())
    left._looked.clear()
    recorder = recorder_of()
    with pytest.raises(VidrecWarning, match=LEFT):
        recorder._apply_transform(numbered(2))
    recorder._apply_transform(numbered(3))
    assert recorder.dump().frames == 2


def test_what_is_being_recorded_is_not_named(tmp_path):
    script = """
    import sys
    from numbered_frames import numbered
    from vidrec import CSVLogger, VideoRecorder

    recorder = VideoRecorder(CSVLogger("run"), "theirs", skip=1)
    recorder._apply_transform(numbered(1))
    print("recording", flush=True)
    sys.stdin.readline()
    """
    mine = recorder_of(tag="mine")
    mine._apply_transform(numbered(1))
    with started(script, cwd=tmp_path) as program:
        assert program.stdout.readline() == b"recording\n"
        assert len(list(RUN.rglob("*.part-*.log"))) == 2
        left._looked.clear()
        recorder_of()._apply_transform(numbered(1))  # no warning
        program.stdin.write(b"\n")
        program.stdin.flush()
        assert program.wait(60) == 0


def test_without_locks_nothing_is_named(monkeypatch):
    leave(recorder_of())

    def no_lock(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_lock)
    left._looked.clear()
    recorder_of()._apply_transform(numbered(1))


def test_tensorboards_folder_is_looked_into_too():
    leave(recorder_of(TensorboardLogger("run")))
    left._looked.clear()
    recorder = recorder_of(TensorboardLogger("run"))
    with pytest.warns(VidrecWarning, match=r"in .*tb_logs/run, such as videos/video\.part-"):
        recorder._apply_transform(numbered(1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_folder_of_all_runs_of_wandb_is_looked_into_too(monkeypatch):
    require("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for run in ("first", "second"):
        logger = WandbLogger(run, offline=True, log_env_packages=False)
        recorder = recorder_of(logger)
        if run == "first":
            leave(recorder)
            left._looked.clear()
        else:
            with pytest.warns(VidrecWarning, match=r"in .*/wandb, such as offline-run-.*/videos/video\.part-"):
                recorder._apply_transform(numbered(1))
            recorder.dump()
        logger.experiment.finish()


# recorder.videos


def test_videos_are_those_since_the_last_dump_and_by_it():
    recorder = recorder_of(make_grid=False, dump_on_done=True)
    assert recorder.videos == []
    env = env_of(recorder, [[2, 2, 99]])
    env.rollout(6, break_when_any_done=False)
    assert [video.episode.number for video in recorder.videos] == [0, 1]
    last = recorder.dump()
    assert last is recorder.videos[-1]
    assert [video.episode.number for video in recorder.videos] == [0, 1, 2]
    assert recorder.dump() is None
    assert len(recorder.videos) == 3  # until the next one is published
    env.rollout(1)
    assert len(recorder.videos) == 3
    assert recorder.dump().episode.number == 3
    assert [video.episode.number for video in recorder.videos] == [3]
    recorder.videos.clear()
    assert len(recorder.videos) == 1


def test_dump_returns_the_last_episode_when_nothing_is_open():
    recorder = recorder_of(dump_on_done=True)
    env_of(recorder, [[2]]).rollout(2)
    video = recorder.dump()
    assert video.path.name == "video_0.memmap"
    assert recorder.dump() is None


def test_clips_of_step_trigger_are_among_them():
    recorder = recorder_of(step_trigger=lambda step: step % 4 == 0, max_frames=2)
    steps(env_of(recorder), 9)
    assert recorder.dump().path.name == "video_8.memmap"
    assert [video.path.name for video in recorder.videos] == [f"video_{step}.memmap" for step in (0, 4, 8)]


def test_videos_of_copies_are_among_them_but_not_of_those_in_other_environments():
    recorder = recorder_of(make_grid=False, dump_on_done=True)
    env = env_of(recorder, [[2]])
    env.rollout(2)
    elsewhere = env_of(recorder.clone(), [[3]])
    elsewhere.rollout(3)
    assert [video.frames for video in recorder.videos] == [3]
    assert [video.frames for video in elsewhere.transform.videos] == [4]
    copy = recorder.clone()
    copy._apply_transform(numbered(1))
    copy.dump("copy")
    assert [video.frames for video in recorder.videos] == [3, 1]
    assert recorder.dump().path.name == copy.videos[0].path.name


def test_a_close_is_no_dump_and_what_is_renamed_after_it_has_its_name_there():
    recorder = recorder_of()
    env = env_of(recorder)
    env.rollout(2)
    env.close()
    assert [video.path.name for video in recorder.videos] == ["video_0.memmap"]
    assert recorder.dump("final", 1000).path.name == "video_final_1000.memmap"
    assert [video.path.name for video in recorder.videos] == ["video_final_1000.memmap"]
    assert of_rows("file", "tag") == [("videos/video_final_1000.memmap", "video")]


@pytest.mark.parametrize("keep", [keep_best, keep_last])
def test_what_is_displaced_is_not_among_them(keep):
    recorder = recorder_of(make_grid=False, keep=keep(2))
    env_of(recorder, [[2, 3, 4, 9]]).rollout(9, break_when_any_done=False)
    assert [video.episode.number for video in recorder.videos] == [1, 2]
    assert all(video.path.exists() for video in recorder.videos)
    other = recorder_of(tag="other", make_grid=False, keep=recorder._recording.destination.keep)
    env_of(other, [[5]]).rollout(5)
    assert [video.episode.number for video in recorder.videos] == [2]
    assert recorder.dump() is None or recorder.videos[-1].path.exists()


def test_a_failure_has_the_last_of_them():
    recorder = recorder_of(TeeLogger(CSVLogger("run"), FailingLogger()), on_error="warn", make_grid=False)
    steps(env_of(recorder, [[9], [9]], (2,)), 1)
    with pytest.warns(VidrecWarning, match="moon"):
        failure = recorder.dump()
    assert isinstance(failure, Failure)
    assert failure.video is recorder.videos[-1]
    assert [video.env_id for video in recorder.videos] == [0, 1]


def test_a_dump_that_raises_has_not_returned():
    failing = FailingLogger()
    recorder = recorder_of(TeeLogger(CSVLogger("run", video_format="memmap"), failing), make_grid=False)
    steps(env_of(recorder, [[9], [9]], (2,)), 1)
    with pytest.raises(OSError, match="moon"):
        recorder.dump()
    assert recorder.dump().env_id == 1
    assert [video.env_id for video in recorder.videos] == [0, 1]


# what is cut off


def test_an_episode_is_unfinished_or_not():
    assert Episode(None, 0, 1, 0.0, False, False).unfinished
    assert not Episode(None, 0, 1, 0.0, True, False).unfinished
    assert not Episode(None, 0, 1, 0.0, False, True).unfinished


@pytest.mark.parametrize("end", ["dump", "close", "the end of the program"])
def test_keep_is_asked_of_what_is_cut_off(end, tmp_path):
    asked = deque()

    def keep(episode):
        asked.append((episode.number, episode.length, episode.unfinished))
        return not episode.unfinished

    recorder = recorder_of(make_grid=False, keep=keep)
    env = env_of(recorder, [[2, 9]])
    env.rollout(5, break_when_any_done=False)
    if end == "dump":
        assert recorder.dump().episode.number == 0
    elif end == "close":
        env.close()
    else:
        recorder._recording.dump(alone=True)
    assert list(asked) == [(0, 2, False), (1, 3, True)]
    assert of_rows("episode", "ended") == [("0", "terminated")]
    assert [path.name for path in (RUN / "videos").iterdir()] == ["video_ep0_0.memmap"]
    assert recorder.dump("more", 9) is None or end != "dump"
    assert len(rows()) == 1


def test_what_is_refused_uses_up_no_step_and_warns_of_no_frames():
    recorder = recorder_of(make_grid=False, keep=lambda episode: False, max_frames=1)
    steps(env_of(recorder), 3)
    assert recorder.dump() is None
    assert recorder.iter == 0


def test_keep_best_counts_what_is_cut_off_by_its_return_so_far():
    recorder = recorder_of(make_grid=False, keep=keep_best(1))
    env = env_of(recorder, [[3, 9]])
    env.rollout(5, break_when_any_done=False)
    env.close()
    assert of_rows("episode", "return") == [("0", "3.0")]
    env = env_of(recorder.clone(), [[9]])
    env.rollout(4)
    env.close()
    assert of_rows("episode", "return", "ended") == [("0", "4.0", "unfinished")]


@pytest.mark.parametrize("on_error", ["raise", "warn"])
def test_a_keep_that_raises_costs_no_video_of_dump(on_error):
    recorder = recorder_of(make_grid=False, keep=lambda episode: 1 / 0, on_error=on_error)
    steps(env_of(recorder), 3)
    if on_error == "raise":
        with pytest.raises(ZeroDivisionError):
            recorder.dump()
    else:
        with pytest.warns(VidrecWarning, match="division"):
            assert recorder.dump().video.frames == 4
    assert of_rows("frames") == [("4",)]


def test_what_is_renamed_after_close_stays_known_to_keep_best():
    recorder = recorder_of(make_grid=False, keep=keep_best(1))
    env = env_of(recorder)
    env.rollout(3)
    env.close()
    recorder.dump("final", 1000)
    assert of_rows("file") == [("videos/video_final_ep0_1000.memmap",)]
    other = recorder_of(tag="other", make_grid=False, keep=recorder._recording.destination.keep)
    env_of(other, [[5]]).rollout(5)
    assert of_rows("file") == [("videos/other_ep0_0.memmap",)]
    assert [path.name for path in (RUN / "videos").iterdir()] == ["other_ep0_0.memmap"]


def test_what_keep_best_displaced_at_close_is_not_renamed():
    recorder = recorder_of(make_grid=False, keep=keep_best(1))
    env = env_of(recorder, [[9], [9]], (2,))
    env.rollout(3)
    env.close()
    recorder.dump("final", 1000)
    assert of_rows("file", "return") == [("videos/video_env1_final_ep0_1000.memmap", "6.0")]

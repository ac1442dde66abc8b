"""Videos are published in the background where the logger runs in another process: nobody waits for a slow one."""

import concurrent.futures
import copy
import multiprocessing
import os
import pickle
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import SERVICE, since_torchrl
from numbered_frames import numbered, numbers_in, rows
from screens import wait_for
from workers import SilentLogger, SlowLogger, dump_until, found, let_go, worker_env
from worlds import name_of

import vidrec
from vidrec import CSVLogger, ServiceError, TeeLogger, VideoRecorder, keep_best
from vidrec.loggers import SentVideo, service
from vidrec.recording import publishing
from vidrec.recording.recording import WAIT_S

pytestmark = since_torchrl("0.14")


@pytest.fixture
def logger():
    yield from _started(SlowLogger)


@pytest.fixture
def silent():
    yield from _started(SilentLogger)


def _started(logger_class):
    owner = logger_class("run", video_format="mkv", **SERVICE)
    folder = Path("csv_logs").absolute()
    vidrec.set_service_timeout(30)
    yield owner
    let_go(folder)
    if owner.is_alive:
        owner.shutdown(timeout=60)
    vidrec.set_service_timeout()


def recorded(logger, frames=4, first=0, **kwargs):
    recorder = VideoRecorder(logger, "video", skip=1, **kwargs)
    for number in range(first, first + frames):
        recorder._apply_transform(numbered(number))
    return recorder


def parts():
    return list(Path().rglob("*.part-*"))


def test_dump_does_not_wait_and_the_video_knows_its_place_when_it_has_one(logger):
    recorder = recorded(logger)
    video = recorder.dump(step=7)
    assert isinstance(video, SentVideo)
    assert (video.frames, video.tag, video.size) == (4, "video", (48, 64))
    assert recorder.videos == [video]
    assert "under way" in repr(video)
    assert not Path("csv_logs/run/videos/video_7.mkv").exists()
    let_go()
    assert video.path == Path("csv_logs/run/videos/video_7.mkv").resolve()
    assert numbers_in(video.path) == [0, 1, 2, 3]
    assert video.url is None
    assert repr(video.path) in repr(video)
    there = pickle.loads(pickle.dumps(video))
    assert (type(there).__name__, there.path) == ("Video", video.path)
    assert wait_for(lambda: not parts(), 10) or not parts()  # without another dump
    assert recorder.dump() is None


def test_a_dump_waits_once_for_the_videos_of_all_copies(logger, monkeypatch):
    waits, wait = [], concurrent.futures.wait
    monkeypatch.setattr(publishing, "wait", lambda answers, wait_s: waits.append(wait_s) or wait(answers, wait_s))
    recorder = recorded(logger)
    copies = [copy.deepcopy(recorder) for _ in range(3)]
    for each in copies:
        each._apply_transform(numbered(9))
    recorder.dump(step=0)
    assert 0 < waits[0] <= WAIT_S
    assert waits[1:] == [0, 0, 0]


def test_episodes_go_on_while_the_logger_takes_its_time(logger):
    env = worker_env(logger, 1, [3], dump_on_done=True)
    env.rollout(15, break_when_any_done=False)
    assert not list(Path("csv_logs/run/videos").glob("video_?.mkv"))
    let_go()
    env.close()
    videos = found()
    assert list(videos) == [f"video_{step}.mkv" for step in range(len(videos))]
    assert list(videos.values())[:5] == [[name_of(1, episode, step) for step in range(4)] for episode in range(5)]


def test_no_more_than_so_many_are_under_way(logger, monkeypatch):
    monkeypatch.setattr(service, "MAX_VIDEOS", 2)
    recorder = recorded(logger, 0)

    def dump_three():
        for step in range(3):
            recorder._apply_transform(numbered(step))
            recorder.dump(step=step)

    thread = threading.Thread(target=dump_three)
    thread.start()
    thread.join(3)
    assert thread.is_alive()
    let_go()
    thread.join(60)
    assert wait_for(lambda: not parts(), 10)
    assert found() == {f"video_{step}.mkv": [step] for step in range(3)}


def test_the_error_is_that_of_the_next_dump_which_publishes_it_again(logger):
    recorder = recorded(logger)
    video = recorder.dump(step=1)
    let_go(fails=True)
    with pytest.raises(RuntimeError, match="the disk of the logger is full"):
        video.path
    with pytest.raises(RuntimeError, match="the disk of the logger is full") as caught:
        recorder.dump()
    assert "the video 'video' is kept, in" in caught.value.__notes__[0]
    dump_until(recorder, lambda: Path("csv_logs/run/videos/video_1.mkv").exists())
    assert found() == {"video_1.mkv": [0, 1, 2, 3]}
    assert len(rows()) == 1


def test_closing_waits_and_raises(logger):
    env = worker_env(logger, 0, [9])
    env.rollout(3)
    let_go(fails=True)
    with pytest.raises(RuntimeError, match="the disk of the logger is full"):
        env.close()
    env.transform.dump()
    env.transform.close()
    assert found() == {"video_0.mkv": [name_of(0, 0, step) for step in range(4)]}


def test_flush_waits_for_what_was_sent_before(logger):
    recorder = recorded(logger)
    recorder.dump(step=3)
    let_go()
    logger.flush()
    assert numbers_in(Path("csv_logs/run/videos/video_3.mkv")) == [0, 1, 2, 3]


def test_what_was_sent_is_there_after_the_logger_was_shut_down(logger):
    recorder = recorded(logger)
    video = recorder.dump(step=3)
    let_go()
    logger.shutdown(timeout=60)
    assert numbers_in(video.path) == [0, 1, 2, 3]
    assert recorder.dump() is None
    assert not parts()


def _dumps_and_ends(client):
    recorded(client).dump(step=5)


@pytest.mark.parametrize("start_method", ["fork", "forkserver"])
def test_a_process_waits_at_its_end_for_what_it_has_sent(start_method, logger):
    process = multiprocessing.get_context(start_method).Process(target=_dumps_and_ends, args=(logger.client(),))
    process.start()
    process.join(3)
    assert process.is_alive()
    let_go()
    process.join(60)
    assert process.exitcode == 0
    assert list(found().values()) == [[0, 1, 2, 3]]


def test_a_logger_that_is_killed_meanwhile_leaves_the_clip(logger):
    recorder = recorded(logger)
    video = recorder.dump(step=2)
    os.kill(logger._process.pid, signal.SIGKILL)
    with pytest.raises(ServiceError, match="has ended, and log_video_file was not done"):
        video.path
    with pytest.raises(ServiceError, match="has ended"):
        recorder.dump()
    (left,) = Path("csv_logs/run/videos").glob("*.part-*.mkv")
    assert numbers_in(left) == [0, 1, 2, 3]
    recorder.obs = []  # or else the end of the tests publishes it


def test_what_its_logger_has_in_no_file_has_no_path(silent):
    recorder = recorded(silent)
    video = recorder.dump(step=2)
    let_go()
    with pytest.raises(FileNotFoundError, match="the logger has this video in no file"):
        video.path
    assert video.url is None
    recorder.dump()
    assert recorder.videos == []
    assert not parts()


def test_the_best_are_kept_and_the_others_deleted_when_they_have_arrived(logger):
    env = worker_env(logger, 0, [2, 5, 3, 4], dump_on_done=True, keep=keep_best(2))
    env.rollout(14, break_when_any_done=False)
    let_go()
    env.close()
    assert wait_for(lambda: len(rows()) == len(list(Path("csv_logs/run/videos").glob("video_*.mkv"))) == 2, 10)
    assert sorted(len(numbers) for numbers in found().values()) == [5, 6]
    assert sorted(row["return"] for row in rows()) == ["4.0", "5.0"]


def test_several_loggers_of_one_clip_each_have_it_before_it_is_deleted(logger):
    recorder = recorded(TeeLogger(CSVLogger("own", video_format="mkv"), logger))
    recorder.dump(step=1)
    assert numbers_in(Path("csv_logs/own/videos/video_1.mkv")) == [0, 1, 2, 3]
    let_go()
    assert wait_for(lambda: not parts(), 10)
    assert numbers_in(Path("csv_logs/run/videos/video_1.mkv")) == [0, 1, 2, 3]


def test_a_tee_publishes_a_tensor_before_it_returns(logger):
    let_go()
    tee = TeeLogger(CSVLogger("own", video_format="mkv"), logger)
    tee.log_video("tensor", numbered(3)[None, None].permute(0, 1, 4, 2, 3), step=0)
    for run in ("own", "run"):
        assert numbers_in(Path(f"csv_logs/{run}/videos/tensor_0.mkv")) == [3]


class BackgroundLogger(CSVLogger):
    """A logger of one's own that publishes in a thread."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.thread, self.errors = ThreadPoolExecutor(1), [OSError("once")]

    def log_video(self, name, video, step=None, **settings):
        return SentVideo(video, self.thread.submit(self._publish, name, video, step, **settings))

    def _publish(self, name, video, step, **settings):
        time.sleep(0.4)
        if self.errors:
            raise self.errors.pop()
        return super().log_video(name, video, step, **settings)


def test_a_logger_of_ones_own_may_publish_in_the_background():
    recorder = recorded(BackgroundLogger("run", video_format="mkv"))
    video = recorder.dump(step=4)
    assert isinstance(video, SentVideo)
    assert not video.answer.done()
    with pytest.raises(OSError, match="once"):
        dump_until(recorder, lambda: False)
    dump_until(recorder, lambda: not recorder._recording.publisher.pending)
    assert found() == {"video_4.mkv": [0, 1, 2, 3]}
    assert [row["step"] for row in rows()] == ["4"]


def _place(video):
    try:
        video.path
    except ServiceError as error:
        os._exit(7 if "of which this is a fork" in str(error) else 8)


def test_a_fork_is_told_that_the_answer_is_not_for_it(logger):
    recorder = recorded(logger)
    video = recorder.dump(step=0)
    process = multiprocessing.get_context("fork").Process(target=_place, args=(video,))
    process.start()
    process.join(20)
    assert process.exitcode == 7
    let_go()
    assert numbers_in(video.path) == [0, 1, 2, 3]


def test_a_dump_after_closing_renames_what_was_sent(logger):
    let_go()
    env = worker_env(logger, 0, [9])
    env.rollout(3)
    env.close()
    env.transform.dump("final", 1000)
    assert list(found()) == ["video_final_1000.mkv"]

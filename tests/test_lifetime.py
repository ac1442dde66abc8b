"""Videos that nobody dumps: of a recorder that is gone, of a process that is told to end."""

import gc
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from conftest import some
from numbered_frames import numbered, numbers_in
from processes import encoders, run_python, started, wait_for_encoders, wait_for_signals, within
from worlds import FailingLogger

from vidrec import CSVLogger, VideoRecorder
from vidrec.recording import lifetime


@pytest.fixture(autouse=True)
def _nothing_hangs():
    with within(120):
        yield


def videos():
    paths = sorted(Path("csv_logs/run/videos").glob("*.mp4"))
    return {path.name: numbers_in(path) for path in paths if ".part-" not in path.name}


def rows():
    return Path("csv_logs/run/videos.csv").read_text().count("\n") - 1


def record(tag, *numbers, logger=None):
    recorder = VideoRecorder(logger or CSVLogger("run"), tag, skip=1)
    for number in numbers:
        recorder._apply_transform(numbered(number))
    return recorder


# recorders that are gone


def test_a_recorder_that_is_gone_is_finished_when_the_next_clip_is_opened():
    logger = CSVLogger("run")
    record("gone", 1, 2, logger=logger)
    assert videos() == {}
    other = record("next", 3, logger=logger)
    assert videos() == {"gone_0.mp4": [1, 2]}
    assert rows() == 1
    assert len(encoders(Path.cwd())) == 1
    assert other.dump().frames == 1
    assert lifetime.unfinished() == []


@pytest.mark.filterwarnings("ignore:a video was not finished")
def test_what_cannot_be_finished_is_tried_again_with_each_clip_and_not_with_each_frame():
    logger = FailingLogger()
    logger.failures = 100
    record("gone", 1, logger=logger)
    for clip in (1, 2):
        record("next", *range(20)).dump()
        assert logger.failures == 100 - clip
    logger.failures = 0
    record("next", 1)
    assert len(logger.videos) == 1


def test_so_is_one_that_the_garbage_collector_finds():
    recorder = record("gone", 1, 2)
    recorder.itself = recorder
    del recorder
    gc.collect()
    record("next", 3).dump()
    assert videos() == {"gone_0.mp4": [1, 2], "next_0.mp4": [3]}


def test_a_copy_that_the_garbage_collector_finds_is_finished_by_the_original():
    recorder = record("game")
    copy = recorder.clone()
    copy._apply_transform(numbered(5))
    copy.itself = copy
    del copy
    gc.collect()
    assert recorder.dump() is not None
    assert videos() == {"game_0.mp4": [5]}


def test_one_that_is_gone_and_cannot_be_published_is_a_warning_and_the_next_clip_is_recorded():
    class Fails(CSVLogger):
        def log_video(self, *args, **settings):
            raise RuntimeError("the service is down")

    record("gone", 1, logger=Fails("run"))
    with pytest.warns(UserWarning, match="the service is down"):
        other = record("next", 3)
    assert other.dump().frames == 1


def test_one_whose_logger_failed_has_another_turn_with_the_next_clip():
    class FailsOnce(CSVLogger):
        failed = False

        def log_video(self, *args, **settings):
            if not self.failed:
                self.failed = True
                raise RuntimeError("the service is down")
            return super().log_video(*args, **settings)

    record("gone", 1, 2, logger=FailsOnce("run"))
    with pytest.warns(UserWarning, match="the service is down"):
        record("next", 3).dump()
    record("third", 4).dump()
    assert videos() == {"gone_0.mp4": [1, 2], "next_0.mp4": [3], "third_0.mp4": [4]}


def test_a_copy_records_on_when_its_original_is_gone():
    original = record("game", 1, 2)
    copy = original.clone()
    copy._apply_transform(numbered(3))
    del original
    other = record("other", 9)
    for number in (4, 5):
        copy._apply_transform(numbered(number))
    assert copy.dump().frames == 3
    assert sorted(videos().values()) == [[1, 2], [3, 4, 5]]
    assert other.dump().frames == 1


def test_a_fork_leaves_the_signals_blocked_that_the_program_has_blocked():
    record("game", 1).dump()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    try:
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        assert {signal.SIGTERM, signal.SIGUSR1} <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_sigterm_waits_until_a_video_that_has_its_name_has_its_row():
    script = """
    class Slow(CSVLogger):
        def log_video(self, *args, **settings):
            print("ready", flush=True)
            time.sleep(1)
            return super().log_video(*args, **settings)

    logger = Slow("run")
    record().dump()
    wait_for_signals()
"""
    code, _, errors, _ = terminated(script)
    assert code in (128 + signal.SIGTERM, -signal.SIGTERM), errors
    assert videos() == {"game_0.mp4": list(range(10))}
    assert rows() == 1


START = """
    import multiprocessing, os, signal, sys, threading, time
    from numbered_frames import numbered
    from processes import wait_for_signals
    from vidrec import CSVLogger, VideoRecorder
    from vidrec.recording import lifetime

    logger = CSVLogger("run")

    def record(tag="game", numbers=range(10)):
        recorder = VideoRecorder(logger, tag, skip=1)
        for number in numbers:
            recorder._apply_transform(numbered(number))
        return recorder

    def ready():
        print("ready", flush=True)
        wait_for_signals()
"""


def terminated(script, *, times=1, seconds=30):
    """Run a script that says when it is ready, send it SIGTERM; return its exit code, what it says, and how long."""
    with started(START + script) as child:
        assert child.stdout.readline() == b"ready\n", child.stderr.read().decode()
        since = time.monotonic()
        for _ in range(times):
            child.send_signal(signal.SIGTERM)
            time.sleep(0.3 if times > 1 else 0)
        output, errors = child.communicate(timeout=seconds)
    return child.returncode, output.decode(), errors.decode(), time.monotonic() - since


def test_one_that_is_gone_is_finished_at_exit():
    with started(START + "    record()\n    assert lifetime.unfinished()") as child:
        _, errors = child.communicate(timeout=30)
    assert (child.returncode, errors) == (0, b"")
    assert videos() == {"game_0.mp4": [*range(10)]}
    assert rows() == 1
    assert encoders(Path.cwd()) == []


# SIGTERM


def finished(names=("game_0.mp4",)):
    wait_for_encoders(Path.cwd())
    assert videos() == {name: [*range(10)] for name in names}
    assert rows() == len(names)
    assert list(Path("csv_logs").rglob("*.part-*")) == []


@pytest.mark.parametrize("work", ["ready()", "list(map(lambda _: ready(), [0]))", "threading.Event().wait(ready())"])
def test_sigterm_finishes_the_clip_and_its_row(work):
    code, _, errors, seconds = terminated(f"    recorder = record()\n    {work}")
    assert (code, errors) == (143, "")
    assert seconds < 8
    finished()


def test_sigterm_runs_what_the_program_does_at_its_end():
    script = """
    import atexit
    atexit.register(print, "atexit")
    recorder = record()
    try:
        ready()
    finally:
        print("finally", recorder.dump().frames, flush=True)
    """
    code, output, _, _ = terminated(script)
    assert (code, output.split()) == (143, ["finally", "10", "atexit"])
    finished()


def test_a_process_without_open_clips_dies_by_the_signal():
    code, _, errors, _ = terminated("    recorder = record()\n    recorder.dump()\n    ready()")
    assert (code, errors) == (-signal.SIGTERM, "")
    finished()


def test_what_sigterm_does_can_be_turned_off():
    code, _, errors, _ = terminated("""
    import vidrec
    record()
    vidrec.handle_sigterm(False)
    recorder = record()
    ready()
    """)
    assert (code, errors) == (-signal.SIGTERM, "")


def test_the_environment_turns_off_what_sigterm_does(monkeypatch):
    monkeypatch.setenv("VIDREC_SIGTERM", "0")
    run_python("""
    import signal, torch, vidrec
    recorder = vidrec.VideoRecorder(vidrec.CSVLogger("run"), "video")
    recorder._apply_transform(torch.zeros(48, 64, 3, dtype=torch.uint8))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    """)


def test_a_second_sigterm_ends_at_once():
    script = """
    recorder = record()
    try:
        ready()
    finally:
        wait_for_signals()
    """
    code, _, _, seconds = terminated(script, times=2)
    assert code == -signal.SIGTERM
    assert seconds < 8


OWN = {
    "before": """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    recorder = record()
    ready()
    """,
    "after": """
    recorder = record()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    recorder.dump()
    again = record("again")
    ready()
    """,
}


@pytest.mark.parametrize("when", OWN)
def test_a_handler_of_the_programs_own_stays(when):
    code, _, errors, _ = terminated(OWN[when])
    assert (code, errors) == (7, "")
    finished(["game_0.mp4"] if when == "before" else ["again_0.mp4", "game_0.mp4"])


def test_a_sigterm_that_is_ignored_is_ignored():
    script = """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    recorder = record(numbers=range(5))
    print("ready", flush=True)
    time.sleep(1)
    for number in range(5, 10):
        recorder._apply_transform(numbered(number))
    """
    code, _, errors, _ = terminated(script)
    assert (code, errors) == (0, "")
    finished()


def test_a_handler_that_calls_the_one_before_it_ends_as_that_does():
    script = """
    recorder = record()
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *args: (os.write(1, b"own\\n"), before(*args)))
    ready()
    """
    code, output, _, _ = terminated(script)
    assert (code, output) == (143, "own\n")
    finished()


def test_a_thread_that_does_not_end_does_not_keep_the_process_from_its_end():
    script = """
    lifetime.EXIT_S = 1
    recorder = record()
    threading.Thread(target=time.sleep, args=(1000,)).start()
    ready()
    """
    code, _, errors, seconds = terminated(script)
    assert code in (143, -signal.SIGTERM), errors
    assert 1 <= seconds < 15
    finished()


def test_a_thread_may_go_on_recording_until_it_ends():
    script = """
    recorder, go = record(numbers=range(5)), threading.Event()

    def work():
        go.wait()
        for number in range(5, 10):
            recorder._apply_transform(numbered(number))

    threading.Thread(target=work).start()
    try:
        ready()
    finally:
        go.set()
    """
    code, _, errors, _ = terminated(script)
    assert code == 143, errors
    wait_for_encoders(Path.cwd())
    assert [number for numbers in videos().values() for number in numbers] == [*range(10)]


def test_a_recorder_made_in_a_thread_leaves_sigterm_alone():
    script = """
    def work():
        global recorder
        recorder = record()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    ready()
    """
    code, _, errors, _ = terminated(script)
    assert (code, errors) == (-signal.SIGTERM, "")
    wait_for_encoders(Path.cwd())
    [path] = Path("csv_logs/run/videos").glob("*.part-*.mp4")
    assert numbers_in(path) == [*range(10)]


def test_a_recorder_made_in_a_thread_is_finished_by_sigterm_if_the_main_thread_has_made_one():
    script = """
    first = record("first", [])
    thread = threading.Thread(target=lambda: globals().update(recorder=record()))
    thread.start()
    thread.join()
    ready()
    """
    code, _, errors, _ = terminated(script)
    assert (code, errors) == (143, "")
    finished()


# workers


def record_until_a_signal(connection):
    recorder = record("child", *range(10))
    connection.send("ready")
    wait_for_signals()
    return recorder


@pytest.mark.parametrize("method", some(["fork", "forkserver", "spawn"], "fork", "forkserver"))
def test_a_worker_that_is_terminated_finishes_its_clip_and_the_parent_keeps_its_own(method):
    context = multiprocessing.get_context(method)
    recorder = record("game", *range(10))
    here, there = context.Pipe()
    child = context.Process(target=record_until_a_signal, args=(there,))
    child.start()
    there.close()
    assert here.recv() == "ready"
    child.terminate()
    child.join(30)
    assert child.exitcode == 143
    assert recorder.dump().frames == 10
    finished(["child_worker1_0.mp4", "game_0.mp4"])


MOMENTS = """
    moment = sys.argv[1]

    def profile(frame, event, _):
        if event == "call" and frame.f_code.co_name == moment:
            sys.setprofile(None)
            os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize(
    "moment",
    some(
        ["_exit_function", "_run_finalizers", "_finish_at_exit", "finish_all", "unfinished"],
        "_exit_function",
        "finish_all",
    ),
)
def test_a_worker_that_is_terminated_while_it_ends_finishes_its_clip(moment):
    script = """
    def work():
        globals().update(recorder=record())
        sys.setprofile(profile)
        raise EOFError("no more is to be done")

    child = multiprocessing.get_context("fork").Process(target=work, name="one-1")
    child.start()
    child.join(30)
    print(child.exitcode)
    """
    done = run_python(START + MOMENTS + script, moment)
    assert done.stdout == f"{-signal.SIGTERM}\n", done.stderr
    finished(["game_worker1_0.mp4"])


@pytest.mark.parametrize("moment", ["_finish_at_exit", "finish_all", "unfinished"])
def test_a_program_that_is_terminated_while_it_ends_finishes_its_clip(moment):
    done = run_python(START + MOMENTS + "    recorder = record()\n    sys.setprofile(profile)", moment, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
    finished()


@pytest.mark.parametrize("seconds", [0, 0.5])
def test_a_forked_worker_without_a_clip_dies_by_the_signal_though_its_parent_records(seconds):
    script = """
    recorder = record()
    for _ in range(5):
        child = multiprocessing.get_context("fork").Process(target=wait_for_signals, daemon=True)
        child.start()
        time.sleep(float(sys.argv[1]))  # 0: the signal comes while Python is about to start there
        child.terminate()
        child.join(5)
        code = child.exitcode
        child.kill()
        assert code == -signal.SIGTERM, code
    """
    with started(START + script, seconds) as child:
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors.decode()
    finished()


PARALLEL = """
    import os, signal, sys, time
    from processes import wait_for_signals
    from torchrl.envs import ParallelEnv, TransformedEnv
    from vidrec import CSVLogger, VideoRecorder
    from worlds import PixelsEnv

    def make_env():
        return TransformedEnv(PixelsEnv(), VideoRecorder(CSVLogger("run"), "game", skip=1))

    if __name__ == "__main__":
        env = ParallelEnv(2, make_env, mp_start_method="fork")
        env.rollout(9)
        print("ready", flush=True)
        wait_for_signals()
"""


@pytest.mark.parametrize("whom", some(["the group", "the workers"], "the group"))
def test_sigterm_to_the_workers_of_a_parallel_env_finishes_their_videos(whom):
    with started(PARALLEL, start_new_session=True) as child:
        while child.stdout.readline() not in (b"ready\n", b""):
            pass  # TorchRL has something to say before
        workers = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        if whom == "the group":
            os.killpg(child.pid, signal.SIGTERM)
        for pid in workers if whom == "the workers" else ():
            os.kill(int(pid), signal.SIGTERM)
        until = time.monotonic() + 30
        while len(videos()) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        os.killpg(child.pid, signal.SIGKILL)
    wait_for_encoders(Path.cwd())
    shown = videos()
    assert shown == {name: [*range(10)] for name in ("game_0.mp4", "game_worker1_0.mp4")}

"""Forks at any moment, SIGTERM beside handlers of the program, and envs that TorchRL makes and throws away."""

import gc
import os
import signal
import threading
import time
import warnings
import weakref
from pathlib import Path

import pytest
from conftest import some
from numbered_frames import numbers_in
from processes import encoders, started, wait_for_encoders, within
from torchrl.envs import EnvCreator, SerialEnv, TransformedEnv
from worlds import PixelsEnv

import vidrec
from vidrec import CSVLogger, VideoRecorder, VidrecWarning
from vidrec.files import forks
from vidrec.recording import lifetime

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture(autouse=True)
def _nothing_hangs():
    with within(120):
        yield


def videos(folder="run"):
    paths = sorted(Path("csv_logs", folder, "videos").glob("*.mp4"))
    return {path.name: numbers_in(path) for path in paths if ".part-" not in path.name}


START = """
    import ctypes, faulthandler, multiprocessing, os, signal, sys, threading, time

    def fork(child=lambda: None):
        pid = os.fork()
        if not pid:
            child()
            os._exit(0)
        return pid

    def ended(pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def stay():  # with all that was inherited, as long as the parent
        parent = os.getppid()
        while os.getppid() == parent:
            time.sleep(0.2)

    def terminate():
        os.kill(os.getpid(), signal.SIGTERM)
"""
RECORD = """
    import vidrec
    from numbered_frames import numbered
    from vidrec import CSVLogger, VideoRecorder
    from vidrec.recording import lifetime

    logger = CSVLogger("run")

    def record(tag="game", numbers=range(10), logger=logger):
        recorder = VideoRecorder(logger, tag, skip=1)
        for number in numbers:
            recorder._apply_transform(numbered(number))
        return recorder
"""


def run(script, *args, before=""):
    """Run a script, `before` before vidrec is imported; return its exit code and what it says."""
    with started(START + before + RECORD + script, *args) as child:
        output, errors = child.communicate(timeout=60)
    wait_for_encoders(Path.cwd())
    return child.returncode, output.decode(), errors.decode()


# the one hook


class Holder:
    def __init__(self, name, write, error=None):
        self.name, self.write, self.error = name, write, error
        forks.detach_in_child(self)

    def detach(self):
        os.write(self.write, self.name.encode())
        if self.error:
            raise self.error


def test_a_child_detaches_what_was_opened_last_first_and_nothing_that_is_gone():
    read, write = os.pipe()
    holders = [Holder(name, write) for name in "abcdef"]
    forks.forget(holders[1])
    del holders[3]
    gc.collect()
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with open(read, "rb") as said:
        assert said.read() == b"feca"


def test_one_that_cannot_detach_does_not_keep_the_others_from_it():
    code, output, errors = run("""
    from vidrec.files import forks

    class Holder:
        def __init__(self, number):
            self.number = number
            forks.detach_in_child(self)

        def detach(self):
            print(self.number, flush=True)
            1 / self.number

    holders = [Holder(number) for number in (2, 0, 1)]
    print(ended(fork()))
    """)
    assert (code, output.split()) == (0, ["1", "0", "2", "0"])
    assert "ZeroDivisionError" in errors


def test_there_is_one_hook_in_the_package():
    sources = {path.name: path.read_text() for path in Path(vidrec.__file__).parent.rglob("*.py")}
    assert [name for name, source in sources.items() if "register_at_fork" in source] == ["forks.py"]
    assert sources["forks.py"].count("register_at_fork(") == 1


# recordings that nobody has


class Recorded:
    """What stands for a recording."""

    def __init__(self, error=None):
        self.error, self.waiting, self.dumped = error, True, 0

    def dump(self, *, alone, wait_s):
        assert alone
        self.dumped += 1
        if self.error is not None:
            raise self.error
        self.waiting = False

    def delete(self):
        lifetime.release(self)


@pytest.fixture
def held():
    stubs = [Recorded(), Recorded(RuntimeError("the disk is full")), Recorded()]
    for stub in stubs:
        lifetime.hold(stub)
    yield stubs
    for stub in stubs:
        lifetime.release(stub)


def test_what_is_held_is_kept_alive_until_it_is_released():
    others = lifetime.held()  # of tests that left their recorders to the garbage collector
    stub = Recorded()
    alive = weakref.ref(stub)
    lifetime.hold(stub)
    del stub
    gc.collect()
    assert lifetime.held() == [*others, alive()]
    lifetime.release(alive())
    gc.collect()
    assert alive() is None


def test_one_that_cannot_be_finished_does_not_keep_the_others_from_it(held):
    with pytest.warns(VidrecWarning, match="not finished: the disk is full"):
        lifetime.finish_all()
    assert [stub.dumped for stub in held] == [1, 1, 1]
    assert lifetime.unfinished() == [held[1]]


def test_nor_does_its_warning_when_warnings_are_errors(held, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lifetime.finish_all()
    assert [stub.dumped for stub in held] == [1, 1, 1]
    assert "VidrecWarning: a video was not finished: the disk is full" in capsys.readouterr().err


def test_one_without_owner_is_finished_with_the_next_clip_not_by_the_garbage_collector(held):
    owners = [lifetime.owner(stub) for stub in held]
    shared = owners[0]
    del owners[:]
    gc.collect()
    assert [stub.dumped for stub in held] == [0, 0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lifetime.finish_orphans()
    assert [stub.dumped for stub in held] == [0, 1, 1]
    held[1].error = None
    del shared
    lifetime.finish_orphans()
    assert [stub.dumped for stub in held] == [1, 2, 1]
    assert not lifetime.orphans


# SIGTERM: any handler of the program's own wins

HOST = """
    def host(**settings):
        faulthandler.register(signal.SIGTERM, file=sys.stderr, **settings)

    def ignore():
        libc = ctypes.CDLL(None)
        libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        libc.signal(int(signal.SIGTERM), 1)

    def own(*_):
        print("own", flush=True)
        sys.exit(7)
"""
WINS = {
    "in C, before": (0, "    host()\n    recorder = record()\n    terminate()"),
    "in C, after": (
        0,
        "    recorder = record()\n    host()\n    terminate()\n    again = record('again')\n    terminate()",
    ),
    "ignored in C": (0, "    ignore()\n    recorder = record()\n    terminate()"),
    "in C, and a child": (0, "    recorder = record()\n    host()\n    assert ended(fork(terminate)) == 0"),
    "in C, turned off": (0, "    recorder = record()\n    host()\n    vidrec.handle_sigterm(False)\n    terminate()"),
    "ignored after": (0, "    recorder = record()\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    terminate()"),
    "in C, calls ours": (143, "    recorder = record()\n    host(chain=True)\n    terminate()"),
    "calls ours twice": (
        -15,
        """
    recorder = record()
    other = record("other")
    before = signal.signal(signal.SIGTERM, lambda *args: before(*args))
    try:
        terminate()
    finally:
        recorder.dump()
        terminate()
    """,
    ),
    "calls ours once": (
        143,
        """
    recorder, calls = record(), []
    before = signal.signal(signal.SIGTERM, lambda *args: calls.append(1) or len(calls) == 1 and before(*args))
    try:
        terminate()
    finally:
        terminate()
    """,
    ),
    "restored": (
        7,
        """
    before = signal.signal(signal.SIGTERM, own)
    recorder = record()
    inner = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    terminate()
    signal.signal(signal.SIGTERM, inner)
    terminate()
    """,
    ),
    "restored to none": (
        143,
        """
    before = signal.signal(signal.SIGTERM, own)
    recorder = record(numbers=range(5))
    signal.signal(signal.SIGTERM, before)
    recorder.dump()
    recorder = record()
    terminate()
    """,
    ),
    "ours restored": (
        143,
        """
    recorder = record()
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    terminate()
    signal.signal(signal.SIGTERM, before)
    terminate()
    """,
    ),
    "turned on again": (
        143,
        """
    vidrec.handle_sigterm(False)
    recorder = record()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    vidrec.handle_sigterm()
    terminate()
    """,
    ),
    "turned off in a thread": (
        -15,
        """
    recorder = record()
    recorder.dump()
    recorder = record("lost")
    thread = threading.Thread(target=vidrec.handle_sigterm, args=(False,))
    thread.start()
    thread.join()
    terminate()
    """,
    ),
}


@pytest.mark.parametrize(
    "host", some(WINS, "in C, after", "ignored after", "calls ours once", "restored to none", "turned on again")
)
def test_a_handler_of_the_programs_own_wins(host):
    expected, script = WINS[host]
    code, output, errors = run(script, before=HOST)
    assert code == expected, errors
    assert videos()["game_0.mp4"] == [*range(5 if host == "restored to none" else 10)]
    assert "own" in output or expected != 7


HELD = """
    class Slow(CSVLogger):
        def log_video(self, *args, **settings):
            terminate()  # waits
            signal.signal(signal.SIGTERM, {handler})
            return super().log_video(*args, **settings)

    record(logger=Slow("run")).dump()
    print("on", flush=True)
"""


@pytest.mark.parametrize(
    ("handler", "expected"),
    [("own", (7, "own\n")), ("signal.SIG_IGN", (0, "on\n")), ("signal.getsignal(signal.SIGTERM)", (-15, ""))],
    ids=["own", "ignored", "ours"],
)
def test_one_that_is_set_while_a_signal_waits_gets_it(handler, expected):
    code, output, errors = run(HELD.replace("{handler}", handler), before=HOST)
    assert (code, output) == expected, errors
    assert videos() == {"game_0.mp4": [*range(10)]}


# SIGTERM and forks


SIGTERM_AT_A_FORK = """
    recorder = record()
    go = True
    child = fork()
    go = False
    ended(child)
    time.sleep(5)
    print("still there")
"""


@pytest.mark.parametrize("when", ["before", "after_in_parent"])
def test_a_sigterm_that_comes_while_a_process_forks_ends_it(when):
    # registered before vidrec's hook, these are called between its two
    hook = f"""
    go = False
    os.register_at_fork({when}=lambda: go and terminate())
    """
    code, output, errors = run(SIGTERM_AT_A_FORK, before=hook)
    assert (code, output, errors) == (143, "", "")
    assert videos() == {"game_0.mp4": [*range(10)]}


def test_a_sigterm_that_comes_while_a_process_forks_waits_for_what_others_do_after_it():
    hook = """
    go = False
    os.register_at_fork(before=lambda: go and terminate())
    """
    slow = """
    os.register_at_fork(after_in_parent=lambda: go and time.sleep(0.2))  # Python ignores what a handler raises there
    """
    code, output, errors = run(slow + SIGTERM_AT_A_FORK, before=hook)
    assert (code, output, errors) == (143, "", "")
    assert videos() == {"game_0.mp4": [*range(10)]}


def test_a_sigterm_that_comes_to_a_child_before_it_is_ready_ends_it():
    hook = """
    go = False
    os.register_at_fork(after_in_child=lambda: go and terminate())
    """
    script = """
    recorder = record()
    go = True
    print(ended(fork(lambda: time.sleep(5))), recorder.dump().frames)
    """
    code, output, errors = run(script, before=hook)
    assert (code, output, errors) == (0, "-15 10\n", "")


def test_a_sigterm_in_a_loop_of_forks_ends_it_once_and_finishes_the_clip():
    code, output, errors = run("""
    import warnings

    warnings.filterwarnings("ignore", category=DeprecationWarning)  # since 3.12, Python warns of the thread below
    recorder = record()
    threading.Timer(0.3, terminate).start()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        ended(fork())
    print("still there")
    """)
    assert (code, output, errors) == (143, "", "")
    assert videos() == {"game_0.mp4": [*range(10)]}


def test_a_child_that_is_forked_while_a_signal_has_to_wait_holds_none_back_itself():
    code, output, errors = run("""
    recorder = record()
    with lifetime.undisturbed():
        child = os.fork()
    if not child:
        with lifetime.undisturbed():
            own = record("child")
            terminate()
            print("waits", flush=True)
    code = ended(child)
    print(code, recorder.dump().frames)
    """)
    assert (code, output) == (0, "waits\n143 10\n"), errors
    assert videos() == {"child_0.mp4": [*range(10)], "game_0.mp4": [*range(10)]}


# forks at any moment


# what is called there, in which call of it the child is forked, and whether that has done its work by then
WINDOWS = {
    "FFmpeg is looked for": ("vidrec.ffmpeg.program.subprocess.Popen._get_handles", 2, 1),
    "FFmpeg is asked": ("vidrec.ffmpeg.program.subprocess.Popen._get_handles", 3, 1),
    "FFmpeg is started": ("vidrec.ffmpeg.program.subprocess.Popen._get_handles", 6, 1),
    "FFmpeg reads": ("vidrec.ffmpeg.program.subprocess.Popen._get_handles", 8, 1),
    "a manifest is begun": ("vidrec.files.manifest.lock", 1, 1),
    "a manifest is closed": ("vidrec.files.manifest.remove", 1, 1),
    "a row is written": ("vidrec.files.index.csv.writer", 1, 1),
    "rows are read": ("vidrec.files.index.csv.reader", 2, 1),
    "FFmpeg's input is closed": ("vidrec.ffmpeg.encoder.Encoder.finish", 1, 0),
}


@pytest.mark.parametrize(
    "window", some(WINDOWS, "FFmpeg is asked", "FFmpeg is started", "a row is written", "FFmpeg's input is closed")
)
def test_a_child_that_is_forked_while_another_thread_opens_or_closes_a_file_does_not_hold_it(window):
    script = """
    for name in [name for name in sys.modules if name.partition(".")[0] == "moviepy"]:
        del sys.modules[name]  # it looks for FFmpeg as it is imported
    import io
    from unittest import mock
    from vidrec.ffmpeg.encoder import Encoder
    from vidrec.files import index, manifest

    vidrec.set_ffmpeg_timeout(3)
    inside, forked = threading.Event(), threading.Event()
    where, _, name = sys.argv[1].rpartition(".")
    owner = eval(where)
    real = getattr(owner, name)

    def now():
        inside.set()
        forked.wait(0.5)  # longer than a fork takes that waits for nothing

    class Slow(io.FileIO):
        def close(self):  # as `FileIO` does, which lets other threads run before the descriptor is closed
            if not self.closed:
                descriptor = os.dup(self.fileno())
                super().close()
                now()
                os.close(descriptor)

    def called(*args, **settings):
        calls.append(threading.current_thread() is thread)
        due = calls[-1] and sum(calls) == int(sys.argv[2])
        if due and sys.argv[3] == "0":
            fast, args[0]._pipe = args[0]._pipe, Slow(os.dup(args[0]._pipe.fileno()), "wb")
            fast.close()
        result = real(*args, **settings)
        if due and sys.argv[3] == "1":
            now()
        return result

    results, calls = [], []

    def work():
        recorder = VideoRecorder(logger, "game", skip=1, options={"tune": "zerolatency"})
        for number in range(10):
            recorder._apply_transform(numbered(number))
        results.append(len(list(recorder.dump().iter_frames())))
        results.append(len(index.VideoIndex(logger.experiment._index.folder).rows()))

    thread = threading.Thread(target=work, daemon=True)
    with mock.patch.object(owner, name, called):
        thread.start()
        inside.wait(20)
        child = fork(stay)
        forked.set()
        thread.join(20)
    here = os.getcwd() + "/"
    open_files = [os.readlink(f"/proc/{child}/fd/{number}") for number in os.listdir(f"/proc/{child}/fd")]
    print(inside.is_set(), results, [file for file in open_files if file.startswith(here)])
    again = threading.Thread(target=work, daemon=True)
    again.start()
    again.join(20)
    print(results, flush=True)
    os._exit(0)
    """
    code, output, errors = run(script, *WINDOWS[window])
    assert (code, output) == (0, "True [10, 1] []\n[10, 1, 10, 2]\n"), errors


def test_a_child_that_is_forked_while_another_thread_reads_the_count_of_frames_does_not_wait_for_it(start, tmp_path):
    encoder = start(tmp_path / "a.mp4")
    read, write = os.pipe()
    os.dup2(read, encoder._progress.fileno())  # which takes its time
    reader = threading.Thread(target=encoder._progress.read)
    reader.start()
    time.sleep(0.2)  # until it waits
    child = os.fork()
    if not child:
        os._exit(0)
    until = time.monotonic() + 20
    while not (ended := os.waitpid(child, os.WNOHANG)[0]) and time.monotonic() < until:
        time.sleep(0.01)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.close(write)
    reader.join()
    os.close(read)
    assert ended


@pytest.mark.parametrize("many", [30, pytest.param(100, marks=pytest.mark.long)])
@pytest.mark.parametrize("video_format", some(["mp4", "memmap"], "mp4"))
def test_children_that_are_forked_while_threads_record_keep_nobody_waiting(video_format, many):
    script = """
    from vidrec.ffmpeg.encoder import Encoder

    vidrec.set_ffmpeg_timeout(3)
    logger = CSVLogger("run", video_format=sys.argv[1])
    counts, enough = [], threading.Event()

    def work(tag):
        recorder = VideoRecorder(logger, tag, skip=1)
        while not enough.is_set():
            for number in range(3):
                recorder._apply_transform(numbered(number))
            counts.append(recorder.dump().frames)

    threads = [threading.Thread(target=work, args=(tag,), daemon=True) for tag in ("one", "two")]
    for thread in threads:
        thread.start()
    children = []
    for _ in range(int(sys.argv[2])):
        children.append(fork(stay))  # with all that it has inherited
        time.sleep(0.01)
    before = len(counts)
    while len(counts) < before + 4 and any(thread.is_alive() for thread in threads):
        time.sleep(0.01)
    enough.set()
    for thread in threads:
        thread.join(20)
    print([thread.name for thread in threads if thread.is_alive()], set(counts))
    for child in children:
        os.kill(child, signal.SIGKILL)
        ended(child)
    """
    code, output, errors = run(script, video_format, many)
    assert (code, output) == (0, "[] {3}\n"), errors


def test_a_child_that_is_forked_in_the_middle_of_a_write_ends_and_writes_nothing():
    script = """
    recorder = record(numbers=[])
    go, codes = threading.Event(), []

    def work():
        for number in range(400):
            recorder._apply_transform(numbered(number))
            go.set()

    thread = threading.Thread(target=work)
    thread.start()
    go.wait()

    def child():
        signal.alarm(20)
        assert recorder.dump() is None and len(recorder.obs) == 0  # neither waits for the lock nor for the encoder

    while thread.is_alive():
        codes.append(ended(fork(child)))
    print(set(codes), recorder.dump().frames)
    """
    code, output, errors = run(script)
    assert (code, output) == (0, "{0} 400\n"), errors
    assert videos() == {"game_0.mp4": [*range(400)]}


@pytest.mark.parametrize(
    "methods", [["fork"], pytest.param(["fork", "forkserver", "spawn"], marks=pytest.mark.long)], ids=str
)
def test_children_of_all_start_methods_record_for_themselves_and_the_parent_waits_for_none(methods, tmp_path):
    (tmp_path / "work.py").write_text("""
from numbered_frames import numbered
from vidrec import CSVLogger, VideoRecorder

def record(tag, go=None, ready=None):
    recorder = VideoRecorder(CSVLogger("run"), tag, skip=1)
    for number in range(10):
        recorder._apply_transform(numbered(number))
    if go:
        ready.send("ready")
        assert go.recv() == "go"
    return recorder
""")
    script = """
    sys.path.insert(0, os.getcwd())
    import work

    recorder = work.record("game")
    children = []
    for method in sys.argv[1:]:
        context = multiprocessing.get_context(method)
        go, ready = context.Pipe(), context.Pipe()
        child = context.Process(target=work.record, args=(method, go[1], ready[1]), name=method + "-1")
        child.start()
        children.append((child, go[0], ready[0]))
    assert [ready.recv() for _, _, ready in children] == ["ready"] * len(children)
    print(recorder.dump().frames)
    for child, go, _ in children:
        go.send("go")
        child.join(60)
        print(child.exitcode)
    """
    code, output, errors = run(script, *methods)
    assert (code, output.split()) == (0, ["10", *["0"] * len(methods)]), errors
    names = ["game_0.mp4", *(f"{method}_worker1_0.mp4" for method in methods)]
    assert videos() == {name: [*range(10)] for name in names}
    assert list(Path("csv_logs").rglob("*.part-*")) == []
    assert encoders(Path.cwd()) == []


# envs that TorchRL makes to read their specs


def recorded(tag, horizon=10**6, **settings):
    return TransformedEnv(PixelsEnv(horizon=horizon), VideoRecorder(CSVLogger("run"), tag, skip=1, **settings))


@pytest.mark.parametrize("batched", [False, True])
def test_one_whose_episode_ends_with_its_only_step_has_no_video(batched):
    def make():
        env = recorded("probe", horizon=1, dump_on_done=True)
        return SerialEnv(1, lambda: env) if batched else env

    EnvCreator(make)
    lifetime.finish_all()
    assert not list(Path.cwd().rglob("probe*"))


def test_another_env_that_is_closed_or_collected_meanwhile_has_its_video():
    closed, collected = recorded("closed"), SerialEnv(1, lambda: recorded("collected"))
    closed.rollout(2)
    collected.rollout(2)
    collected.__dict__["cycle"] = [collected]

    class Collects(PixelsEnv):
        def close(self, **settings):
            gc.collect()
            super().close(**settings)

    def make():
        nonlocal collected
        closed.close()
        collected = None
        return TransformedEnv(Collects(), VideoRecorder(CSVLogger("run"), "probe", skip=1))

    gc.disable()
    try:
        EnvCreator(make)
    finally:
        gc.enable()
    lifetime.finish_orphans()
    lifetime.finish_all()
    assert videos() == {"closed_0.mp4": [0, 1, 2], "collected_0.mp4": [0, 1, 2]}

"""Other processes: for what happens at the end of one, for one that lacks a package, for those that must not hang."""

import atexit
import fcntl
import functools
import inspect
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import textwrap
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

SECONDS = 120
"""More than any script takes, unless it hangs."""

TESTS = Path(__file__).parent

MOVIEPY = "moviepy.video.io.ffmpeg_reader"
TORCH = ("torchrl.collectors", "torchrl.data", "torchrl.envs", "torchrl.record.loggers", MOVIEPY)
COMMAND = ("vidrec.cli", MOVIEPY)
"""What a script has imported: all of others that vidrec needs, or what the command `vidrec` needs, without torch."""


def run_python(
    script: str | Path, *args: object, check: bool = True, has: Sequence[str] = TORCH, **kwargs
) -> subprocess.CompletedProcess[str]:
    """Run a script, or the file of one, to its end, in a process that `has` these modules imported; see `started`."""
    with started(script, *args, has=has, text=True, bufsize=-1, **kwargs) as child:
        output, errors = child.communicate()
    assert not check or child.returncode == 0, errors
    return subprocess.CompletedProcess(script, child.returncode, output, errors)


def without(*packages: str) -> str:
    """Return the beginning of a script for which these packages are not installed."""
    # None there means: not to be found, neither by import nor by `importlib.util.find_spec`
    return f"import sys; sys.modules.update(dict.fromkeys({packages}))\n"


def in_terminal(*command: object) -> str:
    """Run a command in a terminal, in the working directory; return what it shows there."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))  # rows and columns
    child = subprocess.Popen(list(map(str, command)), stdin=side, stdout=side, stderr=side)
    os.close(side)
    shown = b""
    try:
        while data := os.read(main, 4096):
            shown += data
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(main)
        child.wait(SECONDS)
    return shown.decode()


def _paths():
    """Return an environment in which scripts can import what is in this folder."""
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


@functools.cache
def _fork_server(modules):
    """Start the process that forks itself for each script, once; return the socket over which it is told."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        server = subprocess.Popen(
            [sys.executable, str(TESTS / "fork_server.py"), str(there.fileno()), *modules],
            env=_paths(),
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=TESTS,
        )

    def end():
        here.shutdown(socket.SHUT_RDWR)
        server.wait()

    atexit.register(end)
    return here


class ForkedScript(subprocess.Popen):
    """A script in a process that has modules imported, started by their fork server: they, the script, its file."""

    def _execute_child(self, *args):
        # what Popen knows by now: its pipes, by their names there
        known = inspect.signature(super()._execute_child).bind(*args).arguments
        told = {
            "script": known["args"][1],
            "path": known["args"][2],
            "args": known["args"][3:],
            "cwd": os.path.abspath(known["cwd"] or "."),
            "env": known["env"],
            "new_session": known["start_new_session"],
        }
        self._status, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        streams = [known["p2cread"], known["c2pwrite"], known["errwrite"]]
        with there:
            socket.send_fds(_fork_server(known["args"][0]), [json.dumps(told).encode()], [*streams, there.fileno()])
        [self.pid] = struct.unpack("i", self._status.recv(4))
        self._child_created = True
        for stream in streams:
            os.close(stream)

    def _try_wait(self, wait_flags):
        if not select.select([self._status], [], [], 0 if wait_flags & os.WNOHANG else None)[0]:
            return 0, 0
        with self._status:
            return self.pid, *struct.unpack("i", self._status.recv(4))

    def _internal_poll(self, *_, **__):
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode


@contextmanager
def started(script, *args, seconds=SECONDS, env=(), has=TORCH, **kwargs):
    """Start a script that can import what is in this folder; it outlives neither the block nor `seconds`.

    It is a fork of a process that `has` these modules imported, or, if there are none, an interpreter of its own.
    """
    path = [str(script)] if isinstance(script, Path) else []
    text = script.read_text() if path else textwrap.dedent(script)
    start = ForkedScript if has else subprocess.Popen
    command = [has, text, *(path or [""])] if has else [sys.executable, *(path or ["-c", text])]
    child = start(
        [*command, *map(str, args)],
        env={**_paths(), **dict(env)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **{"bufsize": 0, **kwargs},
    )
    late = threading.Timer(seconds, child.kill)
    late.start()
    try:
        yield child
    finally:
        late.cancel()
        child.kill()
        child.communicate()


@contextmanager
def within(seconds):
    """Turn a hang into a failure."""

    def late(*_):
        raise TimeoutError(f"still there after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def wait_for_signals(seconds=60):
    """Sleep in short pieces: a signal that comes just before a sleep enters the kernel waits until that ends."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


def children(pid="self"):
    """Return the processes that a process has started and that are still there."""
    lists = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return [int(child) for child in " ".join(lists).split()]


def encoders(folder):
    """Return the FFmpeg processes that write into a folder."""

    def words(pid):
        try:
            return Path("/proc", pid, "cmdline").read_bytes()
        except OSError:  # it has ended
            return b""

    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and f"\0file:{folder}/".encode() in words(pid)]


def the_encoder(folder):
    """Return the only one; a process that was just started has no command line for a moment."""
    until = time.monotonic() + SECONDS
    while not (found := encoders(folder)) and time.monotonic() < until:
        time.sleep(0.001)
    [encoder] = found
    return encoder


def ended(pid):
    """Return whether all threads of a process have ended and closed its files; its command line goes before that."""
    place = Path("/proc", str(pid))
    try:
        state = (place / "stat").read_text().rpartition(")")[2].split()[0]
        return state in "ZX" and len(list((place / "task").iterdir())) == 1
    except OSError:
        return True


def wait_for_encoders(folder):
    """FFmpeg ends by itself once its input has ended: wait until none writes into `folder`."""
    until = time.monotonic() + SECONDS
    seen = set()
    while not all(map(ended, seen := seen | set(encoders(folder)))):
        assert time.monotonic() < until, "an encoder does not end"
        time.sleep(0.01)

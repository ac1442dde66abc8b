"""When recordings end without `dump`: with the interpreter, by SIGTERM, in a fork, or because nobody has them any more.

A process that ends without any of these (SIGKILL, ``os._exit``) leaves its files to FFmpeg, which finishes them under
their unfinished names, and to `vidrec repair`.
"""

import atexit
import ctypes
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

from vidrec.errors import message, warn_or_print
from vidrec.files import forks
from vidrec.loggers import uploads

EXIT_S: float | None = 10.0
"""How long the interpreter may take to end after SIGTERM, in seconds, once all videos are finished; None: no limit."""

_handles_sigterm = os.environ.get("VIDREC_SIGTERM", "1") != "0"


def handle_sigterm(enabled: bool = True, *, exit_s: float | None = 10.0) -> None:
    """Say whether SIGTERM finishes what is recorded; it does unless the environment variable VIDREC_SIGTERM is ``0``.

    A handler of the program, set before or after, in Python or in C, goes before this one in any case.

    Args:
        enabled: False leaves SIGTERM to the program; `vidrec repair` finds what a process that it ends leaves.
        exit_s: how long the interpreter may take to end, in seconds, once all videos are finished; then the signal ends
            it. None lets it take as long as it likes.
    """
    global EXIT_S, _handles_sigterm
    EXIT_S, _handles_sigterm = exit_s, enabled
    if enabled and _recordings:
        _catch_sigterm()
    elif not enabled and _is_main_thread() and _is_ours():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class Unfinished(Protocol):
    """A recording."""

    @property
    def waiting(self) -> bool:
        """Whether there is something to publish."""

    def dump(self, *, alone: bool, wait_s: float | None) -> Any:
        """Publish it, without its copies, and wait so long until it is; None is as long as it takes."""


_recordings: dict[int, Any] = {}
"""The recordings that have an open clip or something to publish, in the order in which they began."""

orphans: "deque[Unfinished]" = deque()
"""Those that no recorder has any more."""

_ending = False
_busy = 0  # how many things the main thread does that must not be cut into
_held: tuple[int, bool] | None = None  # the signal that came meanwhile, and whether from the program's own handler
_ended = False  # a signal has ended this process; another one does so at once
_python: int | None = None  # the handler in C of all handlers in Python
_masks = threading.local()
_finalizers: dict[int, Any] = {}


def hold(recording: Unfinished) -> None:
    """Finish this recording if nobody else does: a clip was opened."""
    _recordings[id(recording)] = recording
    _catch_sigterm()
    # anew each time, to run before what loggers have registered in the meantime, such as the end of their run
    atexit.unregister(_finish_at_exit)
    atexit.register(_finish_at_exit)
    if multiprocessing.parent_process() is not None and os.getpid() not in _finalizers:
        # a process that was forked by multiprocessing ends without the functions of atexit
        _finalizers[os.getpid()] = multiprocessing.util.Finalize(None, _finish_at_exit, exitpriority=100)


def release(recording: Unfinished) -> None:
    """Forget a recording that has nothing to publish."""
    _recordings.pop(id(recording), None)


def held() -> list[Any]:
    """Return the recordings that have an open clip or something to publish."""
    return list(_recordings.values())


class Owner:
    """What recorders that share a recording have in common: once it is garbage, nobody has the recording any more."""


def owner(recording: Unfinished) -> Owner:
    """Return an owner of a recording; `finish_orphans` publishes what is left when it is garbage."""
    _catch_sigterm()
    token = Owner()
    # nothing is published there: the garbage collector runs at any time, whatever lock is held
    weakref.finalize(token, orphans.append, recording).atexit = False
    return token


def finish_orphans() -> None:
    """Publish what nobody has any more, and try again the next time what cannot be. Called without a lock."""
    for _ in range(len(orphans)):
        try:
            recording = orphans.popleft()
        except IndexError:  # another thread does it
            return
        if recording.waiting:
            try:
                _finish(recording, 0)
            finally:
                if recording.waiting:
                    orphans.append(recording)


def unfinished() -> list[Any]:
    """Return the recordings that have something to publish."""
    return [recording for recording in held() if recording.waiting]


def finish_all() -> None:
    """Publish all there is."""
    with undisturbed():
        for recording in unfinished():
            _finish(recording, None)


def _finish_at_exit() -> None:
    global _ending
    with undisturbed():
        _ending = True
        finish_all()


def _is_about_to_finish(frame: FrameType | None) -> bool:
    """Return whether the process ends and has yet to finish what is recorded, which an exception there would prevent.

    `frame` is what the main thread does: something that a process of multiprocessing does at its end, or this module.
    """
    ends = {(__name__, "_finish_at_exit"), ("multiprocessing.util", "_exit_function")}
    while frame and (frame.f_globals.get("__name__"), frame.f_code.co_name) not in ends:
        frame = frame.f_back
    return frame is not None and not _ending and bool(unfinished())


def _finish(recording: Unfinished, wait_s: float | None) -> None:
    try:
        recording.dump(alone=True, wait_s=wait_s)  # all others have their own turn
    except Exception as error:
        warn_or_print(f"a video was not finished: {message(error)}")


def _in_c() -> int | None:
    """Return the handler of SIGTERM, as far as C knows: `signal.getsignal` does not see one that C has set.

    None is that of the system, 1 is none.
    """
    get = ctypes.pythonapi.PyOS_getsig
    get.restype = ctypes.c_void_p
    handler: int | None = get(int(signal.SIGTERM))
    return handler


def _is_ours() -> bool:
    return signal.getsignal(signal.SIGTERM) is _terminate and _in_c() == _python


def _catch_sigterm() -> None:
    """Let SIGTERM end the interpreter as `sys.exit` does, unless the program has its own way."""
    global _python
    if not _handles_sigterm or not _is_main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    if _in_c() is None:
        signal.signal(signal.SIGTERM, _terminate)
        _python = _in_c()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let SIGTERM wait until this is done: a video that has its name gets its row."""
    global _busy, _held
    if not _is_main_thread():
        yield
        return
    _busy += 1
    try:
        yield
    finally:
        _busy = max(0, _busy - 1)  # 0: this is a child by now
        if not _busy and _held is not None:
            (number, called), _held = _held, None
            if called or _is_ours():
                _terminate(number, None)
            else:  # the program has set its own handler meanwhile
                os.kill(os.getpid(), number)


def _terminate(number: int, frame: FrameType | None) -> None:
    global _held, _ended
    ours, waits = _is_ours(), _busy > 0 or _is_about_to_finish(frame)
    if waits and _held is None and not _ended:
        _held = number, not ours
        return
    second, _ended = _ended or waits, True
    if second or _ending or not _handles_sigterm or not (unfinished() or uploads.waiting()):
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    if ours:
        signal.signal(number, signal.SIG_DFL)  # another one ends it at once
    threading.Thread(target=_end_in_time, args=(number,), daemon=True).start()
    raise SystemExit(128 + number)


def _end_in_time(number: int) -> None:
    """End the process, should threads or children that were not told to end keep the interpreter from its end."""
    threading.main_thread().join()
    finish_all()
    uploads.settle()
    if EXIT_S is None:
        return
    time.sleep(EXIT_S)
    os.kill(os.getpid(), number)


def _before_fork() -> None:
    """Let a signal wait while a process forks: in the child, one that comes before it is ready would be lost.

    In the parent as well: Python ignores what a handler raises there.
    """
    global _busy
    if _is_main_thread():
        _busy += 1
    if signal.getsignal(signal.SIGTERM) is _terminate:
        _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _after_fork() -> None:
    global _busy, _held
    _let_sigterm()
    if _is_main_thread():
        _busy = max(0, _busy - 1)
        if not _busy and _held is not None:
            (number, _), _held = _held, None
            forking = sys._getframe(1).f_back  # the caller of `os.fork`, which has called the hook
            call = forking.f_lasti if forking else None
            threading.Thread(target=_send_later, args=(number, forking, call), daemon=True).start()


def _send_later(number: int, forking: FrameType | None, call: int | None) -> None:
    while forking and forking.f_lasti == call:  # the main thread is not back from its fork
        time.sleep(0.001)
    os.kill(os.getpid(), number)


def _let_sigterm() -> None:
    if (mask := _masks.__dict__.pop("before", None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class _Process:
    """What is known of this process is not true of a forked child."""

    def detach(self) -> None:
        """Begin anew in the child."""
        global _busy, _held, _ending, _ended
        _recordings.clear()
        orphans.clear()
        _busy, _held, _ending, _ended = 0, None, False, False
        if _is_ours():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until a clip is opened here
        _let_sigterm()


_process = _Process()
forks.detach_in_child(_process)
forks.call_around(_before_fork, _after_fork)

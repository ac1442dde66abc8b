"""When recordings end without `dump`: with the interpreter, by SIGTERM, in a fork, or because nobody has them any more.

A process that ends without any of these (SIGKILL, ``os._exit``) leaves its files to FFmpeg, which finishes them under
their unfinished names, and to `vidrec repair`.
"""

import atexit
import multiprocessing
import multiprocessing.util
import os
import re
import signal
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

from vidrec.errors import VidrecWarning, words

EXIT_S = 10.0
"""How long the interpreter may take to end after SIGTERM, once all videos are finished."""


class Unfinished(Protocol):
    """A recording."""

    @property
    def waiting(self) -> bool:
        """Whether there is something to publish."""

    def dump(self, *, alone: bool) -> Any:
        """Publish it, without its copies."""

    def leave(self) -> None:
        """Let go of what belongs to the parent process."""


alive: "weakref.WeakSet[Any]" = weakref.WeakSet()
"""All recordings of this process."""

lock = threading.RLock()
"""For `alive`."""

_ending = False
_busy = 0  # how many things the main thread does that must not be cut into
_held: int | None = None  # the signal that came meanwhile
_masks = threading.local()
_adopted: "deque[Unfinished]" = deque()
_finalizers: dict[int, Any] = {}


def begin(recording: Unfinished) -> None:
    """Count a recording among those that are finished if nobody does it."""
    with lock:
        alive.add(recording)
    _catch_sigterm()


def opened() -> None:
    """Be ready for the end of the process: a clip was opened."""
    _catch_sigterm()
    # anew each time, to run before what loggers have registered in the meantime, such as the end of their run
    atexit.unregister(_finish_at_exit)
    atexit.register(_finish_at_exit)
    if multiprocessing.parent_process() is not None and os.getpid() not in _finalizers:
        # a process that was forked by multiprocessing ends without the functions of atexit
        _finalizers[os.getpid()] = multiprocessing.util.Finalize(None, _finish_at_exit, exitpriority=100)


def adopt(recording: Unfinished) -> None:
    """Take over a recording whose recorder is gone, for `finish_adopted`, or the end of the process.

    It is not finished here: this is called by the garbage collector, whatever lock is held.
    """
    _adopted.append(recording)


def finish_adopted() -> None:
    """Publish what was taken over; what cannot be published is tried again the next time. Called without any lock."""
    for _ in range(len(_adopted)):
        try:
            recording = _adopted.popleft()
        except IndexError:  # another thread does it
            return
        try:
            _finish(recording)
        finally:
            if recording.waiting:
                _adopted.append(recording)


def known() -> list[Any]:
    """Return all recordings of this process, those whose recorders are gone included."""
    with lock:
        return list({id(recording): recording for recording in [*alive, *_adopted]}.values())


def unfinished() -> list[Any]:
    """Return the recordings that have something to publish."""
    return [recording for recording in known() if recording.waiting]


def finish_all() -> None:
    """Publish all there is."""
    with undisturbed():
        for recording in unfinished():
            _finish(recording)


def _finish_at_exit() -> None:
    global _ending
    _ending = True
    finish_all()


def _finish(recording: Unfinished) -> None:
    try:
        recording.dump(alone=True)  # all others have their own turn
    except Exception as error:
        try:
            warnings.warn(f"a video was not finished: {words(error)}", VidrecWarning, stacklevel=1)
        except VidrecWarning as warning:  # warnings are errors; the others have their turn
            print(f"VidrecWarning: {warning}", file=sys.stderr)


def worker() -> str | None:
    """Return what tells this process from others that run the same code: ``"worker3"``, None in the first process."""
    if multiprocessing.parent_process() is None:
        return None
    numbers = re.findall(r"\d+", multiprocessing.current_process().name.rpartition("-")[2])
    return "worker" + "-".join(numbers or [str(os.getpid())])


def _catch_sigterm() -> None:
    """Let SIGTERM end the interpreter as `sys.exit` does, unless the program has its own way."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let SIGTERM wait until this is done: a video that has its name gets its row."""
    global _busy, _held
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _busy += 1
    try:
        yield
    finally:
        _busy -= 1
        if not _busy and _held is not None:
            number, _held = _held, None
            _terminate(number, None)


def _terminate(number: int, frame: FrameType | None) -> None:
    global _held
    if _busy and _held is None:
        _held = number
        return
    signal.signal(number, signal.SIG_DFL)  # another one ends it at once
    if _busy or _ending or not unfinished():
        os.kill(os.getpid(), number)
    threading.Thread(target=_end_in_time, args=(number,), daemon=True).start()
    raise SystemExit(128 + number)


def _end_in_time(number: int) -> None:
    """End the process, should threads or children that were not told to end keep the interpreter from its end."""
    threading.main_thread().join()
    finish_all()
    time.sleep(EXIT_S)
    os.kill(os.getpid(), number)


def _hold_sigterm() -> None:
    """Let a signal wait while a process forks: one that came before the child is ready would be lost there."""
    if signal.getsignal(signal.SIGTERM) is _terminate:
        _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _let_sigterm() -> None:
    if (mask := _masks.__dict__.pop("before", None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _leave_all() -> None:
    global lock, _busy, _held, _ending
    lock = threading.RLock()  # whoever held it is not in this process
    for recording in known():
        recording.leave()
    _adopted.clear()
    _busy, _held, _ending = 0, None, False
    if signal.getsignal(signal.SIGTERM) is _terminate:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until a clip is opened here
    _let_sigterm()


os.register_at_fork(before=_hold_sigterm, after_in_parent=_let_sigterm, after_in_child=_leave_all)

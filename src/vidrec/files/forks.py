"""The one hook about forks: what holds descriptors of the parent is detached in the child before anything else runs."""

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

registered: "weakref.WeakValueDictionary[int, Any]" = weakref.WeakValueDictionary()
"""What holds something of this process, by its id, in the order in which it was registered; kept alive by others."""

lock = threading.RLock()
"""Held while a descriptor is open that no registered object holds yet, or a lock of a file: no other thread forks."""

_around: list[tuple[Callable[[], None], Callable[[], None]]] = []


def detach_in_child(holder: Any) -> None:
    """Have ``holder.detach()`` called in every forked child, before that of what was registered earlier."""
    registered[id(holder)] = holder


def forget(holder: Any) -> None:
    """End that: it holds nothing any more."""
    registered.pop(id(holder), None)


def call_around(before: Callable[[], None], after: Callable[[], None]) -> None:
    """Call `before` and `after` in the parent around each fork."""
    _around.append((before, after))


def _before() -> None:
    for before, _ in _around:
        before()
    lock.acquire()


def _after_in_parent() -> None:
    try:
        lock.release()
    finally:
        for _, after in _around:
            after()


def _after_in_child() -> None:
    global lock
    lock = threading.RLock()  # whatever happened in the parent
    errors = []
    for holder in reversed(list(registered.values())):  # descriptors are opened last
        try:
            holder.detach()
        except Exception as error:  # the others have their turn
            errors.append(error)
    if errors:
        raise errors[0]


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)

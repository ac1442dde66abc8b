"""The one hook about forks: what holds descriptors of the parent is detached in the child before anything else runs."""

import os
import threading
import weakref
from typing import Any

registered: "weakref.WeakValueDictionary[int, Any]" = weakref.WeakValueDictionary()
"""What holds something of this process, by its id, in the order in which it was registered; kept alive by others."""

lock = threading.RLock()
"""Held while a descriptor is open that no registered object holds yet, or a lock of a file: no other thread forks."""


def detach_in_child(holder: Any) -> None:
    """Have ``holder.detach()`` called in every forked child, before that of what was registered earlier."""
    registered[id(holder)] = holder


def forget(holder: Any) -> None:
    """End that: it holds nothing any more."""
    registered.pop(id(holder), None)


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


# of hooks that other modules register, Python calls those before a fork sooner than these, and the others later
os.register_at_fork(
    before=lambda: lock.acquire(), after_in_parent=lambda: lock.release(), after_in_child=_after_in_child
)

"""The one hook about forks: what holds descriptors of the parent is detached in the child before anything else runs."""

import os
import weakref
from typing import Any

registered: "weakref.WeakSet[Any]" = weakref.WeakSet()
"""What holds something of this process, kept alive by others."""


def detach_in_child(holder: Any) -> None:
    """Have ``holder.detach()`` called in every forked child."""
    registered.add(holder)


def forget(holder: Any) -> None:
    """End that: it holds nothing any more."""
    registered.discard(holder)


def _detach_all() -> None:
    for holder in list(registered):
        holder.detach()


os.register_at_fork(after_in_child=_detach_all)

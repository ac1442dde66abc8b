"""What the entries of a tensordict say of each env or step: done, terminated, reward."""

from collections.abc import Callable, Iterable
from operator import methodcaller
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor

Flags = NDArray[np.bool_]


def reader(key: NestedKey) -> Callable[[TensorDictBase], Any]:
    """Return what reads an entry of tensors, None if it is not there; a str as TorchRL's own code reads it, at once."""
    return methodcaller("_get_str" if isinstance(key, str) else "get", key, None)


def all_of(keys: Iterable[NestedKey], tensordict: TensorDictBase, count: int) -> Flags:
    """Return for each of `count` envs or steps whether all that these entries hold of it is true; False if none."""
    flags: Flags | None = None
    for key in keys:
        entry = tensordict.get(key, None)
        if entry is not None:
            own: Flags = np.asarray(rows(entry, count).astype(bool).all(1))
            flags = own if flags is None else np.logical_and(flags, own)
    return np.zeros(count, bool) if flags is None else flags


def holds_true(flags: Tensor | None) -> bool:
    """Return whether one of these flags is true; by bytes, which takes a third of the time of ``any``."""
    if flags is None:
        return False
    return bool(flags.item()) if flags.numel() == 1 else b"\1" in flags.detach().cpu().numpy().tobytes()


def sum_of(keys: Iterable[NestedKey], tensordict: TensorDictBase, count: int) -> NDArray[np.float64]:
    """Return for each of `count` envs or steps the sum of all that these entries hold of it."""
    sums = np.zeros(count)
    for key in keys:
        entry = tensordict.get(key, None)
        if entry is not None:
            sums += rows(entry.double(), count).sum(1)
    return sums


def rows(entry: Tensor, count: int) -> NDArray[np.generic]:
    """Return an entry as ``[count, all that one env or step holds]``."""
    flat: NDArray[np.generic] = entry.detach().cpu().numpy().reshape(count, -1)
    return flat


def outermost(keys: Iterable[NestedKey], name: str) -> list[NestedKey]:
    """Return, of the keys that end with `name`, those nearest to the root: "done" there goes before that of agents."""
    paths = [key if isinstance(key, tuple) else (key,) for key in keys]
    paths = [path for path in paths if path[-1] == name]
    depth = min(map(len, paths), default=0)
    return [path[0] if depth == 1 else path for path in paths if len(path) == depth]

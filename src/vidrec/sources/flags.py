"""What the entries of a tensordict say of each env or step: done, terminated, reward."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from operator import methodcaller
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor

Flags = NDArray[np.bool_]


Reader = Callable[[TensorDictBase], Any]


def reader(key: NestedKey) -> Reader:
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
    """Return whether one of these flags is true; by comparing them, which takes half the time of ``any``."""
    if flags is None:
        return False
    if flags.numel() == 1:
        return bool(flags.item())
    if flags.is_cpu and flags.dtype is torch.bool:
        return not torch.equal(flags, _all_false(flags.shape))
    return bool(flags.any())


@lru_cache(maxsize=16)
def _all_false(shape: torch.Size) -> Tensor:
    return torch.zeros(shape, dtype=torch.bool, device="cpu")


def sum_of(readers: Iterable[Reader], tensordict: TensorDictBase, count: int) -> NDArray[np.float64]:
    """Return for each of `count` envs or steps the sum of all that the entries hold of it that these read."""
    sums = np.zeros(count)
    for read in readers:
        entry = read(tensordict)
        if entry is not None:
            sums += sums_in(entry, count)
    return sums


def sums_in(entry: Tensor, count: int) -> NDArray[Any]:
    """Return for each of `count` envs or steps the sum of all that an entry holds of it."""
    array: NDArray[Any] = _array(entry)
    return array.reshape(count) if array.size == count else array.reshape(count, -1).sum(1, np.float64)


def rows(entry: Tensor, count: int) -> NDArray[np.generic]:
    """Return an entry as ``[count, all that one env or step holds]``."""
    return _array(entry).reshape(count, -1)


def _array(entry: Tensor) -> NDArray[np.generic]:
    """Return what a tensor holds, wherever it is; bfloat16, which NumPy does not know, as float32."""
    if entry.dtype is torch.bfloat16:
        entry = entry.float()
    plain = entry.is_cpu and not entry.requires_grad
    array: NDArray[np.generic] = (entry if plain else entry.detach().cpu()).numpy()
    return array


def outermost(keys: Iterable[NestedKey], name: str) -> list[NestedKey]:
    """Return, of the keys that end with `name`, those nearest to the root: "done" there goes before that of agents."""
    paths = [key if isinstance(key, tuple) else (key,) for key in keys]
    paths = [path for path in paths if path[-1] == name]
    depth = min(map(len, paths), default=0)
    return [path[0] if depth == 1 else path for path in paths if len(path) == depth]

"""Frames on their way from a CUDA device into main memory: copied once, and not waited for.

A copy is enqueued on the current stream of the device: behind what draws a frame, and before whatever changes it. It
goes into pinned memory, of which PyTorch keeps the blocks and gives them out again. Nothing here waits, until somebody
reads the frames.
"""

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidrec.files import forks


class Copy(ABC):
    """A copy of a tensor, enqueued when this is made.

    Args:
        source: contiguous, on a device.

    Attributes:
        host: the target, in main memory; what it holds is not defined before `wait` has returned.
    """

    host: Tensor

    def __init__(self, source: Tensor) -> None:
        self.host = self._begin(source)
        forks.detach_in_child(self)

    @abstractmethod
    def _begin(self, source: Tensor) -> Tensor:
        """Enqueue the copy, and return its target."""

    @abstractmethod
    def wait(self) -> None:
        """Return when `host` holds what `source` held at that place of the stream; do not wait for what came later."""

    def detach(self) -> None:
        """Keep the memory for ever: to free it is a call of CUDA's, which a forked child must not make."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))


class PinnedCopy(Copy):
    """A copy from a CUDA device, on its current stream, into pinned memory."""

    def _begin(self, source: Tensor) -> Tensor:
        host = torch.empty(source.shape, dtype=source.dtype, device="cpu", pin_memory=True)
        host.copy_(source, non_blocking=True)
        self._event = torch.cuda.Event(blocking=True)
        self._event.record(torch.cuda.current_stream(source.device))
        return host

    def wait(self) -> None:
        self._event.synchronize()


copy_of: type[Copy] = PinnedCopy
"""What copies; tests have one that needs no device."""

Check = Callable[[NDArray[np.uint8]], NDArray[np.bool_] | bool]
"""Returns, of what was copied behind the frames, which frames are known; raises `FrameError` for values of none."""


class _Transfer:
    """One copy and what is found out of it once it has arrived, for all who have a part of its frames."""

    def __init__(self, copy: Copy, frames: int, known: NDArray[np.bool_], check: Check | None) -> None:
        self._copy, self._frames, self._known, self._check = copy, frames, known, check
        self._arrived = False
        self._error: Exception | None = None

    def wait(self) -> None:
        """Return once the frames are there, and it is known which of them are; raise what `check` raises."""
        if not self._arrived:
            self._copy.wait()
            self._arrived = True
            if self._check is not None:
                try:
                    self._known[:] = self._check(self._copy.host.numpy()[self._frames :])
                except Exception as error:
                    self._error = error
        if self._error is not None:
            raise self._error


class Arriving:
    """Frames that are on their way, uint8 ``[N, H, W, 3]``.

    They can be counted and indexed along the leading axes at once, as an array. `numpy.asarray` waits for them, checks
    their values, and leaves out those that stand for a frame that is not known. It raises `FrameError` for values that
    no frame has.
    """

    def __init__(self, transfer: _Transfer, frames: NDArray[np.uint8], known: NDArray[np.bool_]) -> None:
        self._transfer, self._frames, self._known = transfer, frames, known

    @classmethod
    def send(cls, packed: Tensor, shape: tuple[int, ...], check: Check | None) -> "Arriving":
        """Begin to copy `packed`, uint8: frames of this shape, and behind them what is given to `check`, if any."""
        copy = copy_of(packed)
        known = np.ones(shape[0], bool)
        count = int(np.prod(shape))
        return cls(_Transfer(copy, count, known, check), copy.host.numpy()[:count].reshape(shape), known)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all of them, known or not."""
        return self._frames.shape

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, at: Any) -> "Arriving":
        return Arriving(self._transfer, self._frames[at], self._known[at])

    def __iter__(self) -> "Iterator[Arriving]":
        return (self[at] for at in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.uint8]:
        self._transfer.wait()
        return self._frames if self._known.all() else self._frames[self._known]

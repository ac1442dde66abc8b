"""Entries: the frames that one call offers, in one entry of a tensordict or several, on their way into a video."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vidrec.errors import FrameError
from vidrec.frames.frames import (
    Flags,
    arrange,
    blacken,
    center_crop,
    contiguous,
    grid,
    is_unknown,
    side_by_side,
    take,
    to_rgb,
)


@dataclass(frozen=True)
class Entry:
    """One of them.

    Attributes:
        name: what errors call it.
        shape: in which it came.
        frames: ``[N, H, W, C]``, of any dtype, on any device.
    """

    name: str
    shape: tuple[int, ...]
    frames: Tensor


@dataclass(frozen=True)
class Look:
    """How frames become those of a video."""

    center_crop: int | tuple[int, int] | None
    make_grid: bool | None


class Entries(tuple[Entry, ...]):
    """The frames of one call, of each entry."""

    __slots__ = ()

    @classmethod
    def read(cls, found: Iterable[tuple[str, Any, int | None]], layout: str | None) -> "Entries":
        """Return those of entries, given as name, data and how many leading axes are batch; nothing is copied.

        Raises:
            FrameError: one is no frame.
        """
        entries = []
        for name, data, batch_dims in found:
            frames = arrange(data, layout=layout, batch_dims=batch_dims, name=name)
            entries.append(Entry(name, tuple(getattr(data, "shape", frames.shape)), frames))
        return cls(entries)

    def number(self) -> int:
        """Return how many frames each entry has.

        Raises:
            FrameError: not as many.
        """
        count = len(self[0].frames)
        for entry in self:
            if len(entry.frames) != count:
                raise FrameError(
                    f"{self[0].name} has {count} frames and {entry.name} has {len(entry.frames)}; expected as many"
                )
        return count

    def choose(self, chosen: Callable[[Tensor, str], Tensor]) -> "Entries":
        """Return, of each entry, what `chosen` returns of its frames and name."""
        return Entries(replace(entry, frames=chosen(entry.frames, entry.name)) for entry in self)

    def take(self, at: NDArray[np.integer]) -> "Entries":
        """Return the frames number `at` of each entry."""
        return self.choose(lambda frames, name: take(frames, at))

    def unknown(self, zeros: Flags) -> list[Flags]:
        """Return for each entry which of its frames stand for one that is not known, see `is_unknown`."""
        return [is_unknown(entry.frames, np.resize(zeros, len(entry.frames))) for entry in self]

    def convert(self, look: Look, blank: list[Flags] | None = None) -> Tensor:
        """Return what goes into the video, uint8 ``[N, H, W, 3]``, N 1 for a grid; several entries side by side.

        Those of an entry that are `blank` are black.
        """
        batches = []
        for i, (name, shape, frames) in enumerate((entry.name, entry.shape, entry.frames) for entry in self):
            if blank is not None and blank[i].any():
                frames = blacken(frames, blank[i], name=name)
            if look.center_crop:
                frames = center_crop(frames, look.center_crop, name=name)
            frames = to_rgb(frames, name=name, shape=shape)
            batches.append(grid(frames) if look.make_grid else frames)
        return contiguous(side_by_side(batches, names=[entry.name for entry in self]))

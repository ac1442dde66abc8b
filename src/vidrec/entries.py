"""Entries: the pictures that one call offers, in one entry of a tensordict or several, on their way into a video."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vidrec.episodes import Flags
from vidrec.errors import FrameError
from vidrec.frames import (
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
        pictures: ``[N, H, W, C]``, of any dtype, on any device.
    """

    name: str
    shape: tuple[int, ...]
    pictures: Tensor


@dataclass(frozen=True)
class Look:
    """How pictures become those of a video."""

    center_crop: int | tuple[int, int] | None
    make_grid: bool | None


class Entries(tuple[Entry, ...]):
    """The pictures of one call, of each entry."""

    __slots__ = ()

    @classmethod
    def read(cls, found: Iterable[tuple[str, Any, int | None]], layout: str | None) -> "Entries":
        """Return those of entries, given as name, data and how many leading axes are batch; nothing is copied.

        Raises:
            FrameError: one is no picture.
        """
        entries = []
        for name, data, batch_dims in found:
            pictures = arrange(data, layout=layout, batch_dims=batch_dims, name=name)
            entries.append(Entry(name, tuple(getattr(data, "shape", pictures.shape)), pictures))
        return cls(entries)

    def number(self) -> int:
        """Return how many pictures each entry has.

        Raises:
            FrameError: not as many.
        """
        count = len(self[0].pictures)
        for entry in self:
            if len(entry.pictures) != count:
                raise FrameError(
                    f"{self[0].name} has {count} pictures and {entry.name} has {len(entry.pictures)}; expected as many"
                )
        return count

    def choose(self, chosen: Callable[[Tensor, str], Tensor]) -> "Entries":
        """Return, of each entry, what `chosen` returns of its pictures and name."""
        return Entries(replace(entry, pictures=chosen(entry.pictures, entry.name)) for entry in self)

    def take(self, at: NDArray[np.integer]) -> "Entries":
        """Return the pictures number `at` of each entry."""
        return self.choose(lambda pictures, name: take(pictures, at))

    def unknown(self, zeros: Flags) -> list[Flags]:
        """Return for each entry which of its pictures stand for one that is not known, see `is_unknown`."""
        return [is_unknown(entry.pictures, np.resize(zeros, len(entry.pictures))) for entry in self]

    def convert(self, look: Look, blank: list[Flags] | None = None) -> Tensor:
        """Return what goes into the video, uint8 ``[N, H, W, 3]``, N 1 for a grid; several entries side by side.

        Those of an entry that are `blank` are black.
        """
        batches = []
        for i, (name, shape, pictures) in enumerate((entry.name, entry.shape, entry.pictures) for entry in self):
            if blank is not None and blank[i].any():
                pictures = blacken(pictures, blank[i], name=name)
            if look.center_crop:
                pictures = center_crop(pictures, look.center_crop, name=name)
            pictures = to_rgb(pictures, name=name, shape=shape)
            batches.append(grid(pictures) if look.make_grid else pictures)
        return contiguous(side_by_side(batches, names=[entry.name for entry in self]))

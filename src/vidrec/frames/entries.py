"""Entries: the frames that one call offers, in one entry of a tensordict or several, on their way into a video."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidrec.errors import FrameError
from vidrec.frames import device
from vidrec.frames.arrays import as_tensor
from vidrec.frames.layout import Reading, UnreadableError
from vidrec.frames.layout import plan as plan_of
from vidrec.frames.pixels import Colours, center_crop, grid, is_unknown, row, side_by_side, take, to_rgb
from vidrec.frames.reading import Found
from vidrec.frames.transfer import Arriving

Flags = NDArray[np.bool_]

UINT8 = torch.uint8
PLAIN, STRIDED = {UINT8, torch.float32}, torch.strided
"""Of what dtypes and layout tensors are read without another look."""


@dataclass(slots=True)
class Entry:
    """One of them.

    Attributes:
        name: what errors call it.
        data: as it came.
        frames: ``[N, H, W, C]``, or ``[N, A, H, W, C]`` with A frames side by side; of any dtype, on any device.
        colours: what their values mean.
    """

    name: str
    data: Any
    frames: Tensor
    colours: Colours

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in which it came."""
        shape: tuple[int, ...] = getattr(self.data, "shape", self.frames.shape)
        return shape


class Look(NamedTuple):
    """How frames become those of a video."""

    center_crop: int | tuple[int, int] | None
    make_grid: bool | None


class Entries(tuple[Entry, ...]):
    """The frames of one call, of each entry.

    Attributes:
        floating: whether an entry has floats, of which NaN stand for a frame that is not known.
    """

    floating = False

    @classmethod
    def read(cls, found: Iterable[Found]) -> "Entries":
        """Return the frames of entries; nothing is copied.

        Raises:
            FrameError: one is no frame.
        """
        entries, floating = [], False
        for name, data, reading, batch_dims, agent_dims, still in found:
            frames = frames_in(data, reading, batch_dims, agent_dims, still, name)
            floating = floating or frames.is_floating_point()
            entries.append(Entry(name, data, frames, reading.colours))
        read = cls(entries)
        read.floating = floating
        return read

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
        entries = Entries(replace(entry, frames=chosen(entry.frames, entry.name)) for entry in self)
        entries.floating = self.floating
        return entries

    def take(self, at: NDArray[np.integer]) -> "Entries":
        """Return the frames number `at` of each entry."""
        return self.choose(lambda frames, name: take(frames, at))

    def unknown(self, zeros: Flags | None = None) -> list[Flags] | None:
        """Return for each entry which of its frames stand for one that is not known, see `is_unknown`; None if none."""
        found = [is_unknown(entry.frames, zeros) for entry in self]
        return found if any(map(np.any, found)) else None

    def convert(self, look: Look, blank: list[Flags] | None = None) -> NDArray[np.uint8]:
        """Return what goes into the video, uint8 ``[N, H, W, 3]``, N 1 for a grid; several entries side by side.

        Those of an entry that are `blank` are black.
        """
        entry = self[0]
        first = entry.frames
        if (
            first.dtype is UINT8
            and first.is_cpu
            and first.shape[-1] == 3
            and first.ndim == 4
            and len(self) == 1
            and blank is None
            and not look.center_crop
            and entry.colours.value_range is None
        ):
            tiled = grid(first) if look.make_grid and first.shape[0] > 1 else first
            frames: NDArray[np.uint8] = tiled.numpy()
            return frames
        batches = []
        for i, entry in enumerate(self):
            batch = entry.frames
            if look.center_crop:
                batch = center_crop(batch, look.center_crop, name=entry.name)
            if blank is None or not blank[i].any():
                batch = to_rgb(batch, name=entry.name, shape=entry.shape, colours=entry.colours)
            else:
                known = np.flatnonzero(~blank[i])
                black = np.zeros((*batch.shape[:-1], 3), np.uint8)
                if len(known):
                    rgb = to_rgb(take(batch, known), name=entry.name, shape=entry.shape, colours=entry.colours)
                    black[known] = rgb.numpy()
                batch = torch.from_numpy(black)
            batch = row(batch) if batch.ndim == 5 else batch
            batches.append(grid(batch) if look.make_grid else batch)
        joined: NDArray[np.uint8] = side_by_side(batches, names=[entry.name for entry in self]).numpy()
        return joined

    @property
    def on_device(self) -> bool:
        """Whether all are on a CUDA device, so that `send` takes them."""
        return all(entry.frames.is_cuda and entry.frames.dtype in device.SENT for entry in self)

    def send(self, look: Look) -> Arriving:
        """Return what `convert` does, made where the frames are, as frames on their way; they must be `on_device`.

        A frame of which an entry is NaN all over stands for one that is not known; a grid is one of which all are. The
        cells of the others are black.
        """
        batches, found, values = [], [], []
        for entry in self:
            batch = entry.frames
            if look.center_crop:
                batch = center_crop(batch, look.center_crop, name=entry.name)
            described = f"{entry.name} of shape {tuple(entry.shape)} and dtype {batch.dtype}"
            batch, checked, facts = device.to_rgb(batch, described, entry.colours)
            if checked is not None:
                found.append(facts)
                values.append(checked)
            batch = row(batch) if batch.ndim == 5 else batch
            batches.append(device.grid(batch) if look.make_grid and len(batch) > 1 else batch)
        frames = device.side_by_side(batches, names=[entry.name for entry in self])
        counts, complete = [len(each) for each in values], len(values) == len(self)

        def check(rest: NDArray[np.uint8]) -> Flags | bool:
            rows = np.split(rest.copy().view(np.float64).reshape(-1, 3), np.cumsum(counts[:-1]))
            unknown = [facts.check(own) for facts, own in zip(found, rows, strict=True)]
            if look.make_grid:
                return not (complete and all(own.all() for own in unknown))
            known: Flags = ~np.any(unknown, axis=0)
            return known

        return Arriving.send(device.packed(frames, values), tuple(frames.shape), check if found else None)


def arrange(data: Any, *, layout: str | None = None, batch_dims: int | None = None, name: str = "frame") -> Tensor:
    """Return the frames in `data` as one batch ``[N, H, W, C]`` with C in 1, 3, 4, copying nothing it need not.

    >>> arrange(torch.zeros(2, 5, 3, 48, 64)).shape
    torch.Size([10, 48, 64, 3])
    >>> arrange(np.zeros((48, 64)), name="pixels").shape
    torch.Size([1, 48, 64, 1])
    >>> arrange(torch.zeros(3, 48, 64), layout="NHW").shape
    torch.Size([3, 48, 64, 1])

    Args:
        data: a tensor or numpy array of any dtype and strides, on any device; or a list or tuple of them (each may
            be a batch), whose frames follow one another.
        layout: names the last axes where the shape cannot, see `vidrec.frames.layout`; None reads the shape. Four
            channels are RGBA.
        batch_dims: how many leading axes are known to be batch; None knows nothing. Not used for lists.
        name: what the error calls it.

    Raises:
        FrameError: not an array, an axis of length 0, a layout that is ambiguous or cannot be.
    """
    return frames_in(data, _plain(layout), batch_dims, 0, False, name)


@lru_cache(maxsize=64)
def _plain(layout: str | None) -> Reading:
    return Reading(layout, strict=False)


def frames_in(data: Any, reading: Reading, batch_dims: int | None, agent_dims: int, still: bool, name: str) -> Tensor:
    """Return the frames in `data` as `arrange` does, or ``[N, A, H, W, C]`` if A of them belong into one.

    Args:
        data: as there.
        reading: how they are read.
        batch_dims: as there.
        agent_dims: how many axes behind these are frames of one moment.
        still: whether all others are as well.
        name: as there.
    """
    plain = (  # what most are
        type(data) is Tensor
        and data.dtype in PLAIN
        and data.is_cpu
        and data.layout is STRIDED
        and not (data.is_nested or data.requires_grad or data.is_neg())
    )
    if not plain and isinstance(data, list | tuple):
        if not data:
            raise FrameError(f"{name} is an empty list; expected at least one frame")
        parts = [frames_in(item, reading, None, 0, False, f"{name}[{i}]") for i, item in enumerate(data)]
        for i, part in enumerate(parts):
            if part.shape[1:] != parts[0].shape[1:]:
                raise FrameError(
                    f"{name} lists frames of unlike shape, {tuple(parts[0].shape[1:])} and, at {i}, "
                    f"{tuple(part.shape[1:])}; they must be alike to share one video"
                )
        if len({part.dtype for part in parts}) > 1:
            parts = [to_rgb(part, name=name, colours=reading.colours) for part in parts]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
    x: Tensor = data if plain else as_tensor(data, name)
    if not plain and reading.strict and hasattr(data, "getbands"):  # an image of Pillow's knows its channels
        reading = replace(reading, strict=False)
    try:
        plan = plan_of(x.shape, reading, batch_dims, agent_dims, still)
    except UnreadableError as why:
        raise FrameError(f"{name} of shape {tuple(x.shape)} and dtype {x.dtype} {why}") from None
    if plan.moves:
        x = x if plan.unflatten is None else x.unflatten(*plan.unflatten)
        x = x if plan.order is None else x.permute(plan.order)
        x = x if plan.take is None else x.select(*plan.take)
    return x if x.shape == plan.shape else x.reshape(plan.shape)

"""Entries: the frames that one call offers, in one entry of a tensordict or several, on their way into a video.

The layout rule
---------------

The last axes of an entry are its frame, all axes before them are batch. Which they are is read off the shape:

1. ``layout=`` was given: it names the last axes, one letter each. ``H`` and ``W`` once, ``C`` at most once, any
   other capital letter is a batch axis: ``"HWC"``, ``"CHW"``, ``"NHW"``, ``"WHC"``.
2. Only two axes are left beside the batch axes of the tensordict (or there are only two at all): grey, ``HW``.
3. Exactly one of the two places for channels, third from the end (``CHW``) or last (``HWC``), has length 1, 3 or 4:
   there they are.
4. Both have, or neither has: the layout is ambiguous, and the frame is refused until ``layout=`` says.

So a stack of four grey frames in an env without batch size, ``[4, 84, 84]``, reads as one RGBA frame;
``layout="NHW"`` says that it is four.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidrec.errors import FrameError, SettingError
from vidrec.frames.arrays import as_tensor
from vidrec.frames.pixels import blacken, center_crop, grid, is_unknown, side_by_side, take, to_rgb

Flags = NDArray[np.bool_]

CHANNELS = (1, 3, 4)
"""How many channels a frame can have: grey, RGB, RGBA. Grey without a channel axis counts as one."""

HWC = (-3, -2, -1)
"""Where height, width and channels are in ``[N, H, W, C]``, counted from the end."""


@dataclass(slots=True)
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
    """The frames of one call, of each entry.

    Attributes:
        floating: whether an entry has floats, of which NaN stand for a frame that is not known.
    """

    floating = False

    @classmethod
    def read(cls, found: Iterable[tuple[str, Any, int | None]], layout: str | None) -> "Entries":
        """Return those of entries, given as name, data and how many leading axes are batch; nothing is copied.

        Raises:
            FrameError: one is no frame.
        """
        entries, floating = [], False
        for name, data, batch_dims in found:
            frames = arrange(data, layout=layout, batch_dims=batch_dims, name=name)
            floating = floating or frames.is_floating_point()
            entries.append(Entry(name, getattr(data, "shape", frames.shape), frames))
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
        return Entries(replace(entry, frames=chosen(entry.frames, entry.name)) for entry in self)

    def take(self, at: NDArray[np.integer]) -> "Entries":
        """Return the frames number `at` of each entry."""
        return self.choose(lambda frames, name: take(frames, at))

    def unknown(self, zeros: Flags) -> list[Flags]:
        """Return for each entry which of its frames stand for one that is not known, see `is_unknown`."""
        return [is_unknown(entry.frames, np.resize(zeros, len(entry.frames))) for entry in self]

    def convert(self, look: Look, blank: list[Flags] | None = None) -> NDArray[np.uint8]:
        """Return what goes into the video, uint8 ``[N, H, W, 3]``, N 1 for a grid; several entries side by side.

        Those of an entry that are `blank` are black.
        """
        first = self[0].frames
        plain = first.dtype is torch.uint8 and first.is_cpu and first.shape[-1] == 3
        if (
            plain
            and len(self) == 1
            and blank is None
            and not look.center_crop
            and not (look.make_grid and len(first) > 1)
        ):
            frames: NDArray[np.uint8] = first.numpy()
            return frames
        batches = []
        for i, entry in enumerate(self):
            name, batch = entry.name, entry.frames
            if blank is not None and blank[i].any():
                batch = blacken(batch, blank[i], name=name)
            if look.center_crop:
                batch = center_crop(batch, look.center_crop, name=name)
            batch = to_rgb(batch, name=name, shape=entry.shape)
            batches.append(grid(batch) if look.make_grid else batch)
        joined: NDArray[np.uint8] = side_by_side(batches, names=[entry.name for entry in self]).numpy()
        return joined


def check_layout(layout: str) -> str:
    """Return `layout` if it names frame axes as the layout rule asks, else raise `SettingError`."""
    letters = layout if isinstance(layout, str) else ""
    if not (
        letters.isalpha()
        and letters.isupper()
        and letters.isascii()
        and len(set(letters)) == len(letters)
        and {"H", "W"} <= set(letters)
    ):
        raise SettingError(
            f"layout={layout!r} must name the last axes of a frame, a capital letter each, with H and W, "
            'and C where there are channels, as in "HWC", "CHW" or "NHW"'
        )
    return layout


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
        layout: names the last axes where the shape cannot, see the rule at the top of this file; None reads the shape.
        batch_dims: how many leading axes are known to be batch; None knows nothing. Not used for lists.
        name: what the error calls it.

    Raises:
        FrameError: not an array, an axis of length 0, a layout that is ambiguous or cannot be.
    """
    if isinstance(data, list | tuple):
        if not data:
            raise FrameError(f"{name} is an empty list; expected at least one frame")
        parts = [arrange(item, layout=layout, name=f"{name}[{i}]") for i, item in enumerate(data)]
        for i, part in enumerate(parts):
            if part.shape[1:] != parts[0].shape[1:]:
                raise FrameError(
                    f"{name} lists frames of unlike shape, {tuple(parts[0].shape[1:])} and, at {i}, "
                    f"{tuple(part.shape[1:])}; they must be alike to share one video"
                )
        if len({part.dtype for part in parts}) > 1:
            parts = [to_rgb(part, name=name) for part in parts]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
    plain = type(data) is Tensor and data.dtype in (torch.uint8, torch.float32) and data.is_cpu
    plain = plain and data.layout is torch.strided and not data.is_nested  # what most are
    x: Tensor = data.detach().resolve_neg() if plain else as_tensor(data, name)
    axes = _frame_axes(x.shape, layout, batch_dims)
    if isinstance(axes, str):
        raise FrameError(f"{name} of shape {tuple(x.shape)} and dtype {x.dtype} {axes}")
    if axes != HWC:
        x = x.movedim(axes, (-2, -1) if len(axes) == 2 else HWC)
        if len(axes) == 2:
            x = x.unsqueeze(-1)
    return x.unsqueeze(0) if x.ndim == 3 else x if x.ndim == 4 else x.flatten(0, -4)


@lru_cache(maxsize=256)
def _frame_axes(shape: torch.Size, layout: str | None, batch_dims: int | None) -> tuple[int, ...] | str:
    """Return where height, width and channels stand, counted from the end, grey without channels two; or why not."""
    if 0 in shape:
        return "is empty; expected a frame in every entry"
    if layout is not None:
        if len(layout) > len(shape):
            return f"has fewer axes than layout={layout!r}"
        axes = tuple(layout.index(letter) - len(layout) for letter in "HWC" if letter in layout)
        if len(axes) == 3 and shape[axes[2]] not in CHANNELS:
            return (
                f"has {shape[axes[2]]} channels by layout={layout!r}; expected 1, 3 or 4 "
                '(name a stack of grey frames "NHW")'
            )
        return axes
    frame_dims = len(shape) - (batch_dims or 0)
    if frame_dims < 2:
        return f"is no frame; expected HWC, CHW or HW after {batch_dims or 0} batch axes"
    if frame_dims == 2:
        return -2, -1
    first, last = shape[-3] in CHANNELS, shape[-1] in CHANNELS
    if first == last:
        why = "could be both CHW and HWC" if first else "has no axis of 1, 3 or 4 channels"
        return f'{why}; say which with layout=, for example layout="HWC", "CHW", or "NHW" for grey frames'
    return (-2, -1, -3) if first else HWC

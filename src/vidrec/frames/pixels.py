"""Pixels: pure functions on a batch of frames ``[N, H, W, C]``, no state.

A frame is uint8 ``[H, W, 3]``. Arithmetic is numpy's, on one core: torch splits a frame among all cores, and waits for
those that the training keeps busy.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidrec.errors import FrameError, Once

OVERSHOOT = 0.05
"""How far values may lie outside of their range, as a part of it: what a bicubic resize makes of soft edges."""

NEAR = 0.5
"""How far it may be what a bicubic resize makes of the sharpest edges."""

HALF_LEVEL = 0.5 / 255
"""How far a float may lie outside of [0, 1]: what rounding to one of 256 levels brings back inside."""

DARK = 16
"""Floats of which none is above this are not taken for those of 0 to 255."""

BLOCK = 2**16
"""How many floats are converted at a time: what fits into the processor's cache."""

ROUNDING = np.float32(1.5 * 2**23)
"""Added to a float32 of at most 2^22, it leaves the nearest whole number, ties to even, in the lowest bits: a float of
that size has none for a fraction (IEEE 754). One pass and a comparison fewer than rounding and converting."""

ROUNDING_BITS = int(ROUNDING.view(np.int32))


Range = tuple[float, float]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Colours:
    """How the values of a frame become those of an image.

    Attributes:
        value_range: the values that become 0 and 255, and those between linearly; None goes by the dtype.
        colormap: uint8 ``[256, 3]``, the colours of the levels of one channel; None is grey.
        overshoot: warns, once, of values that are clamped.
    """

    value_range: Range | None = None
    colormap: Array | None = field(default=None, compare=False)
    overshoot: Once = field(default_factory=Once, compare=False)


def to_rgb(
    x: Tensor, *, name: str = "frame", shape: tuple[int, ...] | None = None, colours: Colours | None = None
) -> Tensor:
    """Return frames ``[..., H, W, C]`` of any dtype, on any device, as uint8 ``[..., H, W, 3]`` in main memory.

    uint8 stays as it is. bool becomes 0 and 255, other integers must be in 0..255, floats in [0, 1] are scaled by 255
    and rounded, in float32 and to even. With `colours`, which says what values mean, an overshoot is clamped. Grey is
    repeated, or coloured, RGBA is composed on black. What needs no change is not copied. Errors call it `name` of
    `shape`, if that is not the shape of `x`.

    Raises:
        FrameError: values outside of their range by more than half a grey level and `OVERSHOOT`, NaN, complex numbers.
    """
    pixels = _to_uint8(x, lambda: f"{name} of shape {tuple(shape or x.shape)} and dtype {x.dtype}", colours)
    if pixels.shape[-1] == 1:
        if colours is not None and colours.colormap is not None:
            return torch.from_numpy(colours.colormap[pixels[..., 0]])
        return torch.from_numpy(pixels).expand(*pixels.shape[:-1], 3)
    if pixels.shape[-1] == 4:
        rgb, alpha = pixels[..., :3].astype(np.uint16), pixels[..., 3:]
        pixels = ((rgb * alpha + 127) // 255).astype(np.uint8)
    return torch.from_numpy(pixels)


def spaced(at: NDArray[np.integer]) -> NDArray[np.integer] | slice:
    """Return a slice instead of numbers that are evenly spaced, which gives a view.

    >>> spaced(np.array([2, 4, 6]))
    slice(2, 7, 2)
    """
    if len(at) == 0:
        return slice(0)
    apart = np.diff(at)
    if (apart == apart[:1]).all() and (apart > 0).all():
        return slice(int(at[0]), int(at[-1]) + 1, int(apart[0]) if len(apart) else 1)
    return at


def take(x: Tensor, at: NDArray[np.integer] | slice) -> Tensor:
    """Return the frames number `at`, a view if they are evenly spaced.

    By numpy: in a forked process torch's own indexing waits for threads that are not there.
    """
    at = at if isinstance(at, slice) else spaced(at)
    if isinstance(at, slice):
        return x[at]
    if not x.is_cpu:  # numbers that are copied to a CUDA device are waited for
        return torch.stack([x[i] for i in at.tolist()])
    if x.is_floating_point() and x.element_size() < 4:  # bfloat16 and float8, which numpy does not have
        bits = x.view(torch.int16 if x.element_size() == 2 else torch.uint8)
        return torch.from_numpy(bits.numpy()[at]).view(x.dtype)
    return torch.from_numpy(x.numpy()[at])


def is_unknown(x: Tensor, zeros: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Return which frames ``[N, ..., C]`` are TorchRL's stand-in for one that is not known.

    That is NaN all over, and zeros all over where `zeros` says that this is no frame, again and again if it is shorter.
    One value of each frame is looked at, and all of those of which that one may stand for nothing.
    """
    unknown = np.zeros(len(x), bool)
    if not x.is_floating_point() and (zeros is None or not zeros.any()):
        return unknown
    corners = x
    while corners.ndim > 1:
        corners = corners[:, 0]
    for at, corner in enumerate(corners.tolist()):
        if corner != corner:
            unknown[at] = np.isnan(x[at].cpu().float().numpy()).all()
        elif corner == 0 and zeros is not None and zeros[at % len(zeros)]:
            unknown[at] = is_black(x[at])
    return unknown


def is_black(frame: Tensor) -> bool:
    """Return whether a frame is zero all over."""
    return not frame.detach().cpu().float().numpy().any()


def center_crop(x: Tensor, size: int | tuple[int, int], *, name: str = "frame") -> Tensor:
    """Return the middle of frames ``[..., H, W, C]``, `size` a side or (height, width), as a view.

    The offset is half of what is cut, rounded to even as in torchvision.

    Raises:
        FrameError: the frame is smaller than that.
    """
    height, width = size if isinstance(size, tuple) else (size, size)
    if height > x.shape[-3] or width > x.shape[-2]:
        raise FrameError(
            f"{name} is {tuple(x.shape[-3:-1])} (height, width), too small for center_crop={size}; "
            "choose a crop no larger than the frame"
        )
    top, left = round((x.shape[-3] - height) / 2), round((x.shape[-2] - width) / 2)
    return x[..., top : top + height, left : left + width, :]


def grid(x: Tensor) -> Tensor:
    """Tile uint8 frames ``[N, H, W, 3]`` into one, ``[1, rows * H, columns * W, 3]``, of ``ceil(sqrt(N))`` columns.

    Row by row, unused cells black. A single frame is returned as it is.

    >>> grid(torch.zeros(5, 48, 64, 3, dtype=torch.uint8)).shape
    torch.Size([1, 96, 192, 3])
    """
    n, height, width, channels = x.shape
    if n == 1:
        return x
    columns = math.ceil(math.sqrt(n))
    rows, full = math.ceil(n / columns), n // columns
    canvas = np.empty((rows, height, columns, width, channels), np.uint8)
    cells, source = canvas.swapaxes(1, 2), x.numpy()
    cells[:full] = source[: full * columns].reshape(full, columns, height, width, channels)
    if full < rows:
        cells[full, : n - full * columns] = source[full * columns :]
        cells[full, n - full * columns :] = 0
    return torch.from_numpy(canvas).view(1, rows * height, columns * width, channels)


def row(x: Tensor) -> Tensor:
    """Join the frames of each of ``[N, A, H, W, 3]`` from left to right, ``[N, H, A * W, 3]``."""
    n, beside, height, width, channels = x.shape
    return x.transpose(1, 2).reshape(n, height, beside * width, channels)


def by_agent(x: Tensor, agents: int) -> Tensor:
    """Part frames ``[N, A, H, W, C]`` of so many agents into those of each, ``[N * agents, A / agents, H, W, C]``.

    Without the axis of A if it is 1; frames that cannot be parted so are returned as they are.
    """
    if x.ndim != 5 or x.shape[1] % agents:
        return x
    return x.flatten(0, 1) if x.shape[1] == agents else x.unflatten(1, (agents, -1)).flatten(0, 1)


def side_by_side(batches: Sequence[Tensor], *, names: Sequence[str]) -> Tensor:
    """Join uint8 batches ``[N, Hi, Wi, 3]`` from left to right, the lower ones padded with black at the bottom.

    Raises:
        FrameError: the batches differ in N.
    """
    first = batches[0]
    if len(batches) == 1:
        return first
    check_lengths(batches, names)
    height = max(x.shape[1] for x in batches)
    canvas = np.zeros((len(first), height, sum(x.shape[2] for x in batches), 3), np.uint8)
    left = 0
    for x in batches:
        canvas[:, : x.shape[1], left : left + x.shape[2]] = x.numpy()
        left += x.shape[2]
    return torch.from_numpy(canvas)


def check_lengths(batches: Sequence[Tensor], names: Sequence[str]) -> None:
    """Raise `FrameError` unless all batches have as many frames."""
    first = batches[0]
    for name, x in zip(names, batches, strict=True):
        if len(x) != len(first):
            raise FrameError(
                f"{names[0]} has {len(first)} frames and {name} has {len(x)}; to share one video they need as many"
            )


def _to_uint8(x: Tensor, described: Callable[[], str], colours: Colours | None) -> Array:
    if x.dtype.is_complex:
        raise FrameError(f"{described()} is complex; expected uint8, or floats in [0, 1]")
    if x.dtype.is_floating_point and x.dtype != torch.float64:
        x = x.float()  # numpy has no bfloat16
    pixels = x.cpu().numpy()
    if colours is not None and colours.value_range is not None:
        return _mapped(pixels, colours.value_range, described)
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype.kind == "f":
        return _levels(pixels, described, colours)
    low, high = pixels.min(), pixels.max()
    if low < 0 or high > 255:
        check_overshoot(float(low), float(high), 255, described(), colours)
        pixels = np.clip(pixels, *np.clip((0, 255), np.iinfo(pixels.dtype).min, np.iinfo(pixels.dtype).max))
    return pixels.astype(np.uint8)


def _levels(pixels: Array, described: Callable[[], str], colours: Colours | None) -> Array:
    """Return floats in [0, 1] as uint8 of the same memory layout, scaled by 255 and rounded to even."""
    if 0 in pixels.strides:  # a view that repeats itself
        pixels = pixels.copy()
    levels = np.empty_like(pixels, np.uint8)
    source, target = pixels.ravel("K"), levels.ravel("K")
    scaled = np.empty(min(BLOCK, source.size), np.float32)
    with np.errstate(all="ignore"):  # what is too large, or NaN, is seen below
        for begin in range(0, source.size, BLOCK):
            block = source[begin : begin + BLOCK]
            rounded = np.multiply(block, 255, out=scaled[: len(block)], casting="same_kind")
            rounded += ROUNDING
            bits = rounded.view(np.int32)
            if bits.min() < ROUNDING_BITS or bits.max() > ROUNDING_BITS + 255:  # so are those of NaN
                low, high = block.min(), block.max()
                if not (low >= -HALF_LEVEL and high <= 1 + HALF_LEVEL):
                    check_overshoot(float(pixels.min()), float(pixels.max()), 1, described(), colours)
                np.clip(bits, ROUNDING_BITS, ROUNDING_BITS + 255, out=bits)
            target[begin : begin + BLOCK] = bits  # the lowest byte of each
    return levels


def _mapped(pixels: Array, value_range: Range, described: Callable[[], str]) -> Array:
    """Return values as uint8 of the same memory layout, mapped linearly, clamped, and rounded to even."""
    low, high = value_range
    if 0 in pixels.strides:
        pixels = pixels.copy()
    levels = np.empty_like(pixels, np.uint8)
    source, target = pixels.ravel("K"), levels.ravel("K")
    for begin in range(0, source.size, BLOCK):
        block = source[begin : begin + BLOCK].astype(np.float64)
        with np.errstate(all="ignore"):  # infinity is clamped
            block = np.clip((block - low) * (255 / (high - low)), 0, 255)
        if np.isnan(block).any():
            raise FrameError(f"{described()} holds NaN; expected numbers, which value_range={value_range} maps")
        target[begin : begin + BLOCK] = np.rint(block)
    return levels


def check_overshoot(low: float, high: float, one: int, described: str, colours: Colours | None) -> None:
    """Warn of values that lie a little outside of 0 to `one`; raise `FrameError` if they lie far."""
    came, expected = f"{described} has values from {low:g} to {high:g}", "floats in [0, 1]" if one == 1 else "0 to 255"
    if colours is None:
        raise FrameError(f"{came}; expected {expected}{' (divide by 255), or uint8' if one == 1 else ''}")
    beyond = OVERSHOOT * one * (1 + 2**-8)  # bfloat16 has 8 bits
    if -beyond <= low and high <= one + beyond:
        colours.overshoot(
            f"{came}; expected {expected}. What lies outside is clamped, as after a resize; value_range=(low, high) "
            "says what is black and what is white"
        )
        return
    if math.isnan(low):
        what = "NaN has no colour; replace it, such as with torch.nan_to_num"
    elif one == 1 and low >= -OVERSHOOT * 255 and DARK < high <= (1 + OVERSHOOT) * 255:
        what = "value_range=(0, 255) records floats up to 255"
    elif one == 1:
        what = 'value_range=(low, high), or "auto" for the bounds of the spec, says which values are black and white'
    else:
        what = "value_range=(low, high) says which values are black and white, such as (0, 10_000) for a depth in mm"
    if -NEAR * one <= low and high <= (1 + NEAR) * one:
        what += f". value_range=(0, {one}) clamps what lies outside, as after a bicubic resize"
    raise FrameError(f"{came}; expected {expected}. {what}")

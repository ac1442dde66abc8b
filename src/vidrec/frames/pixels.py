"""Pixels: pure functions on a batch of frames ``[N, H, W, C]``, no state.

A frame is uint8 ``[H, W, 3]``. Arithmetic is numpy's, on one core: torch splits a frame among all cores, and waits for
those that the training keeps busy.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidrec.errors import FrameError

HALF_LEVEL = 0.5 / 255
"""How far a float may lie outside of [0, 1]: what rounding to one of 256 levels brings back inside."""


BLOCK = 2**16
"""How many floats are converted at a time: what fits into the processor's cache."""

ROUNDING = np.float32(1.5 * 2**23)
"""Added to a float32 of at most 2^22, it leaves the nearest whole number, ties to even, in the lowest bits: a float of
that size has none for a fraction (IEEE 754). One pass and a comparison fewer than rounding and converting."""

ROUNDING_BITS = int(ROUNDING.view(np.int32))


def to_rgb(x: Tensor, *, name: str = "frame", shape: tuple[int, ...] | None = None) -> Tensor:
    """Return frames ``[N, H, W, C]`` of any dtype, on any device, as uint8 ``[N, H, W, 3]`` in main memory.

    uint8 stays as it is. bool becomes 0 and 255, other integers are clamped to 0..255, floats in [0, 1] are scaled
    by 255 and rounded, in float32 and to even. Grey is repeated, RGBA is composed on black. What needs no change is not
    copied. Errors call it `name` of `shape`, if that is not the shape of `x`.

    Raises:
        FrameError: floats outside of [0, 1] by more than half a grey level, NaN, complex numbers.
    """
    pixels = _to_uint8(x, f"{name} of shape {tuple(shape or x.shape)} and dtype {x.dtype}")
    if pixels.shape[-1] == 1:
        return torch.from_numpy(pixels).expand(*pixels.shape[:-1], 3)
    if pixels.shape[-1] == 4:
        rgb, alpha = pixels[..., :3].astype(np.uint16), pixels[..., 3:]
        pixels = ((rgb * alpha + 127) // 255).astype(np.uint8)
    return torch.from_numpy(pixels)


def take(x: Tensor, at: NDArray[np.integer]) -> Tensor:
    """Return the frames number `at`, a view if they are evenly spaced.

    By numpy: in a forked process torch's own indexing waits for threads that are not there.
    """
    apart = np.diff(at)
    if len(at) == 0 or ((apart == apart[:1]).all() and (apart > 0).all()):
        return x[int(at[0]) : int(at[-1]) + 1 : int(apart[0]) if len(apart) else 1] if len(at) else x[:0]
    if x.device.type != "cpu":
        return x[torch.from_numpy(at)]
    if x.is_floating_point() and x.element_size() < 4:  # bfloat16 and float8, which numpy does not have
        bits = x.view(torch.int16 if x.element_size() == 2 else torch.uint8)
        return torch.from_numpy(bits.numpy()[at]).view(x.dtype)
    return torch.from_numpy(x.numpy()[at])


def is_unknown(x: Tensor, zeros: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which frames ``[N, H, W, C]`` are TorchRL's stand-in for one that is not known.

    That is NaN all over, and zeros all over where `zeros` says that this is no frame. One value of each frame is looked
    at, and all of those of which that one may stand for nothing.
    """
    unknown = np.zeros(len(x), bool)
    if not x.is_floating_point() and not zeros.any():
        return unknown
    corners = x[:, 0, 0, 0].cpu().float().numpy()
    for at in np.flatnonzero(np.isnan(corners)):
        unknown[at] = np.isnan(x[int(at)].cpu().float().numpy()).all()
    for at in np.flatnonzero((corners == 0) & zeros):
        unknown[at] = is_black(x[int(at)])
    return unknown


def is_black(frame: Tensor) -> bool:
    """Return whether a frame is zero all over."""
    return not frame.detach().cpu().float().numpy().any()


def blacken(x: Tensor, which: NDArray[np.bool_], *, name: str = "frame") -> Tensor:
    """Return frames ``[N, H, W, C]`` of which some are black; `x` stays as it is."""
    black = np.zeros(x.shape[1:], np.uint8)
    frames = [black if blank else _to_uint8(x[i], name) for i, blank in enumerate(which)]
    return torch.from_numpy(np.stack(frames))


def center_crop(x: Tensor, size: int | tuple[int, int], *, name: str = "frame") -> Tensor:
    """Return the middle of frames ``[N, H, W, C]``, `size` a side or (height, width), as a view.

    The offset is half of what is cut, rounded to even as in torchvision.

    Raises:
        FrameError: the frame is smaller than that.
    """
    height, width = size if isinstance(size, tuple) else (size, size)
    if height > x.shape[1] or width > x.shape[2]:
        raise FrameError(
            f"{name} is {tuple(x.shape[1:3])} (height, width), too small for center_crop={size}; "
            "choose a crop no larger than the frame"
        )
    top, left = round((x.shape[1] - height) / 2), round((x.shape[2] - width) / 2)
    return x[:, top : top + height, left : left + width]


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


def side_by_side(batches: Sequence[Tensor], *, names: Sequence[str]) -> Tensor:
    """Join uint8 batches ``[N, Hi, Wi, 3]`` from left to right, the lower ones padded with black at the bottom.

    Raises:
        FrameError: the batches differ in N.
    """
    first = batches[0]
    if len(batches) == 1:
        return first
    for name, x in zip(names, batches, strict=True):
        if len(x) != len(first):
            raise FrameError(
                f"{names[0]} has {len(first)} frames and {name} has {len(x)}; to share one video they need as many"
            )
    height = max(x.shape[1] for x in batches)
    canvas = np.zeros((len(first), height, sum(x.shape[2] for x in batches), 3), np.uint8)
    left = 0
    for x in batches:
        canvas[:, : x.shape[1], left : left + x.shape[2]] = x.numpy()
        left += x.shape[2]
    return torch.from_numpy(canvas)


def _to_uint8(x: Tensor, described: str) -> "np.ndarray[Any, Any]":
    if x.dtype.is_complex:
        raise FrameError(f"{described} is complex; expected uint8, or floats in [0, 1]")
    if x.dtype.is_floating_point and x.dtype != torch.float64:
        x = x.float()  # numpy has no bfloat16
    pixels = x.cpu().numpy()
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype.kind == "f":
        return _levels(pixels, described)
    if pixels.dtype.kind == "i":
        pixels = np.maximum(pixels, 0)
    if np.iinfo(pixels.dtype).max > 255:
        pixels = np.minimum(pixels, 255)
    return pixels.astype(np.uint8)


def _levels(pixels: "np.ndarray[Any, Any]", described: str) -> "np.ndarray[Any, Any]":
    """Return floats in [0, 1] as uint8 of the same memory layout, scaled by 255 and rounded to even."""
    if 0 in pixels.strides:  # a view that repeats itself
        pixels = pixels.copy()
    levels = np.empty_like(pixels, np.uint8)
    source, target = pixels.ravel("K"), levels.ravel("K")
    scaled = np.empty(min(BLOCK, source.size), np.float32)
    for begin in range(0, source.size, BLOCK):
        block = source[begin : begin + BLOCK]
        with np.errstate(all="ignore"):  # what is too large, or NaN, is seen below
            rounded = np.multiply(block, 255, out=scaled[: len(block)], casting="same_kind")
        rounded += ROUNDING
        bits = rounded.view(np.int32)
        if bits.min() < ROUNDING_BITS or bits.max() > ROUNDING_BITS + 255:  # so are those of NaN
            low, high = block.min(), block.max()
            if not (low >= -HALF_LEVEL and high <= 1 + HALF_LEVEL):
                low, high = pixels.min(), pixels.max()
                raise FrameError(
                    f"{described} has values from {low:g} to {high:g}; expected floats in [0, 1] (divide by 255, undo "
                    "the normalisation, or record before it), or uint8"
                )
            np.clip(bits, ROUNDING_BITS, ROUNDING_BITS + 255, out=bits)
        target[begin : begin + BLOCK] = bits  # the lowest byte of each
    return levels

"""Frames out of whatever an environment returns: pure functions on tensors, no state.

A frame is uint8 ``[H, W, 3]``; every function here works on a batch of them, ``[N, H, W, C]``. Arithmetic is numpy's,
on one core: torch's splits a frame among all, and waits for those that the training keeps busy.

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

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidrec.errors import FrameError, SettingError

Flags = NDArray[np.bool_]

CHANNELS = (1, 3, 4)
"""How many channels a frame can have: grey, RGB, RGBA. Grey without a channel axis counts as one."""

DTYPES = {
    torch.bool,
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.complex128),
    *(torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz),
}
"""What an entry may be of; complex numbers are refused later, in words of their own."""

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""The files that a frame may be given as; some others run programs to be read."""

HALF_LEVEL = 0.5 / 255
"""How far a float may lie outside of [0, 1]: what rounding to one of 256 levels brings back inside."""


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
    x = _as_tensor(data, name)
    height, width, channels = _frame_axes(x, layout, batch_dims, name)
    axes = (height, width) if channels is None else (height, width, channels)
    x = x.movedim(axes, tuple(range(-len(axes), 0)))
    if channels is None:
        x = x.unsqueeze(-1)
    return x.unsqueeze(0) if x.ndim == 3 else x.flatten(0, -4)


def to_rgb(x: Tensor, *, name: str = "frame", shape: tuple[int, ...] | None = None) -> Tensor:
    """Return frames ``[N, H, W, C]`` of any dtype, on any device, as uint8 ``[N, H, W, 3]`` in main memory.

    uint8 stays as it is. bool becomes 0 and 255, other integers are clamped to 0..255, floats in [0, 1] are scaled
    by 255 and rounded (to even). Grey is repeated, RGBA is composed on black. What needs no change is not copied.
    Errors call it `name` of `shape`, if that is not the shape of `x`.

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

    That is NaN all over, and zeros all over where `zeros` says that this is no frame.
    """
    unknown = np.zeros(len(x), bool)
    for at in range(len(x)) if x.is_floating_point() else np.flatnonzero(zeros):
        frame = x[int(at)]
        corner = float(frame[0, 0, 0])
        if math.isnan(corner):
            unknown[at] = np.isnan(frame.cpu().float().numpy()).all()
        elif not corner and zeros[at]:
            unknown[at] = is_black(frame)
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
    rows = math.ceil(n / columns)
    canvas = np.zeros((rows, height, columns, width, channels), np.uint8)
    for i, frame in enumerate(x.numpy()):
        canvas[i // columns, :, i % columns] = frame
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


def contiguous(x: Tensor) -> Tensor:
    """Return uint8 frames ``[N, H, W, 3]`` contiguous, the same object if they already are."""
    if x.is_contiguous():
        return x
    # a plane at a time takes a third of the time of a permuted copy
    source, target = x.numpy(), np.empty(x.shape, np.uint8)
    for channel in range(x.shape[-1]):
        target[..., channel] = source[..., channel]
    return torch.from_numpy(target)


def _as_tensor(data: Any, name: str) -> Tensor:
    if isinstance(data, Tensor):
        if data.is_nested or data.layout != torch.strided or data.device.type == "meta":
            raise FrameError(f"{name} is a nested, sparse or meta tensor; expected an ordinary one")
        if data.dtype not in DTYPES:
            raise FrameError(f"{name} of shape {tuple(data.shape)} is of dtype {data.dtype}; expected numbers")
        return data.detach().resolve_neg()
    if isinstance(data, np.ndarray):
        # torch takes no negative or odd strides and no foreign byte order, and dislikes memory that must not be written
        odd = any(stride < 0 or stride % (data.itemsize or 1) for stride in data.strides)
        if odd or not data.flags.writeable or not data.dtype.isnative:
            data = data.astype(data.dtype.newbyteorder("="), order="C")
        try:
            return torch.from_numpy(data)
        except TypeError:
            pass
    if isinstance(data, bytes):
        return _as_tensor(_decode(data, name), name)
    if hasattr(data, "__array_interface__") and not isinstance(data, np.ndarray):  # such as a PIL image
        try:
            return _as_tensor(np.asarray(data), name)
        except (TypeError, ValueError) as error:
            raise FrameError(f"{name} is a {type(data).__name__} that numpy does not read: {error}") from error
    described = f"numpy array of dtype {data.dtype}" if isinstance(data, np.ndarray) else type(data).__name__
    raise FrameError(f"{name} is a {described}; expected a tensor, a numeric numpy array, or a list of them")


def _decode(data: bytes, name: str) -> Any:
    """Return the frame in the bytes of a PNG, JPEG or other file that Pillow reads, as some datasets hold them."""
    from PIL import Image

    try:
        return Image.open(io.BytesIO(data), formats=IMAGE_FORMATS).convert("RGB")
    except Exception as error:  # of damaged files Pillow says so in many ways
        raise FrameError(f"{name} is {len(data)} bytes that are no frame: {error}") from error


def _frame_axes(x: Tensor, layout: str | None, batch_dims: int | None, name: str) -> tuple[int, int, int | None]:
    """Return where height, width and channels (None if there are none) stand in `x`, counted from the end."""
    described = f"{name} of shape {tuple(x.shape)} and dtype {x.dtype}"
    if 0 in x.shape:
        raise FrameError(f"{described} is empty; expected a frame in every entry")
    channels: int | None
    if layout is not None:
        if len(layout) > x.ndim:
            raise FrameError(f"{described} has fewer axes than layout={layout!r}")
        height, width = layout.index("H") - len(layout), layout.index("W") - len(layout)
        channels = layout.index("C") - len(layout) if "C" in layout else None
        if channels is not None and x.shape[channels] not in CHANNELS:
            raise FrameError(
                f"{described} has {x.shape[channels]} channels by layout={layout!r}; expected 1, 3 or 4 "
                '(name a stack of grey frames "NHW")'
            )
        return height, width, channels
    frame_dims = x.ndim - (batch_dims or 0)
    if frame_dims < 2:
        raise FrameError(f"{described} is no frame; expected HWC, CHW or HW after {batch_dims or 0} batch axes")
    if frame_dims == 2:
        return -2, -1, None
    first, last = x.shape[-3] in CHANNELS, x.shape[-1] in CHANNELS
    if first == last:
        why = "could be both CHW and HWC" if first else "has no axis of 1, 3 or 4 channels"
        raise FrameError(
            f'{described} {why}; say which with layout=, for example layout="HWC", "CHW", or "NHW" for grey frames'
        )
    return (-2, -1, -3) if first else (-3, -2, -1)


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
        low, high = pixels.min(), pixels.max()
        if not (low >= -HALF_LEVEL and high <= 1 + HALF_LEVEL):
            raise FrameError(
                f"{described} has values from {low:g} to {high:g}; expected floats in [0, 1] (divide by 255, undo the "
                "normalisation, or record before it), or uint8"
            )
        levels = pixels * 255
        np.rint(levels, out=levels)
        if low < 0 or high > 1:
            np.clip(levels, 0, 255, out=levels)
        return levels.astype(np.uint8)
    if pixels.dtype.kind == "i":
        pixels = np.maximum(pixels, 0)
    if np.iinfo(pixels.dtype).max > 255:
        pixels = np.minimum(pixels, 255)
    return pixels.astype(np.uint8)

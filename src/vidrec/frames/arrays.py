"""Tensors out of whatever holds a frame: arrays of any strides, images, the bytes of image files."""

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidrec.errors import FrameError

DTYPES = {
    torch.bool,
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.complex128),
    *(torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz),
}
"""What an entry may be of; complex numbers are refused later, with an error of their own."""

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""The files that a frame may be given as; some others run programs to be read."""


def as_tensor(data: Any, name: str) -> Tensor:
    """Return what holds a frame, or several, as a tensor that can be read.

    Raises:
        FrameError: it is no array of numbers.
    """
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
        return as_tensor(_decode(data, name), name)
    if hasattr(data, "__array_interface__") and not isinstance(data, np.ndarray):  # such as a PIL image
        try:
            return as_tensor(np.asarray(data), name)
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

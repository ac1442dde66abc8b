"""Whole videos: what holds one, as a tensor ``[N, T, C, H, W]``."""

from typing import Any

import numpy as np
from torch import Tensor

from vidrec.errors import FrameError
from vidrec.frames.arrays import as_tensor
from vidrec.frames.layout import CHANNELS


def as_video(data: Any, name: str = "video") -> Tensor:
    """Return N videos in `data` as one tensor ``[N, T, C, H, W]``, of the dtype and on the device that it has.

    >>> as_video(np.zeros((8, 3, 48, 64))).shape
    torch.Size([1, 8, 3, 48, 64])

    Args:
        data: a tensor, numpy array, or array of another library, ``[N, T, C, H, W]`` or ``[T, C, H, W]``.
        name: what the error calls it.

    Raises:
        FrameError: it is no array, has another number of axes, or its third axis from the end is no channels.
    """
    if not isinstance(data, Tensor | np.ndarray):
        if not hasattr(data, "__array__"):
            raise FrameError(
                f"the video {name!r} is a {type(data).__name__}; expected a tensor or numpy array [N, T, C, H, W] or "
                "[T, C, H, W]"
            )
        data = np.asarray(data)
    video = as_tensor(data, f"the video {name!r}")
    described = f"the video {name!r} has shape {tuple(video.shape)} and dtype {video.dtype}"
    if video.ndim not in (4, 5):
        raise FrameError(f"{described}. Video must be at least [T, C, H, W], or [N, T, C, H, W]")
    if video.shape[-3] not in CHANNELS:
        *first, channels = range(video.ndim)
        order = (*first[:-2], channels, *first[-2:])
        last = f"; if its channels are last, give video.permute{order}" if video.shape[-1] in CHANNELS else ""
        raise FrameError(f"{described}; expected [N, T, C, H, W] or [T, C, H, W] with C 1, 3 or 4{last}")
    return video if video.ndim == 5 else video.unsqueeze(0)

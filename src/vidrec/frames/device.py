"""Pixels on a CUDA device: what `vidrec.frames.pixels` does in main memory, by kernels that nobody waits for.

The values of a frame are checked here as well, but what is found is read when the frame arrives: to read it at once
would be to wait for all that the device has to do.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidrec.errors import FrameError
from vidrec.frames.pixels import HALF_LEVEL, Colours, check_lengths, check_overshoot

SENT = {
    *(torch.uint8, torch.bool, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
}
"""The dtypes that kernels know; frames of another one are converted in main memory."""


class Found(NamedTuple):
    """What is found of the values of an entry, once they have arrived.

    Attributes:
        described: what errors call the entry.
        colours: what its values mean.
        one: the value of white.
    """

    described: str
    colours: Colours
    one: int

    def check(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which frames are NaN all over; `values` ``[N, 3]`` are the lowest, the highest, and whether they are.

        Raises:
            FrameError: the others have values that no frame has.
        """
        unknown: NDArray[np.bool_] = values[:, 2] != 0
        if not unknown.all():
            low, high = float(values[~unknown, 0].min()), float(values[~unknown, 1].max())
            value_range, slack = self.colours.value_range, HALF_LEVEL if self.one == 1 else 0
            if value_range is not None:
                if math.isnan(low):
                    raise FrameError(
                        f"{self.described} holds NaN; expected numbers, which value_range={value_range} maps"
                    )
            elif not (low >= -slack and high <= self.one + slack):
                check_overshoot(low, high, self.one, self.described, self.colours)
        return unknown


def to_rgb(x: Tensor, described: str, colours: Colours) -> tuple[Tensor, Tensor | None, Found]:
    """Return frames ``[N, ..., H, W, C]`` as uint8 ``[N, ..., H, W, 3]`` on their device, and what is to be checked.

    That is float64 ``[N, 3]``, see `Found.check`; None if all values are those of frames.
    """
    levels, values = _to_uint8(x, colours)
    if levels.shape[-1] == 4:
        rgb, alpha = levels[..., :3].int(), levels[..., 3:]
        levels = (rgb * alpha + 127).div(255, rounding_mode="floor").to(torch.uint8)
    elif levels.shape[-1] == 1 and colours.colormap is not None:
        levels = _table(colours.colormap.tobytes(), levels.device)[levels[..., 0].int()]
    elif levels.shape[-1] == 1:
        levels = levels.expand(*levels.shape[:-1], 3)
    return levels, values, Found(described, colours, 1 if x.is_floating_point() else 255)


def _to_uint8(x: Tensor, colours: Colours) -> tuple[Tensor, Tensor | None]:
    if x.is_floating_point() and x.dtype != torch.float64:
        x = x.float()
    values = None
    if x.is_floating_point() or (colours.value_range is None and x.dtype not in (torch.uint8, torch.bool)):
        low, high = x.flatten(1).aminmax(dim=1)
        unknown = x.isnan().flatten(1).all(1)
        values = torch.stack([low.double(), high.double(), unknown.double()], 1)
    if colours.value_range is not None:
        black, white = colours.value_range
        x = (x.double() - black) * (255 / (white - black))
    elif x.dtype == torch.uint8:
        return x, None
    elif x.dtype == torch.bool:
        return x.to(torch.uint8) * 255, None
    elif x.is_floating_point():
        x = (x * 255).float()
    else:
        return x.clamp(max(0, torch.iinfo(x.dtype).min), min(255, torch.iinfo(x.dtype).max)).to(torch.uint8), values
    return x.round().nan_to_num(nan=0.0).clamp(0, 255).to(torch.uint8), values


@lru_cache(maxsize=16)
def _table(colours: bytes, device: torch.device) -> Tensor:
    return torch.frombuffer(bytearray(colours), dtype=torch.uint8).view(256, 3).to(device)


def grid(x: Tensor) -> Tensor:
    """Tile uint8 frames ``[N, H, W, 3]`` into one, as `vidrec.frames.grid` does."""
    n, height, width, channels = x.shape
    columns = math.ceil(math.sqrt(n))
    rows, full = math.ceil(n / columns), n // columns
    canvas = x.new_zeros(rows, height, columns, width, channels)
    cells = canvas.transpose(1, 2)
    cells[:full] = x[: full * columns].unflatten(0, (full, columns))
    if full < rows:
        cells[full, : n - full * columns] = x[full * columns :]
    return canvas.view(1, rows * height, columns * width, channels)


def side_by_side(batches: Sequence[Tensor], *, names: Sequence[str]) -> Tensor:
    """Join uint8 batches ``[N, Hi, Wi, 3]``, as `vidrec.frames.side_by_side` does."""
    first = batches[0]
    if len(batches) == 1:
        return first
    check_lengths(batches, names)
    canvas = first.new_zeros(len(first), max(x.shape[1] for x in batches), sum(x.shape[2] for x in batches), 3)
    left = 0
    for x in batches:
        canvas[:, : x.shape[1], left : left + x.shape[2]] = x
        left += x.shape[2]
    return canvas


def packed(frames: Tensor, values: Sequence[Tensor]) -> Tensor:
    """Return frames and what is to be checked of them as uint8, one behind the other; what lies so is not copied."""
    flat = frames.contiguous().flatten()
    return torch.cat([flat, *(each.flatten().view(torch.uint8) for each in values)]) if values else flat

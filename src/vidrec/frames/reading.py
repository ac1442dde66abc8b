"""What the user says of the frames of each entry, checked: a `Reading` for each key."""

import difflib
import math
from collections.abc import Hashable, Mapping, Sequence
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from vidrec.errors import SettingError, need, shown
from vidrec.frames.layout import Reading, Stack, check_layout
from vidrec.frames.pixels import Array, Colours, Range

Key = TypeVar("Key", bound=Hashable)


Found = tuple[str, Any, Reading, int | None, int, bool]
"""An entry as it came: its name, whatever holds frames, how they are read, how many leading axes are batch (None if
that is not known), how many axes behind these are frames of one moment, and whether all others are as well."""


def readings(keys: Sequence[Key], layout: Any, stack: Any, value_range: Any, colormap: Any) -> dict[Key, Reading]:
    """Return how each entry is read: by the same arguments, or by those that a mapping has under its key.

    Raises:
        SettingError: an argument that cannot be, or a key that is none of `keys`.
    """
    given = {"layout": layout, "stack": stack, "value_range": value_range, "colormap": colormap}
    for name, value in given.items():
        if isinstance(value, Mapping) and (unknown := [key for key in value if key not in keys]):
            raise SettingError(f"{name} has the key {unknown[0]!r}, which is none of in_keys={list(keys)}")
    read = {}
    for key in keys:
        own = {name: value.get(key) if isinstance(value, Mapping) else value for name, value in given.items()}
        read[key] = _reading(**own, alone=len(keys) == 1 or isinstance(colormap, Mapping))
    return read


def _reading(layout: Any, stack: Any, value_range: Any, colormap: Any, alone: bool) -> Reading:
    auto = isinstance(value_range, str) and value_range == "auto"
    return Reading(
        layout=None if layout is None else check_layout(layout),
        stack=None if stack is None else Stack.of(stack),
        colours=Colours(
            value_range=None if value_range is None or auto else _range(value_range),
            colormap=None if colormap is None else _colormap(colormap),
        ),
        auto=auto,
        grey=alone and colormap is not None,
    )


def _range(value_range: Any) -> Range:
    numbers = tuple(value_range) if isinstance(value_range, Sequence) and not isinstance(value_range, str) else ()
    try:
        low, high = (float(number) if isinstance(number, Real) else math.nan for number in numbers)
    except (ValueError, OverflowError):  # not two, or one of hundreds of digits
        low = high = math.nan
    if low == high or not math.isfinite(high - low):
        raise SettingError(
            f"value_range={shown(value_range)} must be two numbers, the value of black and that of white, such as "
            '(0, 255), or "auto" for the bounds of the spec'
        )
    return low, high


def _colormap(name: Any) -> Array:
    """Return the colours of one of matplotlib's maps, uint8 ``[256, 3]``."""
    need("matplotlib", "colormap=", "colormap")
    from matplotlib import colormaps

    if not isinstance(name, str) or name not in colormaps:
        near = difflib.get_close_matches(str(name), list(colormaps)) or ["viridis", "magma", "gray"]
        raise SettingError(f"colormap={shown(name)} is none of matplotlib's; expected one such as {', '.join(near)}")
    table: Array = np.rint(colormaps[name](np.arange(256) / 255)[:, :3] * 255).astype(np.uint8)
    return table

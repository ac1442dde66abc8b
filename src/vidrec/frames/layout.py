"""The layout rule: which axes of an entry are its frame, its agents, a stack, or batch.

The last axes of an entry are its frame, all axes before them are batch. Which they are is read off the shape:

1. ``layout=`` was given: it names the last axes, one letter each. ``H`` and ``W`` once, ``C`` at most once, ``S`` is
   the axis of a stack if ``stack=`` says that there is one, any other capital letter is a batch axis: ``"HWC"``,
   ``"CHW"``, ``"NHW"``, ``"WHC"``.
2. Only two axes are left beside the batch axes of the tensordict (or there are only two at all): grey, ``HW``.
3. Exactly one of the two places for channels, third from the end (``CHW``) or last (``HWC``), has length 1 or 3: there
   they are.
4. Length 4 is one RGBA frame or a stack of four grey ones, and both places or none have a length of channels: what is
   ambiguous is refused until ``layout=`` or ``stack=`` says.

``stack=4`` says that an entry holds four frames of one moment and before, the newest last. They have an axis of their
own, the first or the last (``[4, H, W, 3]``), or are joined along the channels (``[12, H, W]`` is four RGB frames).

The axes of a tensordict inside of the root, such as that of agents, are frames of one moment. They are side by side in
one frame. In an environment, so are the axes that ``layout=`` names; another axis is refused. In a sample of a buffer,
other axes are frames that follow one another.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from numbers import Integral
from typing import Any

from vidrec.errors import FrameError, SettingError, shown
from vidrec.frames.pixels import Colours, Range

CHANNELS = (1, 3, 4)
"""How many channels a frame can have: grey, RGB, RGBA. Grey without a channel axis counts as one."""

SAY_LAYOUT = 'say which with layout=, for example layout="HWC", "CHW", or "NHW" for grey frames'


@dataclass(frozen=True)
class Stack:
    """Several frames of one env in one entry, of this moment and before, the oldest first.

    Attributes:
        count: how many.
        shown: which one is in the video, counted as in a list; None is all, side by side.
        axis: along which they are joined or stacked, counted from the end; None if that is not known.
    """

    count: int
    shown: int | None = -1
    axis: int | None = None

    @classmethod
    def of(cls, stack: Any) -> "Stack":
        """Return what ``stack=`` says: a number of frames, or that and which one, or "all".

        Raises:
            SettingError: it says something else.
        """
        count, which = stack if isinstance(stack, tuple) and len(stack) == 2 else (stack, -1)
        numbers = (count,) if which == "all" else (count, which)
        whole = all(isinstance(number, Integral) and not isinstance(number, bool) for number in numbers)
        if not whole or count < 1:
            raise SettingError(
                f"stack={shown(stack)} must be how many frames are stacked, such as 4, or that and which one to show, "
                'such as (4, 0) for the oldest or (4, "all")'
            )
        if not (which == "all" or -count <= which < count):
            raise SettingError(f"stack={stack!r} shows a frame that a stack of {count} does not have")
        return cls(int(count), None if which == "all" else int(which))


@dataclass(frozen=True, slots=True)
class Plan:
    """How an entry becomes frames: what is done to its axes, in this order.

    Attributes:
        unflatten: which axis, counted from the end, is parted into stack and channels, and their sizes; None if none.
        order: of the axes; None if they stay.
        take: the axis of the stack then, counted from the end, and which frame is taken; None if all stay.
        moves: whether one of these is done.
        shape: of the frames, ``[N, H, W, C]``, or ``[N, A, H, W, C]`` with A frames side by side.
    """

    unflatten: tuple[int, tuple[int, int]] | None
    order: tuple[int, ...] | None
    take: tuple[int, int] | None
    moves: bool
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Reading:
    """How the frames of one entry are read.

    Attributes:
        layout: names the axes of a frame; None goes by the rule in `vidrec.frames.layout`.
        stack: what the user says of a stack.
        hint: what the environment says of one.
        colours: what the values mean.
        auto: whether the range of the values is to be that of a spec.
        grey: whether it must have one channel: a colour map is for it alone.
        strict: whether four channels may also be a stack, and are refused until it is said.
    """

    layout: str | None = None
    stack: Stack | None = None
    hint: Stack | None = None
    colours: Colours = field(default_factory=Colours)
    auto: bool = False
    grey: bool = False
    strict: bool = True

    def resolved(self, hint: Stack | None, bounds: Range | None) -> "Reading":
        """Return the reading of an entry of which an environment says so much."""
        if not self.auto or bounds is None:
            return replace(self, hint=hint)
        return replace(self, hint=hint, auto=False, colours=replace(self.colours, value_range=bounds))


class UnreadableError(Exception):
    """Says why a shape is no frame, or what is ambiguous."""


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


@dataclass(frozen=True)
class _Axes:
    """Where the axes of a frame are, counted from the end; `channels` None is grey without."""

    height: int
    width: int
    channels: int | None
    stack: int | None = None
    """An axis of its own; None if there is no stack, or if it is joined along the channels."""

    @property
    def own(self) -> tuple[int | None, ...]:
        """All of them; the other axes of an entry are batch."""
        return self.height, self.width, self.channels, self.stack


HW = _Axes(-2, -1, None)
CHW = _Axes(-2, -1, -3)
HWC = _Axes(-3, -2, -1)
STACKS = (_Axes(-2, -1, -3, -4), _Axes(-3, -2, -1, -4), _Axes(-3, -2, -4, -1), _Axes(-4, -3, -2, -1))
"""SCHW, SHWC, CHWS and HWCS."""


@lru_cache(maxsize=256)
def plan(shape: Sequence[int], reading: Reading, batch_dims: int | None, agent_dims: int, still: bool) -> Plan:
    """Return how an entry of this shape becomes frames.

    Raises:
        UnreadableError: it does not, or it is not known how.
    """
    if 0 in shape:
        raise UnreadableError("is empty; expected a frame in every entry")
    if reading.auto:
        raise UnreadableError(
            'has no bounds in the spec of an env, which value_range="auto" takes; give value_range=(low, high)'
        )
    known = batch_dims is not None
    layout, stack, hint = reading.layout, reading.stack, reading.hint
    frame_dims = len(shape) - (batch_dims or 0) - agent_dims
    axes: _Axes | str
    if layout is not None:
        axes = _named(shape, layout, stack)
    elif frame_dims < 2:
        axes = f"is no frame; expected HWC, CHW or HW after {(batch_dims or 0) + agent_dims} batch axes"
    elif stack is not None:
        axes = _stacked(shape, frame_dims, stack, known)
    elif hint is not None and not isinstance(axes := _stacked(shape, frame_dims, hint, known), str):
        stack = hint
    else:
        axes = _found(shape, frame_dims, reading.strict)
    if isinstance(axes, str):
        raise UnreadableError(axes)
    leading = [axis for axis in range(len(shape)) if axis - len(shape) not in axes.own]
    inner = leading[batch_dims or 0 : (batch_dims or 0) + agent_dims]
    outer = [axis for axis in leading if axis not in inner]
    if still and known:
        extra = outer[batch_dims or 0 :]
        if layout is None and (count := math.prod(shape[axis] for axis in extra)) > 1:
            raise UnreadableError(
                f"holds {count} frames of one env; they could be a stack ("
                f'stack={count} shows the newest, stack=({count}, "all") shows all) or belong side by side '
                f'(layout="N{"HW" if axes.channels is None else "CHW" if axes.channels < axes.height else "HWC"}")'
            )
        outer, inner = outer[: batch_dims or 0], inner + extra
    planned = _planned(shape, axes, stack, outer, inner)
    if reading.grey and planned.shape[-1] != 1:
        raise UnreadableError(
            f"has {planned.shape[-1]} channels; colormap= colours frames of one channel, such as depth. Leave it out"
        )
    return planned


def agents_in(shape: Sequence[int], reading: Reading, batch_dims: int, agent_dims: int) -> int | None:
    """Return how many agents each env has by an entry of this shape; None if it has no axis for them.

    They are on the axes of a tensordict inside of the root, or else on those that ``layout=`` names.

    Raises:
        FrameError: it holds no frame, or what is ambiguous.
    """
    shape = tuple(shape)
    try:
        read = plan(shape, replace(reading, auto=False), batch_dims, agent_dims, True)
    except UnreadableError as why:
        raise FrameError(f"an entry of shape {shape} {why}") from None
    if agent_dims:
        return math.prod(shape[batch_dims : batch_dims + agent_dims])
    stack = reading.stack or reading.hint
    beside = read.shape[1] if len(read.shape) == 5 else 1
    agents = beside // stack.count if stack is not None and stack.shown is None else beside
    return agents if agents > 1 else None


def _planned(
    shape: Sequence[int], axes: _Axes, stack: Stack | None, outer: Sequence[int], inner: Sequence[int]
) -> Plan:
    """Return how axes that are known become frames: `outer` in turns, `inner` side by side."""
    sizes, places = list(shape), list(range(len(shape)))  # where each axis is, once that of a stack is parted
    channels_at = None if axes.channels is None else places[axes.channels]
    apart_at = None if axes.stack is None else places[axes.stack]
    unflatten = None
    if stack is not None and axes.stack is None and axes.channels is not None and channels_at is not None:
        parted = (stack.count, shape[channels_at] // stack.count)
        unflatten, apart_at, channels_at = (axes.channels, parted), channels_at, channels_at + 1
        sizes[apart_at : apart_at + 1] = parted
        places = [axis + (axis > apart_at) for axis in places]
    order = [places[axis] for axis in (*outer, *inner)]
    order += [] if apart_at is None else [apart_at]
    order += [places[axes.height], places[axes.width]]
    order += [] if channels_at is None else [channels_at]
    n, beside = (math.prod(shape[axis] for axis in group) for group in (outer, inner))
    take = None
    if apart_at is not None and stack is not None:
        if stack.shown is None:
            beside *= stack.count
        else:
            take = (-3 if channels_at is None else -4, stack.shown)
    frame = (shape[axes.height], shape[axes.width], 1 if channels_at is None else sizes[channels_at])
    stays = order == list(range(len(sizes)))
    return Plan(
        unflatten=unflatten,
        order=None if stays else tuple(order),
        take=take,
        moves=not (stays and unflatten is None and take is None),
        shape=(n, *frame) if beside == 1 else (n, beside, *frame),
    )


def _named(shape: Sequence[int], layout: str, stack: Stack | None) -> _Axes | str:
    """Return the axes that `layout` names."""
    if len(layout) > len(shape):
        return f"has fewer axes than layout={layout!r}"
    at = {letter: layout.index(letter) - len(layout) for letter in layout}
    channels, apart = at.get("C"), at.get("S") if stack is not None else None
    count = 1 if stack is None or apart is not None else stack.count
    if stack is not None and channels is None and apart is None:
        return f'has no axis for a stack by layout={layout!r}; name it S, such as in "SHW"'
    if stack is not None and apart is not None and shape[apart] != stack.count:
        return f"has {shape[apart]} frames in a stack by layout={layout!r}; expected {stack.count}"
    if channels is not None and shape[channels] not in [count * n for n in CHANNELS]:
        if stack is not None:
            return f"has {shape[channels]} channels by layout={layout!r}; expected {count} times 1, 3 or 4"
        return (
            f"has {shape[channels]} channels by layout={layout!r}; expected 1, 3 or 4 "
            f'(name a stack of grey frames "NHW", or say stack={shape[channels]})'
        )
    return _Axes(at["H"], at["W"], channels, apart)


def _stacked(shape: Sequence[int], frame_dims: int, stack: Stack, known: bool) -> _Axes | str:
    """Return the axes of a stack: joined along the channels, or an axis of its own, the first or the last.

    If the number of batch axes is `known`, and an axis of its own leaves no axis over, it is that, the first of two.
    """
    joined = [axes for axes in (CHW, HWC) if frame_dims >= 3 and shape[axes.channels or 0] in _joined(stack)]
    apart = [
        axes
        for axes in STACKS
        if frame_dims >= 4 and shape[axes.stack or 0] == stack.count and shape[axes.channels or 0] in CHANNELS
    ]
    found = joined + apart
    if stack.axis is not None:
        found = [axes for axes in found if stack.axis == (axes.channels if axes.stack is None else axes.stack)]
    whole = [axes for axes in apart if axes in found and shape[axes.channels or 0] != 4]
    if len(found) == 1:
        return found[0]
    if known and frame_dims == 4 and whole:
        return whole[0]
    if not found:
        return (
            f"holds no stack of {stack.count} frames; expected an axis of {stack.count}, or of "
            f"{', '.join(map(str, _joined(stack)))} for channels as well"
        )
    return f"could be a stack of {stack.count} frames in several ways; {SAY_LAYOUT}, and S for the axis of the stack"


def _joined(stack: Stack) -> list[int]:
    """Return how long an axis of channels is that holds the frames of a stack."""
    return [stack.count * n for n in CHANNELS]


def _found(shape: Sequence[int], frame_dims: int, strict: bool) -> _Axes | str:
    """Return the axes of a frame without a stack, by the shape alone."""
    if frame_dims == 2:
        return HW
    found = [axes for axes in (CHW, HWC) if shape[axes.channels or 0] in CHANNELS]
    if len(found) == 2:
        return f"could be both CHW and HWC; {SAY_LAYOUT}"
    if not found:
        return f"has no axis of 1, 3 or 4 channels; {SAY_LAYOUT}, or stack= for how many frames are stacked"
    if strict and shape[found[0].channels or 0] == 4:
        layout = "CHW" if found[0] is CHW else "HWC"
        return (
            f'could be one RGBA frame (layout="{layout}") or a stack of 4 grey frames (stack=4 shows the newest, '
            'stack=(4, "all") shows all)'
        )
    return found[0]

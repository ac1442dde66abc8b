"""What is written below frames: the values of names, a format string with them, or what a function makes of them."""

import string
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensordict import TensorDictBase
from tensordict.utils import NestedKey, unravel_key
from torch import Tensor
from torchrl.data import MultiOneHot, OneHot
from torchrl.envs import EnvBase, TransformedEnv

from vidrec.captions import caption as drawn
from vidrec.errors import SettingError, shown
from vidrec.sources.progress import Progress

NAMES = ("step", "reward", "return", "action", "episode", "env", "agent", "time")
"""What a caption knows beside the keys of the tensordict; they go before keys of the same name."""

ALIASES = {"return_": "return", "env_id": "env"}
"""The names of `Moment` for the same."""

KNOWN = {
    **{name: name for name in ("step", "reward", "episode", "agent", "time")},
    **{short: name for name, short in ALIASES.items()},
}
"""Where a `Moment` has what names stand for, but for the action."""

EXAMPLES = {"step": 1, "reward": 1.0, "return": 1.0, "episode": 1, "env": 1, "agent": 1}
"""What format specifications are tried on."""

TIME = "%Y-%m-%d %H:%M:%S"
NOTHING = "-"
BETWEEN = "  "

MOST = 4
"""How many values of a vector are shown."""


@dataclass(frozen=True, eq=False)
class Moment:
    """What is known of a frame when it is recorded, for a function given as ``caption=``.

    Attributes:
        frame: without its caption, uint8 ``[H, W, 3]``; it must not be written to.
        env_id: which one of a batched env, as in `Episode`; None for a single env and for samples.
        agent: which agent of it has the video, with ``by_agent=True``; else None.
        episode: counts the episodes of the env from 0, recorded or not; the trajectories of a buffer or dataset by
            their id, or from 0. None if frames come without a tensordict.
        step: of the episode, 0 at the reset; in a sample, which of the steps that it has of the trajectory, from 0.
        reward: of this step, the sum of all that an env's reward holds; 0.0 at the reset. None in a sample without.
        return_: the sum of the rewards of the episode so far, that of this step included. None in a sample without.
        time: when the frame is recorded, in UTC.
    """

    frame: NDArray[np.uint8] = field(repr=False)
    env_id: int | None
    agent: int | None
    episode: int | None
    step: int
    reward: float | None
    return_: float | None
    time: datetime
    _data: "Data | None" = field(repr=False)
    _at: int = field(repr=False)

    @property
    def tensordict(self) -> TensorDictBase | None:
        """What belongs to the env alone: observation and action, and the outcome of the step in "next".

        At a reset, what the reset returned. In a sample, the row. None if frames come without a tensordict. It is made
        when it is asked for: ask before the function returns.
        """
        return None if self._data is None else self._data.alone(self._at)


@dataclass(frozen=True, eq=False, slots=True)
class Data:
    """The tensordict that frames come in.

    Attributes:
        root: with the action.
        outcome: what the step, or the row of a sample, has as "next"; `root` if it has none, None at a reset.
        shape: of the batch, each of which is an env or a row.
        actions: the keys of actions, and whether each is one-hot.
    """

    root: TensorDictBase
    outcome: TensorDictBase | None
    shape: Sequence[int]
    actions: Mapping[NestedKey, bool]

    def alone(self, at: int) -> TensorDictBase:
        """Return what belongs to number `at` of the batch."""
        whole = self.root.copy()
        if self.outcome is not None and self.outcome is not self.root:
            whole.set("next", self.outcome)
        return whole[self._index(at)]

    def entry(self, key: NestedKey, at: int) -> Any:
        """Return an entry of number `at`: of the outcome if it is there, or of the root. None if of neither."""
        for tensordict in (self.outcome, self.root):
            if tensordict is not None and (value := _get(tensordict, key, self._index(at))) is not None:
                return value
        return None

    def action(self, at: int) -> Any:
        """Return the action of number `at`; several in a list, one that is one-hot as its index."""
        values = [
            value.detach().cpu().numpy().argmax(-1) if one_hot and isinstance(value, Tensor) else value
            for key, one_hot in self.actions.items()
            if (value := self.entry(key, at)) is not None
        ]
        return values if len(values) > 1 else values[0] if values else None

    def has(self) -> str:
        """Return what keys there are, for an error."""
        keys = {key for each in (self.outcome, self.root) if each is not None for key in each.keys(True, True)}
        return textwrap.shorten(", ".join(sorted(map(repr, keys))), 300) or "none"

    def _index(self, at: int) -> tuple[int, ...]:
        return tuple(int(i) for i in np.unravel_index(at, self.shape)) if self.shape else ()


@dataclass(frozen=True)
class Field:
    """A value in a caption.

    Attributes:
        key: one of `NAMES`, or else a key of the tensordict.
        spec: how Python's ``format`` is to show it; empty for the caption's own way.
    """

    key: NestedKey
    spec: str = ""

    def text(self, moment: Moment) -> str:
        """Return the value at a moment, "-" if there is none.

        Raises:
            SettingError: the key is not there, or its value cannot be shown so.
        """
        value = self._value(moment)
        if value is None:
            return NOTHING
        if not self.spec and isinstance(value, float):
            if self.key == "reward":
                return _decimal(value, "+")
            if self.key == "return":
                return _decimal(value, "")
        try:
            return " ".join(_shown(value, self.spec).split())
        except (ValueError, TypeError) as error:
            raise SettingError(f"caption shows {self.key!r} by {self.spec!r}, which it cannot: {error}") from error

    def _value(self, moment: Moment) -> Any:
        data, at = moment._data, moment._at
        if isinstance(self.key, str) and self.key in KNOWN:
            return getattr(moment, KNOWN[self.key])
        if data is None:
            return None
        value = data.action(at) if self.key == "action" else data.entry(self.key, at)
        if value is None and data.outcome is not None:
            raise SettingError(
                f"caption names {self.key!r}, of which there is no entry; there are {', '.join(NAMES)}, and of the "
                f"tensordict {data.has()}"
            )
        return value


@dataclass(frozen=True)
class Caption:
    """What is written below each frame.

    Attributes:
        parts: text, and the value behind it, in turns; None for what a function returns.
        function: which makes a text of a `Moment`.
    """

    parts: tuple[tuple[str, Field | None], ...] | None = None
    function: Callable[[Moment], Any] | None = None

    @classmethod
    def of(cls, given: Any) -> "Caption":
        """Return what ``caption=`` says.

        Raises:
            SettingError: it is no name, format string or function, or the string is broken.
        """
        if isinstance(given, str):
            return cls(_parsed(given) if "{" in given or "}" in given else _named([given]))
        if callable(given):
            return cls(function=given)
        if isinstance(given, Sequence) and given:
            return cls(_named(given))
        raise SettingError(
            f"caption={shown(given)} must be a list of {', '.join(map(repr, NAMES))} and keys of the tensordict, a "
            'format string such as "{step} r={reward:+.2f}", or a function of a vidrec.Moment'
        )

    @property
    def lines(self) -> int | None:
        """How many lines of text there are; None if its first text says it."""
        return None if self.parts is None else 1 + sum(text.count("\n") for text, _ in self.parts)

    @property
    def keys(self) -> list[NestedKey] | None:
        """The keys of the tensordict that it may read, "action" for actions; None if that may be any."""
        if self.parts is None:
            return None
        keys = [value.key for _, value in self.parts if value is not None]
        return [key for key in keys if key == "action" or key not in NAMES]

    def text(self, moment: Moment) -> str:
        """Return the text of a frame."""
        if self.function is not None:
            return str(self.function(moment))
        return "".join(text + ("" if value is None else value.text(moment)) for text, value in self.parts or ())


class Captions:
    """The captions of one source, whose strips have as many lines as the first has.

    Attributes:
        lines: how many; None before the first, if a function makes them.
    """

    def __init__(self, caption: Caption) -> None:
        self.caption, self.lines = caption, caption.lines

    def draw(
        self, frames: NDArray[np.uint8], moment: Callable[[int, NDArray[np.uint8]], Moment | None], *, tile: bool
    ) -> NDArray[np.uint8]:
        """Return frames ``[N, H, W, 3]`` with their captions, tiled into one if asked for.

        `moment` returns what is known of a frame, of which it is given the number and the frame; None has no text.
        """
        texts = []
        for at, frame in enumerate(frames):
            alone = frame.view()
            alone.flags.writeable = False
            known = moment(at, alone)
            texts.append("" if known is None else self.caption.text(known))
        if self.lines is None:
            self.lines = 1 + max(text.count("\n") for text in texts)
        return drawn(frames, texts, self.lines, tile=tile)


class EnvCaptions(Captions):
    """Those of the envs of one environment; `waits` is whether one that is not stepped with the others stays.

    Attributes:
        progress: how far each has come.
    """

    def __init__(self, caption: Caption, env: EnvBase, batch_size: Sequence[int], *, waits: bool) -> None:
        super().__init__(caption)
        self.progress = Progress(env, int(np.prod(batch_size)), waits=waits)
        self._shape = tuple(batch_size)
        below = env.base_env if isinstance(env, TransformedEnv) else env  # whose action a step has
        specs = {key: below.full_action_spec.get(key, None) for key in below.action_keys}
        self._actions = {
            key: isinstance(spec, OneHot) and not isinstance(spec, MultiOneHot) for key, spec in specs.items()
        }

    @property
    def keys(self) -> list[NestedKey]:
        """The keys that a step must have for them, if no function makes them."""
        keys = self.caption.keys or []
        return [each for key in keys for each in (self._actions if key == "action" else [key])]

    def draw_envs(
        self,
        frames: NDArray[np.uint8],
        envs: Sequence[tuple[int | None, int | None]],
        root: TensorDictBase,
        outcome: TensorDictBase | None,
        *,
        tile: bool,
    ) -> NDArray[np.uint8]:
        """Return the frames of these envs and agents, as many of each, with their captions.

        `outcome` is that of a step, and `root` has its action; or None, and `root` is what a reset returned.
        """
        data, now, progress = Data(root, outcome, self._shape, self._actions), datetime.now(timezone.utc), self.progress
        each = max(1, len(frames) // len(envs))

        def moment(number: int, frame: NDArray[np.uint8]) -> Moment:
            env_id, agent = envs[number // each]
            at = env_id or 0
            return Moment(
                frame=frame,
                env_id=env_id,
                agent=agent,
                episode=int(progress.episodes[at]),
                step=int(progress.steps[at]),
                reward=float(progress.rewards[at]),
                return_=float(progress.returns[at]),
                time=now,
                _data=data,
                _at=at,
            )

        return self.draw(frames, moment, tile=tile)


def _named(names: Sequence[Any]) -> tuple[tuple[str, Field | None], ...]:
    """Return the parts of a list of names: each with its value behind it."""
    parts: list[tuple[str, Field | None]] = []
    for given in names:
        path = (given,) if isinstance(given, str) or not isinstance(given, Sequence) else tuple(given)
        if not path or not all(isinstance(part, str) and part for part in path):
            raise SettingError(
                f"caption names {shown(given)}; expected one of {', '.join(NAMES)}, or a key of the tensordict, a str "
                "or a tuple of them"
            )
        key = _key(unravel_key(path))
        label = key if isinstance(key, str) else ".".join(key)
        before = BETWEEN if parts else ""
        parts.append((f"{before}{label} ", Field(key)))
    return tuple(parts)


def _parsed(given: str) -> tuple[tuple[str, Field | None], ...]:
    """Return the parts of a format string."""
    parts: list[tuple[str, Field | None]] = []
    try:
        for text, name, spec, conversion in string.Formatter().parse(given):
            if name is None:
                parts.append((text, None))
                continue
            first, *inner = name.replace("]", "").split("[")
            if not first or first.isdigit() or "." in name or "" in inner:
                raise ValueError(f"{{{name}}} is no name; expected such as {{step}}, or {{agents[reward]}} for a key")
            if conversion or (spec and "{" in spec):
                raise ValueError(f"{{{name}}} may have a format behind a colon, and nothing else")
            key = _key((first, *inner) if inner else first)
            if isinstance(key, str) and spec and key in EXAMPLES:
                format(EXAMPLES[key], spec)
            parts.append((text, Field(key, spec or "")))
    except ValueError as error:
        raise SettingError(f"caption={shown(given)} is a broken format string: {error}") from error
    return tuple(parts)


def _key(key: NestedKey) -> NestedKey:
    """Return the key by which an entry is looked up; in "next" is where it is looked for first anyway."""
    if isinstance(key, tuple) and key[0] == "next" and len(key) > 1:
        key = key[1:] if len(key) > 2 else key[1]
    return ALIASES.get(key, key) if isinstance(key, str) else key


def _get(tensordict: TensorDictBase, key: NestedKey, index: tuple[int, ...]) -> Any:
    """Return the entry of one env or row; None if there is none, or if others are inside of it."""
    try:
        value = tensordict.get(key, None)
    except (RuntimeError, ValueError, KeyError):  # of several sizes, or of a key inside of a tensor
        try:
            value, index = tensordict[index].get(key, None), ()
        except (RuntimeError, ValueError, KeyError):
            return None
    if isinstance(value, Tensor):
        return value[index]
    if value is None or isinstance(value, TensorDictBase):
        return None
    value = tensordict[index].get(key) if index else value
    return getattr(value, "data", value)


def _shown(value: Any, spec: str = "") -> str:
    """Return a value in a few letters: a number, the first of a vector, a text."""
    if isinstance(value, datetime):
        return format(value, spec or TIME)
    if isinstance(value, Tensor):
        count = value.numel()
        first = value.detach().flatten()[:MOST].tolist()
    elif isinstance(value, np.ndarray):
        count, first = value.size, value.ravel()[:MOST].tolist()
    elif isinstance(value, list | tuple):
        count, first = len(value), list(value[:MOST])
    else:
        return _number(value, spec)
    if count == 1:
        return _shown(first[0], spec)
    texts = [_shown(each, spec) for each in first]
    return f"[{' '.join(texts)}{' …' if count > MOST else ''}]"


def _number(value: Any, spec: str) -> str:
    if spec:
        return format(value, spec)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _decimal(value: float, sign: str) -> str:
    """Return a reward or return with two digits, or a small one with as many as it needs."""
    value += 0.0  # no -0.0
    small = 0 < abs(value) < 0.01
    return format(value, f"{sign}.2g" if small else f"{sign}.2f")

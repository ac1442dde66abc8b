"""Which of many videos, and in which order: the columns of `vidrec list`, conditions on them, and sorting by them."""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vidrec.errors import SettingError, shown
from vidrec.files.index import time_of
from vidrec.tools.listing import ListedVideo

Row = Mapping[str, Any]
"""What is known of a video, by column; None is not known."""

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
"""How a length of time is written: ``30d`` is 30 days."""

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EQUALITY = ("=", "==", "!=")
_CONDITION = re.compile(r"\s*(\w+)\s*([=!]=|[<>]=?|=)\s*(.*?)\s*", re.S)


def number(text: str) -> float:
    """Return a number that somebody wrote; an int is exact."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise SettingError(f"{shown(text)} is no number") from None


def duration_s(text: str) -> float:
    """Return how many seconds a length of time has, such as ``30d`` or ``1.5h``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip(), re.ASCII)
    if match is None:
        units = "s, m, h, d or w for seconds, minutes, hours, days or weeks"
        raise SettingError(f"{shown(text)} is no length of time; expected a number and {units}, such as 30d")
    return float(match[1]) * UNITS_S[match[2]]


def duration_text(seconds: float) -> str:
    """Return a length of time in the largest unit of which it has two, or else in seconds: ``47h``."""
    unit = max((unit for unit, size in UNITS_S.items() if seconds >= 2 * size), key=UNITS_S.__getitem__, default="s")
    return f"{max(0, int(seconds // UNITS_S[unit]))}{unit}"


def moment(text: str) -> datetime:
    """Return a time that somebody wrote, in UTC unless it says otherwise: ``2026-11-29`` or ``2026-11-29T10:00``."""
    try:
        return time_of(text)
    except ValueError:
        raise SettingError(f"{shown(text)} is no time; expected one such as 2026-11-29 or 2026-11-29T10:00") from None


COLUMNS: Mapping[str, Callable[[str], Any]] = {
    "run": str,
    "tag": str,
    "step": number,
    "env": number,
    "agent": number,
    "episode": number,
    "return": number,
    "length": number,
    "ended": str,
    "frames": number,
    "fps": number,
    "seconds": number,
    "height": number,
    "width": number,
    "codec": str,
    "env_step": number,
    "bytes": number,
    "time": moment,
    "age": duration_s,
    "file": str,
}
"""The columns, and how a value of each is read that somebody wrote."""

ALIASES = {"env_id": "env", "return_": "return"}
"""What ``videos.csv`` and Python call a column."""


def row_of(video: ListedVideo, run: str, file: str) -> dict[str, Any]:
    """Return what is known of a video, by column; `run` and `file` as they are to be shown."""
    known = {**vars(video), "run": run, "file": file, "age": video.age_s, "env": video.env_id, "return": video.return_}
    return {name: known[name] for name in COLUMNS}


def json_row(row: Row) -> dict[str, Any]:
    """Return a row as JSON has it: with its time, which stays the same, instead of its age."""
    return {name: _json_value(value) for name, value in row.items() if name != "age"}


def _json_value(value: Any) -> Any:
    """Return a value that JSON has: text for a time, and for a number that is NaN or infinite."""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Condition:
    """What a row must be, such as ``return>=200``.

    What is not known is equal to nothing but the empty value, and neither smaller nor larger than anything.
    """

    column: str
    operator: str
    value: Any

    @classmethod
    def of(cls, text: str) -> "Condition":
        """Return what somebody wrote.

        Raises:
            SettingError: it is no condition, or of no column, or its value is none of the column.
        """
        match = _CONDITION.fullmatch(text)
        if match is None:
            expected = f"a column, one of {' '.join(_OPERATORS)}, and a value, in quotes, such as 'return>=200'"
            raise SettingError(f"{shown(text)} is no condition; expected {expected}")
        name, sign, value = match.groups()
        name = column(name)
        if not value and sign in _EQUALITY:
            return cls(name, sign, None)
        try:
            return cls(name, sign, COLUMNS[name](value))
        except SettingError as error:
            raise SettingError(f"{shown(text)}: {error}") from None

    def __call__(self, row: Row) -> bool:
        """Return whether it holds."""
        value = row[self.column]
        if value is None or self.value is None:
            return self.operator in _EQUALITY and _OPERATORS[self.operator](value, self.value)
        return _OPERATORS[self.operator](rank(value), rank(self.value))


def column(name: str) -> str:
    """Return the name of a column, by that or an alias of it.

    Raises:
        SettingError: there is none of that name.
    """
    name = ALIASES.get(name, name)
    if name not in COLUMNS:
        raise SettingError(f"there is no column {shown(name)}; expected one of {', '.join(COLUMNS)}")
    return name


def rank(value: Any) -> tuple[bool, Any]:
    """Return what a value is compared by; NaN is equal to itself and smaller than every number."""
    return (False, 0) if isinstance(value, float) and math.isnan(value) else (True, value)


def sort(rows: Iterable[Row], by: Sequence[str]) -> list[Row]:
    """Return rows in the order of these columns, of which the first counts most; one after a "-" descends.

    Rows that are equal stay in order, and those in which a value is not known come last.

    Raises:
        SettingError: there is no column of that name.
    """
    found = list(rows)
    for text in reversed(by):
        name = column(text.removeprefix("-"))
        known = [row for row in found if row[name] is not None]
        known.sort(key=lambda row: rank(row[name]), reverse=text.startswith("-"))
        found = known + [row for row in found if row[name] is None]
    return found

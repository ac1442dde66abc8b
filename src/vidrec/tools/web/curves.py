"""The scalars of runs as curves: those of `vidrec.CSVLogger`, and those in event files of TensorBoard."""

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from vidrec.errors import ExtraError
from vidrec.tools import events

MAX_POINTS = 1000
"""How many points of a curve are kept; more cannot be told from each other on a screen."""

FOLDER = "scalars"
"""Where `vidrec.CSVLogger` keeps scalars in the folder of a run: a file for each, without a header."""

Points = list[tuple[int, float]]
Reader = Callable[[Path], Mapping[str, Points]]


@dataclass
class Curve:
    """A scalar of a run over its steps.

    Attributes:
        steps: in ascending order, at most `MAX_POINTS`.
        values: one for each step; None for one that is NaN or infinite.
    """

    name: str
    run: Path
    steps: list[int] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)


def read(files: Iterable[Path], folder: Path) -> list[Curve]:
    """Return the curves in these files below `folder`; a file that cannot be read has none."""
    found: dict[tuple[str, Path], Points] = defaultdict(list)
    for path in files:
        with suppress(OSError, ValueError, ExtraError):
            for name, run, points in _curves_of(path, folder):
                found[name, run] += points
    return [_curve(name, run, points) for (name, run), points in sorted(found.items()) if points]


def _curves_of(path: Path, folder: Path) -> Iterator[tuple[str, Path, Points]]:
    if events.is_event_file(path):
        for name, points in _cached(events.scalars, path).items():
            yield name, path.parent, points
    elif path.suffix == ".csv" and FOLDER in (below := path.relative_to(folder).parts[:-1]):
        run = folder.joinpath(*below[: below.index(FOLDER)])
        name = path.relative_to(run / FOLDER).with_suffix("").as_posix()
        yield name, run, _cached(_of_csv, path)[""]


def _curve(name: str, run: Path, points: Points) -> Curve:
    points = _thinned(sorted(points, key=lambda point: point[0]))
    known = [value if math.isfinite(value) else None for _, value in points]
    return Curve(name, run, [step for step, _ in points], known)


def _thinned(points: Points) -> Points:
    """Return at most `MAX_POINTS` of them, as far from each other as may be, the last one included."""
    if len(points) <= MAX_POINTS:
        return points
    last = len(points) - 1
    return [points[round(at * last / (MAX_POINTS - 1))] for at in range(MAX_POINTS)]


def _of_csv(path: Path) -> Mapping[str, Points]:
    points: Points = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            step, _, value = line.partition(",")
            with suppress(ValueError, OverflowError):  # somebody else's, or a line that is being written
                points.append((int(float(step)), float(value)))
    return {"": points}


@lru_cache(maxsize=256)
def _read(reader: Reader, path: Path, size: int, time_ns: int) -> Mapping[str, Points]:
    return {name: _thinned(points) for name, points in reader(path).items()}


def _cached(reader: Reader, path: Path) -> Mapping[str, Points]:
    """Return what `reader` finds in a file; one that did not change is not read again."""
    status = os.stat(path)
    return _read(reader, path, status.st_size, status.st_mtime_ns)

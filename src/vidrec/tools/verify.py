"""Are the videos of a folder what they should be? What `vidrec verify` and `vidrec info` look at."""

import re
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from vidrec.errors import shown
from vidrec.ffmpeg import metadata
from vidrec.ffmpeg.encoding import FORMATS
from vidrec.ffmpeg.files import contents
from vidrec.files.torch_file import measure
from vidrec.tools import scan

DAMAGED, ROW, DELETED, UNFINISHED = "damaged", "row", "deleted", "unfinished"
"""The kinds of problems: a video or an index that cannot be read as it should be; a row that is missing, double, or
says something else than the file; a row of a video that somebody deleted; what a crash left."""

NO_ROW = "has no row in videos.csv"
NO_FILE = "was deleted; `vidrec repair --sync` drops its row"

Watch = Callable[[list[Path]], Iterable[Path]]
"""Yields what it is given, and may show how far that has come."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file, and of which kind it is."""

    file: Path
    kind: str
    problem: str


def verify(folder: Path, watch: Watch = iter) -> Iterator[Problem]:
    """Yield what is wrong in a folder and those below it: with each video, its row in ``videos.csv``, or what is left.

    Each video is decoded. A row of a video that somebody deleted is a problem of a kind of its own. A clip that is
    being recorded is no problem.

    Args:
        folder: where to look.
        watch: is given all videos, and yields them.
    """
    indices = list(scan.indices(folder))
    rows = scan.rows(folder, indices)
    for index in indices:
        try:
            index.rows()
        except (OSError, ValueError) as error:
            yield Problem(index.path, DAMAGED, f"cannot be read: {error}")
    paths = scan.videos(folder)
    for path in watch(paths):
        own = rows.get(path, [])
        if len(own) > 1:
            yield Problem(path, ROW, f"has {len(own)} rows in videos.csv")
        found = list(problems(path, own[0] if own else None))
        if path.exists():  # or else it was deleted meanwhile
            yield from found
    alone = {path for path in {*paths, *rows} if any(path.is_relative_to(index.folder) for index in indices)}
    for pause_s in (0.0, 0.1, 1.0):  # a training may be about to add or delete the other
        if alone:
            time.sleep(pause_s)
            rows = scan.rows(folder, indices)
            alone = {path for path in alone if path.exists() != (path in rows)}
    for path in sorted(alone):
        yield Problem(path, ROW, NO_ROW) if path.exists() else Problem(path, DELETED, NO_FILE)
    for clip in scan.left_clips(folder):
        if not clip.in_use and not clip.gone:
            yield Problem(clip.first, UNFINISHED, "is an unfinished clip; `vidrec repair` makes a video of it")
    for path in scan.left_copies(folder):
        yield Problem(path, UNFINISHED, "is a copy that was cut off; `vidrec repair` deletes it")


def problems(path: Path, row: dict[str, str] | None) -> Iterator[Problem]:
    """Yield what is wrong with a video; `row` is that of the index."""
    try:
        about = info(path, row, decode=True)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        yield Problem(path, DAMAGED, f"cannot be read: {error}")
        return
    if about["problem"]:
        yield Problem(path, DAMAGED, f"is damaged: {about['problem']}")
    times = about["times"]
    for frame, (one, two) in enumerate(pairwise(times), 1):
        if two <= one:
            order = f"frame {frame} is shown at {float(two):g} s, and the one before it at {float(one):g} s"
            yield Problem(path, DAMAGED, order)
            break
    for column in ("frames", "height", "width"):
        if row is not None and row.get(column) != str(about[column]):
            yield Problem(path, ROW, f"has {column} {about[column]}, and {shown(row.get(column))} in videos.csv")


def info(path: Path, row: dict[str, str] | None = None, *, decode: bool = False) -> dict[str, Any]:
    """Return what is known of a video: frames, fps, height, width, codec, seconds, bytes, and the rest of its row.

    What the row does not say is what the file says of itself, see `vidrec.ffmpeg.metadata`.

    Raises:
        OSError, ValueError, BadZipFile: it cannot be read.
    """
    if path.suffix not in scan.SUFFIXES:
        raise ValueError(f"{path.name} is no video; expected one of {', '.join(sorted(scan.SUFFIXES))}")
    more = {name: value for name, value in (row or {}).items() if value and name != "file"}
    more |= {name: value for name, value in metadata.row(path).items() if name not in more}
    about: dict[str, Any] = {"bytes": path.stat().st_size}
    if FORMATS[path.suffix[1:]].encoded:
        found = contents(path, decode=decode)
        if not found.frames:
            raise ValueError("it holds no frames")
        about |= {"frames": found.frames, "height": found.height, "width": found.width, "fps": round(found.fps, 3)}
        about |= {"codec": found.codec, "seconds": round(float(found.seconds), 3)}
        about |= {"problem": found.stderr, "times": found.times}
    else:
        about |= _tensor(path, row)
    return more | about


def _tensor(path: Path, row: dict[str, str] | None) -> dict[str, Any]:
    """Return what is known of a tensor on disk, whose shape only its row tells."""
    size, problem = path.stat().st_size, ""
    if path.suffix == ".pt":
        size, broken = measure(path)
        problem = f"the checksum of {broken} is wrong" if broken else ""
    about: dict[str, Any] = {"codec": "none", "problem": problem, "times": []}
    if row is None:
        return about
    try:
        shape = row.get("shape") or f"1x0x3x{row['height']}x{row['width']}"  # what recorders write
        _, _, channels, height, width = map(int, shape.split("x"))
        frames, rest = divmod(size, channels * height * width * _item_bytes(row.get("dtype") or "uint8"))
    except (KeyError, ValueError, ZeroDivisionError):
        raise ValueError("videos.csv does not say how large its frames are") from None
    if rest:
        about["problem"] = problem or f"{rest} bytes are no whole frame"
    return about | {"frames": frames, "height": height, "width": width}


def _item_bytes(dtype: str) -> int:
    """Return how many bytes a number of a dtype has, by the bits in its name."""
    bits = re.search(r"\d+", dtype)
    return int(bits[0]) // 8 if bits else 1

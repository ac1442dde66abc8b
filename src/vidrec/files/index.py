"""The index of a folder of videos, ``videos.csv``: a row for each."""

import contextlib
import csv
import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from vidrec.files import forks
from vidrec.files.names import MARK, is_at, lock

COLUMNS = ("tag", "step", "file", "frames", "fps", "height", "width", "codec", "seconds")
"""The columns. height and width are those of the file, in pixels; file is relative to the folder of the index."""

EPISODE_COLUMNS = ("env_id", "agent", "episode", "return", "length", "ended")
"""And more: what `vidrec.Video.env_id`, ``agent`` and `vidrec.Episode` say, empty where that does not apply."""

TENSOR_COLUMNS = ("dtype", "shape")
"""And those of a tensor on disk, "pt" or "memmap", such as ``uint8`` and ``1x128x3x48x64``; else empty."""

START_COLUMNS = ("env_step", "time")
"""And those of the first frame: how many steps the environment had made, and when it was recorded, as `time_text`."""

NAME = "videos.csv"

BYTE_ORDER_MARK = "\ufeff"
"""What a spreadsheet writes before the header."""


class VideoIndex:
    """The index of one folder, shared by all processes that write there: no row is lost or torn.

    Args:
        folder: where ``videos.csv`` is, or will be with the first row.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME

    def rows(self) -> list[dict[str, str]]:
        """Return the rows, by column; none if there is no index.

        Raises:
            ValueError: it is no index, or damaged.
        """
        try:
            with forks.lock, self.path.open(newline="", encoding="utf-8", errors="replace") as index:
                with contextlib.suppress(OSError):
                    fcntl.flock(index, fcntl.LOCK_SH)
                header, *rows = _lines(index)
        except FileNotFoundError:
            return []
        except csv.Error as error:
            raise ValueError(f"{self.path} cannot be read: {error}") from error
        if rows and "file" not in header:
            raise ValueError(f"{self.path} cannot be read: it has no column file")
        return _by_column(header, rows)

    def next_step(self, tag: str, counts: Callable[[str], bool] = lambda file: True) -> int:
        """Return the step after the highest of a tag, 0 if it has none.

        Args:
            tag: as the rows name it.
            counts: says of the file of a row whether the row counts.

        Raises:
            ValueError: it is no index, or damaged.
        """
        rows = [row for row in self.rows() if row.get("tag") == tag and row.get("step", "").isdecimal()]
        return max((int(row["step"]) for row in rows if counts(row["file"])), default=-1) + 1

    def add(self, **row: Any) -> None:
        """Append a row; its keywords are columns, and those that are left out are empty."""
        columns = (*COLUMNS, *EPISODE_COLUMNS, *TENSOR_COLUMNS, *START_COLUMNS)
        with self._locked() as index:
            lines = _lines(index)
            header = next(lines)
            missing = [column for column in columns if column not in header]
            if header and missing:  # the index of another version, or of somebody else
                header = [*header, *missing]
                self._replace([header, *lines, [row.get(column) for column in header]])
                return
            writer = csv.writer(index, lineterminator="\n")
            size = os.fstat(index.fileno()).st_size
            if size and os.pread(index.fileno(), 1, size - 1) != b"\n":  # a row that was cut off, on a full disk
                index.write("\n")
            values = [row.get(column) for column in header or columns]
            writer.writerows([values] if header else [columns, values])

    def remove(self, file: str, unless: Callable[[], bool] = lambda: False) -> bool:
        """Delete the row of a file; return whether there was one.

        Args:
            file: as the row names it.
            unless: is asked while nobody else writes, and keeps the row if it returns True.
        """
        with self._locked() as index:
            header, *rows = _lines(index)
            if "file" not in header or unless():
                return False
            at = header.index("file")
            kept = [row for row in rows if row[at : at + 1] != [file]]
            if len(kept) < len(rows):
                self._replace([header, *kept])
            return len(kept) < len(rows)

    def delete(self, rows: Iterable[Mapping[str, str]]) -> dict[str, OSError | None]:
        """Delete the files of these rows and the rows, while nobody else writes.

        A row that has changed or is gone meanwhile is left alone, and so is its file.

        Args:
            rows: as `rows` returned them.

        Returns:
            The file of each row that was found, and None, or why it could not be deleted; it has its row then.
        """
        wanted = {row["file"]: row for row in rows}
        done: dict[str, OSError | None] = {}
        with self._locked() as index:
            header, *lines = _lines(index)
            named = _by_column(header, lines)
            for row in named:
                file = row.get("file", "")
                if file not in done and wanted.get(file) == row:
                    done[file] = _unlink(self.folder / file)
            deleted = {file for file, error in done.items() if error is None}
            if deleted:
                both = zip(lines, named, strict=True)
                self._replace([header, *(line for line, row in both if row["file"] not in deleted)])
        return done

    def _replace(self, rows: Iterable[Sequence[Any]]) -> None:
        """Replace the index by another one, whole or not at all."""
        new = self.path.with_name(f"{NAME}{MARK}{secrets.token_hex(4)}")
        with new.open("w", newline="", encoding="utf-8", errors="surrogateescape") as copy:
            lock(copy.fileno())
            csv.writer(copy, lineterminator="\n").writerows(rows)
            copy.flush()
            new.replace(self.path)

    @contextmanager
    def _locked(self) -> Iterator[TextIO]:
        """Open it to read and append, and let nobody else until it is closed."""
        while True:
            # a child that is forked meanwhile would have it locked until it ends
            with (
                forks.lock,
                self.path.open("a+", newline="", encoding="utf-8", errors="surrogateescape") as index,
            ):
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(index, fcntl.LOCK_EX)
                if is_at(self.path, index.fileno()):
                    yield index
                    return
                # it was replaced while this one waited


class RowFile(VideoIndex):
    """The row of one video in a JSON file beside it, as an object store has it: an index of one row.

    Args:
        path: ``<video>.json``; its ``file`` says which folder is that of the run, if all of it was copied.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._video = path, path.with_suffix("")
        self.folder = path.parent
        with contextlib.suppress(ValueError):
            file = str(self._read().get("file", ""))
            if file and f"{self._video}".endswith(f"{os.sep}{file}"):
                self.folder = Path(f"{self._video}".removesuffix(file))

    def rows(self) -> list[dict[str, str]]:
        """Return the row; none if there is none, or it is not of vidrec.

        Raises:
            ValueError: it is damaged.
        """
        about = self._read()
        if "file" not in about:
            return []
        return [{**_as_text(about), "file": str(self._video.relative_to(self.folder))}]

    def _read(self) -> dict[str, Any]:
        try:
            return _about(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ValueError(f"{self.path} cannot be read: {error}") from error

    def remove(self, file: str, unless: Callable[[], bool] = lambda: False) -> bool:
        """Delete it, see `VideoIndex.remove`."""
        if not self.rows() or unless():
            return False
        self.path.unlink(missing_ok=True)
        return True

    def delete(self, rows: Iterable[Mapping[str, str]]) -> dict[str, OSError | None]:
        """Delete the video and its row, see `VideoIndex.delete`."""
        done = {row["file"]: _unlink(self._video) for row in self.rows() if row in list(rows)}
        if None in done.values():
            self.path.unlink(missing_ok=True)
        return done


def row_of_json(data: bytes) -> dict[str, str]:
    """Return the row that such a file holds, as ``videos.csv`` has it; nothing if it is not of vidrec.

    Raises:
        ValueError: it is damaged.
    """
    about = _about(data)
    return _as_text(about) if "file" in about else {}


def _about(data: bytes) -> dict[str, Any]:
    about = json.loads(data)
    return about if isinstance(about, dict) else {}


def _as_text(about: Mapping[str, Any]) -> dict[str, str]:
    return {column: "" if value is None else str(value) for column, value in about.items()}


def shape_text(shape: Iterable[object]) -> str:
    """Return what a row says of the shape of a tensor."""
    return "x".join(map(str, shape))


def time_text(time: datetime) -> str:
    """Return what a row says of a time: ISO 8601 in UTC, such as ``2026-11-29T10:00:00+00:00``."""
    return time.astimezone(timezone.utc).isoformat(timespec="seconds")


def time_of(text: str) -> datetime:
    """Return the time that `time_text` or somebody else wrote, in UTC unless it says otherwise.

    Raises:
        ValueError: it is no time.
    """
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _by_column(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[dict[str, str]]:
    """Return rows by the columns that have a name; what a row lacks is empty."""
    named = [column for column in enumerate(header) if column[1]]
    return [{column: row[at] if at < len(row) else "" for at, column in named} for row in rows]


def _unlink(path: Path) -> OSError | None:
    """Delete a file, which may be gone, and return why that could not be."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return error
    return None


def _lines(index: TextIO) -> Iterator[list[str]]:
    """Yield the header of an index, which is empty if it has none, and its rows."""
    index.seek(0)
    lines = (line for line in csv.reader(index) if line)
    yield [column.removeprefix(BYTE_ORDER_MARK) for column in next(lines, [])]
    yield from lines

"""How the commands print: tables, columns, JSON and progress."""

import io
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any, TypeVar

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from vidrec.tools import query
from vidrec.tools.query import Row

PIPE_COLUMNS = 10**6
"""How wide a table may be where nobody looks."""

BAR_AFTER_S = 2
"""How long a command shows no progress bar."""

TEXT = ("outcome", "run", "tag", "ended", "file")
"""Those that begin at the left."""

T = TypeVar("T")


def from_here(path: Path) -> str:
    """Return the path from the working directory, if it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def progress(items: Iterable[T], total: int | None = None) -> Iterator[T]:
    """Show how far a loop over `items` has come, on a terminal, if it takes longer than `BAR_AFTER_S`.

    `total` is how many there are, of what is no sequence.
    """
    console = Console(stderr=True)
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    task, begun = bar.add_task("", total=len(items) if isinstance(items, Sized) else total), time.monotonic()
    try:
        for item in items:
            yield item
            bar.advance(task)
            if time.monotonic() - begun > BAR_AFTER_S:
                bar.start()
    finally:
        if bar.live.is_started:
            bar.stop()


def printable(value: object) -> str:
    """Return a value as text that does nothing to a terminal."""
    text = "" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def show(found: Sequence[dict[str, Any]], as_json: bool, empty: str = "") -> None:
    """Print rows as a table, or as JSON; `empty` where a table has none."""
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    elif not found:
        typer.echo(empty)
    else:
        columns = list(dict.fromkeys(name for row in found for name in row))
        table = Table()
        for name in columns:
            table.add_column(name, overflow="fold")
        for row in found:
            table.add_row(*(escape(printable(row.get(name))) for name in columns))
        _print_any_name()
        # a pipe has no width
        Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table)


def _print_any_name() -> None:
    """Have what the encoding of stdout lacks printed in another way."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def show_columns(rows: Sequence[Row], names: Sequence[str]) -> None:
    """Print the columns of these names that hold something, a line for each row: fast for thousands of them."""
    one_run = len({row["run"] for row in rows}) == 1
    columns = []
    for name in names:
        if all(row[name] is None for row in rows) or (name == "run" and one_run):
            continue
        cells = [name, *(_cell(name, row[name]) for row in rows)]
        widths = [cell_len(cell) for cell in cells]
        widest = max(widths)
        spaces = [" " * (widest - width) for width in widths]
        both = (cells, spaces) if name in TEXT else (spaces, cells)
        columns.append([left + right for left, right in zip(*both, strict=True)])
    if columns:
        _print_any_name()
        typer.echo("\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True)))


def _cell(column: str, value: Any) -> str:
    """Return a value as a column shows it."""
    if value is None:
        return "-"
    if column == "age":
        return query.duration_text(value)
    if column == "bytes":
        return bytes_text(value)
    if column == "seconds":
        return f"{value:.2f}"
    return f"{value:g}" if isinstance(value, float) else printable(value)


def bytes_text(size: int) -> str:
    """Return a size in bytes as a person reads it, such as ``1.5MB``."""
    return f"{size / 1e6:.1f}MB" if size >= 1e6 else f"{size / 1e3:.1f}kB"

"""The command `vidrec`: list, look at and prune videos, and repair what a crash left behind."""

import io
import json
import math
import os
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from vidrec import __version__
from vidrec.errors import SettingError
from vidrec.tools import listing as listings
from vidrec.tools import prune as prunes
from vidrec.tools import query, scan
from vidrec.tools import repair as repairs
from vidrec.tools import verify as checks
from vidrec.tools.listing import Listing
from vidrec.tools.query import Condition, Row

PIPE_COLUMNS = 10**6

BAR_AFTER_S = 2
"""How long a command shows no progress bar."""

_ABOUT = ("run", "tag", "step", "env", "agent", "episode", "return", "length", "ended")
LISTED = (*_ABOUT, "frames", "seconds", "bytes", "age", "file")
PRUNED = ("outcome", *_ABOUT, "bytes", "age", "file")
"""What `vidrec list` and `vidrec prune` show, of the columns that hold something; JSON has them all."""

TEXT = ("outcome", "run", "tag", "ended", "file")
"""Those that begin at the left."""

ONLY_DELETED = 3
"""How `vidrec verify` ends where nothing is wrong but rows of videos that were deleted."""

T = TypeVar("T")

Folder = Annotated[Path, typer.Argument(help="A folder, with all below it.", exists=True, file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what would be done.")]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="CONDITION", help="Only videos for which this holds, such as 'return>=200' or 'env=2'."),
]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version)] = False,
) -> None:
    """List recorded videos, look at them, delete them, and repair what a crash left behind."""


@app.command("list")
def list_videos(
    path: Folder,
    sort: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Sort by a column, such as return; -return descends.")
    ] = None,
    where: Where = None,
    n: Annotated[int | None, typer.Option("-n", metavar="N", help="At most this many.", min=0)] = None,
    as_json: AsJson = False,
) -> None:
    """List the videos of a folder with what is known of each, without opening one."""
    with _bad_options():
        conditions = [Condition.of(text) for text in where or ()]
        listing, rows = _listing(path)
        wanted = query.sort((row for row, _ in rows if all(holds(row) for holds in conditions)), sort or ())[:n]
    if as_json:
        _print([_as_json(row) for row in wanted], as_json)
    else:
        _print_columns(wanted, LISTED)
        of = "" if len(wanted) == len(rows) else f" of {len(rows)}"
        typer.echo(f"{len(wanted)}{of} {'video' if len(rows) == 1 else 'videos'}")
    raise typer.Exit(_tell(listing))


@app.command()
def prune(
    path: Folder,
    keep_best: Annotated[
        int | None, typer.Option(metavar="N", help="Delete all but the N with the highest return.", min=1)
    ] = None,
    per: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Keep N for each value of a column, such as tag, env or run."),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Delete what is older, such as 12h or 30d.")
    ] = None,
    where: Where = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Delete videos together with their rows in videos.csv; of several options each must let a video go."""
    with _bad_options():
        if keep_best is None and older_than is None and where is None:
            raise SettingError("nothing says what to delete; expected --keep-best, --older-than or --where")
        if per and keep_best is None:
            raise SettingError("--per says for what --keep-best counts, and there is no --keep-best")
        conditions = [Condition.of(text) for text in where or ()]
        columns = [query.column(name) for name in per or ()]
        older_than_s = None if older_than is None else query.duration_s(older_than)
    listing, rows = _listing(path)
    unwanted = prunes.unwanted(rows, where=conditions, keep_best=keep_best, per=columns, older_than_s=older_than_s)
    done = list(prunes.prune(unwanted, dry_run=dry_run))
    shown = {video.path: row for row, video in rows}
    found = [{"outcome": one.outcome, **shown[one.video.path]} for one in done]
    if as_json:
        _print([_as_json(row) for row in found], as_json)
    else:
        _print_columns(found, PRUNED)
        gone = [one.video.bytes for one in done if one.outcome in (prunes.DELETED, prunes.TO_BE_DELETED)]
        typer.echo(
            f"{len(gone)} of {len(rows)} {'video' if len(rows) == 1 else 'videos'}"
            f" {'would be' if dry_run else 'were'} deleted, {_bytes(sum(gone))}"
        )
    raise typer.Exit(max(_tell(listing), int(any(one.failed for one in done))))


@app.command()
def info(
    paths: Annotated[list[Path], typer.Argument(help="Videos, or folders of them.", exists=True)],
    as_json: AsJson = False,
) -> None:
    """Show what is in each video: frames, size, rate, codec, and what videos.csv says of it."""
    found = []
    videos = [video for path in paths for video in _videos_of(path)]
    for file, row in _watch(videos):
        try:
            about = checks.info(file, row)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            about = {"error": str(error)}
        about = {"file": str(file)} | about
        found.append({name: value for name, value in about.items() if name not in ("times", "problem")})
    _print(found, as_json, empty="no videos")
    raise typer.Exit(int(any("error" in about for about in found)))


@app.command()
def verify(path: Folder, as_json: AsJson = False) -> None:
    """Decode every video of a folder, and compare with videos.csv.

    Exits with 1 if anything is wrong, and with 3 if nothing is but rows of videos that were deleted.
    """
    decoded = 0

    def watch(videos: Sequence[T]) -> Iterable[T]:
        nonlocal decoded
        decoded = len(videos)
        return _watch(videos)

    problems = list(checks.verify(path.resolve(), watch))
    found = [{"file": _from_here(one.file), "kind": one.kind, "problem": one.problem} for one in problems]
    _print(found, as_json, empty="nothing is wrong")
    if not as_json:
        typer.echo(f"{decoded} {'video was' if decoded == 1 else 'videos were'} decoded")
    raise typer.Exit(ONLY_DELETED if {one.kind for one in problems} == {checks.DELETED} else int(bool(problems)))


@app.command()
def repair(
    path: Folder,
    dry_run: DryRun = False,
    sync: Annotated[bool, typer.Option("--sync", help="Drop the rows of videos that were deleted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make ordinary videos of clips that a crash left unfinished; exit with 1 if one fails."""
    done = list(repairs.repair(path.resolve(), dry_run=dry_run, sync=sync, watch=_watch))
    found = [
        {
            "clip": _from_here(one.clip),
            "outcome": one.outcome,
            "video": one.video and _from_here(one.video),
            "frames": one.frames,
        }
        for one in done
    ]
    _print(found, as_json, empty="nothing is left unfinished")
    raise typer.Exit(int(any(one.failed for one in done)))


@contextmanager
def _bad_options() -> Iterator[None]:
    """Have options that cannot be said as wrong use of the command."""
    try:
        yield
    except SettingError as error:
        raise typer.BadParameter(str(error)) from None


def _listing(path: Path) -> tuple[Listing, prunes.Rows]:
    """Return what is in a folder, and what is known of each of its videos, by column."""
    found = listings.read(path)
    here = f"{os.getcwd()}{os.sep}"
    runs = {run: os.path.relpath(run, found.folder) for run in {video.run for video in found.videos}}
    return found, [
        (query.row_of(video, runs[video.run], str(video.path).removeprefix(here)), video) for video in found.videos
    ]


def _tell(listing: Listing) -> int:
    """Say on stderr what could not be listed; return the exit code for that."""
    for text in listing.unreadable:
        typer.echo(f"vidrec: {_printable(text)}", err=True)
    if count := len(listing.deleted):
        rows = "1 row is of a video that was" if count == 1 else f"{count} rows are of videos that were"
        typer.echo(f"vidrec: {rows} deleted; `vidrec repair --sync` drops {'it' if count == 1 else 'them'}", err=True)
    return int(bool(listing.unreadable))


def _videos_of(path: Path) -> list[tuple[Path, dict[str, str] | None]]:
    """Return a video, or those of a folder, each with its row; None if it has none."""
    if not path.is_dir():
        return [(path, scan.row_of(path))]
    folder = path.resolve()
    rows = scan.rows(folder, scan.indices(folder))
    return [(Path(_from_here(video)), rows[video][0] if video in rows else None) for video in scan.videos(folder)]


def _from_here(path: Path) -> str:
    """Return the path from the working directory, if it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _watch(items: Sequence[T]) -> Iterator[T]:
    """Show how far a loop over `items` has come, on a terminal, if it takes longer than `BAR_AFTER_S`."""
    console = Console(stderr=True)
    progress = Progress(console=console, transient=True, disable=not console.is_terminal)
    task, begun = progress.add_task("", total=len(items)), time.monotonic()
    try:
        for item in items:
            yield item
            progress.advance(task)
            if time.monotonic() - begun > BAR_AFTER_S:
                progress.start()
    finally:
        if progress.live.is_started:
            progress.stop()


def _printable(value: object) -> str:
    """Return a value as text that does nothing to a terminal."""
    text = "" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _print(found: Sequence[dict[str, Any]], as_json: bool, empty: str = "") -> None:
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
            table.add_row(*(escape(_printable(row.get(name))) for name in columns))
        _print_any_name()
        # a pipe has no width
        Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table)


def _print_any_name() -> None:
    """Have what the encoding of stdout lacks printed in another way."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _print_columns(rows: Sequence[Row], names: Sequence[str]) -> None:
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
        return _bytes(value)
    if column == "seconds":
        return f"{value:.2f}"
    return f"{value:g}" if isinstance(value, float) else _printable(value)


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f}MB" if size >= 1e6 else f"{size / 1e3:.1f}kB"


def _as_json(row: Row) -> dict[str, Any]:
    """Return a row as JSON has it: with its time, which stays the same, instead of its age."""
    return {name: _json_value(value) for name, value in row.items() if name != "age"}


def _json_value(value: Any) -> Any:
    """Return a value that JSON has: text for a time, and for a number that is NaN or infinite."""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value

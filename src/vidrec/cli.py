"""The command `vidrec`: look at videos and folders of them, and repair what a crash left behind."""

import io
import json
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from vidrec import __version__
from vidrec.tools import repair as repairs
from vidrec.tools import scan
from vidrec.tools import verify as checks

PIPE_COLUMNS = 10**6

BAR_AFTER_S = 2
"""How long a command shows no progress bar."""

T = TypeVar("T")

Folder = Annotated[Path, typer.Argument(help="A folder, with all below it.", exists=True, file_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version)] = False,
) -> None:
    """Look at recorded videos, and repair what a crash left behind."""


@app.command()
def info(
    files: Annotated[list[Path], typer.Argument(help="Videos.", exists=True, dir_okay=False)], as_json: AsJson = False
) -> None:
    """Show what is in each video: frames, size, rate, codec, and what videos.csv says of it."""
    found = []
    for path in files:
        try:
            about = checks.info(path, scan.row_of(path))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            about = {"error": str(error)}
        about = {"file": str(path)} | about
        found.append({name: value for name, value in about.items() if name not in ("times", "problem")})
    _print(found, as_json)
    raise typer.Exit(int(any("error" in about for about in found)))


@app.command()
def verify(path: Folder, as_json: AsJson = False) -> None:
    """Decode every video of a folder, and compare with videos.csv; exit with 1 if anything is wrong."""
    decoded = 0

    def watch(videos: Sequence[T]) -> Iterable[T]:
        nonlocal decoded
        decoded = len(videos)
        return _watch(videos)

    found = [{"file": _from_here(one.file), "problem": one.problem} for one in checks.verify(path.resolve(), watch)]
    _print(found, as_json, empty="nothing is wrong")
    if not as_json:
        typer.echo(f"{decoded} {'video was' if decoded == 1 else 'videos were'} decoded")
    raise typer.Exit(int(bool(found)))


@app.command()
def repair(
    path: Folder,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what would be done.")] = False,
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
        # a pipe has no width
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table)

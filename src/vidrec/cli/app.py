"""The command itself, and the options that its subcommands have in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from vidrec import __version__
from vidrec.cli.printing import printable
from vidrec.errors import SettingError, VidrecError
from vidrec.files.places import is_url

Folder = Annotated[Path, typer.Argument(help="A folder, with all below it.", exists=True, file_okay=False)]


def _folder_or_url(text: str) -> Path | str:
    """Return a folder that is there, as a Path, or a URL, as a str."""
    if is_url(text):
        return text
    if not Path(text).is_dir():
        raise typer.BadParameter(f"Directory {text!r} {'is a file' if Path(text).exists() else 'does not exist'}.")
    return Path(text)


FolderOrStore = Annotated[
    Any,
    typer.Argument(
        help="A folder, or the URL of an object store, with all below it.", parser=_folder_or_url, metavar="PATH"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what would be done.")]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="CONDITION", help="Only videos for which this holds, such as 'return>=200' or 'env=2'."),
]
Sort = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN", help="Sort by a column, such as return; -return descends.")
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


@contextmanager
def told() -> Iterator[None]:
    """Say what goes wrong: an option that cannot be as wrong use of the command, all else as its failure."""
    try:
        yield
    except SettingError as error:
        raise typer.BadParameter(str(error)) from None
    except (VidrecError, OSError, ValueError) as error:
        typer.echo(f"vidrec: {printable(error)}", err=True)
        raise typer.Exit(1) from None

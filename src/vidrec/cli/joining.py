"""The commands that make one file of several videos, or an image of one: compare, reel and sheet.

What they need to draw and to encode is imported when they run, so that the others need not wait for it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidrec.cli.app import AsJson, Sort, Where, app, told
from vidrec.cli.folders import chosen, read_rows, tell
from vidrec.cli.printing import printable, progress, show
from vidrec.errors import SettingError
from vidrec.tools import query, scan
from vidrec.tools.query import Condition

if TYPE_CHECKING:
    from vidrec.tools.joining import Shown

Paths = Annotated[list[Path], typer.Argument(help="Videos, or folders of them.", exists=True)]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The file to make; its suffix says how.")]
Labels = Annotated[str | None, typer.Option(metavar="A,B,...", help="What stands below each video.")]
By = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Take those of which a column is known, sort and label them by it.")
]
Tag = Annotated[str | None, typer.Option(metavar="TAG", help="Only videos of this tag, of a folder.")]
Env = Annotated[int | None, typer.Option(metavar="ENV", help="Only videos of this env, of a folder.")]
First = Annotated[int | None, typer.Option("-n", metavar="N", help="At most this many of a folder.", min=1)]
Fps = Annotated[str | None, typer.Option(metavar="FPS", help="Frames per second; else that of the first video.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file, if it exists.")]


@app.command()
def compare(
    paths: Paths,
    output: Output,
    labels: Labels = None,
    by: By = None,
    tag: Tag = None,
    env: Env = None,
    where: Where = None,
    sort: Sort = None,
    n: First = None,
    fps: Fps = None,
    force: Force = False,
) -> None:
    """Put videos beside each other into one, in sync by frame; those that end before show their last frame."""
    with _making(output, force):
        from vidrec.tools import joining

        videos = _shown(paths, labels, by, tag, env, where, sort, n)
        made = joining.compare(videos, output, fps=fps, overwrite=force, watch=progress)
    typer.echo(f"{printable(output)}: {made.frames} frames, {len(videos)} videos beside each other")


@app.command()
def reel(
    paths: Paths,
    output: Output,
    labels: Labels = None,
    by: By = None,
    tag: Tag = None,
    env: Env = None,
    where: Where = None,
    sort: Sort = None,
    n: First = None,
    fps: Fps = None,
    force: Force = False,
) -> None:
    """Put videos one after the other into one, each frame once, with a title below."""
    with _making(output, force):
        from vidrec.tools import joining

        videos = _shown(paths, labels, by, tag, env, where, sort, n)
        made = joining.reel(videos, output, fps=fps, overwrite=force, watch=progress)
    typer.echo(f"{printable(output)}: {made.frames} frames of {len(videos)} videos")


@app.command()
def sheet(
    path: Annotated[Path, typer.Argument(help="A video.", exists=True, dir_okay=False)],
    output: Output,
    n: Annotated[int, typer.Option("-n", metavar="N", help="How many frames.", min=1)] = 16,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make a contact sheet of a video: frames from the first to the last, with their numbers, in one image."""
    with _making(output, force):
        from vidrec.tools import joining, verify

        row = scan.row_of(path)
        made = joining.sheet(joining.Shown(path, row or {}), output, n, overwrite=force, watch=progress)
        about = {"file": str(path), **verify.info(path, row)}
    if as_json:
        show([{name: about[name] for name in about if name not in ("times", "problem")} | made], as_json)
    else:
        size = f"{made['rows']} x {made['columns']}"
        typer.echo(f"{printable(made['sheet'])}: {len(made['shown'])} of {about['frames']} frames, {size}")


@contextmanager
def _making(output: Path, force: bool) -> Iterator[None]:
    """Have the command end with what is wrong: its options, or a video."""
    with told():
        if output.exists() and not force:
            raise SettingError(f"{output} exists; --force replaces a file")
        yield


def _shown(
    paths: Sequence[Path],
    labels: str | None,
    by: str | None,
    tag: str | None,
    env: int | None,
    where: Sequence[str] | None,
    sort: Sequence[str] | None,
    n: int | None,
) -> "list[Shown]":
    """Return the videos that are named, and behind them those of the folders that are wanted, with their labels."""
    from vidrec.tools.joining import Shown, labelled, text_of

    equal = [Condition(name, "=", value) for name, value in {"tag": tag, "env": env}.items() if value is not None]
    conditions = [*equal, *map(Condition.of, where or ())]
    folders = [path for path in paths if path.is_dir()]
    if not folders and (by or conditions or sort or n):
        raise SettingError("--by, --tag, --env, --where, --sort and -n choose videos of a folder, and none is given")
    if labels is not None and by is not None:
        raise SettingError("--labels and --by both say what stands below a video; expected one of them")
    column = None if by is None else query.column(by)
    first = [] if column is None else [column]
    conditions = [*(Condition(name, "!=", None) for name in first), *conditions]
    listed = []
    for folder in folders:
        listing, rows = read_rows(folder)
        tell(listing)
        listed += [(row, video) for row, video in rows if video.event is None]
    videos = [Shown(path, scan.row_of(path) or {}) for path in paths if not path.is_dir()]
    for row, video in chosen(listed, conditions, [*first, *(sort or ())], n):
        videos.append(Shown(video.path, video.row or {}, None if column is None else text_of(column, row[column])))
    return labelled(videos, None if labels is None else labels.split(","))

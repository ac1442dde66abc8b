"""The commands for a folder of videos: list, prune, info, verify and repair."""

import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from vidrec.cli.app import AsJson, DryRun, Folder, FolderOrStore, Sort, Where, app, told
from vidrec.cli.printing import bytes_text, from_here, printable, progress, show, show_columns
from vidrec.errors import SettingError
from vidrec.tools import listing as listings
from vidrec.tools import prune as prunes
from vidrec.tools import query, scan
from vidrec.tools import repair as repairs
from vidrec.tools import verify as checks
from vidrec.tools.listing import Listing
from vidrec.tools.query import Condition

_ABOUT = ("run", "tag", "step", "env", "agent", "episode", "return", "length", "ended")
LISTED = (*_ABOUT, "frames", "seconds", "bytes", "age", "file")
PRUNED = ("outcome", *_ABOUT, "bytes", "age", "file")
"""What `vidrec list` and `vidrec prune` show, of the columns that hold something; JSON has them all."""

ONLY_DELETED = 3
"""How `vidrec verify` ends where nothing is wrong but rows of videos that were deleted."""

T = TypeVar("T")


@app.command("list")
def list_videos(
    path: FolderOrStore,
    sort: Sort = None,
    where: Where = None,
    n: Annotated[int | None, typer.Option("-n", metavar="N", help="At most this many.", min=0)] = None,
    as_json: AsJson = False,
) -> None:
    """List the videos of a folder or object store with what is known of each, without decoding one."""
    with told():
        conditions = [Condition.of(text) for text in where or ()]
        listing, rows = read_rows(path)
        wanted = [row for row, _ in chosen(rows, conditions, sort, n)]
    if as_json:
        show([query.json_row(row) for row in wanted], as_json)
    else:
        show_columns(wanted, LISTED)
        of = "" if len(wanted) == len(rows) else f" of {len(rows)}"
        typer.echo(f"{len(wanted)}{of} {'video' if len(rows) == 1 else 'videos'}")
    raise typer.Exit(tell(listing))


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
    with told():
        if keep_best is None and older_than is None and where is None:
            raise SettingError("nothing says what to delete; expected --keep-best, --older-than or --where")
        if per and keep_best is None:
            raise SettingError("--per says for what --keep-best counts, and there is no --keep-best")
        conditions = [Condition.of(text) for text in where or ()]
        columns = [query.column(name) for name in per or ()]
        older_than_s = None if older_than is None else query.duration_s(older_than)
    listing, rows = read_rows(path)
    unwanted = prunes.unwanted(rows, where=conditions, keep_best=keep_best, per=columns, older_than_s=older_than_s)
    done = list(prunes.prune(unwanted, dry_run=dry_run))
    shown = {video.path: row for row, video in rows}
    found = [{"outcome": one.outcome, **shown[one.video.path]} for one in done]
    if as_json:
        show([query.json_row(row) for row in found], as_json)
    else:
        show_columns(found, PRUNED)
        gone = [one.video.bytes for one in done if one.outcome in (prunes.DELETED, prunes.TO_BE_DELETED)]
        typer.echo(
            f"{len(gone)} of {len(rows)} {'video' if len(rows) == 1 else 'videos'}"
            f" {'would be' if dry_run else 'were'} deleted, {bytes_text(sum(gone))}"
        )
    raise typer.Exit(max(tell(listing), int(any(one.failed for one in done))))


@app.command()
def info(
    paths: Annotated[list[Path], typer.Argument(help="Videos, or folders of them.", exists=True)],
    as_json: AsJson = False,
) -> None:
    """Show what is in each video: frames, size, rate, codec, and what videos.csv or the file says of it."""
    found = []
    videos = [video for path in paths for video in _videos_of(path)]
    for file, row in progress(videos):
        try:
            about = checks.info(file, row)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            about = {"error": str(error)}
        about = {"file": str(file)} | about
        found.append({name: value for name, value in about.items() if name not in ("times", "problem")})
    show(found, as_json, empty="no videos")
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
        return progress(videos)

    problems = list(checks.verify(path.resolve(), watch))
    found = [{"file": from_here(one.file), "kind": one.kind, "problem": one.problem} for one in problems]
    show(found, as_json, empty="nothing is wrong")
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
    done = list(repairs.repair(path.resolve(), dry_run=dry_run, sync=sync, watch=progress))
    found = [
        {
            "clip": from_here(one.clip),
            "outcome": one.outcome,
            "video": one.video and from_here(one.video),
            "frames": one.frames,
        }
        for one in done
    ]
    show(found, as_json, empty="nothing is left unfinished")
    raise typer.Exit(int(any(one.failed for one in done)))


def read_rows(where: Path | str) -> tuple[Listing, prunes.Rows]:
    """Return what is in a folder or at a URL, and what is known of each video there, by column, each with the video."""
    found = listings.read_store(where) if isinstance(where, str) else listings.read(where)
    here, there = f"{os.getcwd()}{os.sep}", f"{where.rstrip('/')}/" if isinstance(where, str) else ""
    runs = {run: os.path.relpath(run, found.folder) for run in {video.run for video in found.videos}}
    return found, [
        (query.row_of(video, runs[video.run], there + str(video.path).removeprefix(here)), video)
        for video in found.videos
    ]


def chosen(
    rows: prunes.Rows, conditions: Sequence[Condition], sort: Sequence[str] | None, n: int | None
) -> prunes.Rows:
    """Return the rows for which the conditions hold, in order, at most `n`, each with its video."""
    videos = {id(row): video for row, video in rows}
    wanted = query.sort((row for row, _ in rows if all(holds(row) for holds in conditions)), sort or ())[:n]
    return [(row, videos[id(row)]) for row in wanted]


def tell(listing: Listing) -> int:
    """Say on stderr what could not be listed; return the exit code for that."""
    for text in listing.unreadable:
        typer.echo(f"vidrec: {printable(text)}", err=True)
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
    return [(Path(from_here(video)), rows[video][0] if video in rows else None) for video in scan.videos(folder)]

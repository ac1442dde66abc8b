"""The commands that show a folder of videos in a browser: gallery and watch."""

from pathlib import Path
from typing import Annotated

import typer

from vidrec.cli.app import Folder, Sort, Where, app, told
from vidrec.cli.folders import chosen, read_rows, tell
from vidrec.cli.printing import bytes_text, from_here, printable
from vidrec.errors import SettingError, need
from vidrec.tools.query import Condition


@app.command()
def gallery(
    path: Folder,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The page; without it, index.html in the folder."),
    ] = None,
    sort: Sort = None,
    where: Where = None,
    n: Annotated[int | None, typer.Option("-n", metavar="N", help="At most this many.", min=0)] = None,
    embed: Annotated[bool, typer.Option("--embed", help="Put the videos into the page itself.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a page that is there.")] = False,
) -> None:
    """Make a page of the videos of a folder, for a browser: filter, compare, step through frames; no server needed."""
    with told():
        need("jinja2", "vidrec gallery", extra="web")
    from vidrec.tools.web import page

    target = path.resolve() / "index.html" if output is None else output
    with told():
        conditions = [Condition.of(text) for text in where or ()]
        if target.is_dir() or not target.parent.is_dir():
            raise SettingError(f"{target} can be no page; expected the name of a file in a folder that exists")
        if target.exists() and not force:
            raise SettingError(f"{target} exists; --force replaces it")
        found, rows = read_rows(path)
        videos = [video for _, video in chosen(rows, conditions, sort, n)]
        inside = page.embedded(found.folder, videos) if embed else {}
        about = page.data(found, videos, (lambda _: None) if embed else page.address_from(target))
        page.save(page.html(about, inside), target, overwrite=force)
    count = f"{len(videos)} {'video' if len(videos) == 1 else 'videos'}"
    typer.echo(f"{printable(from_here(target))}: {count}, {bytes_text(target.stat().st_size)}")
    raise typer.Exit(tell(found))


@app.command()
def watch(
    path: Folder,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Where to listen; beyond this machine the address has a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", help="The same; 0 chooses one.", min=0, max=65535)] = 8420,
) -> None:
    """Serve the page of a folder while a training records: it grows, and clips play live. Ctrl-C ends it."""
    with told():
        for package in ("jinja2", "starlette", "uvicorn"):
            need(package, "vidrec watch", extra="web")
    from vidrec.tools.web import server

    with told():
        server.serve(path, host, port, typer.echo)

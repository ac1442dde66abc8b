"""The page: what it knows of the videos, as data, and its HTML, in which everything is that it needs."""

import base64
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vidrec.errors import SettingError, need
from vidrec.ffmpeg.encoding import media_type_of
from vidrec.files import names
from vidrec.tools import events, query
from vidrec.tools.listing import ListedVideo, Listing
from vidrec.tools.web import curves

MAX_EMBEDDED_BYTES = 300_000_000
"""How much video is put into one page; browsers take no string of twice as much."""

Json = dict[str, Any]


def data(listing: Listing, videos: Sequence[ListedVideo], address: Callable[[ListedVideo], str | None]) -> Json:
    """Return what a page knows of a folder, as JSON has it.

    Args:
        listing: what was found in the folder.
        videos: those of the page, in order.
        address: where a page finds a video; None where it cannot.
    """
    runs = {video.run: run_name(listing, video.run) for video in videos}
    found = curves.read(listing.files, listing.folder)
    return {
        "title": text(listing.folder.name or listing.folder),
        "videos": [{**_about(listing, video, runs[video.run]), "address": address(video)} for video in videos],
        "curves": [
            {"name": text(curve.name), "run": runs[curve.run], "steps": curve.steps, "values": curve.values}
            for curve in found
            if curve.run in runs
        ],
    }


def _about(listing: Listing, video: ListedVideo, run: str) -> Json:
    file = text(os.path.relpath(video.path, listing.folder))
    kind, _, _ = media_type(video).partition("/")
    row = query.row_of(video, run, file)
    return {**query.json_row(row), "id": identity(listing.folder, video), "kind": kind, "inside": bool(video.event)}


def identity(folder: Path, video: ListedVideo) -> str:
    """Return what tells a video from the others of a folder, however often that is looked through."""
    inside = "" if video.event is None else f"\0{video.event.tag}\0{video.event.step}\0{video.event.wall_time}"
    return digest(os.fsencode(os.path.relpath(video.path, folder)) + inside.encode(errors="surrogateescape"))


def digest(data: bytes) -> str:
    """Return a short name for these bytes."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def run_name(listing: Listing, run: Path) -> str:
    """Return what a page calls a run."""
    return text(os.path.relpath(run, listing.folder))


def text(value: object) -> str:
    """Return a value as text; what of a path is no UTF-8, escaped."""
    return str(value).encode(errors="backslashreplace").decode()


def media_type(video: ListedVideo) -> str:
    """Return what a browser takes a video for; the empty text for a file that none shows."""
    return media_type_of(video.path.suffix if video.event is None else video.event.suffix)


def address_from(page: Path) -> Callable[[ListedVideo], str | None]:
    """Return where videos are, as seen from the folder of a page; None for one inside of an event file."""
    here = page.parent.resolve()

    def address(video: ListedVideo) -> str | None:
        return None if video.event is not None else quote(os.fsencode(os.path.relpath(video.path, here)))

    return address


def embedded(folder: Path, videos: Iterable[ListedVideo]) -> dict[str, str]:
    """Return those videos that browsers show by their identity, as text: the type, a comma, and base64.

    Raises:
        SettingError: they are too large for one page.
        OSError, ValueError: one is gone, or cannot be read.
    """
    wanted = [video for video in videos if media_type(video)]
    if (size := sum(video.bytes for video in wanted)) > MAX_EMBEDDED_BYTES:
        raise SettingError(
            f"{len(wanted)} videos of {size / 1e6:.0f} MB are too large for one page, at most "
            f"{MAX_EMBEDDED_BYTES / 1e6:.0f} MB; choose fewer with --where or -n"
        )
    return {identity(folder, video): _as_text(video) for video in wanted}


def _as_text(video: ListedVideo) -> str:
    data = video.path.read_bytes() if video.event is None else events.data_of(video.path, video.event)
    return f"{media_type(video)},{base64.b64encode(data).decode()}"


def html(about: Mapping[str, Any], inside: Mapping[str, str] | None = None) -> str:
    """Return the page.

    Args:
        about: what it knows, see `data`.
        inside: videos that are in the page itself, see `embedded`.

    Raises:
        ExtraError: Jinja2 is not installed.
    """
    need("jinja2", "the page", extra="web")
    from jinja2 import Environment, StrictUndefined

    here = files(__package__)
    licence, plots, style, script, sheet, template = (
        (here / name).read_text(encoding="utf-8")
        for name in (
            "vendor/uPlot.LICENSE",
            "vendor/uPlot.min.js",
            "vendor/uPlot.min.css",
            "page.js",
            "page.css",
            "page.html.jinja",
        )
    )
    script = f"/*\nuPlot\n{licence}*/\n{plots}\n{script}"
    return (
        Environment(autoescape=True, undefined=StrictUndefined)
        .from_string(template)
        .render(
            data=about,
            inside=inside or {},
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            style=f"/* uPlot, MIT licence, see the script */\n{style}\n{sheet}",
        )
    )


def save(page: str, target: Path, *, overwrite: bool) -> None:
    """Write a page, whole or not at all.

    Raises:
        SettingError: there is a file of that name, which is not to be replaced.
        OSError: it cannot be written.
    """
    near = target.with_name(f"{target.name}{names.MARK}{secrets.token_hex(4)}")
    try:
        near.write_text(page, encoding="utf-8")
        if not names.move_to(near, target, overwrite=overwrite):
            raise SettingError(f"{target} exists; --force replaces it")
    finally:
        near.unlink(missing_ok=True)

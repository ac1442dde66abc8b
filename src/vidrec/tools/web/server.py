"""The page served on this machine: it grows with the folder, and shows clips while they are recorded."""

import gzip
import ipaddress
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vidrec.errors import SettingError
from vidrec.ffmpeg.encoding import media_type_of
from vidrec.files import manifest
from vidrec.tools import events, scan
from vidrec.tools import listing as listings
from vidrec.tools.listing import ListedVideo, Listing
from vidrec.tools.web import page

REFRESH_S = 1.0
"""How often the folder is looked through, at the most."""

SHARE = 0.1
"""How much of the time that may take."""

CHUNK_BYTES = 4 * 2**20
"""How much of a growing clip one answer has."""

HEADERS = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Library:
    """What the page may show of a folder: files that are in it, and in no folder that a link leads to.

    Args:
        folder: an existing folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._lock = threading.Lock()
        self._next_s = 0.0
        self._videos: dict[str, ListedVideo] = {}
        self._clips: dict[str, Path] = {}
        self.json, self.version = b"", ""

    def refresh(self) -> None:
        """Look through the folder, unless somebody else does or has just done so."""
        if time.monotonic() < self._next_s or not self._lock.acquire(blocking=not self.version):
            return
        try:
            begun = time.monotonic()
            self._refresh()
            now = time.monotonic()
            self._next_s = now + max(REFRESH_S, (now - begun) / SHARE)
        finally:
            self._lock.release()

    def _refresh(self) -> None:
        try:
            found = listings.read(self.folder)
        except (OSError, SettingError):  # it changed meanwhile, or was deleted
            found = Listing(self.folder, [], datetime.now(timezone.utc))
        inside = self._inside()
        found.files = [path for path in found.files if inside(path)]
        videos = [video for video in found.videos if inside(video.path) and self._own(video, inside)]
        by_id = {page.identity(self.folder, video): video for video in videos}
        clips = [
            clip for clip in scan.left_clips_in(found.files) if clip.parts and inside(clip.manifest) and clip.in_use
        ]
        growing = {page.digest(os.fsencode(clip.parts[-1])): clip for clip in clips}
        about = page.data(found, videos, lambda video: f"video/{page.identity(self.folder, video)}")
        about["notes"] = [page.text(note) for note in found.unreadable]
        if behind := len(found.videos) - len(videos):
            links = "1 video is" if behind == 1 else f"{behind} videos are"
            about["notes"].append(f"{links} behind a link that leads out of the folder, and not shown")
        about["clips"] = [{"id": name, **self._about(found, clip)} for name, clip in growing.items()]
        self._videos, self._clips = by_id, {name: clip.parts[-1] for name, clip in growing.items()}
        self.json = json.dumps(about).encode()
        self.version = page.digest(self.json)

    def _about(self, listing: Listing, clip: scan.LeftClip) -> page.Json:
        known = manifest.read(clip.manifest)
        run = clip.stem.parent / str(known.get("index") or "")
        about = {name: known.get(name) for name in ("tag", "agent", "episode", "env_step", "time", "height", "width")}
        about |= {"env": known.get("env_id"), "run": page.run_name(listing, Path(os.path.normpath(run)))}
        kind = media_type_of(clip.parts[-1].suffix)  # browsers play no image while it grows
        return {**about, "file": page.text(clip.stem.name), "type": kind if kind.startswith("video/") else None}

    def _inside(self) -> Callable[[Path], bool]:
        """Return whether a file is in the folder, whatever links lead to it; of each folder that is asked once."""
        known: dict[str, str] = {}

        def inside(path: Path) -> bool:
            place, name = os.path.split(path)
            if place not in known:
                known[place] = os.path.realpath(place)
            real = os.path.join(known[place], name)
            return self._has(os.path.realpath(real) if os.path.islink(real) else real)

        return inside

    def _own(self, video: ListedVideo, inside: Callable[[Path], bool]) -> bool:
        """Return whether what is known of a video is from the folder, or from the run that the folder is of."""
        return video.index is None or inside(video.index.path) or video.index.folder in self.folder.parents

    def _has(self, real: str) -> bool:
        return real.startswith(os.path.join(self.folder, ""))

    def video(self, id: str) -> tuple[Path, ListedVideo]:
        """Return a video, and the file that has it by now."""
        if (video := self._videos.get(id)) is None:
            raise HTTPException(404)
        return self._real(video.path), video

    def clip(self, id: str) -> Path:
        """Return the file of a growing clip."""
        if id not in self._clips:
            raise HTTPException(404)
        return self._real(self._clips[id])

    def sizes(self) -> dict[str, int]:
        """Return how large each growing clip is by now, in bytes."""
        found = {}
        for name in self._clips:
            with suppress(OSError, HTTPException):
                found[name] = self.clip(name).stat().st_size
        return found

    def _real(self, path: Path) -> Path:
        """Return where a file is; it may be another one than the one that was found."""
        real = os.path.realpath(path)
        if not (self._has(real) and os.path.isfile(real)):
            raise HTTPException(404)
        return Path(real)


class Guard:
    """Answers none but those who may ask: with the token, or, without one, by a name of this machine.

    A page of somebody else's, whose name leads here, is refused by that name.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], token: str | None) -> None:
        self._app, self._hosts, self._token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = HTTPConnection(scope)
        cookie = f"vidrec-{scope['server'][1]}"

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if self._token is not None and self._is_token(asked.query_params.get("token")):
                    headers["Set-Cookie"] = f"{cookie}={self._token}; HttpOnly; Path=/; SameSite=Strict"
            await send(message)

        answer: ASGIApp = self._app
        if self._token is None:
            host = asked.headers.get("host", "").lower()
            name, _, port = host.rpartition(":")
            if (name if port.isdecimal() and name else host).strip("[]") not in self._hosts:
                answer = PlainTextResponse("this name is not one of this machine\n", 403)
        elif not any(map(self._is_token, (asked.query_params.get("token"), asked.cookies.get(cookie)))):
            answer = PlainTextResponse("the address needs ?token=, as `vidrec watch` has printed it\n", 403)
        await answer(scope, receive, send_more)

    def _is_token(self, text: str | None) -> bool:
        assert self._token is not None
        return text is not None and secrets.compare_digest(text.encode(errors="replace"), self._token.encode())


def app(folder: Path, hosts: Sequence[str] = ("127.0.0.1", "localhost", "::1"), token: str | None = None) -> ASGIApp:
    """Return the server of a folder, for ASGI.

    Args:
        folder: an existing folder.
        hosts: the names by which it may be asked, without a token.
        token: what those must know who ask; None where only this machine can.
    """
    library = Library(folder)
    whole = page.html({"served": True, "title": page.text(library.folder.name or library.folder)})

    def index(request: Request) -> Response:
        return HTMLResponse(whole, headers={"Cache-Control": "no-store"})

    def data(request: Request) -> Response:
        library.refresh()
        headers = {"Cache-Control": "no-store", "Vary": "Accept-Encoding", "X-Version": library.version}
        content = library.json
        if "gzip" in request.headers.get("accept-encoding", ""):
            content, headers["Content-Encoding"] = gzip.compress(content, 1), "gzip"
        return Response(content, media_type="application/json", headers=headers)

    def news(request: Request) -> Response:
        library.refresh()
        told = {"version": library.version, "clips": library.sizes()}
        return Response(json.dumps(told), media_type="application/json", headers={"Cache-Control": "no-store"})

    def video(request: Request) -> Response:
        path, listed = library.video(request.path_params["id"])
        kind = page.media_type(listed)
        if listed.event is None:
            name = quote(os.fsencode(path.name))
            headers = {"Content-Disposition": f"inline; filename*=UTF-8''{name}"}
            kind = kind or "application/octet-stream"
            return FileResponse(path, media_type=kind, headers=headers)
        try:
            content = events.data_of(path, listed.event)
        except (OSError, ValueError):
            raise HTTPException(404) from None
        return Response(content, media_type=kind)

    def clip(request: Request) -> Response:
        begin = request.query_params.get("from", "0")
        if not (begin.isascii() and begin.isdecimal() and len(begin) < 16):
            raise HTTPException(400)
        with library.clip(request.path_params["id"]).open("rb") as file:
            file.seek(int(begin))
            content = file.read(CHUNK_BYTES)
        return Response(content, media_type="application/octet-stream", headers={"Cache-Control": "no-store"})

    routes = [Route("/", index), Route("/data", data), Route("/news", news)]
    routes += [Route("/video/{id}", video), Route("/clip/{id}", clip)]
    return Guard(Starlette(routes=routes), hosts, token)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; port 0 chooses one that is free.

    Raises:
        SettingError: there is no such host, or the port is taken.
    """
    try:
        family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family)
    except OSError as error:
        raise SettingError(f"there is no host {host}: {error.strerror}") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen()
        return listening
    except OSError as error:
        listening.close()
        hint = "; --port 0 chooses one that is free" if port else ""
        raise SettingError(f"nothing can listen on port {port} of {host}: {error.strerror}{hint}") from None


def is_loopback(host: str) -> bool:
    """Return whether a name or address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(folder: Path, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve a folder until Ctrl-C or SIGTERM.

    Args:
        folder: an existing folder.
        host: where to listen; beyond this machine, the address has a token.
        port: the same; 0 chooses one that is free.
        ready: is told the address as soon as it answers.

    Raises:
        SettingError: nothing can listen there.
    """
    from uvicorn import Config, Server

    class Told(Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready(address)  # no sooner: from here on Ctrl-C ends it in order

    with listen(host, port) as listening, suppress(KeyboardInterrupt):
        token = None if is_loopback(host) else secrets.token_urlsafe(24)
        asked = app(folder, ("127.0.0.1", "localhost", "::1", host), token)
        name = socket.gethostname() if host in ("0.0.0.0", "::") else host
        name = f"[{name}]" if ":" in name else name
        address = f"http://{name}:{listening.getsockname()[1]}/" + (f"?token={token}" if token else "")
        config = Config(
            asked,
            http="h11",
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_level="critical",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        Told(config).run(sockets=[listening])

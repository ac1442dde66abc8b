"""Loggers that run in another process, TorchRL's process and Ray services."""

import copy
import math
import os
import re
import secrets
import tempfile
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vidrec.clips import Clip, TensorClip, Video, open_clip
from vidrec.compat import LoggerClient
from vidrec.errors import VidrecError, positive_seconds
from vidrec.files import forks
from vidrec.files.names import check_name
from vidrec.loggers.base import ClipPlace, Received, SentVideo, VideoLogger

PIECE_BYTES = 16 * 2**20
"""How much of a file is read at once on its way to another machine."""

MAX_PIECES = 3
"""How many of these are under way: with the one that is read, 64 MB in memory, here or there."""

MAX_VIDEOS = 8
"""How many videos of a process are under way to one logger before the next waits for the answer to the first."""


def set_service_timeout(timeout_s: float | None = 300.0) -> None:
    """Say how long a call of a logger in another process may take before it is given up with `ServiceError`.

    This is for calls of this process from now on. The environment variable VIDREC_SERVICE_TIMEOUT_S says the same for
    processes that start later.

    Args:
        timeout_s: in seconds, above 0; None waits as long as it takes.

    Raises:
        SettingError: another value.
    """
    global TIMEOUT_S
    TIMEOUT_S = positive_seconds("timeout_s", math.inf if timeout_s is None else timeout_s)


TIMEOUT_S = positive_seconds("VIDREC_SERVICE_TIMEOUT_S", os.environ.get("VIDREC_SERVICE_TIMEOUT_S", 300.0))
"""How long a call may take, see `set_service_timeout`."""


class ServiceLogger(VideoLogger):
    """The client of a vidrec logger in another process: videos are encoded here, and files travel, never frames.

    Of a logger on this machine they grow where it wants them. Else they grow in ``vidrec-clips-<user id>``, in the
    folder for temporary files, and are sent in pieces.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._shares_files = getattr(client, "shares_files", False)
        self._answers: deque[Future[Any]] = deque()
        self._places: dict[Any, ClipPlace | None] = {}
        forks.detach_in_child(self)

    def detach(self) -> None:
        """Leave what is under way to the parent of a forked child."""
        self._answers.clear()

    @cached_property
    def _sender(self) -> Any:
        """A client for what is not waited for: answers to other calls do not wait behind its own."""
        return copy.copy(self.client) if hasattr(self.client, "begin") else self.client

    def open_clip(self, tag: str, **settings: Any) -> Clip:
        """Return a clip that encodes as the logger in the other process wants it."""
        place = self._place(tag, settings)
        if place is None:
            return TensorClip()
        if self._shares_files:
            return open_clip(place.stem, place.encoding, place.index)
        return open_clip(_clips() / check_name(tag), place.encoding)

    def _place(self, tag: str, settings: dict[str, Any]) -> ClipPlace | None:
        """Return what the logger wants; it may be busy, and is asked once for all tags that it puts into one folder."""
        of_any = repr(sorted(settings.items()))
        of_tag, parts = (tag, of_any), Path(tag).parts
        if (folder := self._places.get(of_any)) is not None:
            return replace(folder, stem=folder.stem / check_name(tag))
        if of_tag in self._places:
            return self._places[of_tag]
        place: ClipPlace | VidrecError | None = self.client.log_video_clip(tag, **settings)
        if isinstance(place, VidrecError):
            raise place
        self._places[of_tag] = place
        if place is not None and place.stem.parts[-len(parts) :] == parts:
            self._places[of_any] = replace(place, stem=place.stem.parents[len(parts) - 1])
        return place

    def log_video(self, name: str, video: Any, step: int | None = None, **settings: Any) -> Video | None:
        """Send a finished video, and return without its answer; a tensor is published when this returns."""
        if not isinstance(video, Video):
            self.client.log_video(name, video, step, **settings)
            return None
        if len(self._answers) >= MAX_VIDEOS:
            with suppress(Exception):  # it is for whoever sent that
                self._answers.popleft().result()
        file = None if self._shares_files else self._send(video.path)
        answer = self._begin("log_video_file", name, video, file, step, **settings)
        self._answers.append(answer)
        return SentVideo(video, answer)

    def _send(self, path: Path) -> Received:
        """Send a file, and return what it is there."""
        file = Received(secrets.token_hex(8), path.name, path.stat().st_size)
        pieces: deque[Future[Any]] = deque()
        with path.open("rb") as content:
            for at in range(0, max(1, file.size), PIECE_BYTES):
                if len(pieces) >= MAX_PIECES:
                    pieces.popleft().result()
                pieces.append(self._begin("log_video_piece", content.read(PIECE_BYTES), file, at))
        return file

    def _begin(self, method: str, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Begin a call, and return its answer to come; TorchRL's own clients wait for it here."""
        if begin := getattr(self._sender, "begin", None):
            return begin(method, *args, **kwargs)  # type: ignore[no-any-return]
        answer: Future[Any] = Future()
        answer.set_result(getattr(self.client, method)(*args, **kwargs))
        return answer

    def next_step(self, tag: str, origin: str | None = None) -> int:
        """Ask the logger in the other process."""
        step: int = self.client.log_video_call("next_step", tag, origin)
        return step

    def remove_video(self, video: Video) -> None:
        """Let the logger in the other process delete a video; one that is under way, when it has arrived."""
        if not isinstance(video, SentVideo):
            self.client.log_video_call("remove_video", video)
            return

        def remove(answer: "Future[Any]") -> None:
            with suppress(Exception):  # it has not arrived, or there is nobody who could delete it
                self._begin("log_video_call", "remove_video", answer.result())

        video.answer.add_done_callback(remove)

    def clips_folder(self) -> Path | None:
        """Return that of the logger, if it is on this machine; else where clips grow here."""
        return self._folder

    @cached_property
    def _folder(self) -> Path | None:
        folder: Path | None = self.client.log_video_call("clips_folder") if self._shares_files else _clips()
        return folder

    def __repr__(self) -> str:
        return repr(self.client)


def _clips() -> Path:
    return Path(tempfile.gettempdir(), f"vidrec-clips-{os.getuid()}")


def class_of(logger: Any) -> str | None:
    """Return the name of the class of a logger that is not vidrec's; None for the client of one that is."""
    if not isinstance(logger, LoggerClient):
        return next((kind.__name__ for kind in type(logger).__mro__ if kind.__module__.startswith("torchrl.")), "")
    if hasattr(logger, "shares_files"):
        return None
    try:
        logger.log_video_clip("video")
    except Exception as error:  # of what was raised there, only the text arrives here
        if (found := re.search(r"'(\w+)' object has no attribute 'log_video_clip'", str(error))) is None:
            raise
        return found[1]
    return None

"""Loggers that run in another process, TorchRL's process and Ray services."""

import math
import os
import tempfile
from pathlib import Path
from typing import Any

from vidrec.clips import Clip, TensorClip, Video, open_clip
from vidrec.compat import LoggerClient
from vidrec.errors import VidrecError, positive_seconds
from vidrec.files.names import check_name
from vidrec.loggers.base import VideoLogger

PIECE_BYTES = 16 * 2**20
"""How much of a file is in memory, here and there, on its way to another machine."""


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

    def open_clip(self, tag: str, **settings: Any) -> Clip:
        """Return a clip that encodes as the logger in the other process wants it."""
        wish = self.client.log_video_clip(tag, **settings)
        if isinstance(wish, VidrecError):
            raise wish
        if wish is None:
            return TensorClip()
        if self._shares_files:
            return open_clip(wish.stem, wish.encoding, wish.index)
        return open_clip(_clips() / check_name(tag), wish.encoding)

    def log_video(self, name: str, video: Any, step: int | None = None, **settings: Any) -> Video | None:
        """Send the video; returns, or raises, when the logger there has."""
        if not isinstance(video, Video):
            self.client.log_video(name, video, step, **settings)
            return None
        file = None if self._shares_files else self._send(video.path)
        there: Video | None = self.client.log_video_file(name, video, file, step, **settings)
        return there

    def _send(self, file: Path) -> Path:
        """Send a file, and return where it is there."""
        path: Path | None = None
        with file.open("rb") as pieces:
            while (piece := pieces.read(PIECE_BYTES)) or path is None:
                path = self.client.log_video_piece(piece, path, file.name)
        return path

    def next_step(self, tag: str, origin: str | None = None) -> int:
        """Ask the logger in the other process."""
        step: int = self.client.log_video_next_step(tag, origin)
        return step

    def remove_video(self, video: Video) -> None:
        """Let the logger in the other process delete a video."""
        self.client.log_video_removal(video)

    def clips_folder(self) -> Path | None:
        """Return that of the logger, if it is on this machine; else where clips grow here."""
        folder: Path | None = self.client.log_clips_folder() if self._shares_files else _clips()
        return folder

    def __repr__(self) -> str:
        return repr(self.client)


def _clips() -> Path:
    return Path(tempfile.gettempdir(), f"vidrec-clips-{os.getuid()}")


def is_service_of_ours(logger: Any) -> bool:
    """Return whether this is the client of a vidrec logger in another process."""
    if not isinstance(logger, LoggerClient):
        return False
    if hasattr(logger, "shares_files"):
        return True
    try:
        logger.log_video_clip("video")
    except Exception as error:  # of what was raised there, only the text arrives here
        if "has no attribute 'log_video_clip'" not in str(error):
            raise
        return False
    return True

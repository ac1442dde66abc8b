"""Loggers that run in another process, TorchRL's process and Ray services."""

from typing import Any

from vidrec.clips import Clip, TensorClip, Video, open_clip
from vidrec.compat import LoggerClient
from vidrec.errors import VidrecError
from vidrec.files.names import check_name, temporary_stem
from vidrec.loggers.base import VideoLogger


class ServiceLogger(VideoLogger):
    """The client of a vidrec logger in another process: videos are encoded here, and sent as the bytes of their file.

    They grow in the folder for temporary files, as the logger's own may be on another machine.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def open_clip(self, tag: str, **settings: Any) -> Clip:
        """Return a clip that encodes as the logger in the other process wants it."""
        wish = self.client.log_video_encoding(tag, **settings)
        if isinstance(wish, VidrecError):
            raise wish
        return TensorClip() if wish is None else open_clip(temporary_stem(check_name(tag)), wish)

    def log_video(self, name: str, video: Any, step: int | None = None, **settings: Any) -> Video | None:
        """Send the video; returns, or raises, when the logger there has."""
        if not isinstance(video, Video):
            self.client.log_video(name, video, step, **settings)
            return None
        there: Video | None = self.client.log_encoded_video(name, video, video.path.read_bytes(), step, **settings)
        return there

    def next_step(self, tag: str, origin: str | None = None) -> int:
        """Ask the logger in the other process."""
        step: int = self.client.log_video_next_step(tag, origin)
        return step

    def remove_video(self, video: Video) -> None:
        """Let the logger in the other process delete a video."""
        self.client.log_video_removal(video)

    def __repr__(self) -> str:
        return repr(self.client)


def is_service_of_ours(logger: Any) -> bool:
    """Return whether this is the client of a vidrec logger in another process."""
    if not isinstance(logger, LoggerClient):
        return False
    try:
        logger.log_video_encoding("video")
    except Exception as error:  # of what was raised there, only the text arrives here
        if "has no attribute 'log_video_encoding'" not in str(error):
            raise
        return False
    return True

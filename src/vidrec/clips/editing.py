"""A finished video as a clip of moviepy's, which cuts and joins."""

import math
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

from vidrec.clips.video import Video, raw_frames
from vidrec.errors import EncoderError, FrameError
from vidrec.ffmpeg.files import at_constant_rate
from vidrec.files import forks


def to_moviepy(video: Video) -> Any:
    """Return a clip of moviepy's, see `Video.to_moviepy`."""
    if not video.frames:
        raise FrameError(f"{video.path} holds no frames to make a clip of")
    clip = _of_file(video) if video.encoding.format.encoded else _of_tensor(video)
    clip.fps, clip.duration = float(video.fps), video.seconds
    if clip.n_frames < video.frames:  # moviepy rounds the product of both down
        clip.duration = math.nextafter(clip.duration, math.inf)
    clip.end = clip.duration
    return clip


def _of_file(video: Video) -> Any:
    folder = tempfile.mkdtemp(prefix="vidrec-")
    try:
        path = at_constant_rate(video.path.absolute(), Path(folder), video.fps)
        with forks.lock:  # the import starts FFmpeg, and so does the clip
            from moviepy import VideoFileClip

            clip = VideoFileClip(str(path), audio=False)
    except BaseException as error:
        shutil.rmtree(folder)
        if isinstance(error, OSError) and not isinstance(error, EncoderError):
            raise EncoderError(f"FFmpeg cannot read {video.path}: {error}") from error
        raise
    # FFmpeg reports the rate with two digits, and moviepy seeks by it
    clip.reader.fps, clip.reader.n_frames = float(video.fps), video.frames
    weakref.finalize(clip.reader, _remove, folder, os.getpid())  # what is cut from the clip has the same reader
    return clip


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # or else a forked child ends
        shutil.rmtree(folder, ignore_errors=True)


def _of_tensor(video: Video) -> Any:
    from moviepy import VideoClip

    read, fps, last = raw_frames(video), float(video.fps), video.frames - 1
    return VideoClip(lambda t: read(min(int(t * fps + 1e-5), last)).numpy())

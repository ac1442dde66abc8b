"""Video, a finished one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidrec.episode import Episode
from vidrec.ffmpeg.encoding import Encoding
from vidrec.ffmpeg.stream import read_frames
from vidrec.files.index import shape_text, time_text
from vidrec.frames import to_rgb


@dataclass(frozen=True)
class Video:
    """A finished video.

    Attributes:
        path: where the file is; of one that goes to an object store, where it waits until the store has it.
        frames: how many frames it has.
        fps: frames per second.
        height: of the frames in the file, in pixels; enlarged ones if the encoding enlarged them.
        width: the same.
        encoding: how it was encoded.
        env_id: which env of a batched env it shows, if each has its own videos.
        agent: which agent of it, if each has its own videos.
        episode: which episode it shows, if each has its own video.
        dtype: that of the tensor in a "pt" or "memmap" file, such as ``"uint8"``; None if the file is encoded.
        shape: its shape, ``(N, T, C, H, W)``: N videos of T frames each; None if the file is encoded.
        tag: that of its recorder, without origin, env, suffix and episode; or the name that `log_video` was given with
            a tensor.
        env_step: how many steps its environment had made at its first frame, since the recorder came into it; a step of
            a batched environment counts once. None without an environment.
        time: when its first frame was recorded, in UTC.
        url: where it goes in an object store, unless another video has that name there; None if it stays here.
    """

    path: Path
    frames: int
    fps: Fraction
    height: int
    width: int
    encoding: Encoding
    env_id: int | None = None
    episode: Episode | None = None
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    tag: str | None = None
    env_step: int | None = None
    time: datetime | None = None
    agent: int | None = None
    url: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames in the file, in pixels."""
        return self.height, self.width

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return float(self.frames / self.fps)

    def at(self, path: Path) -> "Video":
        """Return the same video, found at `path`."""
        return replace(self, path=path)

    def row(self) -> dict[str, Any]:
        """Return the columns of `vidrec.files.index` that it fills: all but its tag, step and file."""
        height, width = self.size
        row: dict[str, Any] = {"frames": self.frames, "fps": float(self.fps), "height": height, "width": width}
        row |= {"codec": self.encoding.codec, "seconds": self.seconds, "env_id": self.env_id, "dtype": self.dtype}
        row["shape"] = None if self.shape is None else shape_text(self.shape)
        row |= {
            "agent": self.agent,
            "env_step": self.env_step,
            "time": None if self.time is None else time_text(self.time),
        }
        if (episode := self.episode) is None:
            return row
        row |= {"episode": episode.number, "return": episode.return_}
        return row | {"length": episode.length, "ended": episode.ended}

    def iter_frames(self) -> Iterator[Tensor]:
        """Read the file back: yield each frame, uint8 ``[H, W, 3]``."""
        if self.encoding.format.encoded:
            yield from (torch.from_numpy(frame.copy()) for frame in read_frames(self.path, self.size, self.frames))
        else:
            yield from map(raw_frames(self), range(self.frames))

    def to_moviepy(self) -> Any:
        """Return the video as a clip of moviepy's, to cut and join it: a ``moviepy.VideoFileClip``, without audio.

            >>> import numpy as np
            >>> import vidrec
            >>> video = vidrec.write("videos/grey.mp4", np.full((60, 48, 64, 3), 128, np.uint8))
            >>> clip = video.to_moviepy().subclipped(0.5, 1.5)
            >>> clip.n_frames, clip.get_frame(0).shape
            (30, (192, 256, 3))

        Frame i of the clip is frame i of the video, at ``i / fps`` seconds; its fps, duration and number of frames are
        those of the video. Of an animated image, whose frames do not last equally long, the clip reads a lossless copy,
        which is deleted with it. "pt" and "memmap" make a ``moviepy.VideoClip``, which reads frames from the file as
        they are asked for. Beyond 500 frames per second, in formats other than mp4, a clip may be a frame early after a
        seek, because their files count in milliseconds.

        Raises:
            EncoderError: FFmpeg cannot read the file.
            FrameError: the video has no frames.
        """
        from vidrec.clips.editing import to_moviepy

        return to_moviepy(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows where the video is the last expression of a cell."""
        from vidrec.clips.notebook import html

        return html(self)


def raw_frames(video: Video) -> Callable[[int], Tensor]:
    """Return what reads a frame of a "pt" or "memmap" file by its number, uint8 ``[H, W, 3]``."""
    frames = _tensor(video).flatten(0, 1)

    def read(number: int) -> Tensor:
        # by numpy: in a forked process torch's own copy may wait for threads that are not there
        rgb = to_rgb(frames[number].permute(1, 2, 0).unsqueeze(0), name=f"{video.path}")[0]
        return torch.from_numpy(rgb.numpy().copy())

    return read


def _tensor(video: Video) -> Tensor:
    """Return the tensor in the file, as a view of the file."""
    assert video.dtype is not None
    assert video.shape is not None
    if video.encoding.video_format == "pt":
        tensor: Tensor = torch.load(video.path, mmap=True, weights_only=True)
        return tensor
    dtype = getattr(torch, video.dtype)
    if not video.frames:
        return torch.empty(video.shape, dtype=dtype, device="cpu")
    return torch.from_numpy(np.memmap(video.path, np.uint8, "c")).view(dtype).view(video.shape)

"""Video, a finished one."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidrec.episode import Episode
from vidrec.ffmpeg.encoding import Encoding
from vidrec.ffmpeg.files import read_frames
from vidrec.files.torch_file import HEAD_BYTES


@dataclass(frozen=True)
class Video:
    """A finished video.

    Attributes:
        path: where the file is.
        frames: how many frames it has.
        fps: frames per second.
        height: of the frames in the file, in pixels; enlarged ones if the encoding enlarged them.
        width: the same.
        encoding: how it was encoded.
        env_id: which env of a batched env it shows, if each has its own videos.
        episode: which episode it shows, if each has its own video.
    """

    path: Path
    frames: int
    fps: Fraction
    height: int
    width: int
    encoding: Encoding
    env_id: int | None = None
    episode: Episode | None = None

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
        row |= {"codec": self.encoding.codec, "seconds": self.seconds, "env_id": self.env_id}
        if (episode := self.episode) is None:
            return row
        row |= {"episode": episode.number, "return": episode.return_}
        return row | {"length": episode.length, "ended": episode.ended}

    def iter_frames(self) -> Iterator[Tensor]:
        """Read the file back: yield each frame, uint8 ``[H, W, 3]``."""
        if self.encoding.format.encoded:
            yield from (torch.from_numpy(frame.copy()) for frame in read_frames(self.path, self.frames))
        else:
            offset = HEAD_BYTES if self.encoding.video_format == "pt" else 0
            data = np.memmap(self.path, np.uint8, "r", offset, (self.frames, 3, *self.size))
            yield from (torch.from_numpy(frame.copy()).permute(1, 2, 0) for frame in data)

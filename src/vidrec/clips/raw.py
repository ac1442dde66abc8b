"""MemmapClip and PtClip, clips in files of raw frames; and whole videos as such files."""

import os
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from vidrec.clips.base import Array, FileClip
from vidrec.clips.video import Video
from vidrec.errors import EncoderError
from vidrec.ffmpeg.encoding import Encoding
from vidrec.files import torch_file
from vidrec.files.names import remove, write


def save(video: Tensor, encoding: Encoding, target: Path) -> Video:
    """Write a whole video ``[N, T, C, H, W]`` as it is, of any dtype, into a file that TorchRL would write for it.

    The file is named `target`, or the next name that is free.

    Raises:
        OSError: the file could not be written.
    """
    video = video.cpu().clone(memory_format=torch.contiguous_format)  # what it is a view of is not saved
    if encoding.video_format == "pt":
        path = write(target, lambda file: torch.save(video, file))
    else:
        path = write(target, lambda file: file.write(video.flatten().view(torch.uint8).numpy().data))
    videos, frames, _, height, width = shape = tuple(video.shape)
    dtype = str(video.dtype).removeprefix("torch.")
    time = datetime.now(timezone.utc)
    return Video(path, videos * frames, encoding.fps, height, width, encoding, dtype=dtype, shape=shape, time=time)


class MemmapClip(FileClip):
    """A clip of raw frames, uint8 ``[T, 3, H, W]``: the bytes of the file that TorchRL writes at its dump."""

    HEAD_BYTES = 0
    """How much stands in the file before the first frame."""

    def __init__(self, stem: Path, encoding: Encoding, index: Path | None = None) -> None:
        super().__init__(stem, encoding, index)
        self._file: BinaryIO | None = None
        self._end = self.HEAD_BYTES

    @property
    def frames(self) -> int:
        return 0 if self.size is None else (self._end - self.HEAD_BYTES) // (3 * self.size[0] * self.size[1])

    def _add(self, frame: Array) -> None:
        planes = np.ascontiguousarray(frame.transpose(2, 0, 1))
        if self._file is None:
            self._open((frame.shape[0], frame.shape[1]))
        try:
            if self._file is None:
                self._file = self._path().open("r+b" if self._end > self.HEAD_BYTES else "x+b", buffering=0)
                self._file.truncate(self._end)  # what stood around the frames
            written = os.pwrite(self._file.fileno(), planes.data, self._end)
            if written < planes.nbytes:
                rest = planes.data.cast("B")
                while written < len(rest):
                    written += os.pwrite(self._file.fileno(), rest[written:], self._end + written)
        except OSError as error:
            self._close()
            if not self.frames:
                self.delete()
            raise EncoderError(
                f"writing to {self._path()}, which holds {self.frames} frames, failed: {error}"
            ) from error
        self._wrote(planes)

    def _wrote(self, planes: Array) -> None:
        self._end += planes.nbytes

    def finish(self) -> Video:
        path = self._path()
        try:
            with path.open("r+b") as file:
                file.truncate(self._end)
                self._complete(file)
        except OSError as error:
            raise EncoderError(f"finishing {path}, which holds {self.frames} frames, failed: {error}") from error
        finally:
            self._close()
        assert self.size is not None
        return replace(self._video(path), dtype="uint8", shape=(1, self.frames, 3, *self.size))

    def _complete(self, file: BinaryIO) -> None:
        """Write what stands around the frames."""

    def iter_frames(self) -> Iterator[Tensor]:
        if self.size is not None:
            yield from self.finish().iter_frames()

    def detach(self) -> None:
        self._close()
        super().detach()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def delete(self) -> None:
        self._close()
        remove(self._path())
        self.published()


class PtClip(MemmapClip):
    """The same in a file that ``torch.load`` reads as a uint8 tensor ``[1, T, 3, H, W]``.

    `finish` writes what stands around the frames. More frames overwrite it.
    """

    HEAD_BYTES = torch_file.HEAD_BYTES

    def __init__(self, stem: Path, encoding: Encoding, index: Path | None = None) -> None:
        super().__init__(stem, encoding, index)
        self._crc = 0

    def _wrote(self, planes: Array) -> None:
        self._crc, self._end = zlib.crc32(planes.data, self._crc), self._end + planes.nbytes

    def _complete(self, file: BinaryIO) -> None:
        assert self.size is not None
        torch_file.complete(file, (1, self.frames, 3, *self.size), self._crc)

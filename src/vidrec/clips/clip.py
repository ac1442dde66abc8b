"""Clip, the video being recorded.

A clip is one of

    EncodedClip   into a file, by FFmpeg            mp4, webm, gif, mkv
    MemmapClip    into a file of raw frames       memmap
    PtClip        into a file for ``torch.load``    pt
    TensorClip    into a tensor in memory           loggers that know only tensors
"""

import glob
import os
import secrets
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from vidrec.clips.video import Video
from vidrec.episode import Episode
from vidrec.errors import EncoderError, FrameError
from vidrec.ffmpeg.encoder import Encoder
from vidrec.ffmpeg.encoding import Encoding
from vidrec.ffmpeg.files import encode_again, find_ffmpeg, join
from vidrec.files import torch_file
from vidrec.files.manifest import SUFFIX, Manifest
from vidrec.files.names import MARK, make_folder, remove


class Clip(ABC):
    """The video being recorded: frames of one size, counted. Made by a logger, written and finished by a recorder.

    Nothing is opened before the first frame. After `finish` more frames may come: the next `finish` gives them all.

    Attributes:
        env: which env of a batched env it shows, if each has its own videos.
        episode: which episode it shows, if each has its own video; as far as it is known.
        beside: how many clips are recorded at the same time, this one included; encoders share the processors.
    """

    env_id: int | None = None
    episode: Episode | None = None
    beside = 1

    def write(self, frames: Tensor) -> None:
        """Add `frames`, uint8 ``[N, H, W, 3]``, contiguous, in main memory. Nothing of them is kept by reference.

        Raises:
            FrameError: they have another size than the clip's first frame; the clip is as it was.
            EncoderError: the clip cannot go on.
        """
        size = (frames.shape[1], frames.shape[2])
        if size != (self.size or size):
            raise FrameError(
                f"frame {self.frames} is {size} (height, width), but this clip began with {self.size}; "
                "call dump() before the frame changes size"
            )
        for frame in frames:
            self._add(frame)

    @property
    @abstractmethod
    def frames(self) -> int:
        """How many frames it has."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int] | None:
        """(height, width) of its frames, in pixels; None before the first."""

    @property
    def waiting(self) -> bool:
        """Whether there is something to publish."""
        return bool(self.frames)

    @abstractmethod
    def finish(self) -> Any:
        """Return all that was written, whole, as its logger's `log_video` takes it.

        That is a `Video`, or a uint8 tensor ``[1, T, 3, H, W]``; or the clip itself, if it is several.
        """

    @abstractmethod
    def iter_frames(self) -> Iterator[Tensor]:
        """Yield what was written so far, as it will be seen: uint8 ``[H, W, 3]`` each, of the size that went in."""

    @abstractmethod
    def discard(self) -> None:
        """Throw away what was written, files included."""

    def published(self) -> None:  # noqa: B027 - most leave nothing
        """Clear away what was needed until its logger has taken what `finish` returned."""

    def leave(self) -> None:  # noqa: B027 - most have nothing to let go of
        """Let go of what is open, and leave all files as they are. The clip is not used again."""

    @abstractmethod
    def _add(self, frame: Tensor) -> None: ...


class TensorClip(Clip):
    """A clip in memory, for loggers that take tensors: `obs` is what TorchRL's recorder keeps, uint8 ``[3, H, W]``."""

    def __init__(self) -> None:
        self.obs: list[Tensor] = []

    @property
    def frames(self) -> int:
        return len(self.obs)

    @property
    def size(self) -> tuple[int, int] | None:
        return (self.obs[0].shape[1], self.obs[0].shape[2]) if self.obs else None

    def finish(self) -> Tensor:
        return torch.stack(self.obs).unsqueeze(0)

    def iter_frames(self) -> Iterator[Tensor]:
        return (frame.permute(1, 2, 0) for frame in self.obs)

    def discard(self) -> None:
        self.obs.clear()

    def _add(self, frame: Tensor) -> None:
        self.obs.append(frame.permute(2, 0, 1).clone(memory_format=torch.contiguous_format))


class FileClip(Clip):
    """A clip that grows in a file beside its final place, under a name that says it is not finished.

    A `Manifest` stands beside it until it is published, for `vidrec.tools.repair`.

    Args:
        stem: the folder and the beginning of the name; the rest, ``.part-<random>.<extension>``, is added.
        encoding: what the file should be.
        index: the folder whose index will have a row for the video; None if there is none.
    """

    def __init__(self, stem: Path, encoding: Encoding, index: Path | None = None) -> None:
        self.encoding = encoding
        self._stem, self._index = stem, index
        self._token = secrets.token_hex(4)
        self._size: tuple[int, int] | None = None
        self._manifest: Manifest | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        return self._size

    def unfinished(self) -> set[Path]:
        """Return the unfinished files of clips of the same name in the same folder, whosever they are."""
        return set(self._stem.parent.glob(f"{glob.escape(self._stem.name)}{MARK}*"))

    @abstractmethod
    def finish(self) -> Video: ...

    def published(self) -> None:
        if self._manifest is not None:
            self._manifest.remove()
        _open.discard(self)

    def leave(self) -> None:
        if self._manifest is not None:
            self._manifest.close()
        _open.discard(self)

    def _open(self, size: tuple[int, int]) -> Manifest:
        """Return the file beside the clip; the first time it is made, and so is its folder."""
        if self._manifest is None:
            make_folder(self._stem.parent)
            height, width = self.encoding.file_size(size)
            about: dict[str, Any] = {"video_format": self.encoding.video_format, "codec": self.encoding.codec}
            about |= {"fps": str(self.encoding.fps), "height": height, "width": width}
            about |= {"env_id": self.env_id, "episode": None if self.episode is None else self.episode.number}
            about["index"] = None if self._index is None else os.path.relpath(self._index, self._stem.parent)
            path = self._path().with_suffix(SUFFIX)
            try:
                self._manifest = Manifest(path, about)
            except OSError as error:
                raise EncoderError(f"{path}, the file beside a clip, could not be made: {error}") from error
            self._size = size
            _open.add(self)
        return self._manifest

    def _path(self, part: str = "") -> Path:
        return self._stem.with_name(f"{self._stem.name}{MARK}{self._token}{part}.{self.encoding.format.extension}")

    def _video(self, path: Path) -> Video:
        assert self._size is not None
        height, width = self.encoding.file_size(self._size)
        return Video(path, self.frames, self.encoding.fps, height, width, self.encoding, self.env_id, self.episode)


class EncodedClip(FileClip):
    """A clip that FFmpeg encodes.

    It is made of parts. One is enough, unless more frames come after `finish`, or an exception cuts into the writing
    of one: FFmpeg cannot go on with a file, so these go into another, and `finish` joins them. Parts are numbered; what
    joins those with lower numbers ends with ``j``, and is whole if the first of them is gone: see `tools.repair`.
    """

    def __init__(self, stem: Path, encoding: Encoding, index: Path | None = None) -> None:
        super().__init__(stem, encoding, index)
        self._encoder: Encoder | None = None
        self._written = 0  # frames that went to the open encoder
        self._torn = False  # whether another may be in there, whole or not
        self._parts: list[Path] = []
        self._finished = 0  # frames in the parts
        self._paths = 0
        find_ffmpeg()  # now, rather than in the middle of a rollout

    @property
    def frames(self) -> int:
        return self._finished + self._written

    def _add(self, frame: Tensor) -> None:
        with self._naming_parts():
            self._write(frame)

    @contextmanager
    def _naming_parts(self) -> Iterator[None]:
        """Let an error name all parts that are left."""
        try:
            yield
        except EncoderError as error:
            if not self._parts:
                raise
            parts = ", ".join(map(str, self._parts))
            raise EncoderError(f"{error}. {self._finished} frames before that are in {parts}") from error

    def _write(self, frame: Tensor) -> None:
        if self._torn:
            self._finish_part()
        if self._encoder is None:
            size = (frame.shape[0], frame.shape[1])
            words = self._open(size).descriptor
            args = self.encoding.ffmpeg_args(size, self.beside)
            try:
                self._encoder = Encoder(self._next_path(), size, self.encoding.fps, args, words)
            except EncoderError:
                if not self._parts:
                    self.discard()
                raise
        self._torn = True
        self._encoder.write(frame.numpy())
        self._written += 1
        self._torn = False

    def _next_path(self, mark: str = "") -> Path:
        number, self._paths = self._paths, self._paths + 1
        return self._path(f"-{number}{mark}" if number else "")

    def _finish_part(self) -> None:
        """Close the open encoder; what FFmpeg counts is what there is."""
        if self._encoder is not None:
            self._torn = True  # until this is through: it takes no more frames, also if it is interrupted
            path, written = self._encoder.path, self._written
            frames = self._encoder.finish() if written else 0
            if written:
                self._parts.append(path)
            else:  # nothing but a frame that was cut into
                self._encoder.kill()
                path.unlink(missing_ok=True)
                if not self._parts:
                    self._paths = 0
            self._finished += frames
            self._encoder, self._written = None, 0
            if frames < written:
                raise EncoderError(f"{written} frames were written, but FFmpeg counts {frames} in {path}")
        self._torn = False

    def finish(self) -> Video:
        with self._naming_parts():
            self._finish_part()
        if len(self._parts) > 1:
            joined = self._next_path("j")
            try:
                if self.encoding.format.joinable:
                    frames = join(self._parts, joined, self.encoding.muxer_args)
                else:
                    encoding = self.encoding
                    frames = encode_again(self._parts, joined, encoding.fps, encoding.again, encoding.encoder_args())
                if frames != self._finished:
                    raise EncoderError(f"{frames} frames of {self._finished} could be joined from {self._parts}")
                parts, self._parts = self._parts, [joined]
            except BaseException:
                joined.unlink(missing_ok=True)
                raise
            for part in parts:
                part.unlink()
        if not self._parts[0].exists():
            raise EncoderError(f"{self._parts[0]}, with {self.frames} frames, is not there any more; who deleted it?")
        return self._video(self._parts[0])

    def iter_frames(self) -> Iterator[Tensor]:
        if self._size is None:
            return
        (height, width), factor, video = self._size, self.encoding.factor(self._size), self.finish()
        middle = factor // 2  # of the pixels that one was enlarged to
        for frame in video.iter_frames():
            yield frame[middle::factor, middle::factor][:height, :width]

    def leave(self) -> None:
        if self._encoder is not None:
            self._encoder.leave()
        super().leave()

    def discard(self) -> None:
        if self._encoder is not None:
            self._encoder.kill()
            self._parts.append(self._encoder.path)
            self._encoder = None
        for part in self._parts:
            remove(part)
        self.published()


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
        return 0 if self._size is None else (self._end - self.HEAD_BYTES) // (3 * self._size[0] * self._size[1])

    def _add(self, frame: Tensor) -> None:
        planes = frame.permute(2, 0, 1).contiguous().numpy()
        path = self._path()
        self._open((frame.shape[0], frame.shape[1]))
        try:
            if self._file is None:
                self._file = path.open("r+b" if self._end > self.HEAD_BYTES else "x+b", buffering=0)
                self._file.truncate(self._end)  # what stood around the frames
            self._file.seek(self._end)
            rest = memoryview(planes.data).cast("B")
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._close()
            if not self.frames:
                self.discard()
            raise EncoderError(f"writing to {path}, which holds {self.frames} frames, failed: {error}") from error
        self._wrote(planes)

    def _wrote(self, planes: "np.ndarray[Any, Any]") -> None:
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
        return self._video(self._path())

    def _complete(self, file: BinaryIO) -> None:
        """Write what stands around the frames."""

    def iter_frames(self) -> Iterator[Tensor]:
        if self._size is not None:
            yield from self.finish().iter_frames()

    def leave(self) -> None:
        self._close()
        super().leave()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        self._close()
        remove(self._path())
        self.published()


class PtClip(MemmapClip):
    """The same in a file that ``torch.load`` reads as a uint8 tensor ``[1, T, 3, H, W]``.

    What stands around the frames is written by `finish`, and over it if more come.
    """

    HEAD_BYTES = torch_file.HEAD_BYTES

    def __init__(self, stem: Path, encoding: Encoding, index: Path | None = None) -> None:
        super().__init__(stem, encoding, index)
        self._crc = 0

    def _wrote(self, planes: "np.ndarray[Any, Any]") -> None:
        self._crc, self._end = zlib.crc32(planes.data, self._crc), self._end + planes.nbytes

    def _complete(self, file: BinaryIO) -> None:
        assert self._size is not None
        torch_file.complete(file, (1, self.frames, 3, *self._size), self._crc)


_open: set[FileClip] = set()
"""Those with files, kept alive until they are published or left: the garbage collector closes what it finds."""

CLIPS: Mapping[str, type[FileClip]] = {"pt": PtClip, "memmap": MemmapClip}
"""How a video format is written if not by FFmpeg."""


def open_clip(stem: Path, encoding: Encoding, index: Path | None = None) -> FileClip:
    """Return the kind of clip that writes `encoding`, see `FileClip`; it opens nothing before its first frame."""
    return CLIPS.get(encoding.video_format, EncodedClip)(stem, encoding, index)


def _leave_all() -> None:
    """Let go of the clips of the parent in a forked child, which would hold their locks."""
    for clip in list(_open):
        clip.leave()


os.register_at_fork(after_in_child=_leave_all)

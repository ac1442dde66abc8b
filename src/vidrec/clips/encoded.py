"""EncodedClip, a clip that FFmpeg encodes."""

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
from torch import Tensor

from vidrec.clips.base import Array, FileClip
from vidrec.clips.video import Video
from vidrec.errors import EncoderError
from vidrec.ffmpeg import metadata
from vidrec.ffmpeg.encoder import Encoder, is_planar
from vidrec.ffmpeg.encoding import Encoding
from vidrec.ffmpeg.files import join
from vidrec.files.names import remove


class EncodedClip(FileClip):
    """A clip that FFmpeg encodes.

    It is made of parts. One part is enough, unless more frames come after `finish`, or an exception interrupts the
    writing of a frame. FFmpeg cannot go on with a file then: the next frames go into another part, and `finish` joins
    the parts. It does so with one part too if that is no ordinary file, see `Encoding.copied`. Parts are numbered. The
    name of a file that joins the parts with lower numbers ends with ``j``. It is whole if the first of them is gone,
    see `tools.repair`.
    """

    def __init__(self, stem: Path, encoding: Encoding, index: Path | None = None) -> None:
        super().__init__(stem, encoding, index)
        self._encoder: Encoder | None = None
        self._written = 0  # frames that went to the open encoder
        self._torn = False  # whether another frame may be in there, whole or not
        self._parts: list[Path] = []
        self._joined: Path | None = None  # which of them joins others
        self._finished = 0  # frames in the parts
        self._paths = 0
        encoding.try_out()  # now, rather than in the middle of a rollout

    @property
    def frames(self) -> int:
        return self._finished + self._written

    def write(self, frames: Array | Tensor) -> None:
        array = np.asarray(frames)
        if array.shape[1:3] != self.size:
            self._checked(array)
        try:
            for frame in array:
                encoder = self._encoder
                if encoder is None or self._torn:
                    encoder = self._begin_part(frame)
                self._torn = True
                encoder.write(frame)
                self._written += 1
                self._torn = False
                if self._obs is not None:
                    self._list(frame)
        except EncoderError as error:
            self._raise(error)

    def _raise(self, error: EncoderError) -> NoReturn:
        """Raise `error`; it names all parts that are left."""
        if not self._parts:
            raise error
        parts = ", ".join(map(str, self._parts))
        raise EncoderError(f"{error}. {self._finished} frames before that are in {parts}") from error

    def _begin_part(self, frame: Array) -> Encoder:
        self._finish_part()
        size = (frame.shape[0], frame.shape[1])
        if self.size is None:
            self.encoding = self.encoding.usable(size)
        stderr = self._open(size).descriptor
        told = metadata.args(self.encoding.video_format, self._about)
        args = [*self.encoding.ffmpeg_args(size, self.beside), *told]
        try:
            encoder = Encoder(self._next_path(), size, self.encoding.fps, args, stderr, is_planar(frame))
        except EncoderError:
            if not self._parts:
                self.delete()
            raise
        self._encoder = encoder
        return encoder

    def _next_path(self, mark: str = "") -> Path:
        number, self._paths = self._paths, self._paths + 1
        return self._path(f"-{number}{mark}" if number else "")

    def _finish_part(self) -> None:
        """Close the open encoder; FFmpeg's count of the frames is what the part holds."""
        if self._encoder is not None:
            self._torn = True  # until this is done: it takes no more frames, also if it is interrupted
            path, written = self._encoder.path, self._written
            frames = self._encoder.finish() if written else 0
            if written:
                self._parts.append(path)
            else:  # nothing but a frame that was interrupted
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
        try:
            self._finish_part()
        except EncoderError as error:
            self._raise(error)
        if len(self._parts) > 1 or (self.encoding.copied and self._parts != [self._joined]):
            self._join_parts()
        if not self._parts[0].exists():
            raise EncoderError(f"{self._parts[0]}, with {self.frames} frames, is not there any more; who deleted it?")
        video = self._video(self._parts[0])
        if self.step is not None:
            metadata.overwrite(video.path, {"step": self.step, "tag": self.tag, **video.row()})
        return video

    def _join_parts(self) -> None:
        joined = self._next_path("j")
        try:
            frames = join(self._parts, joined, self.encoding, self._about)
            if frames != self._finished:
                raise EncoderError(f"{frames} frames of {self._finished} could be joined from {self._parts}")
            parts, self._parts, self._joined = self._parts, [joined], joined
        except BaseException:
            joined.unlink(missing_ok=True)
            raise
        for part in parts:
            part.unlink()

    def iter_frames(self) -> Iterator[Tensor]:
        if self.size is None:
            return
        (height, width), factor, video = self.size, self.encoding.factor(self.size), self.finish()
        middle = factor // 2  # of the pixels that one was enlarged to
        for frame in video.iter_frames():
            yield frame[middle::factor, middle::factor][:height, :width]

    def detach(self) -> None:
        if self._encoder is not None:
            self._encoder.detach()
        super().detach()

    def delete(self) -> None:
        if self._encoder is not None:
            self._encoder.kill()
            self._parts.append(self._encoder.path)
            self._encoder = None
        for part in self._parts:
            remove(part)
        self.published()

"""Source, a video that is read frame by frame: whatever its length, one frame is in memory. No torch."""

import math
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from vidrec.errors import EncoderError
from vidrec.ffmpeg.encoding import ENCODED, MAX_FPS
from vidrec.ffmpeg.files import input_args
from vidrec.ffmpeg.program import find_ffmpeg, passthrough
from vidrec.files import forks

Array = np.ndarray[Any, Any]

MAX_STDERR_BYTES = 1000
"""How much of what FFmpeg says an error shows."""

UNKNOWN_FPS = Fraction(30)
"""What a file of one frame has, if it does not say how long that is shown."""


@dataclass(frozen=True)
class Source:
    """A video that can be read.

    Attributes:
        path: the file.
        frames: how many frames it has.
        fps: frames per second, on average, as simple a number as the times in the file allow.
        height: of its frames, in pixels.
        width: the same.
    """

    path: Path
    frames: int
    fps: Fraction
    height: int
    width: int

    @classmethod
    def of(cls, path: Path) -> "Source":
        """Look through a file, and decode nothing.

        Raises:
            EncoderError: it is not there, is no video that FFmpeg wrote, or is damaged.
        """
        if path.suffix not in ENCODED:
            expected = f"expected one of {', '.join(sorted(ENCODED))}"
            raise EncoderError(f"{path} is no video that FFmpeg reads by its name; {expected}")
        head: dict[str, str] = {}
        count, begin, end = 0, math.inf, -math.inf
        args = [*input_args(path), "-map", "0:v:0", "-c", "copy", "-f", "framecrc", "-"]
        with _reading(path, args) as output:
            for line in output:
                if line.startswith(b"#"):
                    name, _, value = line[1:].decode().partition(" 0: ")
                    head[name] = value.strip()
                    continue
                _, _, shown, duration, *_ = line.split(b",")  # stream, dts, pts, duration, size, checksum
                count, begin, end = count + 1, min(begin, int(shown)), max(end, int(shown) + int(duration))
        if not count:
            raise EncoderError(f"{path} holds no frames")
        width, height = map(int, head["dimensions"].split("x"))
        rounded = count if path.suffix == ".apng" else 1  # it tells how long each frame is shown, and not when
        return cls(path, count, _fps(count, int(end - begin), rounded, Fraction(head["tb"])), height, width)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of its frames, in pixels."""
        return self.height, self.width

    def read(self, size: tuple[int, int] | None = None) -> Generator[Array, None, None]:
        """Yield each frame once, uint8 ``[H, W, 3]``, of this (height, width); None is their own.

        Frames are enlarged with sharp pixels, and averaged where they become smaller.

        Raises:
            EncoderError: FFmpeg finds damage, after the last frame.
        """
        height, width = size or self.size
        way = "neighbor" if height >= self.height else "area"
        scaled = ["-vf", f"format=rgb24,scale=w={width}:h={height}:flags={way}"]
        # one thread, for many are read at a time; not turned, which would exchange height and width
        args = ["-threads", "1", "-noautorotate", *input_args(self.path), "-map", "0:v:0", *scaled, *passthrough()]
        with _reading(self.path, [*args, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]) as output:
            while len(data := output.read(height * width * 3)) == height * width * 3:
                yield np.frombuffer(data, np.uint8).reshape(height, width, 3)


def read_frames(path: Path, size: tuple[int, int], frames: int) -> Generator[Array, None, None]:
    """Yield the first `frames` frames of a video, uint8 ``[H, W, 3]`` each, of this (height, width).

    Raises:
        EncoderError: FFmpeg cannot read the file, or it holds fewer.
    """
    read = 0
    with closing(Source(path, frames, UNKNOWN_FPS, *size).read()) as found:
        for frame in islice(found, frames):
            yield frame
            read += 1
    if read < frames:
        raise EncoderError(f"{path} holds {read} frames; expected {frames}")


def _fps(frames: int, units: int, rounded: int, unit: Fraction) -> Fraction:
    """Return the simplest rate at which so many frames take so many units of time, give or take the rounded ones."""
    if units <= rounded:
        return UNKNOWN_FPS
    slow, fast = frames / ((units + rounded) * unit), frames / ((units - rounded) * unit)
    rate = frames / (units * unit)
    simple = (rate.limit_denominator(most) for most in (1, 2, 4, 10, 100, 1001))
    return min(Fraction(MAX_FPS), next((fps for fps in simple if slow <= fps <= fast), rate))


@contextmanager
def _reading(path: Path, args: list[str]) -> Iterator[IO[bytes]]:
    """Give what FFmpeg writes to its stdout; in the end, raise what it says of `path`. It ends with the context."""
    command = [find_ffmpeg(), "-hide_banner", "-nostdin", "-loglevel", "error", *args]
    with tempfile.TemporaryFile() as stderr:
        try:
            with forks.lock:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
                )
        except OSError as error:
            raise EncoderError(f"FFmpeg could not be started: {error}") from error
        assert process.stdout is not None
        try:
            yield process.stdout
            code = process.wait()
        finally:
            process.kill()
            process.stdout.close()
            process.wait()
        stderr.seek(0)
        said = stderr.read(MAX_STDERR_BYTES).decode(errors="replace").strip()
        if code or said:
            raise EncoderError(f"FFmpeg cannot read all of {path}: {said or f'it ended with exit code {code}'}")

"""Encoder, the FFmpeg process behind a clip: start, write, finish, fail; the only file that knows pipes.

FFmpeg is the queue and the thread. It runs beside the training, reads ahead by itself while it encodes, and finishes
the file when its input ends, for whatever reason it ends: also when this process is killed.
"""

import contextlib
import math
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vidrec.errors import EncoderError, positive_seconds
from vidrec.ffmpeg.files import count_frames
from vidrec.ffmpeg.process import start
from vidrec.ffmpeg.program import find_ffmpeg, has_option
from vidrec.files import forks

READ_AHEAD_BYTES = 64 * 2**20
"""How much of one clip FFmpeg may hold before it has encoded it."""

READ_AHEAD_FRAMES = 32
"""And how many frames, so that small frames do not pile up either: `finish` waits for these at the most."""

MAX_STDERR_BYTES = 10_000
"""How much of FFmpeg's stderr an error shows."""

PIPE_BYTES = 2**20
"""The size asked for the pipe: a whole frame fits, so that a write returns at once. Linux allows this much."""

Array = np.ndarray[Any, Any]


def set_ffmpeg_timeout(timeout_s: float | None = 30.0) -> None:
    """Say how long an FFmpeg that encodes may do nothing, neither compute nor write, before it is ended as stuck.

    This is for encoders that start from now on, in this process and those that it forks. The environment variable
    VIDREC_FFMPEG_TIMEOUT_S says the same for processes that start later.

    Args:
        timeout_s: in seconds, above 0; None lets it stand still as long as it likes, as on a disk that sleeps.

    Raises:
        SettingError: another value.
    """
    global TIMEOUT_S
    TIMEOUT_S = positive_seconds("timeout_s", math.inf if timeout_s is None else timeout_s)


TIMEOUT_S = positive_seconds("VIDREC_FFMPEG_TIMEOUT_S", os.environ.get("VIDREC_FFMPEG_TIMEOUT_S", 30.0))
"""How long FFmpeg may do nothing, see `set_ffmpeg_timeout`."""


def is_planar(frame: Array) -> bool:
    """Return whether a frame ``[H, W, 3]`` lies in memory channel by channel, so that its planes need no copy.

    >>> is_planar(np.zeros((48, 64, 3), np.uint8)), is_planar(np.zeros((3, 48, 64), np.uint8).transpose(1, 2, 0))
    (False, True)
    """
    return frame.strides[1] == 1 and not frame.flags.c_contiguous


class Encoder:
    """One FFmpeg process that encodes one file, as frames are written to it.

    Whoever makes it calls `finish`. A forked child closes it before anything else runs there, so that neither process
    waits for the other.

    Args:
        path: the file to write, in an existing folder; an existing file is an error.
        size: (height, width) of the frames, in pixels.
        fps: frames per second.
        output_args: FFmpeg's arguments between its input and the name of the file.
        stderr: the descriptor of a file, opened to append, for FFmpeg's messages.
        planar: the layout in which FFmpeg takes frames: channel by channel (gbrp), or pixel by pixel (rgb24).
        timeout_s: how long FFmpeg may do nothing, neither compute nor write, before it counts as stuck; None takes
            what `set_ffmpeg_timeout` says.

    Raises:
        EncoderError: FFmpeg cannot be started.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        fps: Fraction,
        output_args: Sequence[str],
        stderr: int,
        planar: bool = False,
        *,
        timeout_s: float | None = None,
    ) -> None:
        self.path, self.timeout_s = path, TIMEOUT_S if timeout_s is None else timeout_s
        self._failure: EncoderError | None = None
        self._stderr, self._stderr_begin = stderr, os.fstat(stderr).st_size
        self._planar = planar
        height, width = size
        ahead = max(1, min(READ_AHEAD_FRAMES, READ_AHEAD_BYTES // (height * width * 3)))
        command = [find_ffmpeg(), "-hide_banner", "-nostdin", "-n", "-loglevel", "error", "-nostats"]
        if has_option("stats_period"):  # or else its progress report grows by a few hundred bytes a second
            command += ["-stats_period", "3600"]
        command += ["-f", "rawvideo", "-pixel_format", "gbrp" if planar else "rgb24"]
        command += ["-video_size", f"{width}x{height}", "-framerate", str(fps)]
        command += ["-thread_queue_size", str(ahead), "-i", "pipe:0"]
        command += [*output_args, f"file:{path}"]
        with forks.lock:  # a child that is forked meanwhile would hold FFmpeg's input open
            self._start(command)
            forks.detach_in_child(self)  # as long as a child has this end of the pipe, FFmpeg never sees it end
        self._input = self._pipe.fileno()
        os.set_blocking(self._input, False)
        if sys.platform == "linux":
            import fcntl

            with contextlib.suppress(OSError):  # beyond the user's limit: slower, not wrong
                fcntl.fcntl(self._input, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._room = select.poll()
        self._room.register(self._input, select.POLLOUT)

    def _start(self, command: list[str]) -> None:
        # Frames are counted by FFmpeg itself, in the progress report that it writes at its end. That and its stderr go
        # to files: a pipe that nobody drains would fill and block.
        try:
            # without a buffer, whose lock another thread may hold when a child that closes this is forked
            self._progress = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        except OSError as error:
            raise EncoderError(f"FFmpeg could not be started for {self.path}: {error}") from error
        count = self._progress.fileno()
        command[1:1] = ["-progress", f"pipe:{count}"]
        try:
            self._process = start(
                command,
                count,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,  # nothing is written there: it is at its end when FFmpeg is
                stderr=self._stderr,
            )
        except OSError as error:
            self._progress.close()
            raise EncoderError(f"FFmpeg could not be started for {self.path}: {error}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._pipe, self._stdout = self._process.stdin, self._process.stdout
        self._end = select.poll()
        self._end.register(self._stdout.fileno(), 0)  # its end is always told

    def write(self, frame: Array) -> None:
        """Hand over one frame, uint8 ``[H, W, 3]``, with any strides. The encoder keeps no reference to it.

        A frame in the encoder's layout is written from where it is; another one is copied first.

        Returns when FFmpeg has all of it. If another exception interrupts that, such as Ctrl-C, it is not known how
        much FFmpeg has: call `finish`, which drops an incomplete frame, and go on in another file.

        Raises:
            EncoderError: FFmpeg died, or took nothing for `timeout_s`.
        """
        if self._failure is not None:
            raise self._failure
        buffers: list[Any]
        if self._planar:
            green, blue, red = frame[..., 1], frame[..., 2], frame[..., 0]
            if not green.flags.c_contiguous:
                green, blue, red = green.copy(), blue.copy(), red.copy()
            buffers = [green, blue, red]
        else:
            buffers = [frame if frame.flags.c_contiguous else frame.copy()]
        try:
            while buffers:
                try:
                    written = os.writev(self._input, buffers)
                except BlockingIOError:
                    if not self._room.poll(1000):
                        self._wait(lambda: bool(self._room.poll(1000)))
                    continue
                while buffers and written >= buffers[0].nbytes:
                    written -= buffers.pop(0).nbytes
                if written:
                    buffers[0] = memoryview(buffers[0]).cast("B")[written:]
        except BrokenPipeError:
            self._wait(lambda: self._ended(1))
            raise self._failed(f"stopped with exit code {self._process.returncode}") from None

    def finish(self) -> int:
        """Wait until FFmpeg has finished the file, check that it could, and return how many frames are in it.

        Raises:
            EncoderError: FFmpeg says that it failed, or did nothing for `timeout_s` and was killed.
        """
        if self._failure is not None:
            raise self._failure
        with forks.lock:  # a child that is forked in between would hold open what is closed here already
            self._close_input()
        self._wait(lambda: self._ended(1))
        self._progress.seek(0)
        frames = count_frames(self._progress.read().decode())
        if self._process.returncode != 0 or frames is None:
            raise self._failed(f"stopped with exit code {self._process.returncode}")
        self._close()
        return frames

    def kill(self) -> None:
        """End FFmpeg at once, whatever it was doing; what it had written stays."""
        self._close_input()
        self._process.kill()
        self._process.wait()
        self._close()

    def detach(self) -> None:
        """Close the descriptors, and leave FFmpeg to the process that started it: called in a forked child."""
        self._close_input()
        self._process.returncode = 0  # not ours to wait for
        self._close()

    def _ended(self, timeout_s: float) -> bool:
        """Wait until FFmpeg has ended, so long at the most; return whether it has."""
        if self._end.poll(timeout_s * 1000):
            self._process.wait()
        return self._process.returncode is not None

    def _wait(self, ready: Callable[[], bool]) -> None:
        """Call `ready`, which may take a second, until it is true, FFmpeg's end included, or FFmpeg is stuck."""
        last, since = None, time.monotonic()
        while not ready():
            if (signs := self._signs_of_life()) != last:
                last, since = signs, time.monotonic()
            elif time.monotonic() - since > self.timeout_s:
                self._process.kill()
                self._process.wait()
                raise self._failed(f"did nothing for {self.timeout_s:g} s and was ended (vidrec.set_ffmpeg_timeout)")

    def _signs_of_life(self) -> tuple[int, list[str]]:
        """What changes while FFmpeg works: the size of its file, and the processor time that it took (on Linux)."""
        try:
            size = os.path.getsize(self.path)
        except OSError:
            size = 0
        try:
            # fields 14 and 15, see proc(5); counted from behind the name, which may hold spaces
            return size, Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        except OSError:
            return size, []

    def _failed(self, how: str) -> EncoderError:
        self._close_input()
        stderr = os.pread(self._stderr, MAX_STDERR_BYTES, self._stderr_begin).decode(errors="replace").strip()
        self._close()
        kept = f"what it had written is in {self.path}" if os.path.exists(self.path) else f"it wrote no {self.path}"
        self._failure = EncoderError(f"FFmpeg {how}; {kept}. It said: {stderr or 'nothing'}")
        return self._failure

    def _close_input(self) -> None:
        self._input = -1  # its number may be another file's from now on
        self._pipe.close()

    def _close(self) -> None:
        self._progress.close()
        self._stdout.close()
        forks.forget(self)

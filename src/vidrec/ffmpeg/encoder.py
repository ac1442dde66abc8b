"""Encoder, the FFmpeg process behind a clip: start, write, finish, fail; the only file that knows pipes.

FFmpeg is the queue and the thread. It runs beside the training, reads ahead by itself while it encodes, and finishes
the file when its input ends, for whatever reason it ends: also when this process is killed.
"""

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vidrec.errors import EncoderError
from vidrec.ffmpeg.files import count_frames, find_ffmpeg

READ_AHEAD_BYTES = 64 * 2**20
"""How much of one clip FFmpeg may hold before it has encoded it."""

READ_AHEAD_FRAMES = 32
"""And how many frames, so that small frames do not pile up either: `finish` waits for these at the most."""

TIMEOUT_S = 30.0
"""How long FFmpeg may do nothing, neither compute nor write, before it counts as stuck."""

MAX_STDERR_BYTES = 10_000
"""How much of what FFmpeg says is told."""

PIPE_BYTES = 2**20
"""The size asked for the pipe: a whole frame fits, so that a write returns at once. Linux allows this much."""


class Encoder:
    """One FFmpeg process that encodes one file, as frames are written to it.

    Whoever makes it calls `finish`. In a forked child it is closed before anything else runs there, so that neither
    side waits for the other.

    Args:
        path: the file to write, in an existing folder; an existing file is an error.
        size: (height, width) of the frames, in pixels.
        fps: frames per second.
        output_args: FFmpeg's arguments between its input and the name of the file.
        words: the descriptor of a file, opened to append, for what FFmpeg says.
        timeout_s: how long FFmpeg may do nothing, neither compute nor write, before it counts as stuck.

    Raises:
        EncoderError: FFmpeg cannot be started.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        fps: Fraction,
        output_args: Sequence[str],
        words: int,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.path, self.timeout_s = path, timeout_s
        self._failure: EncoderError | None = None
        self._stderr, self._from = words, os.fstat(words).st_size
        height, width = size
        ahead = max(1, min(READ_AHEAD_FRAMES, READ_AHEAD_BYTES // (height * width * 3)))
        command = [find_ffmpeg(), "-hide_banner", "-nostdin", "-n", "-loglevel", "error"]
        command += ["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}"]
        command += ["-framerate", str(fps), "-thread_queue_size", str(ahead), "-i", "pipe:0"]
        command += [*output_args, f"file:{path}"]
        # Frames are counted by FFmpeg itself, in the progress report that it writes at its end. That and its words go
        # to files: a pipe that nobody drains would fill and block.
        try:
            self._progress = tempfile.TemporaryFile()  # noqa: SIM115
        except OSError as error:
            raise EncoderError(f"FFmpeg could not be started for {path}: {error}") from error
        count = self._progress.fileno()
        command[1:1] = ["-nostats", "-stats_period", "3600", "-progress", f"pipe:{count}"]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=words,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for the training, not for the encoder
                pass_fds=[count],
            )
        except OSError as error:
            self._close()
            raise EncoderError(f"FFmpeg could not be started for {path}: {error}") from error
        assert self._process.stdin is not None
        self._pipe = self._process.stdin
        os.set_blocking(self._pipe.fileno(), False)
        if sys.platform == "linux":
            import fcntl

            with contextlib.suppress(OSError):  # beyond the user's limit: slower, not wrong
                fcntl.fcntl(self._pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._room = select.poll()
        self._room.register(self._pipe.fileno(), select.POLLOUT)
        _running.add(self)

    def write(self, frame: np.ndarray[Any, Any]) -> None:
        """Hand over one frame, uint8 ``[H, W, 3]``, contiguous; nothing of it is kept here.

        Returns when FFmpeg has it all. If an exception comes from elsewhere in between, such as Ctrl-C, it is not known
        how much FFmpeg has: call `finish`, which drops an incomplete frame, and go on in another file.

        Raises:
            EncoderError: FFmpeg died, or took nothing for `timeout_s`.
        """
        self._check()
        rest = memoryview(frame.data).cast("B")
        try:
            while rest:
                try:
                    rest = rest[os.write(self._pipe.fileno(), rest) :]
                except BlockingIOError:
                    self._wait(lambda: bool(self._room.poll(1000)))
        except BrokenPipeError:
            self._wait(lambda: self._ended(1))
            raise self._failed(f"stopped with exit code {self._process.returncode}") from None

    def finish(self) -> int:
        """Wait until FFmpeg has finished the file, check that it could, and return how many frames are in it.

        Raises:
            EncoderError: FFmpeg says that it failed, or did nothing for `timeout_s` and was killed.
        """
        self._check()
        self._pipe.close()
        self._wait(lambda: self._ended(1))
        self._progress.seek(0)
        frames = count_frames(self._progress.read().decode())
        if self._process.returncode != 0 or frames is None:
            raise self._failed(f"stopped with exit code {self._process.returncode}")
        self._close()
        return frames

    def kill(self) -> None:
        """End FFmpeg at once, whatever it was doing; what it had written stays."""
        self._pipe.close()
        self._process.kill()
        self._process.wait()
        self._close()

    def leave(self) -> None:
        """Let go of a process that belongs to another one: called in a forked child."""
        self._pipe.close()
        self._process.returncode = 0  # not ours to wait for
        self._close()

    def _ended(self, timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        while self._process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)  # Popen.wait(timeout) sleeps up to 50 ms
        return self._process.returncode is not None

    def _wait(self, ready: Callable[[], bool]) -> None:
        """Call `ready`, which may take a second, until it is true, FFmpeg's end included, or FFmpeg is stuck."""
        last, since = self._signs_of_life(), time.monotonic()
        while not ready():
            signs = self._signs_of_life()
            if signs != last:
                last, since = signs, time.monotonic()
            elif time.monotonic() - since > self.timeout_s:
                self._process.kill()
                self._process.wait()
                raise self._failed(f"did nothing for {self.timeout_s:g} s and was ended")

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

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _failed(self, how: str) -> EncoderError:
        self._pipe.close()
        words = os.pread(self._stderr, MAX_STDERR_BYTES, self._from).decode(errors="replace").strip()
        self._close()
        kept = f"what it had written is in {self.path}" if os.path.exists(self.path) else f"it wrote no {self.path}"
        self._failure = EncoderError(f"FFmpeg {how}; {kept}. It said: {words or 'nothing'}")
        return self._failure

    def _close(self) -> None:
        self._progress.close()
        _running.discard(self)


_running: "weakref.WeakSet[Encoder]" = weakref.WeakSet()


def _leave_all() -> None:
    """Close the inherited ends of the pipes in a forked child: as long as one is open, FFmpeg never sees the end."""
    for encoder in list(_running):
        encoder.leave()


os.register_at_fork(after_in_child=_leave_all)

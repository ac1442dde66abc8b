"""FFmpeg for whole files: find it, ask it, read a video back, join several. For a video in the making see `encoder`."""

import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vidrec.errors import EncoderError, SettingError
from vidrec.files import forks

PROGRAM_OPTIONS = {"aspect", "passlogfile", "stats"}
"""Options of the command ``ffmpeg`` that are named like those of an encoder, and mean files or another thing there."""


@cache
def find_ffmpeg() -> str:
    """Return the path of the FFmpeg that moviepy uses: the one of its dependencies, or ``$FFMPEG_BINARY``."""
    try:
        with forks.lock:  # it starts FFmpeg
            from moviepy.config import FFMPEG_BINARY
    except OSError as error:
        raise EncoderError(f"FFmpeg could not be started: {error}") from error

    return str(FFMPEG_BINARY)


def check_ffmpeg() -> None:
    """Raise `EncoderError` unless FFmpeg is there and is one: what it cannot read is not read by any other then."""
    if not _run(["-version"]).stdout.startswith("ffmpeg version"):
        raise EncoderError(f"{find_ffmpeg()} is no FFmpeg that works")


def run(args: Sequence[str]) -> tuple[int, str]:
    """Run FFmpeg with `args` to its end; return its exit code and its stderr."""
    done = _run(["-nostdin", "-loglevel", "error", *args])
    return done.returncode, done.stderr.strip()


def check_options(codec: str, names: Iterable[str], pixel_format: str | None) -> None:
    """Raise `SettingError` unless FFmpeg has such a video encoder, and it has these options and pixel format."""
    specific, general = _help(f"encoder={codec}"), _help("full")
    if not specific.startswith("Encoder "):
        raise SettingError(f"FFmpeg has no encoder {codec!r}; name one of `ffmpeg -encoders`, such as libx264")
    section = general.partition("AVCodecContext AVOptions:")[2].partition("AVOptions:")[0]
    known = set(re.findall(r"^ +-(\S+) .* E..V", specific + section, flags=re.MULTILINE))
    for name in names:
        if name not in known:
            raise SettingError(f"{name!r} is no option of the encoder {codec}; see `ffmpeg -h encoder={codec}`")
        if name in PROGRAM_OPTIONS:
            raise SettingError(f"{name!r} is an option of the program FFmpeg as well; it would not reach {codec}")
    formats = re.findall(r"Supported pixel formats: (.*)", specific)
    if pixel_format is not None and formats and pixel_format not in formats[0].split():
        raise SettingError(f"{pixel_format!r} is no pixel format of the encoder {codec}; expected one of {formats[0]}")


@cache
def _help(topic: str) -> str:
    return _run(["-h", topic]).stdout


def _run(args: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    command = [find_ffmpeg(), "-hide_banner", *args]
    try:
        # a child that is forked while `Popen` waits for its own would keep it waiting
        with forks.lock:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
    except OSError as error:
        raise EncoderError(f"FFmpeg could not be started: {error}") from error
    with process:
        try:
            output, errors = process.communicate()
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def read_frames(path: Path, frames: int) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the first `frames` frames of a video, uint8 ``[H, W, 3]`` each, read-only, by moviepy's reader.

    Raises:
        EncoderError: FFmpeg cannot read the file, or it holds fewer.
    """
    with tempfile.TemporaryDirectory(prefix="vidrec-") as folder:
        if path.suffix in (".gif", ".apng"):
            # moviepy reads at a constant rate, and would double frames: a GIF counts in hundredths of a second, and of
            # a short APNG FFmpeg does not find out the rate
            copy = Path(folder) / "constant_rate.mkv"
            lossless = ["-c:v", "libx264rgb", "-qp", "0", "-preset", "ultrafast"]
            code, stderr = run(["-r", "30", "-i", f"file:{path}", *lossless, f"file:{copy}"])
            if code:
                raise EncoderError(f"FFmpeg cannot read {path}: {stderr}")
            path = copy
        yield from _read_frames(path, frames)


def _read_frames(path: Path, frames: int) -> Iterator[np.ndarray[Any, Any]]:
    from moviepy.video.io.ffmpeg_reader import FFMPEG_VideoReader

    # check_duration=False: a clip that was cut off by a crash does not know its length, and is read all the same
    try:
        with forks.lock:
            reader = FFMPEG_VideoReader(str(path), decode_file=False, check_duration=False)
    except OSError as error:
        raise EncoderError(f"FFmpeg cannot read {path}: {error}") from error
    process = reader.proc
    width, height = reader.size
    try:
        if frames:
            yield reader.last_read
        for i in range(1, frames):
            # not read_frame(), which gives the last frame again where there are no more
            data = process.stdout.read(height * width * 3)
            if len(data) < height * width * 3:
                raise EncoderError(f"{path} holds {i} frames; expected {frames}")
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
    finally:
        reader.close()
        process.stdout.close()  # moviepy leaves them open when FFmpeg has ended by itself
        process.stderr.close()


def join(parts: Sequence[Path], target: Path, muxer_args: Sequence[str]) -> int:
    """Join videos of the same encoding into `target`, one after the other, without encoding anything again.

    Returns:
        How many frames are in it, as FFmpeg counts them.

    Raises:
        EncoderError: FFmpeg failed; the parts are as they were.
    """
    # a list cannot hold every name that a file may have, but links to them can be named anyhow
    with tempfile.TemporaryDirectory(prefix="vidrec-") as folder:
        listing = Path(folder, "list.txt")
        for number, part in enumerate(parts):
            Path(folder, str(number)).symlink_to(part.absolute())
        listing.write_text("".join(f"file {number}\n" for number in range(len(parts))))
        source = ["-f", "concat", "-i", str(listing), "-c", "copy"]
        return _join(parts, [*source, *muxer_args, f"file:{target}"])


def encode_again(parts: Sequence[Path], target: Path, fps: Fraction, filters: str, encoder_args: Sequence[str]) -> int:
    """Join videos as `join` does, for formats that lose nothing by it, and whose files cannot be joined as they are.

    Of two GIFs in one file other programs show the first, and an APNG of one frame is a PNG, another format to FFmpeg.
    """
    sources = [word for part in parts for word in ("-r", str(fps), "-i", f"file:{part}")]
    concat = ["-filter_complex", f"concat=n={len(parts)}:v=1:a=0,{filters}"]
    return _join(parts, [*sources, *concat, *encoder_args, f"file:{target}"])


def _join(parts: Sequence[Path], args: Sequence[str]) -> int:
    done = _run(["-nostdin", "-loglevel", "error", "-progress", "pipe:1", *args])
    if done.returncode or done.stderr:  # FFmpeg goes on without a part that it cannot read
        raise EncoderError(f"FFmpeg could not join {', '.join(map(str, parts))}: {done.stderr.strip()}")
    return count_frames(done.stdout) or 0


def count_frames(progress: str) -> int | None:
    """Return how many frames FFmpeg wrote, by the end of its ``-progress`` report; None if that does not say."""
    counts = re.findall(r"frame=\s*(\d+)", progress)
    return int(counts[-1]) if counts else None


@dataclass(frozen=True)
class Contents:
    """What FFmpeg finds in a video.

    Attributes:
        times: when each frame is shown, in seconds.
        height: of its frames, in pixels.
        width: the same.
        codec: the name of its codec; ``"rawvideo"`` if it was decoded.
        stderr: what FFmpeg says is wrong with it, empty if nothing.
        seconds: how long it plays.
    """

    times: list[Fraction]
    height: int
    width: int
    codec: str
    stderr: str
    seconds: Fraction

    @property
    def frames(self) -> int:
        return len(self.times)

    @property
    def fps(self) -> float:
        """Frames per second, on average."""
        return float(self.frames / self.seconds) if self.seconds else 0.0


def contents(path: Path, *, decode: bool) -> Contents:
    """Read a video to its end, decoding each frame or not, and return what is in it.

    Raises:
        EncoderError: FFmpeg cannot be started, or cannot read it.
    """
    how = ["-fps_mode", "passthrough"] if decode else ["-c", "copy"]
    done = _run(["-nostdin", "-loglevel", "error", "-i", f"file:{path}", "-map", "0:v:0", *how, "-f", "framecrc", "-"])
    head = dict(re.findall(r"^#(\w+) 0: (.*)$", done.stdout, flags=re.MULTILINE))
    unit, (width, height) = Fraction(head.get("tb", "1")), head.get("dimensions", "0x0").split("x")
    # stream, dts, pts, duration, size, checksum
    packets = [line.split(",") for line in done.stdout.splitlines() if not line.startswith("#")]
    times = [int(packet[2]) * unit for packet in packets]
    seconds = times[-1] + int(packets[-1][3]) * unit - times[0] if packets else Fraction(0)
    stderr = done.stderr.strip()
    if not packets and (done.returncode or not head):
        raise EncoderError(f"FFmpeg reads nothing of {path}: {stderr}")
    return Contents(times, int(height), int(width), head.get("codec_id", ""), stderr, seconds)


def cut(source: Path, target: Path, frames: int, muxer_args: Sequence[str]) -> None:
    """Write the first `frames` frames of a video into `target`, without encoding anything again; an attempt only."""
    copy = ["-map", "0:v:0", "-c", "copy", "-frames:v", str(frames)]
    run(["-n", "-i", f"file:{source}", *copy, *muxer_args, f"file:{target}"])

"""FFmpeg for whole files: read a video back, join several. For a video in the making see `encoder`."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidrec.errors import EncoderError
from vidrec.ffmpeg import metadata
from vidrec.ffmpeg.encoding import Encoding
from vidrec.ffmpeg.program import passthrough, run, run_ffmpeg


def input_args(path: Path) -> list[str]:
    """Return FFmpeg's arguments to read a file, whatever its name is: that of a WebP it may take for a pattern."""
    if path.suffix != ".webp":
        return ["-i", f"file:{path}"]
    try:
        with path.open("rb") as file:
            moves = file.read(16).endswith(b"VP8X")  # one frame alone is an image without that
    except OSError as error:
        raise EncoderError(f"FFmpeg cannot read {path}: {error}") from error
    return ["-f", "webp_anim" if moves else "webp_pipe", "-i", f"file:{path}"]


def at_constant_rate(path: Path, folder: Path, fps: Fraction) -> Path:
    """Return `path`, or a lossless copy of it in `folder`, such that moviepy's reader gives each frame once.

    It reads at a constant rate, and would double frames of animated images: a GIF counts in hundredths of a second,
    WebP in thousandths, and of a short APNG FFmpeg does not find out the rate.

    Raises:
        EncoderError: FFmpeg cannot read the file.
    """
    if path.suffix not in (".gif", ".apng", ".webp"):
        return path
    copy = folder / "constant_rate.mkv"
    lossless = ["-c:v", "libx264rgb", "-qp", "0", "-preset", "ultrafast"]
    code, stderr = run(["-r", str(fps), *input_args(path), *lossless, f"file:{copy}"])
    if code:
        raise EncoderError(f"FFmpeg cannot read {path}: {stderr}")
    return copy


def join(parts: Sequence[Path], target: Path, encoding: Encoding, known: Mapping[str, Any]) -> int:
    """Join videos of this encoding into `target`, an ordinary file, one after the other.

    Nothing is encoded again, but for formats that lose nothing by it, and whose files cannot be joined as they are: of
    two GIFs in one file other programs show the first, an APNG of one frame is a PNG, another format to FFmpeg, and
    what it reads from an animated WebP it can copy into none. The file says of itself what is `known`, see `metadata`.

    Returns:
        How many frames are in it.

    Raises:
        EncoderError: FFmpeg failed; the parts are as they were.
    """
    output = [*metadata.args(encoding.video_format, known), *encoding.muxer_args]
    if not encoding.format.joinable:
        sources = [word for part in parts for word in ("-r", str(encoding.fps), *input_args(part))]
        concat = ["-filter_complex", f"concat=n={len(parts)}:v=1:a=0,{encoding.again}"]
        return _join(parts, target, [*sources, *concat, *encoding.encoder_args(), *output])
    with _listed(parts, encoding) as listing:
        return _join(parts, target, [*listing, "-c", "copy", *output])


def _join(parts: Sequence[Path], target: Path, args: Sequence[str]) -> int:
    code, stderr = run([*args, f"file:{target}"])
    if code or stderr:  # FFmpeg goes on without a part that it cannot read
        raise EncoderError(f"FFmpeg could not join {', '.join(map(str, parts))}: {stderr}")
    return contents(target, decode=False).frames


@contextmanager
def _listed(parts: Sequence[Path], encoding: Encoding) -> Iterator[list[str]]:
    """Give FFmpeg's arguments to read videos one after the other, the last frame of each as long as the others.

    FFmpeg before 5 takes that of an mp4 in fragments for shorter, unless it reads it from a list.
    """
    # a list cannot hold every name that a file may have, but links to them can be named anyhow
    with tempfile.TemporaryDirectory(prefix="vidrec-") as folder:
        listing = Path(folder, "list.txt")
        lines = []
        for number, part in enumerate(parts):
            Path(folder, str(number)).symlink_to(part.absolute())
            lines.append(f"file {number}\n")
            if part != parts[-1]:
                seconds = contents(part, decode=False).frames / encoding.fps
                lines.append(f"duration {float(seconds):.6f}\n")
        listing.write_text("".join(lines))
        yield ["-f", "concat", "-i", str(listing)]


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
    how = passthrough() if decode else ["-c", "copy"]
    done = run_ffmpeg(
        ["-nostdin", "-loglevel", "error", *input_args(path), "-map", "0:v:0", *how, "-f", "framecrc", "-"]
    )
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


def cut(source: Path, target: Path, frames: int, encoding: Encoding, known: Mapping[str, Any]) -> None:
    """Write the first frames of a video into `target`, as `join` does, and lose nothing; an attempt only."""
    first = ["-map", "0:v:0", "-frames:v", str(frames)]
    if not encoding.format.copies:
        again = ["-vf", encoding.again, *encoding.encoder_args(), *encoding.muxer_args]
        run(["-n", "-r", str(encoding.fps), *input_args(source), *first, *again, f"file:{target}"])
        return
    with _listed([source], encoding) as listing:
        told = metadata.args(encoding.video_format, known)
        run(["-n", *listing, *first, "-c", "copy", *told, *encoding.muxer_args, f"file:{target}"])

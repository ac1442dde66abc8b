"""The program FFmpeg: which one, what it can do, and a run of it to its end."""

import re
import subprocess
from collections.abc import Iterable, Sequence
from functools import cache

from vidrec.errors import EncoderError, SettingError
from vidrec.files import forks

OLDEST = "4.2"
OLDEST_LIBAVUTIL = (56, 31)
"""The oldest FFmpeg that will do. Versions of builds from git have any form, but that of its library counts up."""

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


def check_ffmpeg() -> str:
    """Return which FFmpeg it is, such as ``"FFmpeg 9.0.2 (/usr/bin/ffmpeg)"``.

    Raises:
        EncoderError: it is not there, does not work, or is too old.
    """
    report = run_ffmpeg(["-version"]).stdout
    version, library = re.match(r"ffmpeg version (\S+)", report), re.search(r"^libavutil +(\d+)\. *(\d+)", report, re.M)
    if version is None or library is None:
        raise EncoderError(f"{find_ffmpeg()} is no FFmpeg that works")
    this = f"FFmpeg {version[1]} ({find_ffmpeg()})"
    if (int(library[1]), int(library[2])) < OLDEST_LIBAVUTIL:
        raise EncoderError(f"{this} is too old: vidrec needs {OLDEST} or later; name another one in FFMPEG_BINARY")
    return this


@cache
def has_option(name: str) -> bool:
    """Return whether FFmpeg has an option of this name, or a value, in any part: one start tells of all."""
    return re.search(rf"\n *-?{name}\b", _help("full")) is not None


def passthrough() -> list[str]:
    """Return FFmpeg's arguments for one frame out for each frame in, at its time."""
    return ["-fps_mode" if has_option("fps_mode") else "-vsync", "passthrough"]


def has_encoder(codec: str) -> bool:
    """Return whether FFmpeg has such an encoder."""
    return _help(f"encoder={codec}").startswith("Encoder ")


def check_options(codec: str, names: Iterable[str], pixel_format: str | None) -> None:
    """Raise `SettingError` unless FFmpeg has such a video encoder, and it has these options and pixel format."""
    specific, general = _help(f"encoder={codec}"), _help("full")
    if not has_encoder(codec):
        raise SettingError(
            f"{check_ffmpeg()} has no encoder {codec!r}; name one of `ffmpeg -encoders`, such as libx264, or another "
            "FFmpeg in FFMPEG_BINARY"
        )
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
    return run_ffmpeg(["-h", topic]).stdout


def run(args: Sequence[str]) -> tuple[int, str]:
    """Run FFmpeg with `args` to its end; return its exit code and its stderr."""
    done = run_ffmpeg(["-nostdin", "-loglevel", "error", *args])
    return done.returncode, done.stderr.strip()


def run_ffmpeg(args: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run FFmpeg with `args` to its end; return its exit code, its stdout and its stderr."""
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

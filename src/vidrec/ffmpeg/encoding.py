"""What a video file should be, and the FFmpeg arguments that make it so."""

import math
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import cache
from numbers import Integral
from pathlib import PurePath
from typing import Any

from vidrec.errors import Once, SettingError, shown
from vidrec.ffmpeg.program import (
    check_ffmpeg,
    check_options,
    has_encoder,
    has_option,
    passthrough,
    run,
    run_ffmpeg,
)


@dataclass(frozen=True)
class Format:
    """A kind of file: how FFmpeg is told to write it, and what it writes if nobody says otherwise."""

    extension: str
    muxer: tuple[str, ...] = ()
    codec: str = "none"
    pixel_format: str = "rgb24"
    crf: float | None = None
    growing: tuple[str, ...] = ()  # so that a file of a machine that is killed can be read
    joinable: bool = True  # whether FFmpeg can join files without encoding them again
    copies: bool = True  # and whether it can copy the frames of one
    media_type: str = ""  # what browsers take it for; empty for what none plays

    @property
    def encoded(self) -> bool:
        """Whether FFmpeg writes it; the others are tensors on disk."""
        return bool(self.muxer)


FRAGMENTS = ("-frag_duration", "500000")
CLUSTERS = ("-cluster_time_limit", "500")
"""How much video the file of a killed machine may lack: half a second, given in us and in ms."""

HYBRID = ("-movflags", "+hybrid_fragmented+default_base_moof")
"""Whole fragments while an mp4 grows, an ordinary one with one moov once finished: FFmpeg 7.1 and later."""

FRAGMENTED = ("-movflags", "+delay_moov+default_base_moof")
"""Whole fragments to the end, for older ones: the finished file is copied into an ordinary one."""

FORMATS: Mapping[str, Format] = {
    "mp4": Format("mp4", ("-f", "mp4"), "libx264", "yuv420p", 20, FRAGMENTS, media_type="video/mp4"),
    "webm": Format("webm", ("-f", "webm"), "libvpx-vp9", "yuv420p", 30, CLUSTERS, media_type="video/webm"),
    "mkv": Format("mkv", ("-f", "matroska"), "libx264rgb", "rgb24", 0, CLUSTERS),
    "gif": Format("gif", ("-f", "gif"), "gif", "bgr8", joinable=False, media_type="image/gif"),
    "apng": Format("apng", ("-plays", "0", "-f", "apng"), "apng", "rgb24", joinable=False, media_type="image/apng"),
    "webp": Format(
        "webp",
        ("-loop", "0", "-f", "webp"),
        "libwebp",
        "bgra",
        joinable=False,
        copies=False,
        media_type="image/webp",
    ),
    "pt": Format("pt"),
    "memmap": Format("memmap"),
}

BY_SUFFIX = {f".{row.extension}": video_format for video_format, row in FORMATS.items()}
ENCODED = {suffix: video_format for suffix, video_format in BY_SUFFIX.items() if FORMATS[video_format].encoded}
"""The formats by the suffixes of their files: all, and those that FFmpeg writes."""


def media_type_of(suffix: str) -> str:
    """Return what browsers take a file with this suffix for; empty if none plays it."""
    return FORMATS[BY_SUFFIX[suffix]].media_type if suffix in BY_SUFFIX else ""


def format_of(name: str, formats: Mapping[str, str] = BY_SUFFIX) -> str:
    """Return the format that the name of a file says, one of those that are given by suffix.

    >>> format_of("eval.MP4")
    'mp4'

    Raises:
        SettingError: it says none of them.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix not in formats:
        raise SettingError(f"the name {name!r} does not say a format; expected one of {', '.join(formats)}")
    return formats[suffix]


# What each encoder needs so that it keeps up, and gives out each frame as it comes: no B-frames, no look-ahead that
# hides frames (VP9). Measured on real rollouts, see docs/quality.md.
ENCODER_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "libx264": {"bf": "0"},
    "libx264rgb": {"bf": "0"},
    # Each frame with a palette of its own. Without transdiff, which compares pixels by their place in the palette, and
    # so takes some that changed with it for unchanged ones. FFmpeg 4.2 knows no other palettes.
    "gif": {"global_palette": "0", "gifflags": "+offsetting-transdiff"},
    # the smallest and nearly the fastest of its predictions and levels, on drawn and on rendered frames
    "apng": {"pred": "none", "compression_level": "6"},
    # each frame by itself: libwebp_anim holds the whole clip, writes it at the end, and drops frames that do not differ
    "libwebp": {"lossless": "1", "compression_level": "1", "quality": "10"},
    # constant quality; without a delay of frames, which a killed machine would lose
    "h264_nvenc": {"bf": "0", "rc": "vbr", "cq": "20", "b:v": "0", "delay": "0"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "lag-in-frames": "0", "b:v": "0"},
}
SPEED: Mapping[str, Mapping[str, str]] = {
    # motion is searched by whole pixels only, and in the last frame only
    "libx264": {"preset": "veryfast", "subq": "0", "refs": "1"},
    "libx264rgb": {"preset": "veryfast"},
}
"""How much an encoder computes, unless a preset is given; docs/quality.md says why."""

INSTEAD: Mapping[str, Mapping[str, Any]] = {"h264_nvenc": {"video_codec": "libx264", "crf": 20.0}}
"""Encoders that need a GPU, which not every machine has, and what encodes if they cannot."""

OF_FILES = re.compile(r"stats|(?<!pro)file|dump|csv|analysis|recon|clbin|^pass$|multi-?pass")
"""Which options of encoders are the names of files."""

X264_MAX_CRF = 51

GOP_SECONDS = 2
"""A key frame at least this often: what a player must decode to seek, what a killed machine can lose."""

ENLARGE_TO = 256
"""Frames whose colours are stored at half the resolution are enlarged until the shorter side has this many pixels."""

MAX_SIDE = 4096
"""But not so that a side is longer than this, which players and encoders take; a longer frame stays as it is."""

FACTORS = (1, 2, 4)
"""By which factors: 3 would put every other edge into the middle of two pixels that share a colour."""

PROBE_FRAMES = 3
MAX_SCALE_GIVEN = 16
MAX_THREADS = 4
MAX_FPS = 1000
GIF_MAX_FPS = 100
GIF_PALETTE = "split[a][b];[a]palettegen=stats_mode=single:reserve_transparent=0[p];[b][p]paletteuse=new=1:dither=none"
"""A palette for each frame, so that nothing of the clip is held back: up to 256 colours are exact, but for rounding."""

# pixels that were enlarged are averaged over themselves: area is exact for them and fair to the others
TO_BT709 = "scale=flags=area:out_color_matrix=bt709:out_range=tv"
BT709_TAGS = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
BT709_ARGS = ("-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")
"""The same for the encoder: FFmpeg before 5 does not tell it the tags of the frames."""


@dataclass(frozen=True)
class Encoding:
    """How a video is to be encoded. Checked when it is made, so that nothing is refused after the rollout.

    >>> Encoding.of("mp4", fps=29.97, options={"crf": "18"})
    Encoding(video_format='mp4', fps=Fraction(2997, 100), crf=18.0)

    Args:
        video_format: ``"mp4"`` (H.264), ``"webm"`` (VP9), ``"gif"``, ``"apng"`` (animated PNG, lossless), ``"webp"``
            (animated WebP, lossless; needs an FFmpeg that can read it, from 9 on), ``"mkv"`` (lossless RGB), ``"pt"``
            or ``"memmap"`` (tensors on disk, as TorchRL writes them).
        fps: frames per second, above 0 and at most 1000; at most 100 for GIF.
        video_codec: the name of an FFmpeg encoder; None takes the format's own. ``"h264_nvenc"`` needs a GPU that
            encodes: it is tried with the first frame, and where it fails libx264 takes its place, with a warning.
        crf: constant rate factor, lower is better. None chooses 20 (mp4), 30 (webm), 0 (mkv, lossless).
        preset: the encoder's preset; None chooses "veryfast" for x264, and for libx264 with ``-subq 0 -refs 1``.
        pixel_format: FFmpeg's ``-pix_fmt``; None chooses yuv420p (mp4, webm), or yuv444p for another encoder in mkv.
        scale: a whole factor, 1 to 16, by which frames are enlarged, nearest neighbour. None enlarges frames whose
            colours are stored at half the resolution (yuv420p), by 2, or by 4 if that does not bring the shorter side
            to 256 pixels, and no others; never to more than 4096 pixels a side.
        options: more of the encoder's own options, such as ``{"tune": "animation"}``.

    Raises:
        SettingError: an unknown format, codec, option or value; FFmpeg is asked where only it can know.
    """

    video_format: str = "mp4"
    fps: Fraction = Fraction(30)
    video_codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pixel_format: str | None = None
    scale: int | None = None
    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, video_format: str = "mp4", /, *, fps: Any = 30, **settings: Any) -> "Encoding":
        """Return the encoding that users' keywords ask for.

        Args:
            video_format: as above.
            fps: an int, float, Fraction, or string such as ``"30000/1001"``. Kept as the nearest fraction with a
                denominator up to 1001, which is exact for all rates in use.
            **settings: the other fields above; None leaves the default. ``crf``, ``preset`` and ``pixel_format`` may
                also stand in ``options``, which is TorchRL's spelling.
        """
        unknown = settings.keys() - SETTINGS
        if unknown:
            raise SettingError(
                f"unknown encoder setting {', '.join(map(repr, sorted(unknown)))}; "
                f"expected fps, {', '.join(sorted(SETTINGS))}"
            )
        return cls(video_format, _fraction(fps), **_flatten(settings))

    def __post_init__(self) -> None:
        if not isinstance(self.video_format, str) or self.video_format not in FORMATS:
            raise SettingError(f"unknown video_format {self.video_format!r}; expected one of {', '.join(FORMATS)}")
        for name in ("video_codec", "preset", "pixel_format"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and re.fullmatch(r"[\w.-]+", value, re.ASCII)):
                raise SettingError(f"{name}={value!r} must be a word of FFmpeg's")
        for option in self.options.items():
            _check_option(*option)
        if not 0 < self.fps <= MAX_FPS:
            raise SettingError(f"fps={self.fps} must be above 0 and at most {MAX_FPS}")
        if not isinstance(self.crf, int | float | None):
            raise SettingError(f"crf={self.crf!r} must be a number")
        if self.video_format == "gif" and self.fps > GIF_MAX_FPS:
            raise SettingError(
                f"fps={self.fps} is beyond GIF, which counts in hundredths of a second: at most {GIF_MAX_FPS}"
            )
        given = {name for name in SETTINGS if getattr(self, name) not in (None, {})}
        if given and not self.format.encoded:
            raise SettingError(
                f"video_format={self.video_format!r} is not encoded, so {sorted(given)} mean nothing to it"
            )
        if self.codec == "gif" and self.pixel_format is not None:
            raise SettingError(f"pixel_format={self.pixel_format!r} means nothing to a GIF, which has a palette")
        if self.codec in SPEED and (self.crf or 0) > X264_MAX_CRF:
            raise SettingError(f"crf={self.crf:g} is beyond that of {self.codec}: at most {X264_MAX_CRF}")
        if self.scale is not None and not (isinstance(self.scale, Integral) and 1 <= self.scale <= MAX_SCALE_GIVEN):
            raise SettingError(f"scale={self.scale!r} must be a whole factor from 1 to {MAX_SCALE_GIVEN}")
        if given - {"scale"}:
            self.try_out()

    def __repr__(self) -> str:
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        return f"Encoding({', '.join(f'{name}={value!r}' for name, value in shown.items() if value not in (None, {}))})"

    @property
    def format(self) -> Format:
        """The row of `FORMATS` that this is a variation of."""
        return FORMATS[self.video_format]

    @property
    def codec(self) -> str:
        """The name of the encoder, ``"none"`` for tensors on disk."""
        return self.video_codec or self.format.codec

    def try_out(self) -> None:
        """Raise now what FFmpeg would refuse in the middle of a rollout, see `try_out`.

        Of an encoder that needs a GPU its options alone are looked at, and what takes its place is tried.
        """
        if self.codec not in INSTEAD:
            try_out(self)
            return
        try_out(self._instead)
        if has_encoder(self.codec):
            _check_options(self)

    def usable(self, size: tuple[int, int]) -> "Encoding":
        """Return an encoding that works here for frames of this (height, width): this one, or what takes its place.

        A `VidrecWarning` says so, once.
        """
        if self.codec not in INSTEAD:
            return self
        try:
            try_out(self, size)
        except SettingError as error:
            instead = self._instead
            _tell_instead(
                f"{self.codec} does not encode frames of {size} (height, width) here, and {instead.codec} takes its "
                f"place, without the other settings of the encoder: {error}"
            )
            return instead
        return self

    @property
    def _instead(self) -> "Encoding":
        return Encoding(self.video_format, self.fps, scale=self.scale, **INSTEAD[self.codec])

    @property
    def muxer_args(self) -> list[str]:
        """FFmpeg's arguments for the file around the frames."""
        return list(self.format.muxer)

    @property
    def growing_args(self) -> list[str]:
        """FFmpeg's arguments for a file that grows: each packet goes to disk as soon as it is made."""
        kind = () if self.video_format != "mp4" else FRAGMENTED if self.copied else HYBRID
        return ["-flush_packets", "1", *kind, *self.format.growing, *self.format.muxer]

    @property
    def copied(self) -> bool:
        """Whether a file that grew is copied into an ordinary one when it is finished."""
        return self.video_format == "mp4" and not has_option("hybrid_fragmented")

    def file_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the (height, width) in the file of frames of this (height, width): enlarged, and even if need be."""
        factor, even = self.factor(size), 2 if self._subsampled else 1
        height, width = (math.ceil(side * factor / even) * even for side in size)
        return height, width

    def ffmpeg_args(self, size: tuple[int, int], beside: int = 1, *, growing: bool = True) -> list[str]:
        """Return what stands between FFmpeg's input and the name of its output, for frames of (height, width).

        So many encoders run at the same time, and have one thread each if they are more than one. A file that need not
        survive a crash is not `growing`, and an ordinary one at once.
        """
        encoder = self.encoder_args(1 if beside > 1 else MAX_THREADS)
        tags = BT709_ARGS if self._yuv else ()
        return ["-vf", self._filters(size), *encoder, *tags, *(self.growing_args if growing else self.muxer_args)]

    @property
    def again(self) -> str:
        """The FFmpeg filter for frames that come from a file of this encoding, and go into another of it."""
        return GIF_PALETTE if self.codec == "gif" else f"format={self._pixel_format}"

    def encoder_args(self, threads: int = MAX_THREADS) -> list[str]:
        """Return FFmpeg's arguments for encoding frames that are as they should be."""
        codec, crf = self.codec, self.crf
        if crf is None and self.video_codec is None:
            crf = self.format.crf
        speed = SPEED.get(codec, {}) if self.preset is None else {"preset": self.preset}
        args = ["-c:v", codec]
        for name, value in ENCODER_OPTIONS.get(codec, {}).items():
            if name != "global_palette" or has_option(name):
                args += [f"-{name}", value]
        args += ["-threads", str(min(threads, os.cpu_count() or 1))]
        args += ["-g", str(max(1, round(GOP_SECONDS * self.fps)))]
        args += [] if crf is None else ["-crf", f"{crf:g}"]
        for name, value in {**speed, **self.options}.items():
            args += [f"-{name}", value]
        return [*args, *passthrough()]

    @property
    def _pixel_format(self) -> str:
        if self.pixel_format is not None or self.codec == self.format.codec:
            return self.pixel_format or self.format.pixel_format
        return "yuv420p" if self.format.pixel_format == "yuv420p" else "yuv444p"

    @property
    def _subsampled(self) -> bool:
        """Whether the pixel format stores colours at half the resolution."""
        return any(mark in self._pixel_format for mark in ("420", "422", "411", "410", "nv12", "nv21", "p010"))

    @property
    def _yuv(self) -> bool:
        return self.codec != "gif" and ("yuv" in self._pixel_format or self._subsampled)

    def factor(self, size: tuple[int, int]) -> int:
        """Return by how much frames of this (height, width) are enlarged."""
        if self.scale is not None:
            return self.scale
        if not self._subsampled:
            return 1
        factors = [factor for factor in FACTORS if factor * max(size) <= MAX_SIDE] or [1]
        return next((factor for factor in factors if factor * min(size) >= ENLARGE_TO), factors[-1])

    def _filters(self, size: tuple[int, int]) -> str:
        factor = self.factor(size)
        enlarged = (size[0] * factor, size[1] * factor)
        if self._pixel_format == "yuv420p" and factor % 2 == 0:
            return ",".join([f"{TO_BT709},format=yuv444p,{_enlarge_planes(size, factor)}", BT709_TAGS])
        height, width = self.file_size(size)
        filters = []
        if factor > 1:
            filters.append(f"scale=w={enlarged[1]}:h={enlarged[0]}:flags=neighbor")
        if (height, width) != enlarged:  # repeat the last row or column: black would bleed into the colours beside it
            right, bottom = width - enlarged[1], height - enlarged[0]
            filters.append(f"format=gbrp,pad=w={width}:h={height},fillborders=right={right}:bottom={bottom}:mode=smear")
        if self.codec == "gif":
            filters.append(GIF_PALETTE)
        elif self._yuv:
            filters += [TO_BT709, f"format={self._pixel_format}", BT709_TAGS]
        else:
            filters.append(f"format={self._pixel_format}")
        return ",".join(filters)


def _enlarge_planes(size: tuple[int, int], factor: int) -> str:
    """Return the filters that turn yuv444p into yuv420p, enlarged by an even factor, without resampling colours.

    yuv420p stores colours at half the resolution. If frames are enlarged by 2, that is the original resolution, so that
    the colour planes stay as they are. The luma plane alone is enlarged by 2.
    """

    def enlarged(by: int) -> str:
        # a plane is a grey frame: without the ranges, FFmpeg before 7 makes it one of full range
        ranges = "in_range=tv:out_range=tv"
        return f"scale=w={size[1] * by}:h={size[0] * by}:flags=neighbor:{ranges}" if by > 1 else "null"

    half = enlarged(factor // 2)
    planes = f"[y]{enlarged(factor)}[luma];[u]{half}[blue];[v]{half}[red];[luma][blue][red]"
    maps = "map0s=0:map0p=0:map1s=1:map1p=0:map2s=2:map2p=0"
    if not has_option("map0s"):
        maps = "mapping=0x001020"
    return f"extractplanes=y+u+v[y][u][v];{planes}mergeplanes=format=yuv420p:{maps}"


SETTINGS = {"video_codec", "crf", "preset", "pixel_format", "scale", "options"}
"""What `Encoding` and `log_video` take beside fps: TorchRL's names where it has them, FFmpeg's otherwise."""


_tell_instead = Once()


@cache
def try_out(encoding: Encoding, size: tuple[int, int] = (64, 64)) -> None:
    """Encode a few frames of (height, width) and read them back, so that FFmpeg's refusal comes before the rollout.

    Raises:
        EncoderError: FFmpeg is not there, does not work, or is too old.
        SettingError: it cannot encode that, or not each frame, or cannot read it.
    """
    ffmpeg = check_ffmpeg()
    _check_options(encoding)
    height, width = size
    source = ["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}", "-i", "file:/dev/zero"]
    with tempfile.TemporaryDirectory(prefix="vidrec-") as folder:
        target = f"file:{folder}/probe.{encoding.format.extension}"
        frames = ["-frames:v", str(PROBE_FRAMES)]
        code, stderr = run([*source, *frames, *encoding.ffmpeg_args(size), target])
        if code:
            raise SettingError(f"{ffmpeg} refuses {encoding}; name another encoding or another FFmpeg: {stderr}")
        read = run_ffmpeg(["-nostdin", "-loglevel", "error", "-i", target, *passthrough(), "-f", "framecrc", "-"])
    found = sum(not line.startswith("#") for line in read.stdout.splitlines())
    if found != PROBE_FRAMES:
        raise SettingError(
            f"{ffmpeg} reads {found} of {PROBE_FRAMES} frames that it wrote as {encoding}; name another encoding or "
            f"another FFmpeg: {read.stderr.strip()}"
        )


def _check_options(encoding: Encoding) -> None:
    given = [name for name in ("crf", "preset") if getattr(encoding, name) is not None]
    options = [*given, *(name.partition(":")[0] for name in encoding.options)]
    check_options(encoding.codec, options, encoding.pixel_format)


def _check_option(name: str, value: str) -> None:
    """Raise `SettingError` for an option that makes the encoder read or write files, or that cannot be one."""
    if not (value.isprintable() and value.isascii()):
        raise SettingError(f"options[{name!r}]={value!r} cannot be an option's value")
    # x264-params and the like hold options of their own, name=value:name=value
    inner = [part.partition("=")[0] for part in value.split(":")] if re.search("params|opts", name) else []
    if any(OF_FILES.search(part) for part in (name, *inner)) or (
        name.partition(":")[0] == "flags" and re.search(r"pass|\d", value)
    ):
        raise SettingError(f"options[{name!r}]={value!r} is of files or of several passes; a stream has but one")


def _flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are not None, those that TorchRL keeps in ``options`` beside the others."""
    flat = {name: value for name, value in settings.items() if value is not None}
    options = flat.pop("options", {})
    if not isinstance(options, Mapping):
        raise SettingError(f"options={shown(options)} must be a dict of the encoder's options")
    options = {name: value for name, value in options.items() if value is not None}
    for name, kind in (("crf", float), ("preset", str), ("pixel_format", str)):
        given = [place.pop(name) for place in (flat, options) if name in place]
        try:
            values = [kind(value) for value in given]
        except (TypeError, ValueError, OverflowError):
            raise SettingError(f"{name}={shown(given[-1])} must be a number") from None
        if len(set(values)) > 1:
            raise SettingError(f"{name} is given twice, as {shown(given[0])} and in options as {shown(given[1])}")
        if values:
            flat[name] = values[0]
    if options:
        flat["options"] = {str(name): str(value) for name, value in options.items()}
    return flat


def _fraction(fps: Any) -> Fraction:
    try:
        if isinstance(fps, str) and not re.fullmatch(r"\s*[\d.]{1,20}(/\d{1,20})?\s*", fps, re.ASCII):
            raise ValueError("no number")
        fraction = Fraction(fps if isinstance(fps, str | int | Fraction) else float(fps)).limit_denominator(1001)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        fraction = Fraction(0)
    if not 0 < fraction <= MAX_FPS:
        raise SettingError(f"fps={shown(fps)} must be a number of frames per second, above 0 and at most {MAX_FPS}")
    return fraction

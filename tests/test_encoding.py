import math
from fractions import Fraction

import numpy as np
import pytest

from vidrec.clips import open_clip
from vidrec.errors import SettingError
from vidrec.ffmpeg import encoding
from vidrec.ffmpeg.encoding import Encoding


@pytest.fixture
def runs(monkeypatch):
    """What FFmpeg is asked to encode from here on."""
    asked, run = [], encoding.run
    monkeypatch.setattr(encoding, "run", lambda args: asked.append(args) or run(args))
    encoding.try_out.cache_clear()
    return asked


@pytest.mark.parametrize(
    ("video_format", "given", "message"),
    [
        ("avi", {}, "unknown video_format 'avi'; expected one of mp4, webm"),
        ("mp4", {"bitrate": 3, "tune": "film"}, "unknown encoder setting 'bitrate', 'tune'; expected fps, crf"),
        *(
            ("mp4", {"fps": fps}, "fps=.* must be a number of frames per second, above 0 and at most 1000")
            for fps in (0, -1, math.nan, math.inf, "abc", "1/0", None, 1001, [30])
        ),
        ("gif", {"fps": 101}, "fps=101 is beyond GIF"),
        ("mp4", {"video_codec": "nope"}, "FFmpeg .* has no encoder 'nope'"),
        ("webm", {"video_codec": "libx264"}, "FFmpeg .* refuses .*Only VP8 or VP9 or AV1"),
        ("webp", {"video_codec": "libwebp_anim"}, "FFmpeg .* reads 1 of 3 frames that it wrote as .*another encoding"),
        ("mp4", {"preset": "nope"}, "FFmpeg .* refuses .*invalid preset 'nope'"),
        ("mp4", {"pixel_format": "nope"}, "'nope' is no pixel format of the encoder libx264; expected one of yuv420p"),
        ("mkv", {"pixel_format": "yuv420p"}, "'yuv420p' is no pixel format of the encoder libx264rgb"),
        ("gif", {"pixel_format": "rgb8"}, "pixel_format='rgb8' means nothing to a GIF"),
        ("mp4", {"crf": 52}, "crf=52 is beyond that of libx264: at most 51"),
        ("mp4", {"options": {"nope": 1}}, "'nope' is no option of the encoder libx264"),
        ("mp4", {"options": {"tune": "nope"}}, "FFmpeg .* refuses .*invalid tune 'nope'"),
        ("mp4", {"crf": "good"}, "crf='good' must be a number"),
        ("mp4", {"crf": -5}, "FFmpeg .* refuses .*'crf' out of range"),
        ("mp4", {"crf": math.nan}, "FFmpeg .* refuses .*crf.*nan"),
        ("mp4", {"crf": 20, "options": {"crf": "21"}}, "crf is given twice, as 20 and in options as '21'"),
        ("mp4", {"preset": "fast", "options": {"preset": "slow"}}, "preset is given twice"),
        ("mp4", {"pixel_format": "yuv444p", "options": {"pixel_format": "yuv420p"}}, "pixel_format is given twice"),
        *(("mp4", {"scale": scale}, "scale=.* must be a whole factor from 1 to 16") for scale in (0, 17, 1.5, "2")),
        *(
            (tensors, {name: value}, rf"video_format='{tensors}' is not encoded, so \['{name}'\] mean nothing")
            for tensors in ("pt", "memmap")
            for name, value in {"crf": 20, "preset": "slow", "scale": 2, "options": {"tune": "film"}}.items()
        ),
        # settings that the encoder does not have
        ("gif", {"crf": 20}, "crf"),
        ("webm", {"preset": "slow"}, "preset"),
        ("mp4", {"video_codec": "mpeg4", "options": {"crf": 20}}, "crf"),
    ],
)
def test_what_cannot_be_is_refused_when_the_encoding_is_made(video_format, given, message):
    with pytest.raises(SettingError, match=f"(?s){message}"):
        Encoding.of(video_format, **given)


@pytest.mark.parametrize("given", [{"fps": Fraction(0)}, {"fps": Fraction(-30)}, {"fps": Fraction(2000)}, {"crf": "x"}])
def test_the_constructor_refuses_it_too(given):
    with pytest.raises(SettingError):
        Encoding("mp4", **given)


def test_torchrls_spelling_means_the_same():
    nested = Encoding.of("mp4", options={"crf": "23", "preset": "slow", "tune": "animation"})
    assert nested == Encoding.of("mp4", crf=23, preset="slow", options={"tune": "animation"})
    assert (nested.crf, nested.preset, nested.options) == (23, "slow", {"tune": "animation"})
    assert Encoding.of("mp4", crf=None, preset=None, options={}) == Encoding.of("mp4") == Encoding()


def test_a_setting_given_twice_alike_is_one():
    for crf in ("23", 23, 23.0):
        assert Encoding.of("mp4", crf=crf, options={"crf": "23"}) == Encoding.of("mp4", crf=23)


def test_options_reach_ffmpeg_and_the_callers_mapping_stays_as_it_was():
    options = {"crf": 18, "tune": "animation"}
    args = Encoding.of("mp4", options=options).ffmpeg_args((64, 64))
    assert options == {"crf": 18, "tune": "animation"}
    for pair in (["-crf", "18"], ["-tune", "animation"], ["-c:v", "libx264"], ["-preset", "veryfast"]):
        assert args[args.index(pair[0]) + 1] == pair[1]


@pytest.mark.parametrize(
    ("fps", "exact"),
    [
        (24, Fraction(24)),
        (29.97, Fraction(2997, 100)),
        ("29.97", Fraction(2997, 100)),
        (np.float32(29.97), Fraction(2997, 100)),
        (30000 / 1001, Fraction(30000, 1001)),
        ("30000/1001", Fraction(30000, 1001)),
        (Fraction(60000, 1001), Fraction(60000, 1001)),
        (59.94, Fraction(2997, 50)),
        (0.5, Fraction(1, 2)),
        (1000, Fraction(1000)),
    ],
)
def test_rates_are_exact(fps, exact):
    assert Encoding.of("mp4", fps=fps).fps == exact


@pytest.mark.parametrize(
    ("video_format", "given", "size", "in_file"),
    [
        ("mp4", {}, (48, 64), (192, 256)),
        ("mp4", {}, (64, 64), (256, 256)),
        ("mp4", {}, (100, 90), (400, 360)),
        ("mp4", {}, (85, 301), (340, 1204)),
        ("mp4", {}, (129, 301), (258, 602)),
        ("mp4", {}, (256, 256), (256, 256)),
        ("mp4", {}, (257, 301), (258, 302)),
        ("mp4", {}, (85, 129), (340, 516)),
        ("webm", {}, (47, 63), (188, 252)),
        ("mp4", {"scale": 1}, (47, 63), (48, 64)),
        ("mp4", {"scale": 3}, (47, 63), (142, 190)),
        ("mp4", {"pixel_format": "yuv444p"}, (47, 63), (47, 63)),
        ("mp4", {"pixel_format": "yuv422p"}, (47, 63), (188, 252)),
        ("mkv", {}, (47, 63), (47, 63)),
        ("mkv", {"scale": 2}, (47, 63), (94, 126)),
        ("gif", {}, (47, 63), (47, 63)),
        ("pt", {}, (47, 63), (47, 63)),
        ("memmap", {}, (47, 63), (47, 63)),
    ],
)
def test_small_frames_are_enlarged_and_halved_colours_made_even(video_format, given, size, in_file):
    assert Encoding.of(video_format, **given).file_size(size) == in_file


def test_ffmpeg_is_asked_once_for_equal_encodings_and_about_the_defaults_when_a_clip_is_made(runs, tmp_path):
    made = [
        Encoding.of("mp4"),
        *(Encoding.of("mp4", crf=crf, options={"tune": "film"}) for crf in (31, "31", 31.0)),
        Encoding.of("mp4", options={"tune": "film", "crf": 31}),
    ]
    assert len(set(made)) == 2
    assert len(runs) == 1
    Encoding.of("mp4", crf=32, options={"tune": "film"})
    assert len(runs) == 2
    for _ in range(2):
        open_clip(tmp_path / "a", Encoding.of("mp4"))
    assert len(runs) == 3


def test_a_refusal_is_repeated(runs):
    for _ in range(2):
        with pytest.raises(SettingError, match="nope"):
            Encoding.of("mp4", preset="nope")


def test_the_repr_shows_what_was_asked_for():
    assert repr(Encoding.of("mp4", fps=29.97, options={"crf": "18"})) == (
        "Encoding(video_format='mp4', fps=Fraction(2997, 100), crf=18.0)"
    )

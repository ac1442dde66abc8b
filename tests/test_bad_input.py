"""Whatever comes in: a right video, or an exception of vidrec's that says why; no other files, and none elsewhere."""

import contextlib
import csv
import io
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzz.fuzz_recorder import NAMES, PLAIN, run
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numbered_frames import decode, numbered, read_number
from PIL import Image
from tensordict import TensorDict

from vidrec import CSVLogger, Encoding, MemoryLogger, VideoRecorder
from vidrec.errors import FrameError, SettingError, TagError

quick = settings(deadline=None, max_examples=50, database=None)
slow = settings(deadline=None, max_examples=15, database=None)
names = st.one_of(st.sampled_from(NAMES), st.text(st.characters(), max_size=12), st.text("./%d-_\n\0", max_size=8))


def files(folder):
    return {path for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture
def nothing_else(tmp_path, monkeypatch):
    """Fail if a file is left in the working directory, or among the temporary ones."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    yield
    assert {path for path in files(tmp_path) if "csv_logs" not in path.parts} == set()


def attempt(refusals, call, *args):
    """Return what a call returns, and the refusal that it raises instead."""
    try:
        return call(*args), None
    except refusals as error:
        return None, error


def check_video(video_format, tag, suffix=None, step=None):
    """Record numbers 1, 2, 3, the last after the others were looked at; expect them in the folder, or a refusal."""
    recorders = []

    def record():
        recorders.append(recorder := VideoRecorder(CSVLogger("run", video_format=video_format), tag, skip=1))
        recorder._apply_transform(numbered(1))
        recorder._apply_transform(numbered(2))
        assert [read_number(frame.permute(1, 2, 0)) for frame in recorder.obs] == [1, 2]
        recorder._apply_transform(numbered(3))
        return recorder.dump(suffix, step)

    video, refusal = attempt((TagError, SettingError), record)
    if refusal is not None:
        assert not all(PLAIN.fullmatch(str(name)) for name in (tag, suffix, step) if name is not None), refusal
        for recorder in recorders:
            recorder.tag = "another"
            recorder.obs = []
        assert files(".") == set()
        return
    assert video.path.is_relative_to(Path("csv_logs/run/videos").absolute())
    assert {path.absolute() for path in files(".")} == {video.path, Path("csv_logs/run/videos.csv").absolute()}
    with open("csv_logs/run/videos.csv", newline="") as index:
        assert [Path("csv_logs/run", row["file"]).absolute() for row in csv.DictReader(index)] == [video.path]
    frames = video.iter_frames() if video_format == "memmap" else decode(video.path)
    assert [read_number(frame) for frame in frames] == [1, 2, 3]


@quick
@given(tag=names, suffix=st.none() | names)
@example("a\nb", None)
@example("a\rb", None)
@example("\ud800", None)
@example("\udc80", None)
@example("x" * 240, None)
@example("a", "x" * 240)
def test_a_name_is_safe_or_refused(tag, suffix):
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        check_video("memmap", tag, suffix)


@pytest.mark.parametrize("video_format", ["mkv", "mp4", "gif", "apng"])
@pytest.mark.parametrize("tag", ["-y %d %03d a*{b}[c]", "a:b|?*\\'\"", "a\nb\r", "é" * 120])
@pytest.mark.usefixtures("nothing_else")
def test_a_name_is_no_pattern_and_no_option_of_ffmpeg(video_format, tag):
    check_video(video_format, tag)


@pytest.mark.parametrize("step", ["x" * 300, "\ud800", "\0", "../x", 1.5, -1, "%d"], ids=repr)
@pytest.mark.usefixtures("nothing_else")
def test_a_step_is_safe_or_refused(step):
    check_video("memmap", "tag", step=step)


def test_a_suffix_need_not_be_text():
    recorder = VideoRecorder(CSVLogger("run", video_format="memmap"), "tag")
    recorder._apply_transform(numbered(1))
    video, refusal = attempt(TagError, recorder.dump, 5)
    assert refusal is not None or video.path.name == "tag_5_0.memmap"
    recorder.obs = []


def check_settings(video_format, given):
    logger = CSVLogger("run", video_format=video_format)
    recorder, refusal = attempt(SettingError, lambda: VideoRecorder(logger, "video", **given))
    if refusal is not None:
        assert len(str(refusal)) > 20
        return
    for number in range(3):
        recorder._apply_transform(numbered(number))
    video = recorder.dump()
    assert video.frames == len(decode(video.path)) == 3
    assert files("csv_logs/run/videos") == {video.path.relative_to(Path.cwd())}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "x.mp4") for name in ("i", "-i", "y", "-y", "filter_complex", "map", "f", "vstats_file", "report")),
        *((name, "x.mp4") for name in ("stats", "stats:v", "passlogfile", "crf:v", "a53cc", "nostats", "")),
        *(("flags", value) for value in ("pass1", "+pass1", "+pass1+pass2", "512")),
        *((name, "pass=1:stats=x.log") for name in ("x264-params", "x264opts")),
        *((name, "dump-yuv=x.yuv") for name in ("x264-params", "x264opts")),
        ("x264-params", "log-file=x.log"),
        ("crf:v", "20"),
        ("tune", "-y"),
        ("tune", "a\0b"),
        ("tune", "\ud800"),
        ("g", "9" * 400),
    ],
)
@pytest.mark.usefixtures("nothing_else")
def test_an_option_is_one_of_the_encoder_and_writes_no_file(name, value):
    check_settings("mp4", {"options": {name: value}})


@pytest.mark.parametrize("value", ["csv=x.csv:csv-log-level=2", "pass=1:stats=x.log", "analysis-save=x.dat"])
@pytest.mark.usefixtures("nothing_else")
def test_an_option_of_another_encoder_writes_no_file_either(value):
    check_settings("mkv", {"video_codec": "libx265", "options": {"x265-params": value}})


@pytest.mark.parametrize(
    "given",
    [
        {"video_codec": "rawvideo", "pixel_format": "rgb24,metadata=print:file=x.txt"},
        {"pixel_format": "rgb24[a];movie=x[a]"},
        *({name: value} for name in ("video_codec", "preset") for value in ("a\0", "\ud800", "-y", [1])),
        *({"crf": crf} for crf in (10**400, "1" * 400, [1], True)),
        *({"scale": scale} for scale in (2.0, True, [1], "2")),
        *({"fps": fps} for fps in ("1" * 5000, "1e400", b"30", 1j, {})),
        {"video_format": "gif"},
        {"options": [1]},
        {"options": {1: 2}},
        {"options": {"preset": None}},
    ],
    ids=lambda given: str(given)[:60],
)
@pytest.mark.usefixtures("nothing_else")
def test_a_setting_is_right_or_refused(given):
    check_settings("mkv", given)


@pytest.mark.parametrize("video_format", [None, [], {}, 5, "MP4", "mp4\0"])
def test_a_format_is_one_of_the_list(video_format):
    with pytest.raises(SettingError, match="video_format"):
        Encoding.of(video_format)


def test_a_whole_scale_is_a_whole_number():
    logger = CSVLogger("run", video_format="mkv")
    recorder, refusal = attempt(SettingError, lambda: VideoRecorder(logger, "video", scale=2.0))
    if refusal is not None:
        return
    recorder._apply_transform(numbered(1))
    assert len(list(recorder.obs)) == 1


@slow
@given(st.text(max_size=8), st.text(max_size=8) | st.integers() | st.floats())
def test_any_option_is_right_or_refused(name, value):
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for key in (name, "tune", "flags"):
            attempt(SettingError, lambda key=key: Encoding.of("mp4", options={key: value}))
        assert files(".") == set()


def check_frame(frame, **args):
    """Expect a video of the frames, or a refusal that names the entry, and then a video of the next frame."""
    recorder = VideoRecorder(MemoryLogger(), "video", skip=1, **args)
    _, refusal = attempt(FrameError, recorder._apply_transform, frame)
    if refusal is not None:
        assert "frame" in str(refusal)
        assert len(recorder.obs) == 0
        recorder._apply_transform(numbered(1))
    recorder.dump()
    assert len(recorder.logger.videos) == 1
    return refusal


DTYPES = sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of dtypes that are new or old
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_taken_or_refused(dtype):
    try:
        frames = torch.empty(2, 6, 8, 3, dtype=dtype)
    except RuntimeError:
        pytest.skip("torch makes no tensor of it")
    check_frame(frames)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.uint16])
def test_every_dtype_can_be_masked(dtype):
    mask = torch.tensor([1, 1, 0, 1, 0, 1]).bool()
    recorder = VideoRecorder(MemoryLogger(), "video", skip=1)
    recorder(TensorDict({"pixels": torch.zeros(6, 6, 8, 3).to(dtype), "mask": mask}, [6]))
    recorder.dump()
    assert len(recorder.logger.videos[0].value[0]) == 4


ODD = {
    "a field of records": lambda: np.zeros((6, 8, 3), [("a", "u1"), ("b", "<f4")])["b"],
    "an odd address": lambda: np.frombuffer(bytearray(577), np.uint8)[1:].view("f4").reshape(6, 8, 3),
    "a negative view": lambda: torch.zeros(6, 8, 3, dtype=torch.complex64).conj().imag,
    "a parameter": lambda: torch.nn.Parameter(torch.zeros(6, 8, 3)),
    "many axes": lambda: torch.zeros([1] * 70 + [6, 8, 3]),
    "masked": lambda: np.ma.masked_array(np.zeros((6, 8, 3))),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_odd_memory_is_read(make):
    assert check_frame(make()) is None


class BadArray:
    __array_interface__ = {}  # noqa: RUF012


REFUSED = {
    "meta": lambda: torch.zeros(6, 8, 3, device="meta"),
    "quantized": lambda: torch.quantize_per_tensor(torch.zeros(6, 8, 3), 0.1, 0, torch.quint8),
    "broken interface": BadArray,
    "dates": lambda: np.zeros((6, 8, 3), "M8[s]"),
    "a bomb": lambda: b"P6 99999 99999 255 " + bytes(100),
    "a large frame that is not there": lambda: b"P6 9999 9999 255 " + bytes(100),
    "a bad header": lambda: b"P6 2x 3 255 " + bytes(100),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_what_holds_no_frame_is_refused(make):
    assert check_frame(make()) is not None


@quick
@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP"]), st.data())
def test_damaged_files_of_frames_are_read_or_refused(kind, data):
    buffer = io.BytesIO()
    Image.fromarray(numbered(5, (16, 16)).numpy()).save(buffer, kind)
    raw = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, min(len(raw), 99) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's
        check_frame(bytes(raw[: data.draw(st.integers(1, len(raw)))]))


@pytest.mark.parametrize("crop", [np.int64(4), (np.int64(4), np.int32(4)), 4])
def test_numpy_numbers_are_numbers(crop):
    assert check_frame(numbered(1), center_crop=crop) is None


def test_an_entry_of_the_wrong_kind_leaves_the_recorder_usable():
    for thing in (None, "text", 3.0, object(), {}, [], [[]], b"", np.float32(3)):
        assert check_frame(thing) is not None


@quick
@given(st.binary(max_size=70))
def test_any_order_of_calls_ends_in_the_predicted_videos(raw):
    run(raw)

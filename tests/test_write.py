"""`vidrec.write`: frames that are there already become a file."""

import re
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ENCODED
from numbered_frames import decode, numbered, numbers_in, probe
from PIL import Image
from processes import in_terminal, run_python, started

import vidrec
from vidrec import EncoderError, FrameError, SettingError
from vidrec.tools.repair import repair

FRAMES = torch.stack([numbered(number) for number in range(5)])


class OfAnotherLibrary:
    def __array__(self, dtype=None, copy=None):
        return FRAMES.numpy()


FORMS = {
    "[T, H, W, C]": FRAMES,
    "[T, C, H, W]": FRAMES.movedim(-1, 1),
    "[N, T, H, W, C]": FRAMES.unsqueeze(0),
    "numpy": FRAMES.numpy(),
    "numpy [T, C, H, W]": FRAMES.movedim(-1, 1).numpy(),
    "grey [T, H, W]": FRAMES[..., 0],
    "grey [T, H, W, 1]": FRAMES[..., :1].numpy(),
    "RGBA": torch.cat([FRAMES, torch.full_like(FRAMES[..., :1], 255)], -1),
    "floats": FRAMES / 255,
    "half floats, grey": (FRAMES[..., 0] / 255).half(),
    "bool": FRAMES[..., 0] > 0,
    "backwards": FRAMES.flip(0).numpy()[::-1],
    "that must not be written": np.broadcast_to(FRAMES.numpy(), FRAMES.shape),
    "another library's": OfAnotherLibrary(),
    "a list of tensors": list(FRAMES),
    "a tuple of arrays": tuple(FRAMES.numpy()),
    "a list of grey arrays": list(FRAMES[..., 0].numpy()),
    "of several kinds": [FRAMES[0], FRAMES[1].numpy(), FRAMES[2] / 255, FRAMES[3].movedim(-1, 0), FRAMES[4, ..., 0]],
    "images": [Image.fromarray(frame) for frame in FRAMES.numpy()],
    "an iterator of batches": FRAMES.split(2),
}


@pytest.mark.parametrize("form", FORMS)
def test_frames_are_taken_in_any_form(form):
    video = vidrec.write("video.mkv", FORMS[form], fps=25)
    assert numbers_in(Path("video.mkv")) == [0, 1, 2, 3, 4]
    assert (video.frames, video.fps, video.size, video.path) == (5, 25, (48, 64), Path("video.mkv").absolute())
    assert [frame.equal(numbered(n)) for n, frame in enumerate(video.iter_frames())] == [True] * 5
    assert [path.name for path in Path().iterdir()] == ["video.mkv"]


@pytest.mark.parametrize("video_format", [*ENCODED, "pt", "memmap"])
def test_the_suffix_says_the_format(video_format):
    video = vidrec.write(f"video.{video_format}", FRAMES, fps=25)
    codecs = {"mp4": "h264", "webm": "vp9", "mkv": "h264", "gif": "gif", "apng": "apng"}
    if video_format in codecs:
        assert probe(video.path).startswith("Stream")
        assert codecs[video_format] in probe(video.path)
    if video_format == "memmap":
        assert video.path.read_bytes() == FRAMES.movedim(-1, 1).contiguous().numpy().tobytes()
    else:
        assert numbers_in(video.path) == [0, 1, 2, 3, 4]
    assert [path.name for path in Path().iterdir()] == [f"video.{video_format}"]


def test_it_is_encoded_as_a_recorder_encodes_it():
    vidrec.write("video.mp4", FRAMES, 12, crf=30, preset="slow", scale=1)
    recorder = vidrec.VideoRecorder(vidrec.CSVLogger("run"), "video", skip=1, fps=12, crf=30, preset="slow", scale=1)
    for frame in FRAMES:
        recorder._apply_transform(frame)
    comment = re.compile(rb'\{"vidrec": [^}]*\} *')  # which has the time
    assert comment.sub(b"", recorder.dump().path.read_bytes()) == comment.sub(b"", Path("video.mp4").read_bytes())
    with pytest.raises(SettingError, match="unknown encoder setting 'colour'"):
        vidrec.write("other.mp4", FRAMES, colour=1)
    with pytest.raises(SettingError, match="fps=0"):
        vidrec.write("other.mp4", FRAMES, fps=0)


@pytest.mark.parametrize(
    ("shape", "layout", "frames"),
    [
        ((3, 8, 8), "THW", 3),
        ((3, 8, 8), "CHW", 1),
        ((8, 8, 3), "HWC", 1),
        ((8, 10, 3), "THW", 8),
        ((8, 10, 12), "HWT", 12),
        ((5, 3, 8, 4), "THWC", 5),
        ((5, 3, 8, 4), "TCHW", 5),
        ((5, 3, 8, 4), "CHW", 5),
        ((2, 5, 3, 8, 4), "HWC", 10),
        ((8, 10), "HW", 1),
        ((5, 10, 8), "TWH", 5),
    ],
)
@pytest.mark.parametrize("kind", [torch.zeros, np.zeros], ids=["torch", "numpy"])
def test_layout_names_what_the_shape_does_not(shape, layout, frames, kind):
    assert vidrec.write("video.pt", kind(shape), layout=layout).frames == frames
    if layout == "TWH":
        assert torch.load("video.pt").shape[-2:] == (8, 10)


@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8, 3), (4, 8, 8), (8, 8, 1)])
def test_what_could_be_one_frame_or_grey_ones_is_refused(shape):
    with pytest.raises(FrameError, match=r"could be one frame, or grey ones; say which with layout="):
        vidrec.write("video.mp4", torch.zeros(shape))
    with pytest.raises(FrameError, match=r"frame 0 of shape \(3, 8, 4\) .* could be both CHW and HWC"):
        vidrec.write("video.mp4", torch.zeros(5, 3, 8, 4))
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (torch.zeros(8, 8), r"\(8, 8\) are no video; expected \[T, H, W, C\], \[T, C, H, W\] or \[T, H, W\]"),
        (torch.zeros(0, 8, 8, 3), "there are no frames for .*video.mp4"),
        ([], "there are no frames"),
        (None, "frames are a NoneType; expected an array, or an iterable of frames"),
        (7, "frames are a int"),
        ("frames", "frame 0 is a str"),
        (torch.full((2, 8, 8, 3), 7.0), r"frame 0 of shape .* has values from 7 to 7; expected floats in \[0, 1\]"),
        ([FRAMES[0], torch.full((8, 8, 3), float("nan"))], r"frame 1 of shape"),
        ([FRAMES[0], FRAMES[0, :24]], r"frame 1 is \(24, 64\), and those before it are \(48, 64\) \(height, width\)"),
        (torch.zeros(2, 8, 8, 2), r"frame 0 of shape \(8, 8, 2\) .* has no axis of 1, 3 or 4 channels"),
    ],
    ids=str,
)
def test_what_is_no_video_is_refused_and_leaves_nothing(frames, words):
    with pytest.raises(FrameError, match=words):
        vidrec.write("video.mp4", frames)
    assert list(Path().iterdir()) == []


def test_a_file_is_replaced_only_on_request_and_only_by_a_whole_one():
    vidrec.write("video.mkv", FRAMES[:2])
    before = Path("video.mkv").read_bytes()
    with pytest.raises(SettingError, match=r"video.mkv exists; overwrite=True replaces a file"):
        vidrec.write("video.mkv", FRAMES)

    def breaks():
        yield from FRAMES
        assert {path.name.partition(".part-")[0] for path in Path().iterdir()} == {"video", "video.mkv"}
        assert Path("video.mkv").read_bytes() == before
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        vidrec.write("video.mkv", breaks(), overwrite=True)
    assert Path("video.mkv").read_bytes() == before
    assert vidrec.write("video.mkv", FRAMES, overwrite=True).frames == 5
    assert numbers_in(Path("video.mkv")) == [0, 1, 2, 3, 4]
    Path("folder.mkv").mkdir()
    for overwrite in (True, False):
        with pytest.raises(SettingError, match=r"folder.mkv exists"):
            vidrec.write("folder.mkv", FRAMES, overwrite=overwrite)
    assert sorted(path.name for path in Path().iterdir()) == ["folder.mkv", "video.mkv"]


def test_a_file_that_somebody_makes_meanwhile_is_not_replaced():
    def meanwhile():
        yield from FRAMES
        Path("video.mkv").write_text("another's")

    with pytest.raises(SettingError, match="was made meanwhile"):
        vidrec.write("video.mkv", meanwhile())
    assert Path("video.mkv").read_text() == "another's"
    assert len(list(Path().iterdir())) == 1


def test_a_path_is_what_it_is_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for path, expected in [
        ("new/folder/a.gif", "new/folder/a.gif"),
        (Path("../b.MP4"), "../b.MP4"),
        ("~/c.d.mkv", tmp_path / "home/c.d.mkv"),
        (str(tmp_path / "e.part-0.mkv"), tmp_path / "e.part-0.mkv"),
    ]:
        assert numbers_in(vidrec.write(path, FRAMES).path) == [0, 1, 2, 3, 4]
        assert Path(expected).is_file()
    Path("../b.MP4").unlink()


@pytest.mark.parametrize("name", ["video", "video.avi", "folder/", ".mp4", "video.mp4.zip"])
def test_a_name_that_says_no_format_is_refused(name):
    with pytest.raises(SettingError, match=r"does not say a format; expected one of \.mp4, \.webm,"):
        vidrec.write(name, FRAMES)
    with pytest.raises(SettingError, match=r"vidrec\.write writes files, and 's3://bucket/v\.mp4' is no path of"):
        vidrec.write("s3://bucket/v.mp4", FRAMES)
    with pytest.raises(SettingError, match="7 is no path"):
        vidrec.write(7, FRAMES)


def test_a_folder_that_cannot_be_made_is_an_error_of_the_encoder():
    Path("in").touch()
    with pytest.raises(EncoderError, match="could not be made"):
        vidrec.write("in/the/way.mp4", FRAMES)


def test_frames_of_an_iterator_are_taken_one_by_one():
    asked = []

    def frames():
        for number in range(4):
            asked.append(len(list(Path().iterdir())) > 0)
            yield numbered(number)

    vidrec.write("video.mp4", frames())
    assert asked == [False, True, True, True]


def test_what_a_kill_leaves_has_no_final_name_and_is_repaired():
    script = """
import torch, time, vidrec
from numbered_frames import numbered
def frames():
    for number in range(100):
        yield numbered(number)
    print("written", flush=True)
    time.sleep(60)
vidrec.write("folder/video.mkv", frames())
"""
    with started(script) as process:
        assert process.stdout.readline().strip() == b"written"
        process.send_signal(signal.SIGKILL)
        process.wait()
    time.sleep(0.5)
    assert not Path("folder/video.mkv").exists()
    [done] = list(repair(Path("folder").absolute()))
    assert done.video is not None
    assert numbers_in(done.video) == list(range(100))
    assert decode(done.video).shape[0] == done.frames == 100


SLOW = """
import sys, time
import torch, vidrec
def frames(seconds):
    for number in range(20):
        time.sleep(seconds / 20)
        yield torch.full((48, 64, 3), number, dtype=torch.uint8)
made = vidrec.write("made.mp4", frames(float(sys.argv[1])), overwrite=True)
print(made.frames)
"""


def test_a_terminal_shows_the_progress_of_a_write_that_takes_longer_than_two_seconds():
    text = in_terminal(sys.executable, "-c", SLOW, 2.5)
    assert re.search(r"\d+ frames \[00:0\d", text)
    assert text.rstrip().endswith("20")


def test_a_write_that_is_quick_or_in_no_terminal_shows_nothing():
    assert in_terminal(sys.executable, "-c", SLOW, 0.2) == "20\r\n"
    done = run_python(SLOW, 2.5)
    assert (done.stdout, done.stderr) == ("20\n", "")

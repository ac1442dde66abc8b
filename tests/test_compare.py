"""`compare`, `reel` and `sheet`: read back frame by frame, of files of every kind, and what is left when they fail."""

import json
import signal
import subprocess
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ENCODED, OLD_ENCODED, product, some
from numbered_frames import decode, numbered, numbers_in, probe, read_number, rows
from PIL import Image
from processes import COMMAND, SECONDS, encoders, in_terminal, run_python, started, wait_for_encoders, within
from test_cli import AS_A_MODULE, VIDREC, answer, call
from test_listing import SECONDS as MEASURED
from test_listing import add, refusal
from test_repair import leave, tree

import vidrec
from vidrec import CSVLogger, EncoderError, SettingError
from vidrec.captions import Strip
from vidrec.ffmpeg import metadata
from vidrec.ffmpeg.program import find_ffmpeg, run
from vidrec.ffmpeg.stream import Source
from vidrec.tools import joining
from vidrec.tools.repair import repair

SIZE = (48, 64)


@pytest.fixture(autouse=True)
def _nothing_hangs():
    with within(120):
        yield


def video(name, numbers=range(10), size=SIZE, fps=30):
    """Write a video of numbered frames; return its path."""
    return vidrec.write(name, (numbered(number, size) for number in numbers), fps).path


def logged(step, numbers=range(5), tag="eval", run="run", video_format="mp4"):
    frames = torch.stack([numbered(number) for number in numbers]).permute(0, 3, 1, 2)
    return CSVLogger(run, ".", video_format).log_video(tag, frames, step).path


def says(frame, strip, text):
    """Return whether the strip of a frame that was encoded shows this text, to a pixel or two."""
    shown = frame[strip.top : strip.top + strip.height, : strip.width, 0].astype(int)
    return (np.abs(shown - strip.draw(text)) > 128).sum() < 3


def cells(path, count, size=(192, 256), lines=2):
    """Return of each frame what is in each cell, of videos of one (height, width): its number, and what `says`."""
    columns, strip = int(np.ceil(np.sqrt(count))), Strip.of(size, lines, count)
    height = strip.top + strip.height
    found = []
    for frame in decode(path):
        at = [divmod(cell, columns) for cell in range(count)]
        parts = [frame[row * height :, column * strip.width :][:height, : strip.width] for row, column in at]
        found.append([(read_number(part[: strip.top]), partial(says, part, strip)) for part in parts])
    return found


def reel_numbers(path, size=(192, 256)):
    """Return the numbers of the frames of a reel, of videos of one (height, width)."""
    return [number for [(number, _)] in cells(Path(path), 1, size, 1)]


# beside each other


def test_frame_i_shows_frame_i_of_each_and_one_that_ended_shows_its_last_frame_and_says_so():
    old, new = video("old.mp4", range(100, 108)), video("new.mp4", range(200, 213))
    made = vidrec.compare([old, new], "both.mp4", labels=["old", "the new one"])
    found = cells(made.path, 2)
    assert [[number for number, _ in frame] for frame in found] == [[min(100 + at, 107), 200 + at] for at in range(13)]
    for at, ((_, left), (_, right)) in enumerate(found):
        assert left(f"old\nframe {at}" if at < 8 else "old\nended at frame 7")
        assert right(f"the new one\nframe {at}")
        assert not right(f"the new one\nframe {at + 1}")
    assert (made.frames, made.fps, made.size) == (13, 30, decode(made.path).shape[1:3])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_more_than_two_are_in_a_grid(count):
    paths = [video(f"{one}.mkv", range(100 * one, 100 * one + 3 + one)) for one in range(count)]
    made = vidrec.compare(paths, "grid.mp4")
    for at, frame in enumerate(cells(made.path, count)):
        assert [number for number, _ in frame] == [100 * one + min(at, 2 + one) for one in range(count)]
        for one, (_, said) in enumerate(frame):
            assert said(f"{one}\nframe {at}" if at < 3 + one else f"{one}\nended at frame {2 + one}")


@pytest.mark.parametrize("name", some(ENCODED, "webm", "gif", "webp"))
def test_each_format_can_be_read_and_made(name):
    paths = [video(f"a.{name}", range(7)), video("b.mp4", range(50, 60))]
    made = vidrec.compare(paths, f"made.{name}")
    assert made.path.name == f"made.{name}"
    assert [[number for number, _ in frame] for frame in cells(made.path, 2)] == [
        [min(at, 6), 50 + at] for at in range(10)
    ]


def test_sizes_are_brought_together_by_a_whole_factor_in_the_middle_of_the_largest():
    small, large = video("small.mkv", [9], (31, 50)), video("large.mkv", [7], (123, 77))
    [frame] = decode(vidrec.compare([small, large], "both.mkv").path)
    strip = Strip.of((123, 77), 2, 2)
    assert frame.shape == (strip.top + strip.height, 2 * strip.width, 3)
    by = strip.factor
    enlarged = numbered(9, (31, 50)).numpy().repeat(by, 0).repeat(by, 1)
    top, left = (123 - 31) // 2 * by, (77 - 50) // 2 * by
    assert np.array_equal(frame[top : top + 31 * by, left : left + 50 * by], enlarged)
    rest = frame[: 123 * by, : 77 * by].copy()
    rest[top : top + 31 * by, left : left + 50 * by] = 0
    assert not rest.any()
    assert np.array_equal(frame[: 123 * by, 77 * by :], numbered(7, (123, 77)).numpy().repeat(by, 0).repeat(by, 1))
    assert joining._fitted((31, 50), (123, 103)) == (62, 100)


def test_many_large_ones_are_made_small_enough_to_be_played():
    code, stderr = run(["-f", "lavfi", "-i", "testsrc=s=1920x1080:d=0.1:r=20", "file:large.mp4"])
    assert (code, stderr) == (0, "")
    made = vidrec.compare(["large.mp4"] * 16, "made.mp4")
    assert 3900 < made.width <= 4096
    assert made.height <= 4096
    assert made.frames == 2


def test_rates_may_differ_and_the_first_one_or_what_is_asked_for_counts():
    paths = [video("a.mp4", range(6), fps=12), video("b.mp4", range(12), fps=Fraction(30000, 1001))]
    assert vidrec.compare(paths, "a_b.mp4").fps == 12
    made = vidrec.compare(paths[::-1], "b_a.mp4")
    assert abs(made.fps - Fraction(30000, 1001)) < 0.002
    assert vidrec.reel(paths, "fast.mp4", fps=60).fps == 60
    assert "60 fps" in probe(Path("fast.mp4"))


@product(name=ENCODED, fps=[12, 30, Fraction(30000, 1001)])
def test_the_rate_of_a_file_is_that_which_it_was_given(name, fps):
    for frames in (1, 2, 31):
        source = Source.of(video(f"{frames}.{name}", range(frames), fps=fps))
        assert (source.frames, source.size) == (frames, decode(source.path).shape[1:3])
        if frames > 1 or name == "mp4":
            rounded = 0.002 if frames == 31 and name not in ("gif", "webp") else 0.04 if name != "gif" else 0.11
            assert float(source.fps) == pytest.approx(float(fps), rel=rounded)


# one after the other


def test_a_reel_has_every_frame_of_every_video_once_and_in_order():
    paths = [
        video("a.mp4", range(100, 140)),
        video("b.webm", range(200, 231), (96, 96), 12),
        video("c.mkv", range(300, 301), (31, 50)),
        video("d.gif", range(400, 417)),
        *(video(f"e.{name}", range(500, 509), (61, 47)) for name in ENCODED if name in ("apng", "webp")),
    ]
    made = vidrec.reel(paths, "reel.mp4")
    wanted = [number for path in paths for number in numbers_in(path)]
    frames = decode(made.path)
    decoded = {path: decode(path) for path in paths}
    size = max(each.shape[1] for each in decoded.values()), max(each.shape[2] for each in decoded.values())
    found = []
    shapes = [each.shape[1:3] for each in decoded.values() for _ in each]
    for frame, shape in zip(frames, shapes, strict=True):
        height, width = joining._fitted(shape, size)
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        found.append(read_number(frame[top : top + height, left : left + width]))
    assert found == wanted
    assert made.frames == len(wanted)
    titles = [path.stem for path, each in decoded.items() for _ in each]
    strip = Strip.of(size, 1)
    for frame, title in zip(frames, titles, strict=True):
        assert says(frame, strip, title)


@pytest.mark.parametrize("name", some(OLD_ENCODED, "webm", "gif"))
def test_a_reel_may_be_of_any_format_and_of_one_video(name):
    made = vidrec.reel([video("a.mp4", range(20))], f"reel.{name}")
    assert reel_numbers(made.path) == [*range(20)]


def test_titles_say_what_is_known_of_a_file_its_row_or_a_video():
    path = logged(1000)
    metadata.overwrite(path, {"step": 1000, "tag": "eval", "return": 12.5})
    assert joining.Shown(path).title() == "eval  step 1000  return 12.5"
    gif = logged(7, tag="a.b", video_format="gif")
    [listed] = [one for one in vidrec.videos(".") if one.path.suffix == ".gif"]
    for number, one in enumerate((listed, gif)):
        [(_, said), *_] = cells(vidrec.reel([one], f"{number}.mkv").path, 1, SIZE, 1)[0]
        assert said("a.b  step 7")
    assert joining.Shown(video("plain.mp4")).title() == "plain"
    assert joining.Shown(path, {"return": "-3.25"}).title() == "eval  step 1000  return -3.25"


def test_what_is_made_says_what_it_is_made_of():
    paths = [logged(step) for step in (0, 1000)]
    metadata.overwrite(paths[1], {"step": 1000, "tag": "eval", "return": float("nan")})
    for make in (vidrec.compare, vidrec.reel):
        for suffix in (".mp4", ".webm", ".mkv"):
            told = metadata.read(make(paths, f"{make.__name__}{suffix}").path)
            assert (told["vidrec"], told["tag"]) == (vidrec.__version__, "eval")
            assert "step" not in told
            assert [(one["file"], one["step"]) for one in told["videos"]] == [
                ("eval_0.mp4", 0),
                ("eval_1000.mp4", 1000),
            ]
            assert told["videos"][1]["return"] == "nan"
    args = metadata.args_of_several("mp4", [{"file": "x" * 100, "step": step} for step in range(2000)])
    assert len(args[1]) <= metadata.MAX_OF_SEVERAL + len("comment=")
    assert 400 < len(json.loads(args[1].removeprefix("comment="))["videos"]) < 2000


# the contact sheet


def test_a_sheet_has_frames_from_the_first_to_the_last_with_their_numbers():
    path = video("a.mp4", range(100, 161))
    made = vidrec.sheet(path, "sheet.png", 7)
    assert made == {"sheet": str(Path("sheet.png").absolute()), "columns": 3, "rows": 3, "shown": [*range(0, 61, 10)]}
    with Image.open("sheet.png") as opened:
        image = np.asarray(opened)
    strip = Strip.of((192, 256), 1, 7)
    height, width = strip.top + strip.height, strip.width
    assert image.shape == (3 * height, 3 * width, 3)
    for cell, at in enumerate(made["shown"]):
        one = image[cell // 3 * height :, cell % 3 * width :][:height, :width]
        assert read_number(one[: strip.top]) == 100 + at
        assert np.array_equal(one[strip.top :, :, 0], strip.draw(f"frame {at}"))


@pytest.mark.parametrize(
    ("frames", "n", "shown"), [(5, 16, [0, 1, 2, 3, 4]), (5, 1, [0]), (1, 3, [0]), (10, 2, [0, 9])]
)
def test_a_sheet_shows_no_frame_twice(frames, n, shown):
    assert vidrec.sheet(video("a.gif", range(frames)), "sheet.jpg", n)["shown"] == shown
    with Image.open("sheet.jpg") as image:
        assert image.format == "JPEG"


def test_the_json_of_a_sheet_tells_a_program_what_is_known():
    path = logged(1000, range(30))
    [one] = answer("sheet", path, "-n", 4, "-o", "sheet.png")
    assert one["shown"] == [0, 10, 19, 29]
    assert (one["tag"], one["step"], one["frames"], one["height"], one["columns"]) == ("eval", "1000", 30, 192, 2)
    assert one["file"] == str(path)
    assert call("sheet", path, "-o", "other.png").stdout == "other.png: 16 of 30 frames, 4 x 4\n"


# the command


def test_checkpoints_of_a_folder_are_compared_by_step():
    for env_id in (0, 1):
        for step in (2000, 0, 1000):
            path = logged(step, [500 * env_id + step // 100], tag=f"eval{env_id}")
            index = Path("run/videos.csv")
            text = index.read_text().replace(f"eval{env_id},{step},", f"eval,{step},")
            index.write_text(text)
            assert path.exists()
    logged(3000, [7], tag="train")
    text = Path("run/videos.csv").read_text()
    for row in rows("run"):
        if row["tag"] == "eval":
            line = next(line for line in text.splitlines() if row["file"] in line)
            columns = text.splitlines()[0].split(",")
            values = line.split(",")
            values[columns.index("env_id")] = row["file"][len("videos/eval")]
            text = text.replace(line, ",".join(values))
    Path("run/videos.csv").write_text(text)
    done = call("compare", "run", "--by", "step", "--tag", "eval", "--env", 1, "-o", "made.mkv")
    assert done.stdout == "made.mkv: 1 frames, 3 videos beside each other\n"
    [frame] = cells(Path("made.mkv"), 3)
    assert [number for number, _ in frame] == [500, 510, 520]
    for (_, said), step in zip(frame, (0, 1000, 2000), strict=True):
        assert said(f"step {step}\nframe 0")
    done = call("reel", "run", "--where", "tag=eval", "--where", "env=0", "--sort", "-step", "-n", 2, "-o", "reel.mkv")
    assert done.stdout == "reel.mkv: 2 frames of 2 videos\n"
    assert reel_numbers("reel.mkv") == [20, 10]


def test_videos_that_are_named_go_before_those_of_folders_and_labels_are_for_all():
    logged(5, [5]), video("a.mp4", [1])
    assert call("compare", "run", "a.mp4", "--labels", "one,two", "-o", "made.mkv").returncode == 0
    [frame] = cells(Path("made.mkv"), 2)
    assert [number for number, _ in frame] == [1, 5]
    assert frame[0][1]("one\nframe 0")
    assert frame[1][1]("two\nframe 0")


def test_a_file_that_exists_is_replaced_with_force_only():
    path = video("a.mp4")
    for command in (["compare", path, path], ["reel", path], ["sheet", path]):
        target = Path(f"{command[0]}.png" if command[0] == "sheet" else f"{command[0]}.mp4")
        target.write_text("mine")
        assert f"{target} exists; --force replaces a file" in refusal(*command, "-o", target)
        assert target.read_text() == "mine"
        assert call(*command, "-o", target, "--force").returncode == 0
        assert target.stat().st_size > 100
    with pytest.raises(SettingError, match="exists; overwrite=True"):
        vidrec.reel([path], "reel.mp4")
    before = numbers_in(path)
    vidrec.reel([path], path, overwrite=True)  # read to its end before it is replaced
    assert len(decode(path)) == len(before)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["compare", "a.mp4", "-o", "b.mp4"], "there are 1 videos to compare; expected from 2 to 64"),
        (["compare", "a.mp4", "a.mp4", "--labels", "one", "-o", "b.mp4"], "there are 1 labels for 2 videos"),
        (["compare", "a.mp4", "a.mp4", "--by", "step", "-o", "b.mp4"], "choose videos of a folder, and none is given"),
        (["compare", ".", "--by", "steps", "-o", "b.mp4"], "there is no column 'steps'"),
        (["compare", ".", "--by", "step", "--labels", "x", "-o", "b.mp4"], "expected one of them"),
        (["reel", "a.mp4", "-o", "b.txt"], "does not say a format; expected one of .mp4"),
        (["reel", "a.mp4", "-o", "b.pt"], "does not say a format"),
        (["reel", "a.mp4", "--fps", "0", "-o", "b.mp4"], "fps='0' must be a number"),
        (["reel", "a.mp4", "--fps", "200", "-o", "b.gif"], "at most 100"),
        (["sheet", "a.mp4", "-o", "b.mp4"], "does not say an image; expected one of .png"),
        (["reel", "empty", "-o", "b.mp4"], "there are no videos for a reel"),
    ],
)
def test_what_cannot_be_asked_ends_with_2_and_makes_nothing(args, message):
    video("a.mp4")
    Path("empty").mkdir()
    before = tree()
    assert message in refusal(*args)
    assert tree() == before


# damaged and foreign files


def damaged():
    """Return files that are no videos, or are cut off, by what the error says."""
    good = {name: video(f"good.{name}", range(40)).read_bytes() for name in OLD_ENCODED}
    noticed = good if "webp" in ENCODED else ("mp4", "webm", "mkv")  # an older FFmpeg reads what is there of an image
    for name in noticed:
        data = good[name]
        Path(f"cut.{name}").write_bytes(data[: len(data) * 2 // 3])
        yield Path(f"cut.{name}"), "FFmpeg cannot read all of"
    for name in ("empty.mp4", "empty.webm", "empty.gif"):
        Path(name).write_bytes(b"")
        yield Path(name), "FFmpeg cannot read all of"
    Path("text.mp4").write_text("#EXTM3U\nfile:///etc/passwd\n" * 100)
    yield Path("text.mp4"), "FFmpeg cannot read all of"
    torch.save(torch.zeros(1, 1, 3, 8, 8, dtype=torch.uint8), "tensor.pt")
    yield Path("tensor.pt"), "is no video that FFmpeg reads by its name; expected one of .apng"
    Path("notes.txt").write_text("notes")
    yield Path("notes.txt"), "is no video"
    run(["-f", "lavfi", "-i", "sine=d=1", "file:sound.mkv"])
    yield Path("sound.mkv"), "FFmpeg cannot read all of"


def test_a_damaged_or_foreign_file_is_named_and_nothing_is_left():
    fine = video("fine.mp4")
    for path, message in damaged():
        before = tree()
        for make, *args in (
            (vidrec.compare, [fine, path], "made.mp4"),
            (vidrec.reel, [fine, path], "made.mp4"),
            (vidrec.sheet, path, "made.png"),
        ):
            with pytest.raises(EncoderError, match=message) as raised:
                make(*args)
            assert str(path) in str(raised.value)
        assert tree() == before
    assert encoders(Path.cwd()) == []
    done = call("reel", "fine.mp4", "cut.mkv", "-o", "made.mp4")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("vidrec: FFmpeg cannot read all of cut.mkv: ")
    with pytest.raises(EncoderError, match=r"gone\.mp4"):
        vidrec.reel(["gone.mp4"], "made.mp4")


def test_of_a_folder_with_others_in_it_the_damaged_one_is_named_and_what_is_recorded_is_not_taken():
    logged(0), logged(1), leave(tag="left")
    assert call("reel", "run", "-o", "fine.mp4").stdout == "fine.mp4: 10 frames of 2 videos\n"
    Path("run/videos/notes.txt").write_text("no video")
    add(tag="eval", step=2)
    done = call("compare", "run", "-o", "made.mp4")
    assert done.returncode == 1
    assert "run/videos/eval_2.mp4" in done.stderr
    assert not Path("made.mp4").exists()
    assert call("compare", "run", "--where", "step<2", "-o", "made.mp4").returncode == 0


@pytest.mark.long
def test_a_folder_of_many_makes_a_reel_and_too_many_to_compare_are_refused():
    data = logged(0, [3, 4]).read_bytes()
    for step in range(1, 70):
        add(tag="eval", step=step).write_bytes(data)
    assert "there are 70 videos to compare; expected from 2 to 64" in refusal("compare", "run", "-o", "made.mp4")
    assert call("reel", "run", "-o", "reel.mp4").stdout == "reel.mp4: 140 frames of 70 videos\n"
    assert reel_numbers("reel.mp4") == [3, 4] * 70
    assert call("compare", "run", "--sort", "-step", "-n", 64, "-o", "grid.mp4").returncode == 0


def test_a_folder_that_takes_no_file_is_named():
    path = video("a.mp4")
    Path("file").write_text("no folder")
    done = call("reel", path, "-o", "file/made.mp4")
    assert (done.returncode, done.stdout) == (1, "")
    assert "file" in done.stderr


# when it is interrupted, and what it takes


def long_video(seconds=40, size="640x480"):
    code, stderr = run(
        ["-f", "lavfi", "-i", f"testsrc=s={size}:d={seconds}:r=30", "-preset", "ultrafast", "file:long.mp4"]
    )
    assert (code, stderr) == (0, "")
    return Path("long.mp4").absolute()


@pytest.mark.parametrize("command", some([["compare", "long.mp4"], ["reel"], ["sheet"]], ["reel"]))
def test_ctrl_c_leaves_no_file_and_no_process(command):
    path = long_video()
    before = sorted(Path().iterdir())
    target = Path("made.png" if command[0] == "sheet" else "made.mp4").absolute()
    process = subprocess.Popen([*VIDREC, command[0], path, *command[1:], "-o", target], stderr=subprocess.PIPE)
    until = time.monotonic() + SECONDS
    while not (Path().glob("made.part-*.log") and len(encoders(Path.cwd())) > 0) and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode != 0
    assert b"Traceback" not in stderr
    assert sorted(Path().iterdir()) == before
    assert encoders(Path.cwd()) == []


@pytest.mark.long
def test_a_kill_leaves_no_final_name_and_repair_saves_what_was_made():
    path = long_video()
    with started(AS_A_MODULE, "reel", path, "-o", Path("made.mkv").absolute(), has=COMMAND) as process:
        while not list(Path().glob("made.part-*.mkv")):
            time.sleep(0.01)
        time.sleep(1)
        assert [one.outcome for one in repair(Path.cwd())] == ["being recorded"]
        process.kill()
        process.wait()
    wait_for_encoders(Path.cwd())
    assert not Path("made.mkv").exists()
    [done] = list(repair(Path.cwd()))
    assert done.frames > 0


@pytest.mark.long
def test_a_terminal_shows_how_far_it_has_come(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    slow = Path("slow_ffmpeg").absolute()
    slow.write_text(f'#!/bin/sh\nsleep 0.6\nexec "{find_ffmpeg()}" "$@"\n')
    slow.chmod(0o755)
    path = video("a.mp4", range(20))
    assert "%" not in in_terminal(*VIDREC, "sheet", path, "-o", "a.png")
    monkeypatch.setenv("FFMPEG_BINARY", str(slow))
    text = in_terminal(*VIDREC, "reel", *[path] * 4, "-o", "made.mp4")
    assert "100%" in text
    assert "made.mp4: 80 frames of 4 videos" in text


MEMORY = """
    import resource, sys
    import vidrec.tools.joining as joining
    from pathlib import Path

    paths = [joining.Shown(Path(path)) for path in sys.argv[3:]]
    getattr(joining, sys.argv[1])(paths, Path(sys.argv[2]))
    assert "torch" not in sys.modules
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
@pytest.mark.parametrize("command", ["compare", "reel"])
def test_memory_is_flat_in_the_length_and_the_number_of_videos(command):
    path = long_video(1, "320x240")
    code, _ = run(["-stream_loop", "9", "-i", f"file:{path}", "-c", "copy", "file:longer.mp4"])
    assert code == 0

    def peak(target, *paths):
        return int(run_python(MEMORY, command, target, *paths, has=()).stdout)

    short, long = peak("short.mkv", path, path), peak("long.mkv", "longer.mp4", "longer.mp4")
    assert long < short + 15_000  # in kB: 2 x 300 frames have 138 MB
    if command == "reel":
        assert peak("many.mkv", *[path] * 10) < short + 15_000


@pytest.mark.parametrize("command", [["compare", "a.mp4", "a.mp4"], ["reel", "a.mp4"], ["sheet", "a.mp4"]])
def test_no_command_imports_torch(command):
    video("a.mp4")
    target = "made.png" if command[0] == "sheet" else "made.mp4"
    _, has_torch = run_python(MEASURED, *command, "-o", target, has=COMMAND).stderr.split()
    assert has_torch == "False"


@pytest.mark.parametrize("command", some(["compare", "reel", "sheet"], "reel"))
def test_a_command_starts_in_less_than_half_a_second(command):
    seconds = (run_python(MEASURED, command, "--help", has=()).stderr.split()[0] for _ in range(3))
    assert min(map(float, seconds)) < 0.5

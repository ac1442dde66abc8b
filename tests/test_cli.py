"""The command `vidrec`: what it finds wrong with a folder, how it says so, and what it does not need for that."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import pytest
import torch
from conftest import missing, some
from numbered_frames import numbered
from processes import COMMAND, in_terminal, run_python, within, without
from test_repair import RUN, cut_off, leave, part_files, rows, shown, tree

import vidrec
from vidrec import CSVLogger, VideoRecorder
from vidrec.ffmpeg.program import find_ffmpeg, run
from vidrec.files.index import VideoIndex
from vidrec.tools import verify as verify_module
from vidrec.tools.repair import repair
from vidrec.tools.verify import verify

VIDREC = [sys.executable, "-m", "vidrec"]
AS_A_MODULE = "import runpy; runpy.run_module('vidrec', run_name='__main__', alter_sys=True)"


@pytest.fixture(autouse=True)
def _nothing_hangs():
    with within(120):
        yield


def call(*args, cwd=None, env=()):
    """Run `vidrec`, in an interpreter of its own if that has an `env`.

    Nothing may come on stderr but what typer says of wrong arguments.
    """
    done = run_python(AS_A_MODULE, *args, check=False, has=() if env else COMMAND, cwd=cwd, env=env)
    assert "Traceback" not in done.stderr, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    return done


def answer(*args, code=0, **more):
    """Return what `vidrec ... --json` prints."""
    done = call(*args, "--json", **more)
    assert (done.returncode, done.stderr) == (code, ""), done
    return json.loads(done.stdout)


def published(video_format="mp4", tag="game", frames=20, step=None, run=RUN):
    recorder = VideoRecorder(CSVLogger(run.name, run.parent, video_format), tag, skip=1)
    for number in range(frames):
        recorder._apply_transform(numbered(number))
    return recorder.dump(step=step).path


def wrong(folder=RUN):
    """Return what is wrong, by the name of the file."""
    return {one.file.name: one.problem for one in verify(Path(folder).absolute())}


def edit_index(old, new):
    path = RUN / "videos.csv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


# what verify finds


def test_rows_of_videos_that_were_deleted_are_dropped_on_request_and_no_others():
    published(step=0).unlink()
    published(step=1)
    assert list(wrong()) == ["game_0.mp4"]
    assert answer("repair", RUN, "--sync", "--dry-run")[0]["outcome"].startswith("to be deleted: the row")
    assert answer("repair", RUN) == []
    assert list(wrong()) == ["game_0.mp4"]
    assert [row["outcome"] for row in answer("repair", RUN, "--sync")] == [
        "deleted: the row of a video that is not there"
    ]
    assert wrong() == {}
    assert [row["file"] for row in VideoIndex(RUN).rows()] == ["videos/game_1.mp4"]


def test_rows_of_files_outside_the_folder_are_no_problem_and_are_not_dropped():
    published(step=0)
    index = VideoIndex(RUN)
    outside = ["../other.mp4", "videos/../../other.mp4", str(Path("/nowhere/other.mp4"))]
    for file in outside:
        index.add(tag="game", step=0, file=file)
    assert wrong() == {}
    assert answer("repair", RUN, "--sync") == []
    assert [row["file"] for row in index.rows()] == ["videos/game_0.mp4", *outside]


@pytest.mark.parametrize("file", ["videos/./game_9.mp4", "videos//game_9.mp4", "videos/../videos/game_9.mp4"])
def test_a_row_of_a_deleted_video_is_dropped_however_it_names_the_file(file):
    published(step=0)
    VideoIndex(RUN).add(tag="game", step=9, file=file)
    assert wrong() == {"game_9.mp4": "was deleted; `vidrec repair --sync` drops its row"}
    assert len(answer("repair", RUN, "--sync")) == 1
    assert wrong() == {}
    assert [row["file"] for row in VideoIndex(RUN).rows()] == ["videos/game_0.mp4"]


def test_a_row_that_was_written_while_one_looked_is_not_dropped(monkeypatch):
    path = published(step=0)
    content = path.read_bytes()
    path.unlink()
    remove = VideoIndex.remove

    def later(self, *args, **keywords):
        path.write_bytes(content)  # a training has published another video of this name
        return remove(self, *args, **keywords)

    monkeypatch.setattr(VideoIndex, "remove", later)
    list(repair(RUN.absolute(), sync=True))
    assert [row["file"] for row in VideoIndex(RUN).rows()] == ["videos/game_0.mp4"]
    assert wrong() == {}


def test_verify_says_at_its_end_how_many_videos_it_looked_at():
    deleted = published(step=0)
    assert call("verify", RUN).stdout == "nothing is wrong\n1 video was decoded\n"
    published(step=1)
    published(step=2)
    deleted.unlink()
    assert call("verify", RUN).stdout.splitlines()[-1] == "2 videos were decoded"
    assert [row["file"] for row in answer("verify", RUN, code=3)] == [str(RUN / "videos/game_0.mp4")]


def test_verify_tells_a_video_that_was_deleted_from_one_that_is_damaged():
    published(step=0).unlink()
    assert [row["kind"] for row in answer("verify", RUN, code=3)] == ["deleted"]
    cut_off(published(step=1))
    VideoIndex(RUN).remove(str(published(step=2).relative_to(RUN.absolute())))
    leave(tag="left")
    kinds = {Path(row["file"]).name.split(".")[0]: row["kind"] for row in answer("verify", RUN, code=1)}
    assert kinds == {"game_0": "deleted", "game_1": "damaged", "game_2": "row", "left": "unfinished"}
    assert "deleted" in call("verify", RUN).stdout
    list(repair(RUN.absolute(), sync=True))
    assert "deleted" not in {row["kind"] for row in answer("verify", RUN, code=1)}


@pytest.mark.parametrize(
    "video_format", some(["mp4", "webm", "mkv", "gif", "apng", "pt", "memmap"], "mp4", "gif", "pt", "memmap")
)
def test_nothing_is_wrong_with_what_a_logger_has_published(video_format):
    published(video_format)
    published(video_format, "eval/one frame", frames=1)
    assert wrong() == {}
    assert wrong(RUN / "videos") == {}
    assert wrong(".") == {}


def test_an_empty_folder_is_fine(tmp_path):
    assert answer("verify", ".") == []
    assert call("verify", ".").stdout == "nothing is wrong\n0 videos were decoded\n"
    assert call("repair", ".").stdout == "nothing is left unfinished\n"


def test_a_file_that_is_missing_and_one_that_has_no_row_or_two():
    published(step=0).unlink()
    published(step=1)
    published(step=2)
    VideoIndex(RUN).remove("videos/game_1.mp4")
    with (RUN / "videos.csv").open("a") as file:
        file.write((RUN / "videos.csv").read_text().splitlines()[-1] + "\n")
    assert wrong() == {
        "game_0.mp4": verify_module.NO_FILE,
        "game_1.mp4": "has no row in videos.csv",
        "game_2.mp4": "has 2 rows in videos.csv",
    }


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (",20,", ",21,", "has frames 20, and '21' in videos.csv"),
        (",192,", ",190,", "has height 192, and '190' in videos.csv"),
        (",256,", ",", "in videos.csv"),
        (",20,", ",,", "has frames 20, and '' in videos.csv"),
    ],
)
def test_a_row_that_tells_another_number_or_size(old, new, problem):
    published()
    edit_index(old, new)
    assert problem in wrong()["game_0.mp4"]


@pytest.mark.parametrize("video_format", ["mp4", "webm", "mkv", "gif", "apng", "pt", "memmap"])
def test_a_video_that_is_cut_off_or_empty(video_format):
    path = published(video_format)
    cut_off(path)
    assert path.name in wrong()
    path.write_bytes(b"")
    assert path.name in wrong()


@pytest.mark.parametrize("video_format", ["mp4", "gif", "apng"])
def test_a_video_with_a_hole_is_damaged(video_format):
    path = published(video_format, frames=60)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(range(200)) * 2
    path.write_bytes(data)
    assert re.match(r"(?s)is damaged: |cannot be read: |has frames", wrong()[path.name])


def test_a_tensor_file_with_one_wrong_byte():
    path = published("pt")
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    assert wrong() == {"game_0.pt": "is damaged: the checksum of archive/data/0 is wrong"}


@pytest.mark.parametrize("change", ["\0" * 40, "PK\x05\x06" + "\xff" * 18, ""])
def test_a_tensor_file_with_a_wrong_end_or_no_entries(change):
    path = published("pt")
    path.write_bytes(path.read_bytes()[:-22] + change.encode("latin1"))
    assert wrong()["game_0.pt"].startswith("cannot be read: ")
    with zipfile.ZipFile(path, "w"):
        pass
    assert wrong()["game_0.pt"].startswith("cannot be read: ")


def test_a_memmap_with_some_bytes_more():
    path = published("memmap")
    path.write_bytes(path.read_bytes() + b"more")
    assert wrong() == {"game_0.memmap": "is damaged: 4 bytes are no whole frame"}


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ("0 1 2 2 3", "frame 3 is shown at 2 s, and the one before it at 2 s"),
        ("0 3 1 2 4", "frame 2 is shown at 1 s, and the one before it at 3 s"),
    ],
)
def test_frames_that_are_not_shown_one_after_the_other(numbers, problem, monkeypatch):
    path, listing = published("apng", frames=5), "#tb 0: 1/1\n#codec_id 0: rawvideo\n#dimensions 0: 64x48\n"
    frames = "".join(f"0, {i}, {time}, 1, 9216, 0x0\n" for i, time in enumerate(numbers.split()))
    done = subprocess.CompletedProcess([], 0, listing + frames, "")
    monkeypatch.setattr("vidrec.ffmpeg.files.run_ffmpeg", lambda args: done)
    assert wrong() == {path.name: problem}


def test_frames_that_go_back_in_a_real_file():
    path = published("mkv")
    other = path.with_name("other.mkv")
    back = "setts=pts='if(eq(N,7),PTS-100,PTS)':dts='DTS'"
    code, words = run(["-i", f"file:{path}", "-c", "copy", "-bsf:v", back, f"file:{other}"])
    assert not code, words
    other.replace(path)
    assert re.match(r"frame \d+ is shown at .* s, and the one before it at .* s", wrong().get(path.name, "nothing")), (
        wrong()
    )


def test_what_is_unfinished_is_a_problem_until_it_is_repaired():
    clip = leave()
    (RUN / "videos.csv.part-0123abcd").write_text("tag")
    assert wrong() == {
        clip.name: "is an unfinished clip; `vidrec repair` makes a video of it",
        "videos.csv.part-0123abcd": "is a copy that was cut off; `vidrec repair` deletes it",
    }
    list(repair(RUN.absolute()))
    assert wrong() == {}


INDICES = {
    "empty": b"",
    "a head alone": b"tag,step,file,frames,fps,height,width,codec,seconds,env,episode,return,length,ended\n",
    "no head": b"game,0,videos/game_0.pt,20,30.0,48,64,none,0.6,,,,,\n",
    "other columns": b"a,b\n1,2\n",
    "no size": b"tag,step,file,frames\ngame,0,videos/game_0.pt,20\n",
    "a size of 0": b"tag,step,file,frames,height,width\ngame,0,videos/game_0.pt,20,0,0\n",
    "no number": b"tag,step,file,frames,height,width\ngame,0,videos/game_0.pt,many,tall,wide\n",
    "other bytes": bytes(range(256)) * 20,
    "zeros": bytes(1000),
    "one long field": b"tag,step,file\n" + b"x" * 200_000 + b",1,2\n",
    "an open quote": b'tag,step,file\n"game,0,videos/game_0.pt\n',
    "paths out of it": b"tag,step,file\ngame,0,../../../etc/passwd\ngame,1,/etc/passwd\ngame,2,\n",
    "a zero in a path": b"tag,step,file\ngame,0,videos/\0.mp4\n",
}


@pytest.mark.parametrize("index", some(INDICES, "empty", "other columns", "zeros", "paths out of it"))
def test_an_index_that_somebody_has_damaged_is_an_entry_and_no_exception(index):
    video = published("pt")
    RUN.joinpath("videos.csv").write_bytes(INDICES[index])
    found = answer("verify", RUN, code=1)
    assert {Path(one["file"]).name for one in found} & {video.name, "videos.csv"}
    about = call("info", video, "--json")
    assert len(json.loads(about.stdout)) == 1
    # and a clip beside it is not lost
    clip = leave("mp4", "other")
    before = clip.read_bytes()
    [one] = json.loads(call("repair", RUN, "--json").stdout)
    assert clip.read_bytes() == before if one["outcome"].startswith("failed") else shown(RUN / "videos/other_0.mp4")


def test_more_values_than_columns_are_not_shown_and_do_not_matter():
    video = published("pt")
    RUN.joinpath("videos.csv").write_text("file,frames,height,width\nvideos/game_0.pt,20,48,64,x,y,z\n")
    assert wrong() == {}
    assert set(answer("info", video)[0]) == {"file", "frames", "height", "width", "codec", "bytes"}
    assert call("info", video).returncode == 0


def test_an_index_that_may_not_be_written_can_be_read():
    video = published()
    if subprocess.run(["mount", "--bind", "-o", "ro", RUN, RUN], capture_output=True).returncode:
        missing("a folder cannot be mounted read-only")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", RUN], check=True)
        assert answer("verify", RUN) == []
        assert answer("info", video)[0]["tag"] == "game"
    finally:
        subprocess.run(["umount", "--lazy", RUN], check=True)


# how a folder is named


@pytest.mark.parametrize(
    ("where", "name"),
    [
        pytest.param(".", "run", marks=pytest.mark.long),
        (".", "run/"),
        pytest.param(".", "./run/../run", marks=pytest.mark.long),
        pytest.param(".", ".", marks=pytest.mark.long),
        pytest.param("run", ".", marks=pytest.mark.long),
        ("run", "videos"),
        pytest.param("run/videos", ".", marks=pytest.mark.long),
    ],
)
def test_a_folder_may_be_named_in_any_way(where, name):
    published()
    leave(tag="a clip")
    assert answer("verify", name, cwd=where, code=1)[0]["problem"].startswith("is an unfinished clip")
    assert answer("repair", name, cwd=where)[0]["outcome"] == "repaired"
    assert answer("verify", name, cwd=where) == []
    assert [row["file"] for row in rows()] == ["videos/game_0.mp4", "videos/a clip_0.mp4"]


def test_a_folder_two_below_its_index_is_compared_with_it():
    published(tag="eval/game")
    edit_index(",20,", ",21,")
    assert wrong(RUN / "videos/eval") == {"game_0.mp4": "has frames 20, and '21' in videos.csv"}


def test_links_are_followed_where_the_user_names_them(tmp_path):
    published()
    leave(tag="left")
    (tmp_path / "link").symlink_to(RUN)
    assert answer("repair", "link")[0]["outcome"] == "repaired"
    assert answer("verify", "link") == []
    (tmp_path / "one.mp4").symlink_to(RUN / "videos/game_0.mp4")
    assert answer("info", "one.mp4")[0]["frames"] == 20
    (RUN / "broken.mp4").symlink_to("nowhere")
    (RUN / "round").symlink_to(".")
    assert answer("verify", RUN) == []


def test_a_folder_of_videos_that_is_a_link_to_elsewhere_is_looked_through(tmp_path):
    published()
    shutil.move(RUN / "videos", tmp_path / "large disk")
    (RUN / "videos").symlink_to(tmp_path / "large disk")
    assert wrong() == {}
    leave(tag="left")
    [one] = repair(RUN.absolute())
    assert one.outcome == "repaired"
    assert rows()[-1]["file"] == "videos/left_0.mp4"


NAMES = ["x" * 200, "ö" * 100, "/".join(["y" * 150] * 8), "[red]not markup[/red]", "tab le"]


@pytest.mark.parametrize("tag", some(NAMES, "ö" * 100, "[red]not markup[/red]"))
def test_names_are_printed_in_full_and_as_they_are(tag):
    clip = leave(tag=tag)
    file = str(clip.relative_to(Path.cwd()))
    assert answer("verify", RUN, code=1)[0]["file"] == file
    assert file in call("verify", RUN, env={"PYTHONUTF8": "1"}).stdout


UNPRINTABLE = [b"\xff\xfe.mp4", "ü.mp4".encode(), b"a\nb.mp4", b"\x1b[31mred.mp4"]
ENVIRONMENTS = [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}, {}]


@pytest.mark.parametrize("name", some(UNPRINTABLE, b"\xff\xfe.mp4", b"\x1b[31mred.mp4"))
@pytest.mark.parametrize("env", some(ENVIRONMENTS, {"PYTHONIOENCODING": "ascii"}), ids=str)
def test_a_name_that_cannot_be_printed_is_no_exception(name, env):
    RUN.mkdir()
    (RUN / os.fsdecode(name)).write_bytes(b"no video")
    done = call("verify", RUN, env=env)
    assert (done.returncode, done.stderr) == (1, "")
    assert "cannot be read" in done.stdout
    assert answer("verify", RUN, code=1, env=env)[0]["problem"].startswith("cannot be read")


# the commands


def cells(table):
    """Return the rows of a table by the names in its head."""
    lines = [re.split(r"[│┃]", line)[1:-1] for line in table.splitlines() if line[0] in "│┃"]
    head, *body = [[cell.strip() for cell in line] for line in lines]
    return [dict(zip(head, line, strict=True)) for line in body]


def as_text(found):
    names = dict.fromkeys(name for one in found for name in one)
    return [{name: "" if one.get(name) is None else str(one[name]) for name in names} for one in found]


@pytest.mark.parametrize(
    "command", [["verify", "run"], ["repair", "--dry-run", "run"], ["info", "a.mp4", "b.pt", "c.txt"]]
)
def test_json_tells_what_the_table_tells(command):
    for name, video_format in (("a", "mp4"), ("b", "pt")):
        shutil.copy(published(video_format), f"{name}.{video_format}")
    Path("c.txt").write_text("no video")
    leave()
    torn = leave("mkv", "torn [b]")
    torn.write_bytes(b"")
    found = json.loads(call(*command, "--json").stdout)
    assert len(found) >= 2
    assert cells(call(*command).stdout) == as_text(found)


def test_info_tells_what_is_in_a_video_and_what_its_row_says():
    path = published(tag="eval/game", step=7)
    [about] = answer("info", path)
    assert datetime.fromisoformat(about.pop("time")) <= datetime.now(timezone.utc)
    assert about == {
        "file": str(path),
        "tag": "eval/game",
        "step": "7",
        "frames": 20,
        "fps": 30.0,
        "height": 192,
        "width": 256,
        "codec": "h264",
        "seconds": 0.667,
        "bytes": path.stat().st_size,
    }
    [about] = answer("info", os.path.relpath(published("memmap", "raw")))
    assert (about["frames"], about["height"], about["width"], about["codec"]) == (20, 48, 64, "none")


def test_info_of_a_folder_is_that_of_each_video_in_it():
    paths = [published(), published("pt", "eval/raw")]
    leave()
    assert answer("info", RUN) == sorted(answer("info", *map(os.path.relpath, paths)), key=lambda one: one["file"])
    Path("empty").mkdir()
    assert answer("info", "empty") == []
    assert call("info", "empty").stdout == "no videos\n"


def test_exit_codes():
    path = published()
    Path("text.txt").write_text("x")
    assert call("info", path).returncode == 0
    assert call("info", path, "text.txt").returncode == 1
    assert call("verify", RUN).returncode == call("repair", RUN).returncode == 0
    for wrong_use in (
        ["info", "missing.mp4"],
        ["info"],
        ["verify", "missing"],
        ["verify", path],
        ["repair", "missing"],
        ["verify"],
        ["verify", RUN, "--dry-run"],
        ["unknown"],
        [],
    ):
        assert call(*wrong_use).returncode == 2, wrong_use
    path.unlink()
    assert call("verify", RUN).returncode == 3
    left = leave("memmap")
    left.with_suffix(".log").unlink()
    done = call("repair", RUN, "--json")
    assert (done.returncode, json.loads(done.stdout)[0]["outcome"].split(":")[0]) == (1, "failed")
    assert left.exists()


def test_a_clip_that_fails_does_not_keep_the_others_from_being_repaired():
    bad = leave("memmap", "a")
    bad.with_suffix(".log").unlink()
    leave("mp4", "b")
    assert [one["outcome"].split(":")[0] for one in answer("repair", RUN, code=1)] == ["failed", "repaired"]


def test_the_version_is_that_of_the_package():
    assert call("--version").stdout == f"{vidrec.__version__}\n"


def test_a_dry_run_changes_nothing():
    published()
    leave()
    (RUN / "videos.csv.part-0123abcd").write_text("tag")
    before = tree(), [path.stat().st_mtime_ns for path in sorted(Path().rglob("*"))]
    said = answer("repair", "--dry-run", RUN)
    assert [one["outcome"].split()[0] for one in said] == ["to", "to"]  # not "deleted", which it is not
    assert (tree(), [path.stat().st_mtime_ns for path in sorted(Path().rglob("*"))]) == before


@pytest.mark.long
def test_a_terminal_shows_how_far_it_has_come_if_it_takes_long_and_a_pipe_does_not(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    published()
    quick = in_terminal(*VIDREC, "verify", RUN)
    assert quick.endswith("nothing is wrong\r\n1 video was decoded\r\n")
    assert "%" not in quick
    assert "\x1b" not in quick
    for step in range(1, 4):
        published(step=step)
    slow = Path("slow_ffmpeg").absolute()
    slow.write_text(f'#!/bin/sh\nsleep 0.6\nexec "{find_ffmpeg()}" "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("FFMPEG_BINARY", str(slow))
    text = in_terminal(*VIDREC, "verify", RUN)
    assert "100%" in text
    assert "nothing is wrong" in text
    assert "\x1b[?25h" in text.split("\x1b[?25l")[-1]  # the cursor is there again
    done = call("verify", RUN)
    assert (done.stdout, done.stderr) == ("nothing is wrong\n4 videos were decoded\n", "")


# what it does not need

MODULES = """
    import sys
    sys.argv = ["vidrec", *sys.argv[1:]]
    from vidrec.__main__ import main
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
    print(*{"torch", "torchrl", "tensordict", "moviepy", "numpy"} & set(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["verify", "."], ["repair", "."], ["list", "."]])
def test_it_starts_without_torch(command):
    assert run_python(MODULES, *command, has=()).stderr == "\n"


@pytest.mark.parametrize("video_format", ["mp4", "memmap", "pt"])
def test_it_looks_at_videos_and_repairs_them_without_torch(video_format):
    path = published(video_format)
    leave(video_format, "left")
    for command in (["info", path], ["repair", RUN], ["verify", RUN]):
        loaded = run_python(MODULES, *command, has=COMMAND).stderr.split()
        if (video_format, command[0]) != ("pt", "repair"):  # it writes a pickle that names functions of torch
            assert not {"torch", "torchrl", "tensordict"} & set(loaded), command
    if video_format == "pt":
        assert torch.load(RUN / "videos/left_0.pt").shape == (1, 20, 3, 48, 64)


def seconds_of(*args):
    """Return the least processor time that a program takes."""

    def once():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *args], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(once() for _ in range(3))


def test_it_starts_in_little_more_than_what_it_is_made_with_takes():
    base = seconds_of("-c", "import typer, rich.console, rich.table, rich.progress")
    assert seconds_of("-m", "vidrec", "--help") < 4 * base


def test_without_typer_it_says_what_to_install():
    script = without("typer") + "from vidrec.__main__ import main\nmain()\n"
    done = run_python(script, check=False, has=())
    assert done.returncode == 1
    assert done.stderr == (
        'vidrec: the command vidrec needs typer, which is not installed: pip install "vidrec[cli]"\n'
    )


def test_an_ffmpeg_that_is_not_there_is_said_in_the_table():
    published()
    leave(tag="left")
    before = tree()
    env = {"FFMPEG_BINARY": "/nowhere/ffmpeg"}
    for command in ("verify", "repair"):
        found = answer(command, RUN, code=1, env=env)
        assert "/nowhere/ffmpeg" in json.dumps(found)
    assert tree() == before


def test_ctrl_c_ends_a_repair_which_the_next_one_goes_on_with(tmp_path):
    for number in range(20):
        leave("mkv", f"clip{number}")
    child = subprocess.Popen(
        [*VIDREC, "repair", str(RUN)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    until = time.monotonic() + 30
    while not list(RUN.rglob("clip*_0.mkv")) and time.monotonic() < until:
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode != 0
    assert b"Traceback" not in errors
    answer("repair", RUN)
    assert part_files(RUN) == []
    assert [shown(path) for path in sorted(RUN.rglob("*.mkv"))] == [list(range(20))] * 20
    assert wrong() == {}

"""What `vidrec repair` makes of clips that a crash left behind, at whatever moment it came."""

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
import zlib
from datetime import datetime, timezone
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from conftest import ENCODED, missing, product, some
from numbered_frames import decode, numbered, numbers_in, read_number
from processes import encoders, started, wait_for_encoders, within
from test_clip import boxes
from test_faults import FOREVER, VICTIM, kill

from vidrec import CSVLogger, TeeLogger, VideoRecorder
from vidrec.clips import EncodedClip, open_clip
from vidrec.ffmpeg import files as ffmpeg_files
from vidrec.ffmpeg import program
from vidrec.ffmpeg.encoding import Encoding
from vidrec.files import names
from vidrec.files.index import VideoIndex
from vidrec.tools import scan
from vidrec.tools.repair import UNREADABLE, repair
from vidrec.tools.verify import verify

RAW = ["pt", "memmap"]
ALL = [*ENCODED, *RAW]
CUTS = int(os.environ.get("VIDREC_CUTS", 6))
SIZE = (48, 64)
RUN = Path("run")


@pytest.fixture(autouse=True)
def _nothing_hangs():
    with within(120):
        yield


def opened(video_format="mp4", tag="game", run=RUN, indexed=True):
    """Return a clip as a CSV logger opens it, or as one without an index does."""
    run = run.absolute()
    return open_clip(run / "videos" / tag, Encoding.of(video_format), run if indexed else None)


def write(clip, numbers, size=SIZE):
    for number in numbers:
        clip.write(numbered(number, size)[None])


def leave(video_format="mp4", tag="game", numbers=range(20), size=SIZE, **where):
    """Leave a clip as a training does that is killed, once its FFmpeg has finished the file; return that."""
    clip = opened(video_format, tag, **where)
    write(clip, numbers, size)
    return end(clip)


def end(clip):
    """End FFmpeg as it ends when its training is killed, which makes nothing else of the file; return that."""
    if isinstance(clip, EncodedClip):
        clip._finish_part()
        [path] = clip._parts
    else:
        path = clip.finish().path
    clip.detach()
    return path


def rows(run=RUN):
    if not (run / "videos.csv").exists():
        return []
    with (run / "videos.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tree(folder="."):
    """Return the bytes of each file."""
    return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


DONE = ("deleted", "set aside")


def part_files(folder="."):
    found = sorted(Path(folder).absolute().rglob("*.part-*"))
    return [path for path in found if path.suffix != UNREADABLE]


def frames(path, size=SIZE):
    """Return the frames of a finished video, which may be larger than `size`, that of a memmap."""
    if path.suffix == ".memmap":
        return np.fromfile(path, np.uint8).reshape(-1, 3, *size).transpose(0, 2, 3, 1)
    return decode(path)


def shown(path, size=SIZE):
    return [read_number(frame) for frame in frames(path, size)]


def repaired(folder=RUN):
    """Repair a folder in which that must be possible, and return the videos it made."""
    folder = folder.absolute()
    until = time.monotonic() + 10
    while any(clip.in_use for clip in scan.left_clips(folder)) and time.monotonic() < until:
        time.sleep(0.01)  # an encoder has ended before it lets go of its files
    done = list(repair(folder))
    assert [one.outcome for one in done if one.outcome != "repaired" and not one.outcome.startswith(DONE)] == []
    assert part_files(folder) == []
    assert list(verify(folder)) == []
    before = tree(folder)
    assert list(repair(folder)) == []
    assert tree(folder) == before
    return [one.video for one in done if one.video]


def duration(path):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(path)]
    return re.search(r"Duration: (\S+),", subprocess.run(command, capture_output=True, text=True).stderr)[1]


def is_ordinary(path):
    """Return whether a file says all that one says whose training ended by itself."""
    kinds = [kind for kind, _ in boxes(path.read_bytes())] if path.suffix == ".mp4" else ["moov"]
    timed = path.suffix not in (".mp4", ".webm", ".mkv", ".gif") or duration(path) != "N/A"
    return kinds.count("moov") == 1 and "moof" not in kinds and timed


# the training is killed


@pytest.mark.parametrize(
    "who", some(["the training", "the training and its encoders"], "the training and its encoders")
)
def test_what_a_kill_leaves_becomes_ordinary_videos_with_their_rows(who, tmp_path):
    with started(VICTIM + FOREVER, 1 / 60, 60, "numbers", *ALL, cwd=tmp_path) as victim:
        returned, _ = kill(victim, 200, who)
    wait_for_encoders(tmp_path)
    run = tmp_path / "csv_logs/run"
    paths = {path.suffix[1:]: path for path in repaired(run)}
    assert sorted(paths) == sorted(ALL)
    assert sorted(path.name for path in paths.values()) == sorted(f"{name}_0.{name}" for name in ALL)
    of = {row["tag"]: row for row in rows(run)}
    for video_format, path in paths.items():
        numbers = shown(path)
        lost = 0 if video_format in RAW or who == "the training" else 120
        assert numbers == list(range(len(numbers))), video_format
        assert returned - lost <= len(numbers) <= returned + 1, video_format
        assert is_ordinary(path), video_format
        encoding = Encoding.of(video_format, fps=60)
        height, width = encoding.file_size(SIZE)
        assert datetime.fromisoformat(of[video_format].pop("time")) <= datetime.now(timezone.utc)
        assert of[video_format] == {
            "tag": video_format,
            "step": "0",
            "file": f"videos/{path.name}",
            "frames": str(len(numbers)),
            "fps": "60.0",
            "height": str(height),
            "width": str(width),
            "codec": encoding.codec,
            "seconds": str(len(numbers) / 60),
            "env_id": "",
            "agent": "",
            "episode": "",
            "return": "",
            "length": "",
            "ended": "unfinished",
            "dtype": "uint8" if video_format in RAW else "",
            "shape": f"1x{len(numbers)}x3x48x64" if video_format in RAW else "",
            "env_step": "0",
        }


OF_ENVS = """
    import os, signal
    from torchrl.envs import TransformedEnv
    from vidrec import CSVLogger, VideoRecorder
    from worlds import EpisodesEnv

    recorder = VideoRecorder(CSVLogger("run"), "game", make_grid=False, dump_on_done=True)
    TransformedEnv(EpisodesEnv([[4], [7]]), recorder).rollout(10, break_when_any_done=False)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_row_tells_the_env_and_the_episode_that_the_clip_shows(tmp_path):
    with started(OF_ENVS, cwd=tmp_path) as victim:
        assert victim.wait(60) == -signal.SIGKILL, victim.stderr.read().decode()
    wait_for_encoders(tmp_path)
    run = tmp_path / "csv_logs/run"
    before = rows(run)
    assert repaired(run)
    mine = {(row["env_id"], row["episode"]): row for row in rows(run)[len(before) :]}
    ended = {(row["env_id"], row["episode"]) for row in before}
    assert sorted(mine) == [("0", "2"), ("1", "1")]
    assert not set(mine) & ended
    for (env_id, episode), row in mine.items():
        assert row["ended"] == "unfinished"
        assert row["return"] == row["length"] == ""
        for number in numbers_in(run / row["file"]):
            assert (number >> 9, number >> 5 & 15) == (int(env_id), int(episode))


@pytest.mark.parametrize("tag", ["eval/deep/game", "spiel ö 游戏", "a b 'c' %d [x] #", "game_3", "-n", "x" * 200])
def test_a_tag_may_be_anything_that_a_logger_takes(tag):
    path = leave(tag=tag)
    assert repaired() == [path.with_name(f"{Path(tag).name}_0.mp4")]
    assert [(row["tag"], row["file"]) for row in rows()] == [(tag, f"videos/{tag}_0.mp4")]


@pytest.mark.parametrize(("in_index", "in_folder", "first"), [(50, 60, 61), (70, 60, 71)])
def test_steps_go_on_after_those_in_the_index_and_in_the_folder_clip_after_clip(in_index, in_folder, first):
    logger = CSVLogger("run", ".")
    for step in (3, 41, 7):
        recorder = VideoRecorder(logger, "game", skip=1)
        recorder._apply_transform(numbered(step))
        recorder.dump(step=step)
    Path("run/videos/game_41.mp4").unlink()  # the user may
    index = VideoIndex(RUN.absolute())
    index.remove("videos/game_41.mp4")
    index.add(tag="game", step=in_index, file="videos/moved/away.mp4")
    index.add(tag="game", step="best", file="videos/moved/best.mp4")
    index.add(tag="other", step=99, file="videos/moved/other.mp4")
    for start in (0, 5, 10):
        leave(numbers=range(start, start + 5))
    Path(f"run/videos/game_{in_folder}_1.gif").touch()
    done = list(repair(RUN.absolute()))
    assert sorted(one.video.name for one in done) == [f"game_{first + i}.mp4" for i in range(3)]
    assert sorted(shown(one.video)[0] for one in done) == [0, 5, 10]
    assert [row["step"] for row in rows()[-3:]] == [str(first + i) for i in range(3)]


def test_a_dry_run_tells_what_will_be_and_changes_nothing():
    for numbers in (range(5), range(5, 12)):
        leave(numbers=numbers)
    leave("pt", "tensor")
    torn = leave("gif", "torn")
    torn.write_bytes(b"")
    RUN.joinpath("videos.csv.part-0123abcd").write_text("tag")
    before = tree()
    said = list(repair(RUN.absolute(), dry_run=True))
    assert tree() == before
    done = list(repair(RUN.absolute()))
    assert [(one.clip, one.video, one.frames) for one in said] == [(one.clip, one.video, one.frames) for one in done]
    assert {one.outcome for one in said if one.video} == {"to be repaired"}


# files that end anywhere


def half_written(video_format, folder):
    """Return a file as it is while it grows, 150 frames in, and its manifest."""
    clip = opened(video_format, run=folder)
    write(clip, range(150))
    [path] = [path for path in part_files(folder) if path.suffix != ".log"]
    size, since = -1, time.monotonic()
    while time.monotonic() - since < 0.5:
        if path.stat().st_size != size:
            size, since = path.stat().st_size, time.monotonic()
    data, about = path.read_bytes(), path.with_suffix(".log").read_bytes()
    end(clip)
    return path, data, about, path.read_bytes()


@product(video_format=ALL, state=["growing", "finished"])
@pytest.mark.parametrize("count", [2, pytest.param(CUTS, marks=pytest.mark.long)])
def test_a_file_that_ends_anywhere_gives_its_whole_frames_and_no_other(video_format, state, count):
    path, growing, about, finished = half_written(video_format, RUN)
    data = {"growing": growing, "finished": finished}[state]
    before = tree()
    chance = random.Random(zlib.crc32(f"{video_format} {state}".encode()))
    counts = []
    cuts = sorted({0, len(data) - 1, len(data), *(chance.randrange(len(data)) for _ in range(count))})
    for cut in cuts:
        path.write_bytes(data[:cut])
        path.with_suffix(".log").write_bytes(about)
        videos = repaired()
        for video in videos:
            found = frames(video)
            assert [read_number(frame) for frame in found] == list(range(len(found))), cut
            assert is_ordinary(video)
            if video_format in ("mkv", "apng", "webp", *RAW):
                assert np.array_equal(found[-1], numbered(len(found) - 1)), cut
            if video_format == "pt":
                assert torch.load(video).shape == (1, len(found), 3, *SIZE)
        counts.append(len(found) if videos else 0)
        for new in set(tree()) - set(before):
            new.unlink()
    assert counts == sorted(counts)
    assert counts[0] == 0
    if state == "finished" or video_format in RAW:
        assert counts[-1] == 150
    else:
        assert counts[-1] >= 60
    if video_format in RAW:
        head = 64 if video_format == "pt" else 0
        assert counts == [min(150, max(0, cut - head) // (3 * SIZE[0] * SIZE[1])) for cut in cuts]


@pytest.mark.parametrize("video_format", ["mp4", "gif", "mkv"])
def test_garbage_in_the_middle_is_no_exception_and_no_damaged_video(video_format):
    path = leave(video_format, numbers=range(60))
    data = bytearray(path.read_bytes())
    start = len(data) // 2
    data[start : start + 200] = random.Random(0).randbytes(200)
    path.write_bytes(data)
    [one] = repair(RUN.absolute())
    if one.failed:
        assert path.read_bytes() == data
        assert part_files() == sorted([path, path.with_suffix(".log")])
    else:
        assert list(verify(RUN.absolute())) == []
        assert len(shown(one.video)) == one.frames


def test_a_file_that_is_no_video_at_all_stays_and_is_named():
    path = leave()
    path.write_bytes(random.Random(0).randbytes(10_000))
    data = path.read_bytes()
    [one] = repair(RUN.absolute())
    assert one.outcome == "set aside: FFmpeg reads nothing of it"
    assert one.clip == path
    assert Path(f"{path}{UNREADABLE}").read_bytes() == data
    assert list(repair(RUN.absolute())) == list(verify(RUN.absolute())) == []


@pytest.mark.parametrize("path", ["/bin/true", "/bin/false", "/nowhere/ffmpeg"])
def test_an_ffmpeg_that_does_not_work_costs_nothing(path, monkeypatch):
    leave()
    before = tree()
    monkeypatch.setattr(program, "find_ffmpeg", lambda: path)
    [one] = repair(RUN.absolute())
    assert tree() == before
    assert one.failed


@pytest.mark.parametrize("extra", [1, 2, 3, 4])
def test_tiny_frames_written_over_the_end_of_a_tensor_file_are_found(extra):
    clip = opened("pt")
    write(clip, range(10), (8, 8))
    clip.finish()  # as `recorder.obs` does; its end is longer than a frame
    write(clip, range(10, 10 + extra), (8, 8))
    clip.detach()
    [video] = repaired()
    assert shown(video) == list(range(10 + extra))


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.6, 0.9])
def test_an_end_that_a_tensor_file_got_only_in_part_is_no_frame(keep):
    path = leave("pt", numbers=range(10), size=(8, 8))
    frames_end = 64 + 10 * 3 * 8 * 8
    data = path.read_bytes()
    path.write_bytes(data[: frames_end + int(keep * (len(data) - frames_end))])
    [video] = repaired()
    # the file does not tell bytes of a frame from those of its own end: no more than that is unknown
    assert shown(video)[:10] == list(range(10))
    assert list(verify(RUN.absolute())) == []


# several parts, and every moment of their becoming one


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def moments(monkeypatch, tmp_path):
    """Keep a copy of the folder of the run around each change to it, as a kill at that moment would leave it."""
    copies = []

    def keep(name, newest=None):
        copy = tmp_path / "moments" / f"{len(copies)}-{name}" / RUN
        copy.parent.mkdir(parents=True)
        subprocess.run(["cp", "-a", str(RUN.absolute()), str(copy)], check=True)  # hard links are kept as such
        copies.append(copy)
        if newest is not None and newest.exists():
            keep(f"{name}-cut-off")
            cut_off(copies[-1] / newest.relative_to(RUN.absolute()))

    def watch(owner, name, changes):
        real = getattr(owner, name)

        def watched(*args, **kwargs):
            if not changes(*args):
                return real(*args, **kwargs)
            keep(f"before-{name}")
            value = real(*args, **kwargs)
            target = args[0][-1].removeprefix("file:") if name == "run_ffmpeg" else ""
            keep(f"after-{name}", Path(target) if target.startswith("/") else None)
            return value

        monkeypatch.setattr(owner, name, watched)

    here = str(RUN.absolute())
    for module in (ffmpeg_files, program):
        watch(module, "run_ffmpeg", lambda args: args[-1].startswith(f"file:{here}"))
    watch(os, "link", lambda *paths: True)
    watch(Path, "unlink", lambda path, **_: str(path).startswith(here))
    watch(VideoIndex, "add", lambda *_: True)
    yield copies
    monkeypatch.undo()


# each moment with every third format
EVERY = pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.long)])


def holds_each_frame_once(run, numbers):
    repaired(run)
    videos = scan.videos(run)
    assert [shown(video) for video in videos] == [list(numbers)]
    assert [run / row["file"] for row in rows(run)] == videos


def failures(copies, numbers):
    """Return what is wrong with the moments, by name."""
    found = {}
    for copy in copies:
        try:
            holds_each_frame_once(copy, numbers)
        except AssertionError as error:
            found[copy.parent.name] = str(error).split("\n")[0]
    return found


def in_parts(clip, *parts):
    """Write each into a file of its own, as it is when writing is interrupted again and again."""
    for numbers in parts:
        clip._torn = clip._torn or clip.frames > 0
        write(clip, numbers)
    clip._finish_part()


@pytest.mark.parametrize("video_format", some(ENCODED, "mp4", "gif"))
@EVERY
def test_a_kill_at_any_moment_of_joining_parts_costs_and_doubles_no_frame(video_format, every, moments):
    clip = opened(video_format)
    in_parts(clip, range(10), range(10, 15), range(15, 20))
    clip.finish()  # as `recorder.obs` does
    in_parts(clip, range(20, 30))
    clip.finish()
    clip.detach()
    assert len(moments) >= 8
    # a frame that was not yet recorded cannot be there
    first, second, *_ = (i for i, copy in enumerate(moments) if "before-run_ffmpeg" in copy.parent.name)
    turn = ENCODED.index(video_format) % every
    assert failures(moments[first:second][turn::every], range(20)) == {}
    assert failures(moments[second:][turn::every], range(30)) == {}


def test_a_first_frame_that_was_cut_into_leaves_parts_that_begin_with_the_second(moments):
    clip = opened("mkv")
    write(clip, [0])
    clip._written, clip._torn = 0, True  # an exception came while the first frame was written
    in_parts(clip, range(10), range(10, 20))
    clip.finish()
    clip.detach()
    later = [copy for copy in moments if len(list(copy.rglob("*.mkv"))) == 3]
    assert len(later) >= 3
    assert failures(later, range(20)) == {}


def test_a_part_that_an_interrupt_left_after_a_join_is_not_taken_twice():
    made = {
        "-1": leave("mkv", "b", range(10, 20)),
        "-2j": leave("mkv", "c", range(20)),
        "-3": leave("mkv", "d", range(20, 30)),
        "-4j": leave("mkv", "e", range(30)),
    }
    first = leave("mkv", numbers=range(10))
    first.unlink()
    for number, path in made.items():
        path.with_suffix(".log").unlink()
        path.rename(first.with_stem(first.stem + number))
    cut_off(first.with_stem(first.stem + "-4j"))
    holds_each_frame_once(RUN.absolute(), range(30))


@pytest.mark.parametrize("video_format", ENCODED)
def test_a_kill_of_everything_in_the_second_of_two_parts_keeps_its_whole_frames(video_format):
    clip = opened(video_format)
    in_parts(clip, range(10), range(10, 40))
    clip.detach()
    last = max(part_files(), key=lambda path: "-1." in path.name)
    last.write_bytes(last.read_bytes()[: last.stat().st_size * 2 // 3])
    [video] = repaired()
    numbers = shown(video)
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 10


@EVERY
@product(video_format=["mp4", "gif", "pt", "memmap"], parts=[1, 3])
def test_a_repair_that_is_killed_at_any_moment_is_done_by_the_next(video_format, parts, every, moments):
    clip = opened(video_format)
    if video_format in RAW or parts == 1:
        write(clip, range(12))
        clip.finish()
    else:
        in_parts(clip, *(range(start, start + 4) for start in (0, 4, 8)))
    clip.detach()
    moments.clear()
    list(repair(RUN.absolute()))
    assert len(moments) >= 6
    assert failures(moments[ALL.index(video_format) % every :: every], range(12)) == {}


def test_an_index_that_cannot_be_written_gets_the_row_with_the_next_repair(monkeypatch):
    leave()

    def full(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(VideoIndex, "add", full)
        [one] = repair(RUN.absolute())
        assert one.failed
    repaired()
    assert [shown(RUN / row["file"]) for row in rows()] == [list(range(20))]


# what is being recorded


RECORDS = """
    import os, subprocess, sys, time
    from numbered_frames import numbered
    from vidrec import CSVLogger, VideoRecorder

    recorder = VideoRecorder(CSVLogger("run", ".", video_format=sys.argv[1]), "game", skip=1)
    for number in range(30):
        recorder._apply_transform(numbered(number))
"""
WAITS = """
    print("ready", flush=True)
    sys.stdin.readline()
"""


def is_left_alone(run):
    before = {path for path in tree(run) if path.suffix != ".mp4"}
    clips = part_files(run)
    assert clips
    assert [one.outcome for one in repair(run)] == ["being recorded"]
    assert list(verify(run)) == []
    assert {path for path in tree(run) if path.suffix != ".mp4"} == before
    assert set(part_files(run)) >= set(clips)  # FFmpeg makes its file when it has its turn


@pytest.mark.parametrize("video_format", ["mp4", "pt"])
def test_a_clip_of_a_training_that_runs_is_left_alone(video_format, tmp_path):
    run = tmp_path / "run"
    with started(RECORDS + WAITS + "    recorder.dump()\n", video_format, cwd=tmp_path) as training:
        assert training.stdout.readline() == b"ready\n", training.stderr.read().decode()
        is_left_alone(run)
        training.stdin.write(b"\n")
        assert training.wait(60) == 0
    assert list(repair(run)) == []
    assert [shown(run / row["file"]) for row in rows(run)] == [list(range(30))]
    assert rows(run)[0]["ended"] == ""


def test_a_clip_that_its_encoder_still_finishes_is_left_alone(tmp_path):
    run = tmp_path / "run"
    with started(RECORDS + WAITS, "mp4", cwd=tmp_path) as training:
        assert training.stdout.readline() == b"ready\n"
        [encoder] = encoders(tmp_path)
        os.kill(encoder, signal.SIGSTOP)
        training.kill()
        training.wait()
    try:
        is_left_alone(run)
    finally:
        os.kill(encoder, signal.SIGCONT)
    wait_for_encoders(tmp_path)
    [video] = repaired(run)
    assert shown(video) == list(range(30))


CHILD = {
    "forked": """
    here, there = os.pipe()
    child = os.fork()
    if not child:
        os.write(there, b".")
        time.sleep(100)
    os.read(here, 1)
""",
    "started": "    child = subprocess.Popen(['sleep', '100'], close_fds=False).pid\n",
}


@pytest.mark.parametrize("video_format", ["mp4", "memmap"])
@pytest.mark.parametrize("how", CHILD)
def test_a_child_that_outlives_the_training_does_not_keep_its_clip(how, video_format, tmp_path):
    with started(
        RECORDS + CHILD[how] + "    print(child, flush=True)\n" + WAITS, video_format, cwd=tmp_path
    ) as training:
        child = int(training.stdout.readline())
        try:
            training.stdout.readline()
            training.kill()
            training.wait()
            wait_for_encoders(tmp_path)
            [video] = repaired(tmp_path / "run")
            assert shown(video) == list(range(30))
        finally:
            os.kill(child, signal.SIGKILL)


PUBLISHES = """
    import sys
    from numbered_frames import numbered
    from vidrec import CSVLogger, VideoRecorder

    recorder = VideoRecorder(CSVLogger("run", ".", video_format="memmap"), "game", skip=1)
    print("ready", flush=True)
    for clip in range(int(sys.argv[1])):
        for number in range(3):
            recorder._apply_transform(numbered(number))
        video = recorder.dump()
        if clip % 3:
            recorder.logger.remove_video(video)
"""


def test_a_folder_into_which_a_training_publishes_is_neither_wrong_nor_an_exception(tmp_path):
    run = tmp_path / "run"
    with started(PUBLISHES, 600, cwd=tmp_path) as training:
        assert training.stdout.readline() == b"ready\n"
        found = []
        while training.poll() is None:
            found += [(one.file.name, one.problem) for one in verify(run)]
            assert {one.outcome for one in repair(run)} <= {"being recorded"}
        assert training.returncode == 0, training.stderr.read().decode()
    assert found == []
    assert len(rows(run)) == 200


def test_two_repairs_at_once_lose_and_double_nothing(tmp_path):
    for number in range(6):
        leave(tag=f"game{number}", numbers=range(number, number + 20))
    script = "from vidrec.tools.repair import repair; from pathlib import Path; list(repair(Path(sys.argv[1])))"
    with (
        started("import sys; " + script, RUN.absolute()) as one,
        started("import sys; " + script, RUN.absolute()) as two,
    ):
        assert [one.wait(60), two.wait(60)] == [0, 0]
    assert part_files() == []
    found = {path.name: numbers_in(path) for path in RUN.rglob("*.mp4")}
    assert found == {f"game{number}_0.mp4": list(range(number, number + 20)) for number in range(6)}
    assert len(rows()) == 6


def test_a_repair_waits_for_no_other_and_leaves_its_clip_alone():
    path = leave()
    with names.exclusively(path.with_suffix(".log")) as ours:
        assert ours
        assert [one.outcome for one in repair(RUN.absolute())] == ["being recorded"]
    assert [one.outcome for one in repair(RUN.absolute())] == ["repaired"]


@pytest.mark.parametrize("what", [repair, verify])
def test_a_clip_that_is_published_meanwhile_is_no_problem(what, monkeypatch):
    path, listed = leave(), scan.left_clips(RUN.absolute())
    path.unlink()
    path.with_suffix(".log").unlink()
    monkeypatch.setattr(scan, "left_clips", lambda folder: listed)
    assert list(what(RUN.absolute())) == []


def test_the_manifest_counts_also_if_the_listing_missed_it(monkeypatch):
    clip = opened()
    write(clip, range(5))
    while len(part_files()) < 2:
        time.sleep(0.01)
    real = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda *args: (path for path in real(*args) if path.suffix != ".log"))
    assert [one.outcome for one in repair(RUN.absolute())] == ["being recorded"]
    monkeypatch.undo()
    assert numbers_in(clip.finish().path) == list(range(5))
    clip.delete()


# other leftovers, and what is none


def test_without_an_index_a_clip_becomes_a_video_and_no_index_is_made(tmp_path):
    leave(indexed=False)
    [video] = repaired()
    assert video.name == "game_0.mp4"
    assert list(tmp_path.rglob("videos.csv")) == []


@product(video_format=["mp4", "apng", "memmap"], about=[None, b"", b'{"video_format": "mp4", "fps"', b"{}\n", b"[1]\n"])
def test_a_manifest_that_is_missing_or_torn(video_format, about):
    path = leave(video_format)
    manifest = path.with_suffix(".log")
    manifest.unlink() if about is None else manifest.write_bytes(about)
    before = tree()
    [one] = repair(RUN.absolute())
    if video_format == "memmap":
        assert one.failed
        assert "does not say how large its frames are" in one.outcome
        assert tree() == before
    else:
        assert (one.outcome, shown(one.video)) == ("repaired", list(range(20)))
        assert part_files() == []


@pytest.mark.parametrize(
    "about",
    [{"index": 5}, {"index": "nowhere"}, {"index": ".."}, {"fps": "x"}, {"fps": None}, {"height": 0, "width": 0}],
)
@pytest.mark.parametrize("video_format", ["mp4", "pt"])
def test_a_manifest_that_somebody_has_written_is_no_exception_and_costs_nothing(video_format, about):
    path = leave(video_format)
    good = {"fps": "30", "height": 48, "width": 64, "codec": "x", "env_id": None, "episode": None, "index": None}
    path.with_suffix(".log").write_text(json.dumps(good | about) + "\n")
    [one] = repair(RUN.absolute())
    left = [one.video] if one.video else part_files()
    assert one.failed or one.outcome == "repaired"
    assert path in left or (one.video and shown(one.video) == list(range(20)))


def test_a_copy_of_the_index_or_a_video_is_deleted_and_nothing_else_is():
    path = leave()
    index = VideoIndex(RUN.absolute())
    index.add(tag="x", step=0, file="videos/x.mp4")
    copies = [RUN / "videos.csv.part-0123abcd", RUN / "videos/game_7.mp4.part-89abcdef"]
    for copy in copies:
        copy.write_bytes(b"a part of it")
    shutil.copy(path, RUN / "videos/x.mp4")
    done = list(repair(RUN.absolute()))
    outcomes = {one.clip: one.outcome for one in done}
    assert [outcomes.pop(copy.absolute()) for copy in copies] == ["deleted: a copy that was cut off"] * 2
    assert list(outcomes.values()) == ["repaired"]
    assert part_files() == []
    assert [row["tag"] for row in rows()] == ["x", "game"]


def test_files_of_others_with_such_a_name_are_left_alone():
    names = ["weights.part-00001.safetensors", "data.part-00000001.zip", "x.part-1", "a.part-0123abcd.txt", ".part-"]
    RUN.mkdir()
    for name in names:
        (RUN / name).write_text("precious")
    (RUN / "folder.part-0123abcd").mkdir()
    assert list(repair(RUN.absolute())) == []
    assert list(verify(RUN.absolute())) == []
    assert sorted(path.name for path in RUN.iterdir() if path.is_file()) == sorted(names)


def test_an_index_that_is_being_written_anew_is_no_leftover(monkeypatch):
    index = VideoIndex(RUN.absolute())
    RUN.mkdir()
    index.add(tag="x", step=0, file="videos/x.mp4")
    index.add(tag="y", step=0, file="videos/y.mp4")
    seen, real = [], Path.replace

    def replace(self, target):
        seen.append(scan.left_copies(RUN.absolute()))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    index.remove("videos/x.mp4")
    assert seen == [[]]


def test_the_clip_of_a_tee_that_is_publishing_is_no_leftover():
    seen = []

    class Looks(CSVLogger):
        def log_video(self, name, video, *args, **settings):
            seen.append((scan.left_copies(Path.cwd()), [clip.in_use for clip in scan.left_clips(Path.cwd())]))
            return super().log_video(name, video, *args, **settings)

    recorder = VideoRecorder(TeeLogger(Looks("one", "."), Looks("two", ".")), "game", skip=1)
    recorder._apply_transform(numbered(1))
    recorder.dump()
    assert seen == [([], [True]), ([], [True])]


def test_a_copy_onto_another_file_system_that_was_killed_costs_nothing(tmp_path):
    other = tmp_path / "disk"
    other.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", other], capture_output=True).returncode:
        missing("a disk cannot be mounted")
    script = """
    import os, shutil, signal, sys
    from numbered_frames import numbered
    from vidrec import CSVLogger, TeeLogger, VideoRecorder

    def half(source, target):
        target.write(source.read(2000))
        target.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    shutil.copyfileobj = half
    recorder = VideoRecorder(TeeLogger(CSVLogger("one", "disk"), CSVLogger("two", "here")), "game", skip=1)
    for number in range(20):
        recorder._apply_transform(numbered(number))
    recorder.dump()
    """
    try:
        with started(script, cwd=tmp_path) as training:
            assert training.wait(60) == -signal.SIGKILL, training.stderr.read().decode()
        assert len(scan.left_copies(tmp_path)) == 1
        repaired(tmp_path)
        found = scan.videos(tmp_path)
        assert list(range(20)) in [shown(path) for path in found]
    finally:
        subprocess.run(["umount", "--lazy", other], check=True)


def test_a_video_under_the_next_free_name_gets_the_row_of_its_own_tag_and_step():
    path = leave("memmap")
    stem = path.name.partition(".part-")[0]
    video = path.with_name(f"{stem}_3_1.memmap")
    path.rename(video)
    list(repair(RUN.absolute()))
    assert [(row["tag"], row["step"], row["file"]) for row in rows()] == [(stem, "3", f"videos/{stem}_3_1.memmap")]

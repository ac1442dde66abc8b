"""What may go wrong around a recorder, done to real processes: what the user is told, and what is on the disk after."""

import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import ENCODED, missing, product, some
from numbered_frames import numbered, numbers_in, read_number
from processes import children, encoders, run_python, started, the_encoder, wait_for_encoders, within
from worlds import random_frames

from vidrec import CSVLogger, EncoderError, TeeLogger, VideoRecorder, VidrecError

KILLS = int(os.environ.get("VIDREC_KILLS", 20))
CLIPS = int(os.environ.get("VIDREC_CLIPS", 2000))
RAW = ["pt", "memmap"]

HEIGHT, WIDTH = 48, 64


@pytest.fixture(autouse=True)
def _nothing_hangs():
    with within(200 + 12 * KILLS + CLIPS // 10):
        yield


# a training that writes a dot whenever a frame has been recorded
VICTIM = """
    import os, signal, sys, time
    from numbered_frames import numbered
    from torchrl.envs import Compose, TransformedEnv
    from vidrec import CSVLogger, VideoRecorder
    from worlds import PixelsEnv

    signal.signal(signal.SIGINT, signal.default_int_handler)  # what started the tests may have it ignored
    pause, fps, frame, *formats = sys.argv[1:]
    recorders = [VideoRecorder(CSVLogger("run", video_format=name), name, skip=1, fps=fps) for name in formats]
    shows = {"numbers": None, "stands still": lambda number, env: numbered(1234)}[frame]
    env = TransformedEnv(PixelsEnv(frame=shows), Compose(*recorders))
    td = env.reset()
    os.write(1, b".")

    def steps(count):
        global td
        for _ in range(count):
            td = env.step(env.rand_action(td))["next"]
            os.write(1, b".")
            time.sleep(float(pause))
"""
FOREVER = "    steps(10**9)\n"


def dots(victim, count):
    """Wait until so many frames have been recorded; return how many."""
    returned = 0
    while returned < count and (more := victim.stdout.read(count - returned)):
        returned += len(more)
    return returned


def kill(victim, count, who="the training and its encoders"):
    """Kill a training that has recorded so many frames; return how many it had by then, and its encoders."""
    returned = dots(victim, count)
    os.kill(victim.pid, signal.SIGSTOP)  # it closes no pipe before its encoders are dead
    ffmpegs = children(victim.pid)
    for pid in (*(ffmpegs if who != "the training" else ()), victim.pid):
        os.kill(pid, signal.SIGKILL)
    return returned + len(victim.stdout.read()), ffmpegs


def videos(folder=".", pattern="*.*"):
    found = Path(folder, "csv_logs/run/videos").glob(pattern)
    return sorted(path for path in found if path.suffix != ".log")


def shown(path):
    """Return the numbers that a file shows, finished or not."""
    if path.suffix not in (".pt", ".memmap"):
        return numbers_in(path)
    planes = np.fromfile(path, np.uint8, offset=64 if path.suffix == ".pt" else 0)
    count = planes.size // (3 * HEIGHT * WIDTH)  # a finished .pt has some bytes more
    frames = planes[: count * 3 * HEIGHT * WIDTH].reshape(count, 3, HEIGHT, WIDTH).transpose(0, 2, 3, 1)
    return [read_number(frame) for frame in frames]


def shown_if_any(path):
    """The same of a file that may hold nothing yet, or no more than a head."""
    try:
        return shown(path)
    except AssertionError:
        return []


def in_order(numbers):
    return numbers == [number % 4096 for number in range(len(numbers))]


def rows(folder="."):
    """Return the files that videos.csv names, each with its number of frames."""
    lines = Path(folder, "csv_logs/run/videos.csv").read_text().splitlines()
    columns = [line.split(",") for line in lines[1:]]
    return {Path(folder, "csv_logs/run", file): int(frames) for _, _, file, frames, *_ in columns}


# the training process ends


@pytest.mark.parametrize("kills", [6, pytest.param(KILLS, marks=pytest.mark.long)])
def test_a_kill_at_a_random_moment_loses_no_frame_that_env_step_has_returned(kills, tmp_path):
    formats = ["mp4", "webm", "mp4", "mkv", "mp4", "apng"]

    def kill(number):
        chance, video_format = random.Random(number), formats[number % len(formats)]
        folder = tmp_path / str(number)
        folder.mkdir()
        with started(
            VICTIM + FOREVER, chance.choice([0, 0.001, 0.02]), 30, "numbers", video_format, cwd=folder
        ) as victim:
            returned = dots(victim, 1)
            time.sleep(chance.uniform(0, 1))
            victim.kill()
            returned += len(victim.stdout.read())
        wait_for_encoders(folder)
        [path] = videos(folder)
        numbers = shown(path)
        path.unlink()
        fine = ".part-" in path.name and in_order(numbers) and returned <= len(numbers) <= returned + 1
        return None if fine else f"{path}: {returned} returned, {len(numbers)} there, in order: {in_order(numbers)}"

    with ThreadPoolExecutor(3) as pool:
        assert [bad for bad in pool.map(kill, range(kills)) if bad] == []


REPAIR = "from vidrec.__main__ import main; import sys; sys.argv[1:] = ['repair', sys.argv[1]]; main()"


@pytest.mark.parametrize(
    ("fps", "frames", "frame"),
    [
        (30, 235, "numbers"),
        pytest.param(30, 145, "stands still", marks=pytest.mark.long),
        pytest.param(60, 290, "stands still", marks=pytest.mark.long),
    ],
)
def test_a_kill_of_everything_at_once_loses_at_most_two_seconds(tmp_path, fps, frames, frame):
    with started(VICTIM + FOREVER, 1 / fps, fps, frame, *ENCODED, cwd=tmp_path) as victim:
        returned, ffmpegs = kill(victim, frames)
    assert len(ffmpegs) == len(ENCODED)
    wait_for_encoders(tmp_path)
    assert all(".part-" in path.name for path in videos(tmp_path))
    run_python(REPAIR, tmp_path)
    paths = videos(tmp_path)
    assert len(paths) == len(ENCODED)
    assert not any(".part-" in path.name for path in paths)
    lost = {}
    for path in paths:
        numbers = shown_if_any(path)
        assert in_order(numbers) if frame == "numbers" else set(numbers) <= {1234}
        lost[path.suffix[1:]] = returned - len(numbers)
    print(f"of {returned} frames at {fps} fps, frame {frame}, are lost:", lost)
    assert max(lost.values()) <= 2 * fps, lost


ENDS = {  # what the training does, what is done to it, how it ends
    "Ctrl-C": (FOREVER, signal.SIGINT, {-signal.SIGINT, 1}),  # 1: see test_recording.py
    "SIGTERM": (FOREVER, signal.SIGTERM, {128 + signal.SIGTERM}),
    "SIGTERM, which the script handles": (
        "    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n" + FOREVER,
        signal.SIGTERM,
        {7},
    ),
    "sys.exit": ("    steps(50)\n    sys.exit(3)\n", None, {3}),
    "an exception in the environment": (
        """
    def broken(number, env):
        if number == 60:
            raise ZeroDivisionError("the simulator")
        return numbered(number)

    env.base_env.frame = broken
    steps(100)
""",
        None,
        {1},
    ),
    "an exception in the policy": (
        """
    def policy(td):
        os.write(1, b".")  # the frame of the step before is there
        policy.calls += 1
        if policy.calls == 60:
            raise ZeroDivisionError("the policy")
        return env.rand_action(td)

    policy.calls = 0
    env.rollout(100, policy, auto_reset=False, tensordict=td)
""",
        None,
        {1},
    ),
    "os._exit": ("    steps(50)\n    os._exit(4)\n", None, {4}),
}


@pytest.mark.parametrize("end", some(ENDS, "Ctrl-C", "an exception in the policy", "os._exit"))
def test_every_frame_is_in_a_finished_video_with_a_row_after(end, tmp_path):
    code, signal_, returncodes = ENDS[end]
    formats = ["mp4", "apng", "pt"]
    with started(VICTIM + code, 0, 30, "numbers", *formats, cwd=tmp_path, start_new_session=True) as victim:
        returned = dots(victim, 50)
        if signal_:
            os.killpg(victim.pid, signal_)  # as a terminal does, to all that the training has started
        output, errors = victim.communicate(timeout=60)
        returned += len(output)
    wait_for_encoders(tmp_path)
    paths = {path.suffix[1:]: path for path in videos(tmp_path)}
    assert sorted(paths) == sorted(formats)
    frames = {}
    for video_format, path in paths.items():
        numbers = shown(path)
        assert in_order(numbers)
        frames[path] = len(numbers)
        assert (".part-" in path.name) == (end == "os._exit"), path
        assert returned - 1 <= len(numbers), video_format
    if end != "os._exit":
        assert rows(tmp_path) == frames
    assert victim.returncode in returncodes, errors.decode()
    assert b"Warning" not in errors


# the encoder dies, stops, or is not there


def record(recorder, numbers):
    for number in numbers:
        recorder._apply_transform(numbered(number))


def record_and_dump(recorder, numbers, frame=numbered):
    for number in numbers:
        recorder._apply_transform(frame(number))
    return recorder.dump()


def recorder_of(video_format="mp4", log_dir=None, logger=CSVLogger):
    return VideoRecorder(logger("run", log_dir, video_format), "game", skip=1)


def next_clip_works(recorder):
    assert shown(record_and_dump(recorder, [7, 8]).path) == [7, 8]


def named(error):
    """Assert that an error names every unfinished file that is left below the working directory."""
    left = [path for path in Path.cwd().rglob("*.part-*") if path.suffix != ".log"]
    assert [path for path in left if str(path) not in str(error.value)] == []
    return left


@product(video_format=["mp4", "apng"], harm=[signal.SIGKILL, signal.SIGSTOP], at=["a frame", "dump"])
def test_an_encoder_that_dies_or_stops_is_an_error_with_its_file(video_format, harm, at, monkeypatch):
    monkeypatch.setattr("vidrec.ffmpeg.encoder.TIMEOUT_S", 0.3)
    recorder = recorder_of(video_format)
    record(recorder, range(100))
    ffmpeg = the_encoder(Path.cwd())
    while not videos():
        time.sleep(0.01)
    os.kill(ffmpeg, harm)
    how = {signal.SIGKILL: "exit code -9", signal.SIGSTOP: "did nothing for 0.3 s and was ended"}[harm]
    with within(20), pytest.raises(EncoderError, match=rf"{how}.*game\.part-.*It said: nothing") as error:
        record(recorder, range(1000)) if at == "a frame" else recorder.dump()
    assert len(named(error)) == 1
    assert encoders(Path.cwd()) == []
    next_clip_works(recorder)


def test_an_encoder_that_dies_names_all_files_of_a_clip_in_parts():
    recorder = recorder_of()
    record(recorder, range(5))
    assert len(recorder.obs) == 5  # looking at them ends a part
    record(recorder, range(5, 10))
    ffmpeg = the_encoder(Path.cwd())
    os.kill(ffmpeg, signal.SIGKILL)
    with pytest.raises(EncoderError) as error:
        recorder.dump()
    assert named(error)
    next_clip_works(recorder)


TRY = """
    import sys
    from pathlib import Path
    from numbered_frames import numbered
    from vidrec import CSVLogger, VideoRecorder, VidrecError

    def attempt(then=lambda: None):
        try:
            recorder = VideoRecorder(CSVLogger("run"), "game", skip=1)
            for number in range(300):
                recorder._apply_transform(numbered(number))
            then()
            print(recorder.dump().frames)
        except VidrecError as error:
            print(type(error).__name__, error)
"""


@pytest.mark.parametrize("binary", ["/nowhere/ffmpeg", "/etc/passwd", "/bin/true"])
def test_a_wrong_ffmpeg_is_an_error_that_says_what_and_where(binary):
    with started(TRY + "    attempt()", env={"FFMPEG_BINARY": binary}) as child:
        output, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors.decode()
    assert output.startswith(b"EncoderError ")
    assert binary.encode() in output


def test_an_ffmpeg_that_is_deleted_is_an_error_until_it_is_back(tmp_path):
    from imageio_ffmpeg import get_ffmpeg_exe

    here, away = tmp_path / "ffmpeg", tmp_path / "away"
    here.symlink_to(get_ffmpeg_exe())
    script = f"""
    here, away = Path({str(here)!r}), Path({str(away)!r})
    attempt(lambda: here.rename(away))
    attempt()
    away.rename(here)
    attempt()
    """
    with started(TRY + script, env={"FFMPEG_BINARY": str(here)}) as child:
        output, errors = child.communicate(timeout=60)
    first, error, last = output.decode().splitlines()
    assert (first, last) == ("300", "300"), errors.decode()
    assert error.startswith("EncoderError FFmpeg could not be started for ")
    assert "game.part-" in error
    assert str(here) in error


# the folder


def mount(*args):
    done = subprocess.run(["mount", *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        missing(f"a small disk cannot be mounted: {done.stderr}")


@pytest.fixture
def disk():
    """A disk of 256 KB."""
    folder = Path.cwd() / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", folder)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("video_format", [*ENCODED, *RAW])
def test_a_disk_that_is_full_is_an_error_at_a_frame_or_dump_and_no_more_so_once_there_is_room(video_format, disk):
    recorder, noise = recorder_of(video_format, disk), random_frames(HEIGHT, WIDTH, 3)
    with pytest.raises(EncoderError, match=r"(?s)No space left on device") as error:
        record_and_dump(recorder, range(1000), lambda number: noise(number, 0))
    left = named(error)
    assert sum(path.stat().st_size for path in left) > 200_000
    for path in left:
        path.unlink()
    next_clip_works(recorder)


def fill(path):
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(512)):
            pass


@pytest.mark.filterwarnings("ignore:.*has no row in videos.csv:vidrec.VidrecWarning")
@pytest.mark.parametrize("video_format", [*ENCODED, *RAW])
def test_a_disk_that_is_full_when_a_clip_is_finished_costs_no_frame_without_a_word(video_format, disk):
    recorder = recorder_of(video_format, disk)
    record(recorder, range(3))
    time.sleep(0.5)  # what FFmpeg has is on the disk
    fill(disk / "filler")
    try:
        assert shown(recorder.dump().path) == [0, 1, 2]
    except EncoderError as error:
        problem = str(error)
        left = [path for path in disk.rglob("*.part-*") if path.suffix != ".log"]
        assert "No space left on device" in problem
        assert left
        assert [path for path in left if str(path) not in problem] == []
    (disk / "filler").unlink()
    next_clip_works(recorder)


@pytest.mark.parametrize("video_format", ["mp4", *RAW])
def test_a_folder_that_is_read_only_is_an_error_that_says_so(video_format, disk):
    recorder = recorder_of(video_format, disk)
    mount("-o", "remount,ro", disk)
    with pytest.raises(EncoderError, match=r"(?s)game\.part-.*Read-only file system"):
        record_and_dump(recorder, range(300))
    mount("-o", "remount,rw", disk)
    next_clip_works(recorder)


@pytest.mark.parametrize("video_format", ["mp4", *RAW])
@pytest.mark.parametrize("folder", ["csv_logs", "csv_logs/run/videos"])
def test_a_folder_that_vanishes_is_an_error_of_vidrec_that_does_not_say_the_video_is_kept(video_format, folder):
    recorder = recorder_of(video_format)
    record(recorder, range(10))
    time.sleep(0.5)
    shutil.rmtree(folder)
    with pytest.raises(VidrecError, match=r"game\.part-.*") as error:
        record_and_dump(recorder, range(10, 20))
    assert "is kept" not in "; ".join([str(error.value), *getattr(error.value, "__notes__", [])])
    assert encoders(Path.cwd()) == []
    next_clip_works(recorder)


@pytest.mark.parametrize("video_format", ["mp4", *RAW])
def test_a_folder_that_is_a_file_is_an_error_that_names_it(video_format):
    recorder, folder = recorder_of(video_format), Path("csv_logs/run/videos")
    folder.rmdir()
    folder.touch()
    with pytest.raises(EncoderError, match=rf"File exists: .*{folder}"):
        record(recorder, range(10))
    folder.unlink()
    next_clip_works(recorder)


@pytest.mark.parametrize("what", ["read-only", "a file"])
def test_a_logger_whose_folder_cannot_be_made_is_an_os_error_at_once(what, disk):
    folder = disk / "logs"
    if what == "a file":
        folder.touch()
    else:
        mount("-o", "remount,ro", disk)
    with pytest.raises(OSError, match=str(folder)):
        CSVLogger("run", folder)


# the logger raises


class Refuses(CSVLogger):
    """Does not take its first video."""

    def log_video(self, *args, **settings):
        if not hasattr(self, "refused"):
            self.refused = True
            raise RuntimeError("the service is down")
        return super().log_video(*args, **settings)


@pytest.mark.parametrize("video_format", ["mp4", "gif", *RAW])
def test_a_logger_that_raises_leaves_the_video_for_the_next_dump(video_format):
    recorder = recorder_of(video_format, logger=Refuses)
    record(recorder, range(20))
    with pytest.raises(RuntimeError, match="the service is down") as error:
        recorder.dump()
    [path] = videos()
    [note] = error.value.__notes__
    assert str(path.absolute()) in note
    assert "call dump() again" in note
    assert shown(path) == list(range(20))
    record(recorder, range(20, 30))  # of the next video
    assert shown(recorder.dump().path) == list(range(20, 30))
    assert [shown(video.path) for video in recorder.videos] == [list(range(20)), list(range(20, 30))]
    assert sorted(map(shown, videos())) == [list(range(20)), list(range(20, 30))]
    assert sorted(path.absolute() for path in rows()) == sorted(path.absolute() for path in videos())


# processes beside one another


LOADER = """
    import multiprocessing
    from torch.utils.data import DataLoader, Dataset

    class Frames(Dataset):
        def __len__(self):
            return 40

        def __getitem__(self, number):
            assert multiprocessing.parent_process() is not None
            assert len(recorder.obs) == 0 and recorder.dump() is None
            return number

    loader = DataLoader(Frames(), num_workers=2, multiprocessing_context="fork", persistent_workers=True)
    for number in loader:
        record(10 + number.item())
    print(recorder.dump().frames, flush=True)
"""
PARALLEL = """
    from torchrl.envs import ParallelEnv
    from worlds import PixelsEnv

    workers = ParallelEnv(2, PixelsEnv, mp_start_method="fork")
    workers.rollout(5)
    for number in range(40):
        record(10 + number)
        workers.rollout(1)
    print(recorder.dump().frames, flush=True)
    workers.close()
"""
OPEN = """
    import sys
    from numbered_frames import numbered
    from vidrec import CSVLogger, VideoRecorder

    recorder = VideoRecorder(CSVLogger("run", video_format=sys.argv[1]), "game", skip=1)

    def record(number):
        recorder._apply_transform(numbered(number))

    for number in range(10):
        record(number)
"""


@product(forks=["DataLoader", "ParallelEnv"], video_format=["mp4", *RAW])
def test_workers_forked_while_a_clip_is_open_leave_it_to_their_parent(forks, video_format):
    with started(OPEN + {"DataLoader": LOADER, "ParallelEnv": PARALLEL}[forks], video_format) as child:
        assert child.stdout.readline() == b"50\n", child.stderr.read().decode()  # while the workers live
        assert child.wait(60) == 0
    [path] = videos()
    assert shown(path) == list(range(50))
    assert rows() == {path: 50}


SAME_NAMES = """
    import sys, warnings
    from numbered_frames import numbered
    from vidrec import CSVLogger, VideoRecorder

    video_format, first, clips = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    recorder = VideoRecorder(CSVLogger("run", video_format=video_format), "game", skip=1)
    warnings.simplefilter("ignore")  # that a name is taken
    print("ready", flush=True)
    sys.stdin.readline()
    for clip in range(clips):
        for number in range(3):
            recorder._apply_transform(numbered(first + 3 * clip + number))
        video = recorder.dump(step=0)
        if clip % 3 == 2:  # such as `keep_best` does: all rows are written anew
            recorder.logger.remove_video(video)
"""


@pytest.mark.parametrize(
    ("video_format", "clips"),
    [
        ("mp4", 9),
        ("memmap", 60),
        *(pytest.param(*more, marks=pytest.mark.long) for more in [("mp4", 25), ("memmap", 200)]),
    ],
)
def test_two_processes_with_the_same_names_lose_neither_video_nor_row(video_format, clips):
    with started(SAME_NAMES, video_format, 0, clips) as one, started(SAME_NAMES, video_format, 2048, clips) as two:
        for child in (one, two):
            assert child.stdout.readline() == b"ready\n"
        for child in (one, two):
            child.stdin.write(b"go\n")
        for child in (one, two):
            assert child.wait(100) == 0, child.stderr.read().decode()
    paths = videos()
    assert rows() == dict.fromkeys(paths, 3)
    assert Path("csv_logs/run/videos.csv").read_text().count("\n") == 1 + len(paths)  # each row once, one head
    starts = [first + 3 * clip for first in (0, 2048) for clip in range(clips) if clip % 3 != 2]
    assert sorted(shown(path) for path in paths) == [[start, start + 1, start + 2] for start in starts]


# the world moves


def content(path):
    """Return the bytes of a video, but for the time that it says of itself."""
    return re.sub(rb'"time": "[^"]*"', b"", path.read_bytes())


def recorded(log_dir=None, between=lambda: None, video_format="mp4", logger=CSVLogger):
    """Record 60 frames and return the bytes of the file; `between` is called beside every 20th, and before `dump`."""
    recorder = recorder_of(video_format, log_dir, logger)
    for number in range(60):
        if number % 20 == 10:
            between()
        record(recorder, [number])
    between()
    video = recorder.dump()
    assert shown(video.path) == list(range(60))
    assert ".part-" not in video.path.name
    return content(video.path)


@pytest.mark.parametrize("video_format", ["mp4", "apng", "pt"])
def test_a_clock_that_jumps_changes_nothing(video_format, monkeypatch):
    as_ever = recorded("one", video_format=video_format)
    now, now_ns, days = time.time, time.time_ns, iter([1, -1, 2, -2])

    def jump():
        seconds = 86400 * next(days)
        monkeypatch.setattr("time.time", lambda: now() + seconds)
        monkeypatch.setattr("time.time_ns", lambda: now_ns() + seconds * 10**9)

    monkeypatch.setattr("vidrec.ffmpeg.encoder.TIMEOUT_S", 5)
    assert recorded("two", jump, video_format) == as_ever


def test_a_clock_that_begins_in_1970_does_not_keep_a_clip_from_being_finished(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 0.0)
    recorded(video_format="pt")


@pytest.mark.parametrize("video_format", ["mp4", "gif", "pt"])
def test_a_working_directory_that_changes_changes_nothing(video_format, tmp_path):
    folders = iter(tmp_path / name for name in "abcd")

    def move():
        folder = next(folders)
        folder.mkdir()
        os.chdir(folder)

    as_ever = recorded("one", video_format=video_format)
    assert recorded("two", move, video_format) == as_ever
    assert [path for folder in "abcd" for path in (tmp_path / folder).glob("*")] == []
    assert len(list((tmp_path / "two/run/videos").iterdir())) == 1
    assert (tmp_path / "two/run/videos.csv").exists()


@pytest.mark.parametrize("video_format", ["mp4", "gif", "pt"])
def test_a_log_folder_on_another_file_system_changes_nothing(video_format, disk, tmp_path):
    mount("-o", "remount,size=64m", disk)

    def both(name, log_dir, video_format):
        return TeeLogger(CSVLogger(name, tmp_path / "tee", video_format), CSVLogger(name, log_dir, video_format))

    as_ever = recorded("one", video_format=video_format)
    assert disk.stat().st_dev != tmp_path.stat().st_dev
    assert recorded(disk, video_format=video_format) == as_ever
    assert recorded(disk / "tee", video_format=video_format, logger=both) == as_ever  # one of them gets a copy
    copies = [disk / "tee/run/videos", tmp_path / "tee/run/videos"]
    assert [content(path) for folder in copies for path in folder.iterdir()] == [as_ever] * 2


# many clips


MANY = """
    import gc, os, sys, tempfile
    from pathlib import Path
    from numbered_frames import numbered
    from processes import children
    from vidrec import CSVLogger, VideoRecorder

    clips = int(sys.argv[1])
    frame = numbered(1234, (16, 16))
    formats = ["mp4", "memmap", "pt"]
    recorders = [VideoRecorder(CSVLogger("run", "logs", name), f"{name}{i}", skip=1) for i, name in enumerate(formats)]

    def left():
        counts = [len(os.listdir(f"/proc/self/{what}")) for what in ("fd", "task")]
        return *counts, children(), os.listdir(os.environ["TMPDIR"])

    def memory():
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for clip in range(clips):
        recorder = recorders[clip % len(recorders)]
        for _ in range(2):
            recorder._apply_transform(frame)
        assert recorder.dump().frames == 2
        if clip == clips // 5:
            before, held = left(), memory()
    assert left() == before and not before[2] and not before[3], (before, left())
    print(memory() - held)
"""


@pytest.mark.parametrize("clips", [300, pytest.param(CLIPS, marks=pytest.mark.long)])
def test_hundreds_of_clips_in_one_process_leave_nothing_behind(clips, tmp_path):
    (tmp_path / "tmp").mkdir()
    with started(MANY, clips, seconds=120 + clips / 10, env={"TMPDIR": str(tmp_path / "tmp")}) as child:
        output, errors = child.communicate()
    assert child.returncode == 0, errors.decode()
    assert int(output) < 8 * 2**20
    paths = list(Path("logs/run/videos").iterdir())
    assert len(paths) == clips
    assert not any(".part-" in path.name for path in paths)


@pytest.mark.parametrize("count", [50, pytest.param(200, marks=pytest.mark.long)])
def test_two_hundred_recorders_at_once_each_have_their_clip_and_leave_nothing_behind(count):
    def left():
        return sorted(os.listdir("/proc/self/fd")), threading.active_count(), children()

    logger = CSVLogger("run")
    recorders = [VideoRecorder(logger, f"game{i}", skip=1, scale=1) for i in range(count)]
    before = left()
    for number in range(3):
        for i, recorder in enumerate(recorders):
            record(recorder, [10 * i + number])
    assert len(encoders(Path.cwd())) == count
    finished = [recorder.dump() for recorder in recorders]
    assert left() == before
    assert encoders(Path.cwd()) == []
    for i, video in enumerate(finished[::10]):
        assert numbers_in(video.path) == [100 * i, 100 * i + 1, 100 * i + 2]
    assert [len(rows()), len(videos())] == [count, count]

"""The FFmpeg process behind a clip, and all that can become of it."""

import math
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ENCODED, fill, missing, product, some
from numbered_frames import decode, numbered, numbers_in
from processes import run_python, within

import vidrec
from vidrec.errors import EncoderError, SettingError
from vidrec.ffmpeg.encoder import Encoder

forks = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def overfill(encoder):
    """Write more than fits into the pipe and FFmpeg's queue."""
    fill(encoder, range(1000))


def gone(encoder):
    return not os.path.exists(f"/proc/{encoder._process.pid}")


@contextmanager
def forked(child):
    """Run `child` in a forked process, which ends with it."""
    pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("video_format", ENCODED)
def test_a_finished_file_holds_every_frame_once(start, tmp_path, video_format):
    path = tmp_path / f"it's %d a:b.{video_format}"
    encoder = start(path)
    fill(encoder, range(150))
    assert encoder.finish() == 150
    assert numbers_in(path) == list(range(150))
    assert gone(encoder)


@pytest.mark.parametrize("planar", [False, True])
def test_a_frame_may_be_larger_than_the_pipe(start, tmp_path, planar):
    size = (700, 900)
    encoder = start(tmp_path / "a.mkv", size=size, planar=planar)
    frames = [numbered(number, size).numpy() for number in range(4)]
    for number, frame in enumerate(frames):
        frame[..., number % 3] //= 2  # the planes differ
    if planar:
        frames = [np.ascontiguousarray(frame.transpose(2, 0, 1)).transpose(1, 2, 0) for frame in frames]
    for frame in frames:
        encoder.write(frame)
    assert encoder.finish() == 4
    assert np.array_equal(decode(encoder.path), frames)


@pytest.mark.parametrize("then", [overfill, Encoder.finish], ids=["write", "finish"])
def test_a_killed_ffmpeg_is_an_error_that_names_the_file(start, tmp_path, then):
    encoder = start(tmp_path / "a.mp4")
    fill(encoder, range(3))
    os.kill(encoder._process.pid, signal.SIGKILL)
    with pytest.raises(EncoderError, match=f"exit code -9.*{encoder.path}"):
        then(encoder)
    assert gone(encoder)


@pytest.mark.parametrize("then", [overfill, Encoder.finish], ids=["write", "finish"])
@pytest.mark.parametrize("again", [overfill, Encoder.finish], ids=["write", "finish"])
def test_a_failed_encoder_goes_on_saying_so(start, tmp_path, then, again):
    encoder = start(tmp_path / "a.mp4")
    os.kill(encoder._process.pid, signal.SIGKILL)
    for call in (then, again):
        with pytest.raises(EncoderError):
            call(encoder)


@pytest.mark.parametrize("then", [overfill, Encoder.finish], ids=["write", "finish"])
def test_a_stopped_ffmpeg_is_ended_after_the_timeout(start, tmp_path, then):
    encoder = start(tmp_path / "a.mp4", timeout_s=0.2)
    fill(encoder, range(3))
    os.kill(encoder._process.pid, signal.SIGSTOP)
    with within(60), pytest.raises(EncoderError, match=f"did nothing for 0.2 s and was ended.*{encoder.path}"):
        then(encoder)
    assert gone(encoder)


@pytest.mark.parametrize("then", [overfill, Encoder.finish], ids=["write", "finish"])
def test_the_timeout_is_a_setting(start, tmp_path, then, monkeypatch):
    monkeypatch.setattr("vidrec.ffmpeg.encoder.TIMEOUT_S", 30)
    before = start(tmp_path / "before.mp4")
    vidrec.set_ffmpeg_timeout(0.2)
    encoder = start(tmp_path / "a.mp4")
    assert (before.timeout_s, encoder.timeout_s) == (30, 0.2)
    fill(encoder, range(3))
    os.kill(encoder._process.pid, signal.SIGSTOP)
    with within(60), pytest.raises(EncoderError, match=r"did nothing for 0\.2 s and was ended"):
        then(encoder)
    vidrec.set_ffmpeg_timeout(None)
    assert start(tmp_path / "b.mp4").timeout_s == math.inf
    vidrec.set_ffmpeg_timeout()
    assert start(tmp_path / "c.mp4").timeout_s == 30


@pytest.mark.parametrize("timeout_s", [0, -1, math.nan, "soon", [30]])
def test_a_timeout_that_cannot_be_is_refused(timeout_s):
    with pytest.raises(SettingError, match=r"timeout_s=.* must be a number of seconds, above 0"):
        vidrec.set_ffmpeg_timeout(timeout_s)


@pytest.mark.parametrize(("value", "out"), [("12.5", "12.5"), ("inf", "inf"), ("0", "FFMPEG_TIMEOUT_S='0' must be")])
def test_the_timeout_may_stand_in_the_environment(value, out, monkeypatch):
    monkeypatch.setenv("VIDREC_FFMPEG_TIMEOUT_S", value)
    done = run_python("from vidrec.ffmpeg import encoder; print(encoder.TIMEOUT_S)", check=False)
    assert out in (done.stderr if done.returncode else done.stdout)


@pytest.mark.parametrize("size", some([(480, 854), (720, 1280)], (480, 854)))
def test_an_ffmpeg_that_computes_without_writing_is_not_stuck(start, tmp_path, size):
    slow = ["-c:v", "libx264", "-preset", "placebo", "-rc-lookahead", "250", "-g", "250", "-f", "mp4"]
    encoder = start(tmp_path / "a.mp4", size=size, args=slow, timeout_s=0.4)
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    for _ in range(12):
        encoder.write(noise)
    assert encoder.finish() == 12


def test_a_slow_ffmpeg_counts_as_stuck_only_once_its_file_stops_growing(start, tmp_path, monkeypatch):
    encoder, looks = start(tmp_path / "a.mp4", timeout_s=30), 0
    monkeypatch.setattr("vidrec.ffmpeg.encoder.time", SimpleNamespace(monotonic=lambda: 20 * looks))

    def look():
        nonlocal looks
        looks += 1
        if looks in (1, 3, 5, 7, 9):
            encoder.path.write_bytes(bytes(looks))

    with pytest.raises(EncoderError, match="did nothing for 30 s"):
        encoder._wait(look)
    assert looks == 11


@pytest.mark.parametrize("then", [overfill, Encoder.finish], ids=["write", "finish"])
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-c:v", "nope"], "Unknown encoder 'nope'"),
        (["-vf", "nope"], "No such filter: 'nope'"),
        (["-c:v", "libx264", "-preset", "nope"], "invalid preset 'nope'"),
    ],
    ids=["codec", "filter", "preset"],
)
def test_what_ffmpeg_refuses_is_raised_in_its_own_words(start, tmp_path, args, words, then):
    encoder = start(tmp_path / "a.mp4", args=args, timeout_s=5)
    how = "(stopped with exit code|did nothing for)"  # FFmpeg 7.0 does not end then
    with pytest.raises(EncoderError, match=f"(?s){how}.*{encoder.path}.*{words}"):
        then(encoder)


@pytest.mark.parametrize("then", [overfill, Encoder.finish], ids=["write", "finish"])
def test_an_existing_file_is_kept_and_the_encoder_refused(start, tmp_path, then):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"mine")
    encoder = start(path)
    with pytest.raises(EncoderError, match="already exists"):
        then(encoder)
    assert path.read_bytes() == b"mine"


def test_a_missing_ffmpeg_is_an_encoder_error(tmp_path, monkeypatch):
    monkeypatch.setattr("vidrec.ffmpeg.encoder.find_ffmpeg", lambda: str(tmp_path / "no ffmpeg"))
    with pytest.raises(EncoderError, match=r"could not be started for .*a\.mp4.*no ffmpeg"):
        Encoder(tmp_path / "a.mp4", (48, 64), Fraction(30), [], 2)


@product(video_format=ENCODED, frames=[40, 2000])  # at the end, or in between
def test_a_full_disk_is_an_error_that_says_so(start, tmp_path, video_format, frames):
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        missing(f"a small disk cannot be mounted: {mounted.stderr}")
    random = np.random.default_rng(0)

    def record():
        for _ in range(frames):
            encoder.write(random.integers(0, 256, (48, 64, 3), np.uint8))
        encoder.finish()

    encoder = start(tmp_path / f"a.{video_format}")
    try:
        with pytest.raises(EncoderError, match=f"(?s){encoder.path}.*No space left on device"):
            record()
    finally:
        encoder.kill()
        subprocess.run(["umount", tmp_path], check=True)


@forks
def test_a_forked_child_does_not_keep_the_encoder_from_finishing(start, tmp_path):
    encoder = start(tmp_path / "a.mp4", timeout_s=2)
    fill(encoder, range(3))
    with forked(lambda: time.sleep(60)):
        assert encoder.finish() == 3
    assert numbers_in(encoder.path) == [0, 1, 2]


@forks
def test_a_forked_child_that_ends_leaves_the_encoder_to_its_parent(start, tmp_path):
    encoder = start(tmp_path / "a.mp4")
    fill(encoder, range(3))
    if (child := os.fork()) == 0:
        encoder.detach()
        del encoder
        os._exit(0)
    os.waitpid(child, 0)
    fill(encoder, range(3, 6))
    assert encoder.finish() == 6
    assert numbers_in(encoder.path) == list(range(6))


@forks
@pytest.mark.parametrize("video_format", ENCODED)
def test_the_file_becomes_whole_when_its_writer_is_killed(start, tmp_path, video_format):
    path = tmp_path / f"a.{video_format}"

    def write_and_die():
        fill(start(path), range(20))
        os.kill(os.getpid(), signal.SIGKILL)

    def found():
        try:
            return numbers_in(path)
        except AssertionError:
            return []

    with forked(write_and_die), within(60):
        while len(found()) < 20:
            time.sleep(0.02)
    assert found() == list(range(20))


def test_fifty_encoders_leave_no_descriptor_and_no_process(start, tmp_path):
    def one(number):
        encoder = start(tmp_path / f"{number}.mp4", args=["-c:v", "nope"] if number % 5 == 1 else None)
        if number % 5 == 0:
            encoder.kill()
        elif number % 5 == 1:
            with pytest.raises(EncoderError):
                encoder.finish()
        else:
            fill(encoder, range(2))
            assert encoder.finish() == 2
        return encoder

    one(0)
    before = sorted(os.listdir("/proc/self/fd"))
    encoders = [one(number) for number in range(1, 51)]
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert all(gone(encoder) for encoder in encoders)


def test_ctrl_c_does_not_reach_the_encoder(start, tmp_path):
    encoder = start(tmp_path / "a.mp4")
    pid = encoder._process.pid
    assert os.getsid(pid) == os.getpgid(pid) == pid != os.getsid(0)
    encoder.finish()


@pytest.mark.parametrize("video_format", ENCODED)
def test_half_a_frame_at_the_end_is_dropped(start, tmp_path, video_format):
    encoder = start(tmp_path / f"a.{video_format}")
    fill(encoder, range(5))
    assert os.write(encoder._pipe.fileno(), numbered(5).numpy().tobytes()[:-1]) == 48 * 64 * 3 - 1
    assert encoder.finish() == 5
    assert numbers_in(encoder.path) == list(range(5))

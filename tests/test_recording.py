"""Who finishes a clip: real processes that really end, fork and run side by side."""

import os
import signal
import textwrap
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from conftest import ENCODED, require, some
from numbered_frames import numbered, numbers_in, read_number
from processes import started, wait_for_encoders
from worlds import FailingLogger

from vidrec import CSVLogger, VideoRecorder, VidrecWarning
from vidrec.ffmpeg.encoder import Encoder
from vidrec.recording import lifetime

START = """
    import os, signal, sys, time, warnings
    import torch
    from numbered_frames import numbered
    from processes import wait_for_signals
    from worlds import PixelsEnv
    from torchrl.envs import TransformedEnv
    from vidrec import CSVLogger, VideoRecorder

    warnings.simplefilter("error")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what started the tests may have it ignored
    recorder = VideoRecorder(CSVLogger("run", video_format="{video_format}"), "video", skip=1)
    env = TransformedEnv(PixelsEnv(), recorder)
    td = env.reset()

    def step():
        global td
        td = env.step(env.rand_action(td))["next"]

    for _ in range(299):
        step()
    print("recorded", flush=True)
"""


@pytest.fixture
def process():
    """Start a script that records 300 numbered frames and goes on with `end`; none outlives the test."""
    with ExitStack() as running:

        def process(end, video_format="mp4", **kwargs):
            script = textwrap.dedent(START).format(video_format=video_format) + textwrap.dedent(end)
            return running.enter_context(started(script, text=True, bufsize=-1, **kwargs))

        yield process


def videos(pattern="*"):
    found = Path("csv_logs/run/videos").glob(pattern)
    return sorted(path for path in found if path.suffix != ".log")


@pytest.mark.parametrize("video_format", some(ENCODED, "mp4", "webm", "apng"))
def test_after_sigkill_all_300_frames_decode_under_the_unfinished_name(process, video_format, tmp_path):
    child = process("time.sleep(60)", video_format, cwd=tmp_path)
    assert child.stdout.readline() == "recorded\n"
    child.kill()
    child.communicate()
    wait_for_encoders(tmp_path)
    [path] = videos()
    assert ".part-" in path.name
    assert numbers_in(path) == list(range(300))


@pytest.mark.parametrize("video_format", ["pt", "memmap"])
def test_after_sigkill_the_raw_frames_are_in_the_file(process, video_format, tmp_path):
    child = process("time.sleep(60)", video_format, cwd=tmp_path)
    assert child.stdout.readline() == "recorded\n"
    child.kill()
    child.communicate()
    [path] = videos()
    data = path.read_bytes()[64 if video_format == "pt" else 0 :]
    frames = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(300, 3, 48, 64).permute(0, 2, 3, 1)
    assert [read_number(frame) for frame in frames] == list(range(300))


ENDS = {
    "the end of the script": ("", {0}),
    "sys.exit": ("sys.exit(3)", {3}),
    "an exception": ("raise RuntimeError('the policy diverged')", {1}),
    # Python forgets that it was Ctrl-C, and ends with 1, where one of torch's functions at exit compiles something
    "Ctrl-C": ("os.kill(os.getpid(), signal.SIGINT); wait_for_signals()", {-signal.SIGINT, 1}),
}


@pytest.mark.parametrize("end", some(ENDS, "the end of the script", "Ctrl-C"))
def test_without_dump_all_frames_are_in_a_finished_video_after(process, end, tmp_path):
    code, returncodes = ENDS[end]
    child = process(code, cwd=tmp_path)
    _, errors = child.communicate(timeout=60)
    assert child.returncode in returncodes, errors
    assert "Warning" not in errors
    assert [path.name for path in videos()] == ["video_0.mp4"]
    assert numbers_in(videos()[0]) == list(range(300))
    assert Path("csv_logs/run/videos.csv").read_text().count("\n") == 2


def test_ctrl_c_in_the_middle_of_a_rollout_reaches_the_training_and_not_the_encoder(process, tmp_path):
    child = process("while True:\n    step()", cwd=tmp_path, start_new_session=True)
    assert child.stdout.readline() == "recorded\n"
    os.killpg(child.pid, signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    numbers = numbers_in(videos("video_0.mp4")[0])
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 300


@pytest.mark.parametrize("before", [0, 1, 2])
def test_an_interrupt_between_the_bytes_of_a_frame_costs_at_most_that_frame(before):
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)
    for number in range(before):
        recorder._apply_transform(numbered(number))

    def interrupted(fd, buffers):
        data = b"".join(buffers)
        assert len(data) == 48 * 64 * 3
        os.write(fd, data[: len(data) // 2])
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "writev", interrupted)
        with pytest.raises(KeyboardInterrupt):
            recorder._apply_transform(numbered(9))
    for number in (20, 30):
        recorder._apply_transform(numbered(number))
    video = recorder.dump()
    assert video.frames == before + 2
    assert numbers_in(video.path) == [*range(before), 20, 30]
    assert videos("*part*") == []


def test_an_interrupt_while_dump_waits_costs_nothing():
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)
    for number in range(5):
        recorder._apply_transform(numbered(number))

    def interrupted(self, timeout_s):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Encoder, "_ended", interrupted)
        with pytest.raises(KeyboardInterrupt):
            recorder.dump()
    for number in (5, 6):
        recorder._apply_transform(numbered(number))
    recorder.dump()
    assert [numbers_in(path) for path in videos()] == [list(range(5)), [5, 6]]
    assert videos("*part*") == []


def test_a_forked_child_forgets_the_clip_and_neither_side_waits_for_the_other():
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)
    recorder._apply_transform(numbered(1))
    done, go = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            recorder.clone()._apply_transform(numbered(7))
            code = 0 if recorder.dump(suffix="child").frames == 1 and recorder.dump() is None else 2
        finally:
            os.write(done[1], b"x")
            os.read(go[0], 1)  # alive with all that it inherited, while the parent finishes
            os._exit(code)
    assert os.read(done[0], 1) == b"x"
    recorder._apply_transform(numbered(2))
    assert numbers_in(recorder.dump().path) == [1, 2]
    os.write(go[1], b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert numbers_in(videos("video_child_0.mp4")[0]) == [7]
    for end in (*done, *go):
        os.close(end)


def test_what_cannot_be_published_at_exit_is_a_warning_that_says_where_it_is():
    logger = FailingLogger()
    logger.failures = 10
    failing = VideoRecorder(logger, "video")
    fine = VideoRecorder(CSVLogger("run"), "fine")
    for recorder in (failing, fine):
        recorder._apply_transform(numbered(1))
    with pytest.warns(VidrecWarning, match="not finished: no space left on the moon; .*is kept, in memory"):
        lifetime.finish_all()
    assert [path.name for path in videos()] == ["fine_0.mp4"]


def test_an_encoder_that_dies_names_its_file_and_the_next_clip_works():
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)
    recorder._apply_transform(numbered(1))
    encoder = recorder._recording.shown.clip._encoder
    encoder._process.kill()
    encoder._process.wait()
    with pytest.raises(OSError, match=r"FFmpeg stopped with exit code -9.*video\.part-") as caught:
        recorder._apply_transform(numbered(1))
    assert str(encoder.path) in str(caught.value)
    recorder._apply_transform(numbered(2))
    assert numbers_in(recorder.dump().path) == [2]


MEMORY = """
    import gc, sys
    import torch
    from vidrec import CSVLogger, TensorboardLogger, VideoRecorder, WandbLogger

    def peak():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024

    def begin_anew():
        gc.collect()
        with open("/proc/self/clear_refs", "w") as clear:
            clear.write("5")
        return peak()

    logger = eval(sys.argv[1])
    raw = getattr(logger, "video_format", None) in ("pt", "memmap")
    recorder = VideoRecorder(logger, "video", skip=1, **({} if raw else {"scale": 1}))
    frame = torch.zeros(*map(int, sys.argv[2:]), 3, dtype=torch.uint8)
    recorder._apply_transform(frame)
    recorder.dump()  # what is imported for that, is
    for number in range(5000):
        frame[:, number % 80] += 1
        recorder._apply_transform(frame)
        if number == 500:
            before = begin_anew()
    recorded = peak()
    recorder.dump()
    print(recorded - before, peak() - before)
"""


LOGGERS = [
    *(f"CSVLogger('run', video_format={video_format!r})" for video_format in [*ENCODED, "pt", "memmap"]),
    "TensorboardLogger('run')",
    "TensorboardLogger('run', video_format='gif')",
    "WandbLogger('run', offline=True, log_env_packages=False)",
]
SOME_LOGGERS = [
    "CSVLogger('run', video_format='mp4')",
    "CSVLogger('run', video_format='pt')",
    "TensorboardLogger('run')",
]


@pytest.mark.parametrize(
    ("logger", "size"),
    [
        *((logger, (64, 80)) for logger in SOME_LOGGERS),
        *(
            pytest.param(logger, size, marks=pytest.mark.long)
            for size in [(64, 80), (240, 320)]
            for logger in LOGGERS
            if size != (64, 80) or logger not in SOME_LOGGERS
        ),
    ],
)
def test_peak_memory_is_flat_from_frame_500_to_5000_and_through_the_dump(logger, size):
    require("tensorboard", "wandb")
    with started(MEMORY, logger, *size, env={"WANDB_SILENT": "true"}) as child:
        output, errors = child.communicate()
    assert child.returncode == 0, errors.decode()
    recorded, dumped = map(int, output.split()[-2:])
    assert recorded < 16 * 2**20
    if logger != "TensorboardLogger('run', video_format='gif')":  # which is large, and in memory to become an event
        assert dumped < 16 * 2**20


@pytest.mark.parametrize("many", [2000, pytest.param(10000, marks=pytest.mark.long)])
def test_dump_of_10000_frames_takes_no_longer_than_three_times_that_of_100(many):
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)

    def dump_s(frames):
        for block in range(frames // 100):
            time.sleep(0.05 if block else 0)  # no faster than an environment can be, also beside other tests
            for number in range(100):
                recorder._apply_transform(numbered(number))
        start = time.perf_counter()
        assert recorder.dump().frames == frames
        return time.perf_counter() - start

    # the quickest of each: the others may have waited for tests that run beside this one
    short, long = dump_s(100), dump_s(many)
    for _ in range(9):
        if long <= 3 * short:
            break
        short, long = min(short, dump_s(100)), min(long, dump_s(many))
    assert long <= 3 * short

"""Several loggers as one."""

import copy
import dataclasses
import os
import pickle
import warnings
from pathlib import Path

import pytest
import torch
import torchrl.record
from conftest import require, since_torchrl
from numbered_frames import numbered, numbers_in, read_number
from torchrl.envs import TransformedEnv
from worlds import FailingLogger, KeepLogger, PixelsEnv

from vidrec import (
    CSVLogger,
    EncoderError,
    MemoryLogger,
    SettingError,
    TeeLogger,
    TensorboardLogger,
    VideoLogger,
    VideoRecorder,
    VidrecWarning,
)
from vidrec.clips import TensorClip
from vidrec.clips import base as clip_module
from vidrec.ffmpeg import encoder as encoder_module
from vidrec.ffmpeg.encoder import Encoder
from vidrec.files import forks


def record(recorder, numbers):
    for number in numbers:
        recorder._apply_transform(numbered(number))


def numbers_of(tensor):
    return [read_number(frame.permute(1, 2, 0)) for frame in tensor[0]]


@pytest.fixture
def encoders(monkeypatch):
    """The encoders that were started."""
    started = []
    start = Encoder.__init__

    def count(self, *args, **kwargs):
        start(self, *args, **kwargs)
        started.append(self)

    monkeypatch.setattr(Encoder, "__init__", count)
    return started


def test_each_logger_gets_the_whole_video_and_equal_wishes_are_encoded_once(encoders):
    memory, other = MemoryLogger(), KeepLogger()
    loggers = [CSVLogger("a"), memory, CSVLogger("b"), CSVLogger("gif", video_format="gif"), other, CSVLogger("c")]
    recorder = VideoRecorder(TeeLogger(*loggers), "video", fps=30, skip=1)
    env = TransformedEnv(PixelsEnv(), recorder)
    env.rollout(11)
    video = recorder.dump(step=4)
    assert video.path.samefile("csv_logs/gif/videos/video_4.gif")
    assert len(encoders) == 2
    for name in ("a/videos/video_4.mp4", "b/videos/video_4.mp4", "c/videos/video_4.mp4", "gif/videos/video_4.gif"):
        assert numbers_in(Path("csv_logs", name)) == list(range(12))
    assert len({os.stat(f"csv_logs/{name}/videos/video_4.mp4").st_nlink for name in "abc"}) == 1
    assert [numbers_of(video) for video in (memory.videos[0].value, other.videos[0])] == [list(range(12))] * 2
    assert (memory.videos[0].name, memory.videos[0].step, memory.videos[0].settings) == ("video", 4, {"fps": 30})
    assert not list(Path().rglob("*.part-*"))


def test_a_file_that_was_shared_can_be_deleted_and_changed_by_each_logger():
    recorder = VideoRecorder(TeeLogger(CSVLogger("a"), CSVLogger("b")), "video")
    record(recorder, range(3))
    recorder.dump(step=0)
    Path("csv_logs/a/videos/video_0.mp4").unlink()
    assert numbers_in(Path("csv_logs/b/videos/video_0.mp4")) == [0, 1, 2]


def test_files_are_copied_where_they_cannot_be_linked(monkeypatch):
    def no_links(*args, **kwargs):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", no_links)
    recorder = VideoRecorder(TeeLogger(CSVLogger("a"), CSVLogger("b")), "video")
    record(recorder, range(3))
    recorder.dump(step=0)
    assert [numbers_in(Path(f"csv_logs/{name}/videos/video_0.mp4")) for name in "ab"] == [[0, 1, 2]] * 2
    assert not list(Path().rglob("*.part-*"))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_that_fails_is_raised_in_the_end_and_gets_its_own_at_the_next_dump(place):
    loggers = [CSVLogger("a"), CSVLogger("b"), KeepLogger()]
    fails = FailingLogger()
    loggers.insert(place, fails)
    recorder = VideoRecorder(TeeLogger(*loggers), "video")
    record(recorder, range(3))
    with pytest.raises(OSError, match="moon") as caught:
        recorder.dump(step=1)
    assert "the video 'video' is kept for" in caught.value.__notes__[0]
    assert "in memory; call dump() again" in caught.value.__notes__[0]
    assert [numbers_in(Path(f"csv_logs/{name}/videos/video_1.mp4")) for name in "ab"] == [[0, 1, 2]] * 2
    recorder.dump(step=1)
    assert numbers_of(fails.videos[0]) == [0, 1, 2]
    assert [len(logger.videos) for logger in loggers if isinstance(logger, KeepLogger)] == [1, 1]
    assert sorted(path.name for path in Path("csv_logs").rglob("*.mp4")) == ["video_1.mp4", "video_1.mp4"]


def test_a_file_is_kept_for_one_of_several_that_want_it(monkeypatch):
    loggers = [CSVLogger("a"), CSVLogger("b"), CSVLogger("c")]
    log_video = loggers[1].experiment.add_video
    failures = [OSError("no space left on the moon")]

    def fail_once(*args, **kwargs):
        if failures:
            raise failures.pop()
        return log_video(*args, **kwargs)

    monkeypatch.setattr(loggers[1].experiment, "add_video", fail_once)
    recorder = VideoRecorder(TeeLogger(*loggers), "video")
    record(recorder, range(3))
    with pytest.raises(OSError, match="moon") as caught:
        recorder.dump(step=1)
    [kept] = Path().rglob("*.part-*.mp4")
    assert str(kept) in caught.value.__notes__[0]
    record(recorder, range(3, 5))
    recorder.dump(step=2)
    found = {str(path.relative_to("csv_logs")): numbers_in(path) for path in Path("csv_logs").rglob("*.mp4")}
    assert found == {
        "a/videos/video_1.mp4": [0, 1, 2],
        "c/videos/video_1.mp4": [0, 1, 2],
        "a/videos/video_2.mp4": [3, 4],
        "c/videos/video_2.mp4": [3, 4],
        "b/videos/video_1.mp4": [0, 1, 2],
        "b/videos/video_2.mp4": [3, 4],
    }


def test_two_that_fail_are_both_named():
    recorder = VideoRecorder(TeeLogger(FailingLogger(), CSVLogger("a"), FailingLogger()), "video")
    record(recorder, range(3))
    with pytest.raises(OSError, match="moon") as caught:
        recorder.dump()
    assert any(note.startswith("and: no space left on the moon") for note in caught.value.__notes__)


def test_an_encoder_that_dies_costs_the_others_nothing_and_the_next_video_has_all(encoders):
    memory = MemoryLogger()
    recorder = VideoRecorder(TeeLogger(CSVLogger("a"), CSVLogger("b", video_format="mkv"), memory), "video")
    record(recorder, range(3))
    encoders[0]._process.kill()
    encoders[0]._process.wait()
    record(recorder, range(3, 200))
    with pytest.raises(EncoderError, match="FFmpeg stopped with exit code -9"):
        recorder.dump(step=0)
    assert numbers_of(memory.videos[0].value) == list(range(200))
    assert numbers_in(Path("csv_logs/b/videos/video_0.mkv")) == list(range(200))
    assert recorder.dump().path.samefile("csv_logs/b/videos/video_0.mkv")
    assert recorder.dump() is None
    record(recorder, [7])
    recorder.dump(step=1)
    assert numbers_in(Path("csv_logs/a/videos/video_1.mp4")) == [7]
    assert len(memory.videos) == 2


def test_the_only_encoder_that_dies_is_an_error_at_once(encoders):
    recorder = VideoRecorder(TeeLogger(CSVLogger("a"), CSVLogger("b")), "video")
    record(recorder, range(3))
    encoders[0]._process.kill()
    encoders[0]._process.wait()
    with pytest.raises(EncoderError, match="exit code -9"):
        record(recorder, range(1000))


def test_settings_must_be_known_to_each_logger():
    with pytest.raises(SettingError, match="format"):
        VideoRecorder(TeeLogger(CSVLogger("a"), MemoryLogger()), "video", format="gif")
    with pytest.raises(SettingError, match="at least one"):
        TeeLogger()


def test_warnings_as_errors_lose_nothing():
    failing = FailingLogger()
    recorder = VideoRecorder(TeeLogger(CSVLogger("a"), failing), "video")
    record(recorder, range(2))
    failing.failures = 0
    recorder.dump(step=0)
    failing.failures = 1
    record(recorder, range(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error", VidrecWarning)
        with pytest.raises(OSError, match="moon") as caught:
            recorder.dump(step=0)  # the name in the folder is taken, and the other logger fails
    assert any("exists and is kept" in note for note in caught.value.__notes__)
    recorder.dump(step=0)
    assert [len(video[0]) for video in failing.videos] == [2, 3]
    assert len(list(Path("csv_logs").rglob("*.mp4"))) == 2


@since_torchrl("0.12")
def test_all_else_reaches_each_logger_with_its_step():
    first, second = MemoryLogger(), MemoryLogger()
    tee = TeeLogger(first, second)
    tee.log_scalar("loss", 0.5, step=3)
    tee.log_metrics({"a": torch.tensor(1.0)}, step=4)
    tee.log_hparams({"lr": 1e-3})
    tee.log_histogram("weights", [1.0, 2.0], step=5, bins=10)
    tee.log_str("note", "text", step=6)
    tee.log_video("video", torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8), step=7)
    for logger in (first, second):
        assert [(entry.name, entry.value, entry.step) for entry in logger.scalars] == [("loss", 0.5, 3), ("a", 1.0, 4)]
        assert logger.hparams[0].value == {"lr": 1e-3}
        assert (logger.histograms[0].step, logger.histograms[0].settings) == (5, {"bins": 10})
        assert (logger.texts[0].value, logger.texts[0].step) == ("text", 6)
        assert (logger.videos[0].value.shape, logger.videos[0].step) == ((1, 2, 3, 8, 8), 7)


def test_what_one_logger_cannot_do_is_raised_when_the_others_have_done_it():
    memory = MemoryLogger()
    tee = TeeLogger(CSVLogger("a"), memory)
    with pytest.raises(NotImplementedError):
        tee.log_histogram("weights", [1.0], step=5, bins=10)
    assert len(memory.histograms) == 1


def test_it_works_under_torchrls_own_recorder_and_in_another():
    memory = MemoryLogger()
    tee = TeeLogger(TeeLogger(CSVLogger("a"), memory), CSVLogger("b"))
    recorder = torchrl.record.VideoRecorder(tee, "theirs", skip=1)
    record(recorder, range(3))
    recorder.dump()
    recorder = VideoRecorder(tee, "ours")
    record(recorder, range(3))
    recorder.dump()
    assert [numbers_of(video.value) for video in memory.videos] == [[0, 1, 2]] * 2
    found = {str(path.relative_to("csv_logs")): numbers_in(path) for path in Path("csv_logs").rglob("*.mp4")}
    names = ["a/videos/theirs_0.mp4", "a/videos/ours_0.mp4", "b/videos/theirs_0.mp4", "b/videos/ours_0.mp4"]
    assert found == {name: [0, 1, 2] for name in names}


@since_torchrl("0.14")
def test_lifecycle_and_state_are_those_of_all_its_loggers():
    loggers = [CSVLogger("a"), CSVLogger("b")]
    tee = TeeLogger(*loggers, KeepLogger())
    assert tee.client() is tee
    assert tee.is_alive
    assert tee.exp_name == "a"
    tee.loggers[0].log_video("video", torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8))
    state = tee.state_dict()
    other = TeeLogger(CSVLogger("a"), CSVLogger("b"), KeepLogger())
    other.load_state_dict(state)
    assert other.loggers[0].experiment.videos_counter == {"video": 1}
    tee = TeeLogger(*loggers)
    tee.close()
    assert not tee.is_alive
    assert not any(logger.is_alive for logger in loggers)
    assert repr(tee).startswith("TeeLogger(CSVLogger(")


# what was put aside for a logger that failed


class Failing(CSVLogger):
    """Raises as long as `failures` is not empty."""

    def __init__(self, *args, failures=(), **kwargs):
        super().__init__(*args, **kwargs)
        self.failures = list(failures)

    def log_video(self, *args, **kwargs):
        if self.failures:
            raise self.failures.pop()
        return super().log_video(*args, **kwargs)


@pytest.mark.parametrize("video_format", ["pt", "memmap", "mp4"])
def test_a_published_video_does_not_change_while_another_logger_waits_for_its_own(video_format):
    loggers = [CSVLogger("a", video_format=video_format), Failing("b", video_format=video_format, failures=[OSError()])]
    recorder = VideoRecorder(TeeLogger(*loggers), "video")
    record(recorder, range(3))
    with pytest.raises(OSError):  # noqa: PT011
        recorder.dump()
    [published] = Path("csv_logs/a").rglob("video_0.*")
    data = published.read_bytes()
    record(recorder, range(3, 6))
    recorder.dump()
    assert published.read_bytes() == data
    for name in "ab":
        assert [path.name for path in sorted(Path(f"csv_logs/{name}/videos").iterdir())] == [
            f"video_0.{video_format}",
            f"video_1.{video_format}",
        ]


def test_a_file_that_cannot_be_shared_costs_the_others_nothing(monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    memory = MemoryLogger()
    recorder = VideoRecorder(TeeLogger(CSVLogger("a"), CSVLogger("b"), memory), "video")
    record(recorder, range(3))
    with monkeypatch.context() as patch:
        patch.setattr("vidrec.loggers.csv.publish", full)
        with pytest.raises(OSError, match="No space left") as caught:
            recorder.dump()
    assert "is kept for" in caught.value.__notes__[0]
    assert len(memory.videos) == 1
    recorder.dump()
    assert [numbers_in(Path(f"csv_logs/{name}/videos/video_0.mp4")) for name in "ab"] == [[0, 1, 2]] * 2


def test_ctrl_c_while_publishing_loses_no_logger():
    memory, slow = MemoryLogger(), Failing("b", failures=[KeyboardInterrupt()])
    recorder = VideoRecorder(TeeLogger(memory, CSVLogger("a"), slow, CSVLogger("c")), "video")
    record(recorder, [1, 2])
    with pytest.raises(KeyboardInterrupt):
        recorder.dump(step=0)
    record(recorder, [3, 4])
    recorder.dump(step=1)
    assert [(video.step, numbers_of(video.value)) for video in memory.videos] == [(0, [1, 2]), (1, [3, 4])]
    for name in "abc":
        found = {path.name: numbers_in(path) for path in Path(f"csv_logs/{name}/videos").iterdir()}
        assert found == {"video_0.mp4": [1, 2], "video_1.mp4": [3, 4]}


def test_max_frames_and_frame_sizes_begin_anew_also_while_one_logger_fails():
    memory, failing = MemoryLogger(), FailingLogger()
    failing.failures = 100
    recorder = VideoRecorder(TeeLogger(memory, failing), "video", max_frames=3)
    for size in ((48, 64), (24, 32), (48, 64)):
        for number in range(3):
            recorder._apply_transform(numbered(number, size))
        with pytest.raises(OSError, match="moon"):
            recorder.dump()
    assert [(video.step, video.value.shape[1]) for video in memory.videos] == [(0, 3), (1, 3), (2, 3)]
    failing.failures = 0
    recorder.dump()
    assert [(call[2], call[1].shape[3]) for call in failing.calls] == [(0, 48), (1, 24), (2, 48)]


def test_a_logger_whose_clip_cannot_be_opened_costs_the_others_nothing():
    class Dead(CSVLogger):
        alive = True

        def open_clip(self, tag, **settings):
            if not self.alive:
                raise ConnectionError("the service has ended")
            return super().open_clip(tag, **settings)

    memory, dead = MemoryLogger(), Dead("dead")
    recorder = VideoRecorder(TeeLogger(memory, dead), "video")
    dead.alive = False
    record(recorder, range(3))
    with pytest.raises(ConnectionError, match="has ended"):
        recorder.dump()
    assert numbers_of(memory.videos[0].value) == [0, 1, 2]
    dead.alive = True
    record(recorder, [3])
    recorder.dump()
    assert numbers_in(Path("csv_logs/dead/videos/video_1.mp4")) == [3]


def test_a_file_that_is_gone_costs_the_others_nothing():
    memory = MemoryLogger()
    recorder = VideoRecorder(TeeLogger(CSVLogger("a", video_format="pt"), memory), "video")
    record(recorder, range(3))
    next(Path().rglob("*.part-*.pt")).unlink()
    with pytest.raises(EncoderError, match=r"finishing .* failed"):
        recorder.dump()
    assert numbers_of(memory.videos[0].value) == [0, 1, 2]
    assert recorder.dump() is None


def test_it_can_be_copied_with_a_logger_that_has_a_thread():
    require("tensorboard")
    recorder = VideoRecorder(TeeLogger(TensorboardLogger("run"), CSVLogger("a")), "video")
    for other in (pickle.loads(pickle.dumps(recorder)), copy.deepcopy(recorder), recorder.clone()):
        record(other, [1, 2])
        assert other.dump().frames == 2
    assert len(recorder.logger.experiment) == 2


def test_tensors_are_encoded_once_too_and_a_video_is_read(encoders):
    memory = MemoryLogger()
    tee = TeeLogger(CSVLogger("a"), CSVLogger("b"), memory)
    frames = torch.stack([numbered(number).permute(2, 0, 1) for number in range(4)])
    tee.log_video("video", frames.reshape(2, 2, 3, 48, 64), step=1)
    assert len(encoders) == 1
    assert memory.videos[0].value.shape == (2, 2, 3, 48, 64)
    assert [numbers_in(Path(f"csv_logs/{name}/videos/video_1.mp4")) for name in "ab"] == [[0, 1, 2, 3]] * 2
    video = CSVLogger("c", video_format="mkv").log_video("video", frames[None])
    tee.log_video("again", video)
    assert numbers_of(memory.videos[1].value) == [0, 1, 2, 3]
    assert not list(Path().rglob("*.part-*"))


def test_loggers_that_are_equal_are_not_the_same():
    @dataclasses.dataclass
    class Equal:
        fails: bool = dataclasses.field(default=False, compare=False)
        videos: list = dataclasses.field(default_factory=list, compare=False)

        def log_video(self, name, video, step):
            if self.fails:
                self.fails = False
                raise OSError("no space left on the moon")
            self.videos.append(video)

    one, other = Equal(), Equal(fails=True)
    recorder = VideoRecorder(TeeLogger(one, other), "video")
    record(recorder, [1])
    with pytest.raises(OSError, match="moon"):
        recorder.dump()
    recorder.dump()
    assert (len(one.videos), len(other.videos)) == (1, 1)


def test_clips_of_ones_own_are_not_shared():
    class Half(MemoryLogger, VideoLogger):
        class Clip(TensorClip):
            def _add(self, frame):
                if frame.mean() > 100:
                    super()._add(frame)

        def open_clip(self, tag, **settings):
            return self.Clip()

    half, whole = Half(), MemoryLogger()
    recorder = VideoRecorder(TeeLogger(half, whole, Half()), "video")
    for shade in (0, 200, 0, 200):
        recorder._apply_transform(torch.full((3, 48, 64), shade, dtype=torch.uint8))
    recorder.dump()
    assert (half.videos[0].value.shape[1], whole.videos[0].value.shape[1]) == (2, 4)


def test_what_a_failed_encoder_leaves_is_let_go_of():
    recorder = VideoRecorder(TeeLogger(CSVLogger("a"), MemoryLogger()), "video", skip=1)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3):
        record(recorder, [number])
        [encoder] = [holder for holder in forks.registered.values() if isinstance(holder, encoder_module.Encoder)]
        encoder._process.kill()
        with pytest.raises(EncoderError):
            recorder.dump()
    assert clip_module._open == set()
    assert len(os.listdir("/proc/self/fd")) == before

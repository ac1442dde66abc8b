"""Loggers that run in another process: what is sent there is the encoded file."""

import pickle
import tempfile
from pathlib import Path

import pytest
from conftest import SERVICE, since_torchrl
from numbered_frames import numbered, numbers_in
from torchrl.record.loggers import CSVLogger as TorchRLCSVLogger

from vidrec import CSVLogger, ServiceError, SettingError, TagError, VideoLogger, VideoRecorder
from vidrec.ffmpeg.encoder import Encoder
from vidrec.loggers.service import ServiceLogger

pytestmark = since_torchrl("0.14")


class FailsOnce(CSVLogger):
    failed = False

    def log_video(self, name, video, step=None, **settings):
        if not self.failed:
            self.failed = True
            raise OSError("no space left on the moon")
        return super().log_video(name, video, step, **settings)


@pytest.fixture
def serve():
    services = []

    def serve(logger_class, **kwargs):
        services.append(logger_class("run", **SERVICE, **kwargs))
        return services[-1]

    yield serve
    for service in services:
        service.shutdown()


def record(recorder, numbers):
    for number in numbers:
        recorder._apply_transform(numbered(number))


def spy(monkeypatch, owner, name):
    """Return the list of what `name` is called with from now on."""
    calls, call = [], getattr(owner, name)

    def called(self, *args, **kwargs):
        calls.append(args)
        return call(self, *args, **kwargs)

    monkeypatch.setattr(owner, name, called)
    return calls


def left():
    return list(Path(tempfile.gettempdir()).glob("vidrec-*"))


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def test_the_recorder_encodes_and_the_service_publishes_what_it_is_sent(serve, monkeypatch):
    started = []
    start = Encoder.__init__
    monkeypatch.setattr(
        Encoder, "__init__", lambda self, *args, **kw: (started.append(self), start(self, *args, **kw))[1]
    )
    recorder = VideoRecorder(serve(CSVLogger, video_format="mkv"), "eval/video", fps=24)
    record(recorder, range(100))
    assert recorder._recording.shown.clip.encoding.fps == 24
    sent = spy(monkeypatch, type(recorder.logger), "_submit")
    video = recorder.dump(step=3)
    assert len(started) == 1
    assert video.path.samefile("csv_logs/run/videos/eval/video_3.mkv")
    assert (video.frames, video.fps) == (100, 24)
    assert numbers_in(video.path) == list(range(100))
    assert not left()
    raw = 100 * 48 * 64 * 3
    assert 0 < len(pickle.dumps(sent)) < raw / 10


def test_what_the_service_knows_is_asked_when_the_recorder_is_made(serve):
    service = serve(CSVLogger)
    with pytest.raises(SettingError, match="unknown encoder setting 'bitrate'"):
        VideoRecorder(service, "video", bitrate=3)
    with pytest.raises(TagError, match="leads out"):
        VideoRecorder(service, "../video")
    with pytest.raises(SettingError, match="is not encoded"):
        VideoRecorder(serve(CSVLogger, video_format="pt"), "video", crf=3)


def test_what_the_service_could_not_publish_is_kept_here_and_dumped_again(serve):
    recorder = VideoRecorder(serve(FailsOnce), "video")
    record(recorder, range(5))
    with pytest.raises(RuntimeError, match="moon") as caught:
        recorder.dump()
    [kept] = [path for path in Path("csv_logs/run/videos").resolve().iterdir() if path.suffix == ".mp4"]
    assert str(kept) in caught.value.__notes__[0]
    record(recorder, range(5, 8))
    last = recorder.dump()
    assert last is recorder.videos[-1]
    assert [numbers_in(video.path) for video in recorder.videos] == [list(range(5)), [5, 6, 7]]
    assert not left()


def test_a_recorder_in_another_process_finds_the_service_too(serve):
    recorder = VideoRecorder(serve(CSVLogger).client(), "video")
    copy = pickle.loads(pickle.dumps(recorder._recording.destination.settings))
    assert copy == {}
    record(recorder, range(3))
    assert recorder.dump().frames == 3
    assert isinstance(recorder._recording.destination.loggers[0], ServiceLogger)


def test_a_restarted_run_goes_on_after_the_highest_step_there(serve):
    logger = serve(CSVLogger)
    for step in (7, None):
        recorder = VideoRecorder(logger, "video")
        record(recorder, range(3))
        video = recorder.dump(step=step)
    assert video.path.name == "video_8.mp4"


def test_torchrls_loggers_get_a_tensor_there_too(serve):
    recorder = VideoRecorder(serve(TorchRLCSVLogger, video_format="pt"), "video")
    record(recorder, range(5))
    assert not left()
    assert recorder.dump(step=0) is None
    assert numbers_in(Path("csv_logs/run/videos/video_0.pt")) == list(range(5))


def test_a_service_that_has_ended_is_an_error_and_not_a_logger_of_tensors(serve):
    service = serve(CSVLogger)
    client = service.client()
    service.shutdown()
    with pytest.raises(ServiceError, match="has ended"):
        VideoRecorder(client, "video")


def test_a_service_whose_logger_wants_no_file_gets_a_tensor():
    class Client:
        calls = ()

        def log_video_clip(self, tag):
            return None

        def log_video(self, *args, **settings):
            self.calls = (*self.calls, args)

    logger = ServiceLogger(Client())
    assert isinstance(logger, VideoLogger)
    clip = logger.open_clip("video")
    clip.write(numbered(1).unsqueeze(0))
    assert logger.log_video("video", clip.finish(), 3) is None
    assert logger.client.calls[0][1].shape == (1, 1, 3, 48, 64)

"""Everybody else's loggers in our recorder: TorchRL's, with the real MLflow and Trackio, and any with `log_video`."""

from pathlib import Path

import imageio_ffmpeg
import pytest
import torch
import torchrl.record
from conftest import missing, require, since_torchrl
from numbered_frames import numbers_in
from processes import run_python
from torchrl.envs import Compose, TransformedEnv
from torchrl.record.loggers.common import Logger
from worlds import PixelsEnv, random_frames

from vidrec import VideoRecorder


class StrictLogger:
    """Any object with `log_video`, which keeps what it is called with, by name and by place."""

    def __init__(self):
        self.calls = []

    def log_video(self, *args, **kwargs):
        self.calls.append((args, kwargs))


class BareLogger(Logger):
    """A TorchRL logger that takes nothing but what it must."""

    def __init__(self):
        self.videos = []
        super().__init__("run", "")

    def _create_experiment(self):
        return None

    def log_video(self, name, video, step=None):
        self.videos.append((name, video, step))

    def log_scalar(self, name, value, step=None): ...
    def log_hparams(self, cfg): ...
    def log_histogram(self, name, data, **kwargs): ...
    def __repr__(self):
        return "BareLogger()"


def both(steps=11, ours_alone=None, dump=None, frame=None, **kwargs):
    """Record the same rollout by TorchRL's recorder and ours; return the calls of their loggers."""
    theirs, ours = StrictLogger(), StrictLogger()
    recorders = [
        torchrl.record.VideoRecorder(theirs, "eval/video", **kwargs),
        VideoRecorder(ours, "eval/video", **kwargs, **(ours_alone or {})),
    ]
    env = TransformedEnv(PixelsEnv(frame=frame or random_frames(6, 8, 3)), Compose(*recorders))
    for _ in range(2):
        env.rollout(steps)
        env.transform.dump(**(dump or {}))
    return theirs.calls, ours.calls


@pytest.mark.filterwarnings("ignore:.*max_frames")
@pytest.mark.parametrize("dump", [{}, {"step": 70}, {"suffix": "late"}, {"suffix": "late", "step": 70}], ids=str)
@pytest.mark.parametrize(
    ("kwargs", "ours_alone"),
    [
        ({}, {}),
        ({"fps": 12, "skip": 3}, {}),
        ({"format": "gif", "commit": False, "anything": [1]}, {}),
        pytest.param({"max_frames": 4, "make_grid": True, "fps": 7}, {}, marks=since_torchrl("0.14")),
        ({"fps": 12}, {"layout": "HWC"}),
        ({}, {"layout": "HWC"}),
    ],
    ids=str,
)
def test_any_object_is_called_as_torchrl_calls_it_and_with_nothing_else(kwargs, ours_alone, dump):
    theirs, ours = both(ours_alone=ours_alone, dump=dump, **kwargs)
    assert len(ours) == len(theirs) == 2
    for (their_args, their_kwargs), (our_args, our_kwargs) in zip(theirs, ours, strict=True):
        their_video, our_video = their_kwargs.pop("video"), our_kwargs.pop("video")
        assert (our_args, our_kwargs) == (their_args, their_kwargs)
        assert our_video.dtype == torch.uint8
        assert our_video.shape == their_video.shape
        assert our_video.shape[0] == 1
        assert our_video.shape[2:] == (3, 6, 8)
        assert (our_video == their_video).all()
    assert {*kwargs} & {"fps", "format", "commit", "anything"} == {*our_kwargs} - {"name", "step"}


def test_our_own_arguments_stay_with_the_recorder():
    logger = StrictLogger()
    recorder = VideoRecorder(logger, "video", skip=1, layout="CHW", center_crop=(2, 4), make_grid=False, max_frames=9)
    recorder._apply_transform(torch.zeros(3, 6, 8, dtype=torch.uint8))
    recorder.dump()
    [((), kwargs)] = logger.calls
    assert kwargs.keys() == {"name", "video", "step"}
    assert kwargs["video"].shape == (1, 1, 3, 2, 4)


def test_a_torchrl_logger_that_knows_no_settings_gets_none():
    logger = BareLogger()
    recorder = VideoRecorder(logger, "video", skip=1, layout="HWC")
    TransformedEnv(PixelsEnv(frame=random_frames(6, 8, 3)), recorder).rollout(4)
    assert recorder.dump() is None
    [(name, video, step)] = logger.videos
    assert (name, step) == ("video", 0)
    assert (video.dtype, video.shape) == (torch.uint8, (1, 5, 3, 6, 8))


def test_torchrls_csv_logger_writes_the_tensor_that_was_seen():
    logger = torchrl.record.CSVLogger("run", video_format="pt")
    recorder = VideoRecorder(logger, "video", skip=1)
    env = TransformedEnv(PixelsEnv(), recorder)
    for _ in range(2):
        rollout = env.rollout(9)
        recorder.dump()
    video = torch.load("csv_logs/run/videos/video_1.pt")
    seen = torch.cat([rollout["pixels"][:1], rollout["next", "pixels"]]).permute(0, 3, 1, 2)
    assert (video.dtype, video.shape) == (torch.uint8, (1, 10, 3, 48, 64))
    assert (video[0] == seen).all()
    assert numbers_in(Path("csv_logs/run/videos/video_0.pt")) == list(range(10))


RECORD = """
    import os, socket, sys, warnings
    import torch
    from torchrl.envs import TransformedEnv
    from vidrec import VideoRecorder
    sys.path.insert(0, sys.argv[1])
    from worlds import PixelsEnv

    def connect(self, address):
        raise AssertionError(f"it wants to connect to {address}")

    socket.socket.connect = socket.socket.connect_ex = connect

    def record(logger, **settings):
        recorder = VideoRecorder(logger, "video", skip=1, **settings)
        env = TransformedEnv(PixelsEnv(), recorder)
        for step in (7, 8):
            env.rollout(49)
            assert recorder.dump(step=step) is None
"""
HERE = Path(__file__).parent


@pytest.mark.long
def test_the_real_mlflow_has_every_frame_as_an_artifact(monkeypatch):
    require("mlflow", "torchcodec")
    try:
        import torchcodec  # noqa: F401
    except RuntimeError:
        missing("torchcodec lacks the system's FFmpeg")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    run_python(
        RECORD
        + """
    from torchrl.record.loggers.mlflow import MLFlowLogger
    record(MLFlowLogger("run", "sqlite:///mlflow.db", artifact_location="artifacts"), fps=25)
    import mlflow
    mlflow.end_run()
    """,
        HERE,
    )
    found = {path.name: numbers_in(path) for path in Path("artifacts").rglob("*.mp4")}
    assert found == {"video_step_0007.mp4": list(range(50)), "video_step_0008.mp4": list(range(50, 100))}


def test_the_real_trackio_has_every_frame_in_its_media(tmp_path, monkeypatch):
    require("trackio")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())  # Trackio calls it by name
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run_python(
        RECORD
        + """
    from torchrl.record.loggers.trackio import TrackioLogger
    logger = TrackioLogger("run", "project", embed=False, auto_log_gpu=False, auto_log_cpu=False)
    record(logger, fps=25)
    logger.experiment.finish()
    """,
        HERE,
    )
    found = {path.parent.name: numbers_in(path) for path in (tmp_path / "trackio").rglob("*.mp4")}
    assert found == {"7": list(range(50)), "8": list(range(50, 100))}

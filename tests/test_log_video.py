"""What `log_video` takes: what TorchRL's logger of the same name takes, and what it makes of it."""

import argparse
import importlib.machinery
import io
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import torchrl.record
from conftest import product, require
from numbered_frames import decode, numbered, numbers_in, rows
from tensordict import MemoryMappedTensor
from test_tensorboard import images, saved
from test_wandb import _offline as offline
from test_wandb import finish, make_logger
from test_wandb import rows as history

from vidrec import CSVLogger, FrameError, SettingError, TeeLogger, TensorboardLogger, VideoRecorder, WandbLogger
from vidrec.tools import verify

pytestmark = pytest.mark.filterwarnings("ignore:Failed to load image Python extension")

__all__ = ["offline"]

RUN = Path("csv_logs/run")


def video_of(*numbers, channels=3):
    """Return a video, uint8 [1, T, C, H, W]."""
    return torch.stack([numbered(number) for number in numbers]).permute(0, 3, 1, 2).unsqueeze(0)[:, :, :channels]


def of_dtype(dtype):
    """Return a video [2, 3, 1, 4, 6] of all values that a number of this dtype may have, as far as they go in."""
    values = torch.arange(144) - 72
    if dtype.is_complex or dtype.is_floating_point:
        values = values / 7
    return values.to(dtype).view(2, 3, 1, 4, 6)


# tensors on disk

DTYPES = ["uint8", "bool", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64"]


@pytest.mark.parametrize("dtype", [*DTYPES, "uint16", "float8_e4m3fn"])
@pytest.mark.parametrize("video_format", ["pt", "memmap"])
def test_a_tensor_on_disk_keeps_dtype_channels_videos_and_values(video_format, dtype):
    video = of_dtype(getattr(torch, dtype))
    ours = CSVLogger("run", video_format=video_format).log_video("video", video, step=0)
    torchrl.record.CSVLogger("theirs", video_format=video_format).log_video("video", video, step=0)
    theirs = Path("csv_logs/theirs/videos", ours.path.name)
    if video_format == "pt":
        (one, other) = (torch.load(path, weights_only=True) for path in (ours.path, theirs))
        assert (one.dtype, one.shape) == (other.dtype, other.shape) == (video.dtype, video.shape)
        assert one.view(torch.uint8).equal(other.view(torch.uint8))
    else:
        assert ours.path.read_bytes() == theirs.read_bytes()
        [row] = rows(RUN)
        shape = torch.Size(map(int, row["shape"].split("x")))
        again = MemoryMappedTensor.from_filename(ours.path, getattr(torch, row["dtype"]), shape)
        assert again.view(torch.uint8).equal(video.view(torch.uint8))
    assert (ours.dtype, ours.shape, ours.frames, ours.size) == (dtype, (2, 3, 1, 4, 6), 6, (4, 6))
    assert list(verify.verify(RUN.absolute())) == []
    assert (verify.info(ours.path, rows(RUN)[0])["frames"], rows(RUN)[0]["dtype"]) == (6, dtype)


@pytest.mark.parametrize(
    ("what", "shape"),
    [
        ("one frame of a batch", (1, 1, 3, 8, 8)),
        ("four channels", (1, 2, 4, 8, 8)),
        ("no frames", (1, 0, 3, 8, 8)),
        ("no videos", (0, 2, 3, 8, 8)),
        ("strides", (2, 3, 1, 8, 8)),
        ("a gradient", (1, 1, 1, 8, 8)),
    ],
)
@pytest.mark.parametrize("video_format", ["pt", "memmap"])
def test_a_tensor_on_disk_may_be_any_video(video_format, what, shape):
    video = torch.rand(shape)
    if what == "one frame of a batch":
        video = torch.rand(100, 1, 3, 8, 8)[7:8]
    if what == "strides":
        video = torch.rand(*reversed(shape)).permute(4, 3, 2, 1, 0)
    if what == "a gradient":
        video = video.requires_grad_()
    logged = CSVLogger("run", video_format=video_format).log_video("video", video, step=0)
    if video_format == "pt":
        assert torch.load(logged.path).equal(video)
    else:
        assert logged.path.read_bytes() == video.detach().numpy().tobytes()
    assert logged.path.stat().st_size < 4 * video.numel() + 2000  # and not all that it is a view of
    assert len(list(logged.iter_frames())) == logged.frames == shape[0] * shape[1]
    assert list(verify.verify(RUN.absolute())) == []
    assert video.is_contiguous() == (what != "strides")


@pytest.mark.parametrize("video_format", ["pt", "memmap"])
def test_a_tensor_on_disk_is_read_back_as_frames(video_format):
    logger = CSVLogger("run", video_format=video_format)
    videos = torch.cat([video_of(1, 2), video_of(3, 4)])
    for step, tensor in enumerate((videos, videos / 255, videos[:, :, :1], (videos / 255).half())):
        logged = logger.log_video("video", tensor, step=step)
        for frame, number in zip(logged.iter_frames(), (1, 2, 3, 4), strict=True):
            assert frame.equal(numbered(number))
    levels = logger.log_video("levels", videos * 1.0)
    with pytest.raises(FrameError, match=r"levels_0\.\w+ of shape .* has values from 0 to 255; expected floats in"):
        next(levels.iter_frames())


@pytest.mark.parametrize("video_format", ["pt", "memmap"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_verify_finds_a_damaged_tensor_of_any_dtype(video_format, damage):
    logged = CSVLogger("run", video_format=video_format).log_video("video", torch.rand(2, 3, 1, 64, 64), step=0)
    data = bytearray(logged.path.read_bytes())
    data[len(data) // 2] ^= 255
    logged.path.write_bytes(data[: -64 * 64] if damage == "cut" else data)
    found = [one.problem for one in verify.verify(RUN.absolute())]
    if (video_format, damage) == ("memmap", "changed"):
        assert found == []  # it has no checksum
    else:
        assert len(found) == (2 if video_format == "memmap" else 1)


def test_a_tensor_on_disk_that_cannot_be_written_leaves_nothing(monkeypatch):
    logger = CSVLogger("run", video_format="pt")

    def full(*_):
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space left"):
            logger.log_video("video", video_of(1))
    assert [*RUN.joinpath("videos").iterdir()] == []
    assert logger.log_video("video", video_of(1)).path.name == "video_0.pt"


def test_each_logger_of_a_tee_has_the_tensor_as_it_takes_it():
    video = torch.cat([video_of(1, 2), video_of(3, 4)])[:, :, :1] / 255
    both = TeeLogger(
        *(
            CSVLogger(name, video_format=kind)
            for name, kind in [("a", "pt"), ("b", "pt"), ("c", "mkv"), ("d", "memmap")]
        )
    )
    both.log_video("video", video, step=0)
    for name in "ab":
        assert torch.load(f"csv_logs/{name}/videos/video_0.pt").equal(video)
    assert Path("csv_logs/d/videos/video_0.memmap").read_bytes() == video.numpy().tobytes()
    assert numbers_in(Path("csv_logs/c/videos/video_0.mkv")) == [1, 2, 3, 4]
    both.log_video("video", np.asarray(video_of(5, 6)[0]), step=1)
    assert torch.load("csv_logs/a/videos/video_1.pt").equal(video_of(5, 6))
    assert numbers_in(Path("csv_logs/c/videos/video_1.mkv")) == [5, 6]


# in any form


class OfAnotherLibrary:
    """An array of another library, such as JAX's."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


FORMS = {
    "[T, C, H, W]": lambda video: video[0],
    "numpy": lambda video: video.numpy(),
    "numpy [T, C, H, W]": lambda video: video[0].numpy(),
    "backwards": lambda video: video.flip(1).numpy()[:, ::-1],
    "another library's": lambda video: OfAnotherLibrary(video.numpy()),
    "that must not be written": lambda video: np.broadcast_to(video.numpy(), video.shape),
    "RGBA": lambda video: torch.cat([video, torch.full_like(video[:, :, :1], 255)], 2),
    "one channel": lambda video: video[:, :, :1],
    "floats": lambda video: video / 255,
    "half floats, one channel, [T, C, H, W]": lambda video: (video[0, :, :1] / 255).half(),
    "int64": lambda video: video.long(),
    "with a gradient": lambda video: (video / 255).requires_grad_(),
    "memory-mapped": lambda video: MemoryMappedTensor.from_tensor(video),
}


@product(form=FORMS, kind=["csv", "tensorboard"])
def test_a_video_is_taken_in_any_form(form, kind):
    require("tensorboard")
    video = FORMS[form](video_of(3, 1, 4))
    if kind == "csv":
        path = CSVLogger("run").log_video("video", video).path
    else:
        TensorboardLogger("run").log_video("video", video)
        path = saved(images()["video"][0][1])
    assert numbers_in(path) == [3, 1, 4]


WANDB_FORMS = {
    **FORMS,
    "floats up to 255": lambda video: video.float(),
    "numpy floats up to 255, [T, C, H, W]": lambda video: video[0].double().numpy(),
}


def test_wandb_takes_a_video_in_any_form(offline):
    logger = make_logger()
    for form, make in WANDB_FORMS.items():
        assert numbers_in(logger.log_video("video", make(video_of(3, 1, 4))).path) == [3, 1, 4], form
    for bad, words in [
        (
            video_of(1) * 2.0,
            r"'video' of shape \(1, 1, 3, 48, 64\) .* has values from 0 to 510; expected floats in \[0, 1",
        ),
        (video_of(1) / 100 - 1, r"has values from -1 to 1.55; expected floats in \[0, 1\] or \[0, 255\]"),
        (video_of(1) * float("nan"), "has values from nan to nan"),
    ]:
        with pytest.raises(FrameError, match=words):
            logger.log_video("video", bad)


def test_wandb_takes_what_wandbs_own_class_takes(offline):
    first = CSVLogger("run").log_video("video", video_of(1, 2)).path
    gif = CSVLogger("run", video_format="gif").log_video("video", video_of(3)).path
    logger = make_logger()
    assert logger.log_video("eval/path", first, step=5) is None
    logger.log_video("str", str(gif), step=6, fps=3)
    logger.log_video("bytes", io.BytesIO(first.read_bytes()), step=7, format="mp4", commit=True)
    with pytest.raises(ValueError, match="accepts gif, mp4, webm, ogg formats"):
        logger.log_video("other", "video.mkv")
    with pytest.raises(ValueError, match="requires a `format`"):
        logger.log_video("other", io.BytesIO(b""))
    folder = Path(logger.experiment.dir)
    found = {name: (value, row) for row in history(finish(logger)) for name, value in row.items()}
    for name, source, step in [("eval/path", first, "eval/step"), ("str", gif, "step"), ("bytes", first, "step")]:
        media, row = found[name]
        assert (folder / media["path"]).read_bytes() == source.read_bytes()
        assert row[step] == {"eval/path": 5, "str": 6, "bytes": 7}[name]
    assert first.exists()
    assert gif.exists()


CHANNELS_LAST = r"; if its channels are last, give video\.permute"


@pytest.mark.parametrize(
    ("video", "words"),
    [
        (torch.zeros(2, 48, 64, 3), r"\(2, 48, 64, 3\) .* with C 1, 3 or 4" + CHANNELS_LAST + r"\(0, 3, 1, 2\)"),
        (np.zeros((1, 2, 48, 64, 4)), CHANNELS_LAST + r"\(0, 1, 4, 2, 3\)"),
        (torch.zeros(1, 2, 2, 48, 64), r"shape \(1, 2, 2, 48, 64\) and dtype torch.float32; expected .* C 1, 3 or 4$"),
        (torch.zeros(2, 48, 64), r"shape \(2, 48, 64\) .* Video must be at least \[T, C, H, W\]"),
        (torch.zeros(1, 1, 1, 3, 8, 8), r"shape \(1, 1, 1, 3, 8, 8\)"),
        (np.array([["a"]]), "'video' is a numpy array of dtype <U1"),
        (torch.zeros(1, 2, 3, 8, 8).to_sparse(), "'video' is a nested, sparse or meta tensor"),
        ([torch.zeros(3, 8, 8)], "'video' is a list; expected a tensor or numpy array"),
        (None, "'video' is a NoneType; expected"),
    ],
    ids=["channels last", "batched", "2 channels", "3-D", "6-D", "text", "sparse", "a list", "nothing"],
)
def test_what_is_no_video_says_what_it_is_and_what_to_do(video, words, offline):
    require("tensorboard")
    for logger in (
        CSVLogger("run"),
        CSVLogger("pt", video_format="pt"),
        CSVLogger("memmap", video_format="memmap"),
        TensorboardLogger("run"),
        make_logger(mode="disabled"),
        TeeLogger(CSVLogger("tee")),
    ):
        with pytest.raises(FrameError, match=words):
            logger.log_video("video", video)
    assert [path for path in Path().rglob("*video*") if path.is_file()] == []


@pytest.mark.parametrize("shape", [(1, 0, 3, 8, 8), (0, 2, 3, 8, 8), (0, 3, 8, 8)], ids=str)
def test_a_video_of_no_frames_is_refused_where_it_is_encoded(shape, offline):
    require("tensorboard")
    for logger in (
        CSVLogger("run"),
        TensorboardLogger("run"),
        make_logger(mode="disabled"),
        TeeLogger(CSVLogger("tee")),
    ):
        with pytest.raises(FrameError, match=r"the video 'video' of shape .* has no frames"):
            logger.log_video("video", torch.zeros(shape))
    assert [path for path in Path().rglob("*video*") if path.is_file()] == []


# the time of an event


def walltimes():
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator("tb_logs/run").Reload()
    return [image.wall_time for image in accumulator.Images("video")]


def test_walltime_is_the_time_of_the_event():
    require("tensorboard")
    logger = TensorboardLogger("run")
    before = time.time()
    logger.log_video("video", video_of(1), step=0)
    logger.log_video("video", video_of(2), step=1, walltime=1234.5)
    recorder = VideoRecorder(logger, "video", walltime=99)
    recorder._apply_transform(numbered(3))
    recorder.dump(step=2)
    now, *given = walltimes()
    assert given == [1234.5, 99]
    assert before <= now <= time.time()
    with pytest.raises(SettingError, match="walltime"):
        CSVLogger("run").log_video("video", video_of(1), walltime=1.0)


# a stub of wandb


class StubRun(argparse.Namespace):
    """What a run is for TorchRL's logger."""

    def __init__(self, **more):
        super().__init__(config={}, logged=[], dir=str(Path("wandb/files").absolute()), **more)

    def log(self, payload, **keywords):
        self.logged.append(payload)

    def define_metric(self, *args, **keywords):
        pass


def stub_of_a_spec():
    """A module such as torchrl asks for, if it is imported later."""
    module = types.ModuleType("wandb")
    module.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    return module


@pytest.mark.parametrize(
    "kind",
    [argparse.Namespace, lambda: types.ModuleType("wandb"), stub_of_a_spec],
    ids=["object", "module", "module with a spec"],
)
def test_a_stub_of_wandb_is_taken_for_wandb(kind, monkeypatch):
    stub, made = kind(), {}
    stub.init = lambda **settings: made.update(settings) or StubRun()
    stub.Video = lambda path, caption=None: ("video", path)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "wandb", stub)
        logger = WandbLogger("name", project="vidrec", log_dir="wandb_logs", entity="unit-test")
        assert logger.log_video("video", video_of(1), step=3) is None
    assert (made["name"], made["project"], made["entity"]) == ("name", "vidrec", "unit-test")
    [payload] = logger.experiment.logged
    assert payload["step"] == 3
    assert payload["video"][0] == "video"


def test_none_in_the_place_of_wandb_is_no_wandb(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "wandb", None)
        with pytest.raises(ImportError, match=r"pip install \"vidrec\[wandb\]\""):
            WandbLogger("name")


def test_what_is_recorded_into_tensors_on_disk_stays_uint8_of_three_channels():
    for video_format in ("pt", "memmap"):
        recorder = VideoRecorder(CSVLogger(video_format, video_format=video_format), "video")
        for number in (1, 2):
            recorder._apply_transform(numbered(number)[..., :1] / 255)
        video = recorder.dump()
        assert (video.dtype, video.shape) == ("uint8", (1, 2, 3, 48, 64))
        [row] = rows(f"csv_logs/{video_format}")
        assert (row["dtype"], row["shape"]) == ("uint8", "1x2x3x48x64")
        assert [frame.equal(numbered(n)) for frame, n in zip(video.iter_frames(), (1, 2), strict=True)] == [True, True]
    assert decode(Path("csv_logs/pt/videos/video_0.pt")).shape == (2, 48, 64, 3)

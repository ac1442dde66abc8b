"""The TensorBoard logger: what TensorBoard's own reader finds in the event file."""

import copy
import io
import multiprocessing
import pickle
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torchrl.record
from conftest import START_METHODS, product, require, since_torchrl
from numbered_frames import decode, numbered, numbers_in, read_number
from PIL import Image, ImageSequence
from processes import run_python, without
from test_real import psnr
from torchrl.envs import Compose, GymEnv, TransformedEnv
from worlds import PixelsEnv

from vidrec import (
    CSVLogger,
    ExtraError,
    FrameError,
    SettingError,
    TagError,
    TensorboardLogger,
    VideoRecorder,
    VidrecWarning,
)

pytestmark = pytest.mark.filterwarnings("ignore:Failed to load image Python extension")

RUN = Path("tb_logs/run")


@pytest.fixture(autouse=True)
def _installed():
    require("tensorboard")


def record(recorder, numbers, size=(48, 64)):
    for number in numbers:
        recorder._apply_transform(numbered(number, size))


def images(folder=RUN):
    """Return what the event files of a folder hold, tag to (step, bytes of the frame), as TensorBoard reads it."""
    from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={IMAGES: 0}).Reload()
    return {
        tag: [(image.step, image.encoded_image_string) for image in accumulator.Images(tag)]
        for tag in accumulator.Tags()[IMAGES]
    }


def saved(data, name="read_back"):
    """Write the bytes of a frame to a file of their kind."""
    kind = {b"GIF8": "gif", b"RIFF": "webp", b"\x89PNG": "apng"}[data[:4]]
    path = Path(f"{name}.{kind}")
    path.write_bytes(data)
    return path


def only_image(folder=RUN):
    [[(_, data)]] = images(folder).values()
    return saved(data)


def strictly(path):
    """Return each frame and how long it lasts, in milliseconds, as Pillow has them, which refuses what is damaged."""
    with Image.open(path) as image:
        return [(np.array(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]


def chunks(data):
    """Return the chunks of a PNG: kind and contents."""
    stream = io.BytesIO(data)
    assert stream.read(8) == b"\x89PNG\r\n\x1a\n"
    found = []
    while head := stream.read(8):
        length, kind = struct.unpack(">I4s", head)
        contents, (crc,) = stream.read(length), struct.unpack(">I", stream.read(4))
        assert zlib.crc32(kind + contents) == crc
        found.append((kind.decode(), contents))
    assert found[-1] == ("IEND", b"")
    return found


def left():
    """Return the files beside the event file."""
    return sorted(path.name for path in (RUN / "videos").rglob("*") if path.is_file())


@product(video_format=["apng", "gif", "webp"], fps=[30, 50, 60])
def test_every_frame_is_in_the_event_file_once_and_in_order(video_format, fps):
    frames = {"apng": 500, "gif": 120, "webp": 120}[video_format]
    recorder = VideoRecorder(TensorboardLogger("run", video_format=video_format), "video", skip=1, fps=fps)
    record(recorder, range(frames))
    assert recorder.dump() is None
    path = only_image()
    assert path.suffix == f".{video_format}"
    assert numbers_in(path) == list(range(frames))
    assert [read_number(frame) for frame, _ in strictly(path)] == list(range(frames))
    assert left() == []


@pytest.mark.parametrize("fps", [4, 30, "30000/1001", 50, 60], ids=str)
def test_a_frame_of_an_apng_lasts_exactly_as_long_as_asked(fps):
    recorder = VideoRecorder(TensorboardLogger("run", video_fps=fps), "video", skip=1)
    record(recorder, range(20))
    recorder.dump()
    data = only_image().read_bytes()
    # https://www.w3.org/TR/png-3/#fcTL-chunk
    delays = [Fraction(*struct.unpack(">HH", contents[20:24])) for kind, contents in chunks(data) if kind == "fcTL"]
    assert delays == [1 / Fraction(fps)] * 20
    assert ("acTL", struct.pack(">II", 20, 0)) in chunks(data)  # 20 frames, for ever


@pytest.mark.parametrize(
    ("video_format", "ticks", "fps"), [("gif", 100, 30), ("gif", 100, 24), ("gif", 100, 12), ("webp", 1000, 30)]
)
def test_a_gif_and_a_webp_keep_the_time_to_half_a_tick_of_theirs(video_format, ticks, fps):
    recorder = VideoRecorder(TensorboardLogger("run", video_format=video_format), "video", skip=1, fps=fps)
    record(recorder, range(1, 301))
    recorder.dump()
    durations = [round(duration * ticks / 1000) for _, duration in strictly(only_image())]
    assert len(durations) == 300
    begins = np.cumsum([0, *durations[:-1]]) / ticks
    assert np.abs(begins - np.arange(300) / fps).max() <= 0.5 / ticks + 1e-9
    assert set(durations) <= {ticks // fps, ticks // fps + 1}


def test_mspacman_is_seen_in_its_colours():
    require("ale_py")
    recorders = [
        VideoRecorder(TensorboardLogger("run", video_format=video_format), video_format, skip=1)
        for video_format in ("apng", "gif", "webp")
    ]
    env = TransformedEnv(GymEnv("ALE/MsPacman-v5", from_pixels=True), Compose(*recorders))
    env.set_seed(0)
    rollout = env.rollout(100)
    env.transform.dump()
    env.close()
    observed = torch.cat([rollout["pixels"][:1], rollout["next", "pixels"]]).numpy()
    videos = {tag: saved(data) for tag, [(_, data)] in images().items()}
    assert (decode(videos["apng"]) == observed).all()
    assert (decode(videos["webp"]) == observed).all()
    assert all((frame == frame).all() for (frame, _), frame in zip(strictly(videos["apng"]), observed, strict=True))
    decoded = decode(videos["gif"])
    assert decoded.shape == observed.shape
    with np.errstate(divide="ignore"):  # equal: infinite
        assert all(psnr(one, other) >= 40 for one, other in zip(observed, decoded, strict=True))


def test_the_videos_of_a_tag_stand_at_their_steps():
    logger = TensorboardLogger("run")
    recorder, other = (VideoRecorder(logger, tag, skip=1) for tag in ("eval/left/video", "train"))
    for number in range(3):
        record(recorder, [number, number + 1])
        recorder.dump()
    for step in (1000, 2**40):
        record(other, [step % 97])
        other.dump(step=step)
    found = images()
    assert sorted(found) == ["eval/left/video", "train"]
    assert [(step, numbers_in(saved(data))) for step, data in found["eval/left/video"]] == [
        (0, [0, 1]),
        (1, [1, 2]),
        (2, [2, 3]),
    ]
    assert [(step, numbers_in(saved(data))) for step, data in found["train"]] == [
        (1000, [1000 % 97]),
        (2**40, [2**40 % 97]),
    ]
    assert left() == []


@since_torchrl("0.14")
def test_steps_count_up_for_each_name_when_none_is_given_and_are_restored():
    logger = TensorboardLogger("run")
    tensor = numbered(7).permute(2, 0, 1)[None, None]
    for name in ("a", "a", "b"):
        assert logger.log_video(name, tensor) is None
    again = TensorboardLogger("run")
    again.load_state_dict(logger.state_dict())
    again.log_video("a", tensor)
    assert {tag: [step for step, _ in found] for tag, found in images().items()} == {"a": [0, 1, 2], "b": [0]}


@pytest.mark.parametrize("video_format", ["apng", "gif", "webp"])
def test_the_summary_is_an_image_of_the_size_of_the_video(video_format):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader, LegacyEventFileLoader

    recorder = VideoRecorder(TensorboardLogger("run", video_format=video_format), "video", skip=1)
    record(recorder, range(5), size=(47, 63))
    recorder.dump(step=9)
    [file] = RUN.glob("events.*")
    [event] = [event for event in LegacyEventFileLoader(str(file)).Load() if event.summary.value]
    [value] = event.summary.value
    assert (event.step, value.tag) == (9, "video")
    image = value.image
    assert (image.height, image.width, image.colorspace) == (47, 63, 3)  # 3 is RGB
    with Image.open(io.BytesIO(image.encoded_image_string)) as frame:
        assert (frame.size, frame.n_frames) == ((63, 47), 5)
    # the same as the server of the panel has it
    [event] = [event for event in EventFileLoader(str(file)).Load() if event.summary.value]
    [value] = event.summary.value
    assert value.metadata.plugin_data.plugin_name == "images"
    assert list(value.tensor.string_val) == [b"63", b"47", image.encoded_image_string]


def test_a_video_beyond_the_bound_is_kept_beside_the_event_file():
    logger = TensorboardLogger("run", max_video_bytes=1000)
    recorder = VideoRecorder(logger, "eval/video", skip=1)
    for path in ("video_7.apng", "video_7_1.apng"):
        record(recorder, range(50))
        with pytest.warns(VidrecWarning, match=rf"'eval/video' has .* MB.*max_video_bytes=1000.*{path}"):
            video = recorder.dump(step=7)
        assert video.path == (RUN / "videos/eval" / path).absolute()
        assert video.path.stat().st_size > 1000
        assert numbers_in(video.path) == list(range(50))
        assert video.frames == len(strictly(video.path)) == 50
    assert images() == {}
    assert left() == ["video_7.apng", "video_7_1.apng"]
    record(recorder, [1])
    logger.max_video_bytes = 10**6
    assert recorder.dump() is None
    assert [step for step, _ in images()["eval/video"]] == [2]


def test_a_video_as_large_as_the_bound_is_in_the_event_file():
    tensor = torch.stack([numbered(number) for number in range(9)]).permute(0, 3, 1, 2)[None]
    logger = TensorboardLogger("run")
    logger.log_video("video", tensor)
    logger.max_video_bytes = len(images()["video"][0][1])
    logger.log_video("video", tensor)
    assert len(images()["video"]) == 2
    logger.max_video_bytes -= 1
    with pytest.warns(VidrecWarning, match="too many for TensorBoard"):
        logger.log_video("video", tensor)
    assert len(images()["video"]) == 2


@since_torchrl("0.12")
def test_scalars_hparams_histograms_and_videos_share_a_run():
    from tensorboard.backend.event_processing.event_accumulator import HISTOGRAMS, EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    logger = TensorboardLogger("run")
    recorder = VideoRecorder(logger, "eval/video", skip=1)
    for step in (100, 200, 300):
        logger.log_scalar("loss/train", step / 1000, step=step)
        record(recorder, [step, step + 1])
        recorder.dump(step=step)
        logger.log_histogram("weights", torch.linspace(0, step, 11), step=step, bins="auto")
    logger.log_metrics({"reward": torch.tensor(2.5)}, step=400)
    logger.log_hparams({"lr": 1e-3, "game": "pong"})
    logger.experiment.flush()
    run = EventAccumulator(str(RUN), size_guidance={HISTOGRAMS: 0}).Reload()
    assert [(event.step, event.value) for event in run.Scalars("loss/train")] == [
        (step, pytest.approx(step / 1000)) for step in (100, 200, 300)
    ]
    assert [(event.step, event.value) for event in run.Scalars("reward")] == [(400, 2.5)]
    histograms = run.Histograms("weights")
    assert [(event.step, event.histogram_value.num, event.histogram_value.max) for event in histograms] == [
        (step, 11, step) for step in (100, 200, 300)
    ]
    videos = images()["eval/video"]
    assert [(step, numbers_in(saved(data))) for step, data in videos] == [
        (step, [step, step + 1]) for step in (100, 200, 300)
    ]
    [file] = [path for path in RUN.rglob("events.*") if path.parent != RUN]
    content = EventAccumulator(str(file.parent)).Reload().PluginTagToContent("hparams")["_hparams_/session_start_info"]
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    assert (hparams["lr"].number_value, hparams["game"].string_value) == (1e-3, "pong")


@pytest.mark.parametrize("copied", [lambda logger: pickle.loads(pickle.dumps(logger)), copy.deepcopy])
def test_a_copy_logs_into_an_event_file_of_its_own(copied):
    logger = TensorboardLogger("run", video_fps=50, video_format="gif", max_video_bytes=10**6)
    record(recorder := VideoRecorder(logger, "video", skip=1), [1, 2])
    recorder.dump(step=1)
    other = copied(logger)
    assert (other.video_fps, other.video_format, other.max_video_bytes) == (50, "gif", 10**6)
    record(recorder := VideoRecorder(other, "video", skip=1), [3, 4])
    recorder.dump(step=2)
    logger.log_scalar("loss", 1.0, step=3)
    logger.experiment.flush()
    assert len(list(RUN.glob("events.*"))) == 2
    logged = sorted(images()["video"])  # of files of the same second, TensorBoard may read either first
    assert [(step, numbers_in(saved(data))) for step, data in logged] == [(1, [1, 2]), (2, [3, 4])]


def log_video(logger, number, step):
    recorder = VideoRecorder(logger, "video", skip=1)
    record(recorder, [number] * 3)
    recorder.dump(step=step)


def log_in_a_child(logger):
    log_video(logger, 100, 1)
    logger.log_scalar("loss", 1.0, step=1)
    logger.experiment.close()


@pytest.mark.parametrize("method", START_METHODS)
def test_a_child_process_logs_into_an_event_file_of_its_own_and_does_not_hang(method):
    logger = TensorboardLogger("run")
    log_video(logger, 50, 0)
    process = multiprocessing.get_context(method).Process(target=log_in_a_child, args=(logger,))
    process.start()
    process.join(60)
    if process.exitcode is None:
        process.kill()
        process.join()
    assert process.exitcode == 0
    log_video(logger, 150, 2)
    logger.experiment.close()
    files = list(RUN.glob("events.*"))
    assert len(files) == 2
    shown = {tag: [(step, numbers_in(saved(data))) for step, data in videos] for tag, videos in images().items()}
    assert shown.pop("video") == [(0, [50] * 3), (2, [150] * 3)]
    [(name, videos)] = shown.items()
    assert name.startswith("video_worker")
    assert videos == [(1, [100] * 3)]
    assert left() == []


def test_without_tensorboard_the_error_has_the_command():
    script = """
from vidrec import ExtraError, TensorboardLogger
try:
    TensorboardLogger("run")
except ExtraError as error:
    print(error)
"""
    assert run_python(without("tensorboard") + script).stdout == (
        'TensorboardLogger needs tensorboard, which is not installed: pip install "vidrec[tensorboard]"\n'
    )
    assert issubclass(ExtraError, ImportError)
    assert not RUN.exists()


def test_a_video_of_another_format_is_refused_and_stays():
    video = CSVLogger("csv").log_video("video", numbered(5).permute(2, 0, 1)[None, None], step=0)
    with pytest.raises(FrameError, match=r"TensorBoard does not show .*video_0\.mp4; expected .*apng.*gif"):
        TensorboardLogger("run").log_video("video", video)
    assert numbers_in(video.path) == [5]
    assert images() == {}


def test_what_cannot_be_is_refused_when_it_is_asked_for():
    with pytest.raises(SettingError, match="TensorBoard does not show video_format='mp4'"):
        TensorboardLogger("run", video_format="mp4")
    with pytest.raises(SettingError, match="walltime='now' must be a number of seconds since 1970, or None"):
        VideoRecorder(TensorboardLogger("run"), "video", walltime="now")
    with pytest.raises(SettingError, match="fps='fast'"):
        TensorboardLogger("run", video_fps="fast")
    with pytest.raises(SettingError, match="beyond GIF"):
        VideoRecorder(TensorboardLogger("run", video_format="gif"), "video", fps=101)
    with pytest.raises(SettingError, match="unknown encoder setting 'colour'"):
        VideoRecorder(TensorboardLogger("run"), "video", colour=1)
    for call in (
        lambda: VideoRecorder(TensorboardLogger("run"), "../video"),
        lambda: TensorboardLogger("run").log_video("/video", torch.zeros(1, 1, 3, 8, 8)),
    ):
        with pytest.raises(TagError):
            call()


def test_what_nobody_dumps_is_in_the_event_file_at_the_end():
    run_python(
        """
        import torch
        from vidrec import TensorboardLogger, VideoRecorder
        recorder = VideoRecorder(TensorboardLogger("run"), "video", skip=1)
        for shade in range(0, 250, 10):
            recorder._apply_transform(torch.full((48, 64, 3), shade, dtype=torch.uint8))
        """
    )
    assert decode(only_image())[:, 24, 32, 0].tolist() == list(range(0, 250, 10))
    assert left() == []


@product(video_format=["apng", "gif", "webp"], parts=[(5, 1), (1, 1), (2, 3), (1, 4, 2)])
def test_frames_that_come_after_the_clip_was_looked_at_are_in_the_same_video(parts, video_format):
    recorder = VideoRecorder(TensorboardLogger("run", video_format=video_format), "video", skip=1)
    numbers = iter(range(100))
    for part in parts:
        record(recorder, [next(numbers) for _ in range(part)])
        assert len(list(recorder.obs)) == recorder._recording.shown.frames
    recorder.dump()
    path = only_image()
    assert numbers_in(path) == list(range(sum(parts)))
    assert [read_number(frame) for frame, _ in strictly(path)] == list(range(sum(parts)))
    if video_format == "apng":
        controls = [contents for kind, contents in chunks(path.read_bytes()) if kind in ("fcTL", "fdAT")]
        assert [int.from_bytes(contents[:4], "big") for contents in controls] == list(range(len(controls)))
    assert left() == []


def test_the_working_directory_may_change_while_a_clip_is_open(tmp_path, monkeypatch):
    recorder = VideoRecorder(TensorboardLogger("run"), "video", skip=1)
    record(recorder, [1])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    record(recorder, [2])
    recorder.dump()
    assert list(Path().iterdir()) == []
    monkeypatch.chdir(tmp_path)
    assert numbers_in(only_image()) == [1, 2]
    assert left() == []


def test_the_folder_may_be_given_as_a_path(tmp_path):
    logger = TensorboardLogger("run", log_dir=tmp_path / "logs")
    assert isinstance(logger, torchrl.record.TensorboardLogger)
    logger.log_video("video", numbered(3).permute(2, 0, 1)[None, None])
    assert numbers_in(only_image("logs/run")) == [3]


def test_a_video_that_could_not_be_written_is_kept_until_it_can(monkeypatch):
    logger = TensorboardLogger("run")
    recorder = VideoRecorder(logger, "video", skip=1)
    record(recorder, range(5))

    def full(*args):
        raise OSError("no space left on the moon")

    with monkeypatch.context() as patch:
        patch.setattr(logger.experiment._get_file_writer(), "add_summary", full)
        with pytest.raises(OSError, match="moon") as caught:
            recorder.dump(step=3)
    [note] = caught.value.__notes__
    [kept] = (RUN / "videos").glob("video.part-*.apng")
    assert str(kept.absolute()) in note
    assert numbers_in(kept) == list(range(5))
    record(recorder, [5])
    recorder.dump(step=4)
    assert [(step, numbers_in(saved(data))) for step, data in images()["video"]] == [(3, list(range(5))), (4, [5])]
    assert left() == []


def test_torchrls_own_recorder_writes_through_our_logger():
    recorder = torchrl.record.VideoRecorder(TensorboardLogger("run"), "video", fps=25)
    env = TransformedEnv(PixelsEnv(), recorder)
    env.rollout(9)
    recorder.dump()
    assert numbers_in(only_image()) == [1, 3, 5, 7, 9]
    assert {duration for _, duration in strictly(only_image())} == {40}


def test_after_a_write_error_the_next_dump_begins_another_event_file(monkeypatch):
    logger = TensorboardLogger("run")
    recorder = VideoRecorder(logger, "video", skip=1)
    recorder._apply_transform(numbered(1))
    writer = logger.experiment._get_file_writer()

    def full():
        raise OSError("no space left on the moon")

    monkeypatch.setattr(writer, "flush", full)
    with pytest.raises(OSError, match="moon"):
        recorder.dump(step=3)
    recorder.dump(step=3)
    assert logger.experiment._get_file_writer() is not writer
    assert len(list(Path("tb_logs/run").glob("events.*"))) == 2
    assert not list(Path("tb_logs/run").rglob("*.part-*"))


@since_torchrl("0.14")
def test_a_tensor_that_could_not_be_logged_leaves_no_file_and_no_step(monkeypatch):
    logger = TensorboardLogger("run")
    with monkeypatch.context() as patch:
        patch.setattr(logger, "_write", lambda *args: (_ for _ in ()).throw(OSError("no space left on the moon")))
        with pytest.raises(OSError, match="moon"):
            logger.log_video("video", numbered(1).permute(2, 0, 1)[None, None])
    assert not [path for path in Path("tb_logs/run/videos").rglob("*") if path.is_file()]
    assert logger.state_dict()["local"]["next_steps"] == {}


def test_a_file_that_cannot_be_deleted_after_it_was_logged_is_a_warning(monkeypatch):
    logger = TensorboardLogger("run")
    recorder = VideoRecorder(logger, "video", skip=1)
    recorder._apply_transform(numbered(1))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *args, **kwargs: (_ for _ in ()).throw(PermissionError("no")))
        with pytest.warns(VidrecWarning, match="was published, but could not be deleted"):
            recorder.dump(step=3)
    assert recorder.dump() is None

"""The W&B logger: what is in the folder of an offline run, and in its record. No network is touched."""

import hashlib
import json
import socket
import struct
import time
import zlib
from pathlib import Path

import pytest
import torch
import torchrl.record
from conftest import require, since_torchrl, some
from numbered_frames import decode, numbered, numbers_in, probe
from processes import run_python, without
from torchrl.envs import Compose, TransformedEnv
from worlds import PixelsEnv, random_frames

from vidrec import CSVLogger, ExtraError, FrameError, SettingError, TagError, VideoRecorder, WandbLogger

# moviepy's, in TorchRL's logger
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:moviepy")

NOWHERE = "http://127.0.0.1:9"
"""A server that no run may need: nothing listens there."""


@pytest.fixture(autouse=True)
def _offline(tmp_path, monkeypatch):
    require("wandb")
    for name in ("DIR", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))
    for name, value in [("MODE", "offline"), ("SILENT", "true"), ("CONSOLE", "off"), ("ERROR_REPORTING", "false")]:
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("WANDB_BASE_URL", NOWHERE)

    def connect(self, address, really=socket.socket.connect):
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost"), address
        return really(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    yield
    import wandb

    if wandb.run is not None:
        wandb.finish()
    wandb.teardown()  # no service is left


def make_logger(**more):
    return WandbLogger("run", offline=True, save_dir="runs", project="vidrec", log_env_packages=False, **more)


def record(recorder, numbers, size=(48, 64)):
    for number in numbers:
        recorder._apply_transform(numbered(number, size))


def folder_of(logger):
    return Path(logger.experiment.dir).parent


def left(logger):
    """Return the files in the folder where videos grow."""
    return [path for path in (folder_of(logger) / "videos").rglob("*") if path.is_file()]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def log_blocks(data):
    """Return the entries of a LevelDB log, as W&B writes it, with a head of its own.

    https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    assert data[:7] == b":W&B" + struct.pack("<HB", 0xBEE1, 0)
    place, entry = 7, b""
    while place < len(data):
        if 32768 - place % 32768 < 7:  # no room for another head: the block is filled up
            place += 32768 - place % 32768
            continue
        crc, length, kind = struct.unpack("<IHB", data[place : place + 7])
        part = data[place + 7 : place + 7 + length]
        assert zlib.crc32(bytes([kind]) + part) == crc
        place, entry = place + 7 + length, entry + part
        if kind in (1, 4):  # FULL, LAST; others are FIRST, MIDDLE
            yield entry
            entry = b""


def finish(logger):
    """Finish the run and return its record."""
    import wandb

    folder = folder_of(logger)
    logger.experiment.finish()
    wandb.teardown()  # `finish` does not wait until the record is on disk; the end of the service that writes it does
    return read(folder)


def read(folder):
    """Return the record of a run, as W&B's own class reads each entry."""
    from wandb.proto.wandb_internal_pb2 import Record

    [file] = folder.glob("run-*.wandb")
    records = [Record.FromString(entry) for entry in log_blocks(file.read_bytes())]
    assert [record for record in records if record.HasField("exit")], "the run has no end"
    return records


def rows(records):
    """Return the history of a run, a dict for each row; a video is a dict in there."""
    found = []
    for record in records:
        if record.HasField("history"):
            found.append({})
            for item in record.history.item:
                *outer, last = item.nested_key or [item.key]
                entry = found[-1]
                for key in outer:
                    entry = entry.setdefault(key, {})
                entry[last] = json.loads(item.value_json)
    return found


def step_key(name):
    """Return where a row has the step of a name; before 0.12, TorchRL logs at the run's own."""
    return name if hasattr(torchrl.record.WandbLogger, "_log_payload") else "_step"


def files(records):
    return [file.path for record in records for file in record.files.files]


def config(records):
    return {item.key: json.loads(item.value_json) for record in records for item in record.config.update}


@pytest.fixture
def hashed(monkeypatch):
    """Let a logger note the hash of each file that its recorder hands over."""

    def hashed(logger):
        digests, log_video = [], logger.log_video

        def noting(name, video, *args, **settings):
            digests.append(sha256(video.path))
            return log_video(name, video, *args, **settings)

        monkeypatch.setattr(logger, "log_video", noting)
        return digests

    return hashed


@pytest.mark.parametrize("fps", some([30, 50, 60], 60))
def test_the_recorded_file_is_in_the_run_byte_for_byte(fps, hashed):
    logger = make_logger()
    digests = hashed(logger)
    recorder = VideoRecorder(logger, "eval/video", skip=1, fps=fps)
    record(recorder, range(500))
    video = recorder.dump(step=7)
    assert left(logger) == []
    records = finish(logger)
    [row] = rows(records)
    media = row["eval/video"]
    path = folder_of(logger) / "files" / media["path"]
    assert media["_type"] == "video-file"
    assert media["sha256"] == sha256(path) == digests[0]
    assert media["size"] == path.stat().st_size
    assert media["path"].startswith("media/videos/eval/video_")
    assert row[step_key("eval/step")] == 7
    assert media["path"] in files(records)
    assert (video.path, video.frames, video.fps) == (path, 500, fps)
    assert numbers_in(path) == list(range(500))
    assert f" {fps} fps" in probe(path)


@pytest.mark.parametrize(("video_format", "codec"), [("mp4", "h264"), ("webm", "vp9"), ("gif", "gif")])
def test_the_format_can_be_chosen(video_format, codec, hashed):
    logger = make_logger()
    digests = hashed(logger)
    recorder = VideoRecorder(logger, "video", skip=1, fps=10, format=video_format)
    record(recorder, range(50))
    recorder.dump()
    [row] = rows(finish(logger))
    path = folder_of(logger) / "files" / row["video"]["path"]
    assert path.suffix == f".{video_format}"
    assert row["video"]["sha256"] == sha256(path) == digests[0]
    assert codec in probe(path)
    assert numbers_in(path) == list(range(50))


def test_the_frame_rate_is_that_of_the_recorder_or_else_of_the_logger():
    logger = make_logger(video_fps=12)
    videos = []
    for fps in (None, 25, "30000/1001"):
        record(recorder := VideoRecorder(logger, "video", skip=1, fps=fps), range(5))
        videos.append(recorder.dump().path)
    assert [probe(path).split(" fps")[0].split()[-1] for path in videos] == ["12", "25", "29.97"]


@since_torchrl("0.12")
def test_the_videos_of_a_name_stand_at_their_steps():
    logger = make_logger()
    recorder, other = (VideoRecorder(logger, tag, skip=1) for tag in ("eval/video", "train/video"))
    for number in range(3):
        record(recorder, [number])
        recorder.dump()
    record(other, [9])
    other.dump(step=1000)
    logger.log_video("eval/video", numbered(5).permute(2, 0, 1)[None, None])
    found = rows(finish(logger))
    assert [row["eval/step"] for row in found if "eval/video" in row] == [0, 1, 2, 3]
    assert [row["train/step"] for row in found if "train/video" in row] == [1000]
    paths = [folder_of(logger) / "files" / row["eval/video"]["path"] for row in found if "eval/video" in row]
    assert [numbers_in(path) for path in paths] == [[0], [1], [2], [5]]


@since_torchrl("0.12")
def test_commit_and_override_global_step_are_for_the_run():
    logger = make_logger()
    recorder = VideoRecorder(logger, "video", skip=1, commit=False)
    record(recorder, [1, 2])
    recorder.dump(step=3)
    logger.log_scalar("loss", 0.5, step=3)
    recorder = VideoRecorder(logger, "other", skip=1, override_global_step=True)
    record(recorder, [3, 4])
    recorder.dump(step=70)
    first, second = rows(finish(logger))
    assert (first["video"]["_type"], first["loss"], first["step"]) == ("video-file", 0.5, 3)
    assert (second["other"]["_type"], second["_step"]) == ("video-file", 70)
    assert "step" not in second


def test_what_cannot_be_is_refused_when_the_recorder_is_made():
    logger = make_logger()
    for settings, words in [
        ({"colour": 1}, "unknown encoder setting 'colour'"),
        ({"format": "mkv"}, "W&B does not show format='mkv'"),
        ({"fps": "fast"}, "fps='fast'"),
        ({"format": "gif", "fps": 101}, "beyond GIF"),
    ]:
        with pytest.raises(SettingError, match=words):
            VideoRecorder(logger, "video", **settings)
    with pytest.raises(TagError):
        VideoRecorder(logger, "../video")
    with pytest.raises(SettingError, match="fps='fast'"):
        make_logger(video_fps="fast")


def test_a_file_takes_no_setting_of_an_encoder():
    video = CSVLogger("csv").log_video("video", numbered(5).permute(2, 0, 1)[None, None], step=0)
    with pytest.raises(SettingError, match=r"a file is logged as it is, without \['colour', 'crf'\]"):
        make_logger().log_video("video", video.path, crf=3, colour=1)


def test_a_video_of_another_format_is_refused_and_stays():
    video = CSVLogger("csv", video_format="mkv").log_video("video", numbered(5).permute(2, 0, 1)[None, None], step=0)
    logger = make_logger()
    with pytest.raises(FrameError, match=r"W&B does not show .*video_0\.mkv"):
        logger.log_video("video", video)
    assert numbers_in(video.path) == [5]


@pytest.mark.parametrize("symlink", some([True, False], True))
def test_the_media_file_is_a_real_one_also_where_the_run_links_to_media(symlink, hashed):
    import wandb

    if "allow_media_symlink" not in wandb.Settings.model_fields:
        pytest.skip(f"wandb {wandb.__version__} does not link to media")
    logger = make_logger(settings=wandb.Settings(allow_media_symlink=True, symlink=symlink))
    digests = hashed(logger)
    recorder = VideoRecorder(logger, "video", skip=1)
    record(recorder, range(5))
    video = recorder.dump()
    assert not video.path.is_symlink()
    assert left(logger) == []
    [row] = rows(finish(logger))
    path = folder_of(logger) / "files" / row["video"]["path"]
    assert path == video.path
    assert row["video"]["sha256"] == sha256(path) == digests[0]
    assert numbers_in(path) == list(range(5))


def test_the_working_directory_may_change_while_a_clip_is_open(tmp_path, monkeypatch):
    logger = make_logger()
    recorder = VideoRecorder(logger, "video", skip=1)
    record(recorder, [1])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    record(recorder, [2])
    video = recorder.dump()
    finish(logger)
    assert list(Path().iterdir()) == []
    assert video.path.is_relative_to(tmp_path / "runs")
    assert numbers_in(video.path) == [1, 2]
    assert left(logger) == []


def test_without_wandb_the_error_has_the_command():
    script = """
from vidrec import ExtraError, WandbLogger
try:
    WandbLogger("run", offline=True)
except ExtraError as error:
    print(error)
"""
    assert run_python(without("wandb") + script).stdout == (
        'WandbLogger needs wandb, which is not installed: pip install "vidrec[wandb]"\n'
    )
    assert issubclass(ExtraError, ImportError)


@pytest.mark.parametrize("logger_is_made", some(["first", "last"], "last"))
def test_what_nobody_dumps_is_in_the_run_at_the_end(logger_is_made, monkeypatch):
    # wandb finishes its run at the end of the interpreter, too; with a service of its own, as any run has
    monkeypatch.delenv("WANDB_SERVICE", raising=False)
    run_python(
        """
        import sys
        import torch
        from vidrec import VideoRecorder, WandbLogger

        if sys.argv[1] == "last":  # what is registered first at exit runs last
            from vidrec import CSVLogger
            recorder = VideoRecorder(CSVLogger("csv"), "video", skip=1)
            recorder._apply_transform(torch.zeros(48, 64, 3, dtype=torch.uint8))
        logger = WandbLogger("run", offline=True, save_dir="runs", project="vidrec", log_env_packages=False)
        recorder = VideoRecorder(logger, "video", skip=1)
        for shade in range(0, 250, 10):
            recorder._apply_transform(torch.full((48, 64, 3), shade, dtype=torch.uint8))
        logger.log_scalar("loss", 1.0, step=0)
        """,
        logger_is_made,
    )
    [folder] = Path("runs/wandb").glob("offline-run-*")
    records = read(folder)
    [row] = [row for row in rows(records) if "video" in row]
    path = folder / "files" / row["video"]["path"]
    assert row["video"]["sha256"] == sha256(path)
    assert abs(decode(path)[:, 24, 32, 0].astype(int) - range(0, 250, 10)).max() <= 2
    assert [path for path in (folder / "videos").rglob("*") if path.is_file()] == []


def test_a_run_that_was_finished_before_loses_no_video():
    import wandb

    logger = make_logger()
    recorder = VideoRecorder(logger, "video", skip=1)
    record(recorder, range(5))
    finish(logger)
    with pytest.raises(wandb.Error, match="finished") as caught:
        recorder.dump(step=3)
    [note] = caught.value.__notes__
    [kept] = [path for path in left(logger) if path.suffix != ".log"]
    assert str(kept) in note
    assert numbers_in(kept) == list(range(5))
    again = make_logger()
    recorder.logger = again
    video = recorder.dump(step=3)
    [row] = rows(finish(again))
    assert (row[step_key("step")], video.path) == (3, folder_of(again) / "files" / row["video"]["path"])
    assert row["video"]["sha256"] == sha256(video.path)
    assert numbers_in(video.path) == list(range(5))
    assert left(logger) == left(again) == []


@since_torchrl("0.14")
def test_scalars_hparams_histograms_and_videos_share_a_run():
    logger = make_logger()
    assert isinstance(logger, torchrl.record.loggers.wandb.WandbLogger)
    recorder = VideoRecorder(logger, "eval/video", skip=1)
    for step in (100, 200, 300):
        logger.log_scalar("loss/train", step / 1000, step=step)
        record(recorder, [step, step + 1])
        recorder.dump(step=step)
        logger.log_histogram("weights", torch.linspace(0, step, 11), step=step, bins=5)
    logger.log_metrics({"reward/mean": torch.tensor(2.5)}, step=400)
    logger.log_hparams({"lr": 1e-3, "game": "pong"})
    records = finish(logger)
    found = rows(records)
    steps = (100, 200, 300)
    assert [(row["loss/step"], row["loss/train"]) for row in found if "loss/train" in row] == [
        (step, step / 1000) for step in steps
    ]
    assert [(row["eval/step"], row["eval/video"]["_type"]) for row in found if "eval/video" in row] == [
        (step, "video-file") for step in steps
    ]
    histograms = [(row["step"], row["weights"]) for row in found if "weights" in row]
    assert [(step, sum(histogram["values"]), histogram["bins"][-1]) for step, histogram in histograms] == [
        (step, 11, step) for step in steps
    ]
    assert [(row["reward/step"], row["reward/mean"]) for row in found if "reward/mean" in row] == [(400, 2.5)]
    assert {"lr": 1e-3, "game": "pong"}.items() <= config(records).items()
    assert [row["_step"] for row in found] == list(range(10))


def test_torchrls_own_recorder_writes_through_our_logger():
    logger = make_logger()
    recorder = torchrl.record.VideoRecorder(logger, "video", fps=25)
    TransformedEnv(PixelsEnv(), recorder).rollout(9)
    recorder.dump()
    [row] = rows(finish(logger))
    path = folder_of(logger) / "files" / row["video"]["path"]
    assert numbers_in(path) == [1, 3, 5, 7, 9]
    assert " 25 fps" in probe(path)
    assert left(logger) == []


@pytest.mark.long
@since_torchrl("0.12")
def test_dump_takes_less_than_a_tenth_of_torchrls():
    ours = make_logger()
    theirs = torchrl.record.loggers.wandb.WandbLogger("run", offline=True, project="vidrec", log_env_packages=False)
    assert theirs.experiment is ours.experiment  # wandb gives both the run that is open
    recorders = [VideoRecorder(ours, "ours", skip=1), torchrl.record.VideoRecorder(theirs, "theirs", skip=1)]
    blocks = random_frames(30, 40, 3)(0, 0).repeat_interleave(8, 0).repeat_interleave(8, 1)
    env = PixelsEnv(frame=lambda number, env_id: blocks.roll((number, 2 * number), (0, 1)))
    env = TransformedEnv(env, Compose(*recorders))
    took = ([], [])
    for _ in range(3):
        env.rollout(299)
        for recorder, times in zip(recorders, took, strict=True):
            start = time.perf_counter()
            recorder.dump()
            times.append(time.perf_counter() - start)
    assert min(took[0]) < min(took[1]) / 10
    found = rows(finish(ours))
    for name in ("ours", "theirs"):
        paths = [folder_of(ours) / "files" / row[name]["path"] for row in found if name in row]
        assert [path.is_file() for path in paths] == [True] * 3
    frames = [len(decode(folder_of(ours) / "files" / row["ours"]["path"])) for row in found if "ours" in row]
    assert frames == [300] * 3


def test_a_run_that_is_disabled_keeps_nothing(tmp_path):
    logger = WandbLogger("run", save_dir=tmp_path, mode="disabled", log_env_packages=False)
    recorder = VideoRecorder(logger, "video", skip=1)
    recorder._apply_transform(numbered(1))
    assert recorder.dump() is None
    assert not list(tmp_path.rglob("*.mp4"))

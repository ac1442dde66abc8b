"""The CSV logger: names, rows, formats, and what it owes to TorchRL's."""

import codecs
import csv
import os
import pickle
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import cloudpickle
import pytest
import torch
import torchrl.record
from conftest import ENCODED, since_torchrl, some
from numbered_frames import numbered, numbers_in, rows
from processes import started
from tensordict import MemoryMappedTensor

from vidrec import CSVLogger, EncoderError, FrameError, SettingError, TagError, VideoRecorder, VidrecWarning
from vidrec.files.index import COLUMNS, VideoIndex
from vidrec.files.names import in_use, publish


def video_of(*numbers):
    """A video as TorchRL's recorder gives it, uint8 [1, T, 3, H, W]."""
    return torch.stack([numbered(number) for number in numbers]).permute(0, 3, 1, 2).unsqueeze(0)


@pytest.mark.parametrize("video_format", ENCODED)
@pytest.mark.parametrize("scale", [1, 255], ids=["floats", "uint8"])
def test_a_plain_tensor_becomes_a_video(video_format, scale):
    video = video_of(3, 1, 4, 1, 5)
    now = datetime.now(timezone.utc).replace(microsecond=0)
    logger = CSVLogger("run", video_format=video_format, video_fps=25)
    published = logger.log_video("eval/video", video if scale == 255 else video / 255, step=7)
    assert published.path.samefile(f"csv_logs/run/videos/eval/video_7.{video_format}")
    assert numbers_in(published.path) == [3, 1, 4, 1, 5]
    [row] = rows()
    height, width = published.size
    assert published.tag == "eval/video"
    assert now <= datetime.fromisoformat(row.pop("time")) <= datetime.now(timezone.utc)
    codecs = {"mp4": "libx264", "webm": "libvpx-vp9", "mkv": "libx264rgb", "webp": "libwebp"}
    codec = codecs.get(video_format, video_format)
    assert row == {
        "tag": "eval/video",
        "step": "7",
        "file": f"videos/eval/video_7.{video_format}",
        "frames": "5",
        "fps": "25.0",
        "height": str(height),
        "width": str(width),
        "codec": codec,
        "seconds": "0.2",
        **dict.fromkeys(("env_id", "agent", "episode", "return", "length", "ended", "dtype", "shape", "env_step"), ""),
    }


def test_what_is_encoded_has_three_channels():
    published = CSVLogger("run").log_video("video", video_of(6, 7)[:, :, :1], step=0)
    assert numbers_in(published.path) == [6, 7]
    assert next(published.iter_frames()).shape[-1] == 3


def test_several_videos_in_a_tensor_follow_one_another():
    tensor = torch.cat([video_of(1, 2), video_of(3, 4)])
    assert numbers_in(CSVLogger("run").log_video("video", tensor, step=0).path) == [1, 2, 3, 4]


@pytest.mark.parametrize("video_format", ["pt", "memmap"])
def test_tensors_on_disk_are_those_of_torchrl(video_format):
    video = video_of(1, 2, 3)
    ours = CSVLogger("ours", video_format=video_format).log_video("video", video, step=0).path
    torchrl.record.CSVLogger("theirs", video_format=video_format).log_video("video", video, step=0)
    theirs = Path("csv_logs/theirs/videos") / ours.name
    if video_format == "pt":
        assert torch.load(ours).dtype == torch.uint8
        assert (torch.load(ours) == torch.load(theirs)).all()
        assert torch.load(ours, mmap=True).shape == torch.load(theirs).shape
    else:
        assert ours.read_bytes() == theirs.read_bytes()
        assert (MemoryMappedTensor.from_filename(ours, torch.uint8, video.shape) == video).all()


@pytest.mark.parametrize(
    "video",
    [torch.zeros(3, 8, 8), torch.zeros(1, 2, 2, 8, 8), torch.full((1, 2, 3, 8, 8), 2.0), [[1]]],
    ids=["3-D", "2 channels", "values", "a list"],
)
def test_what_is_no_video_is_refused_and_leaves_nothing(video):
    logger = CSVLogger("run")
    with pytest.raises(FrameError, match="'video'"):
        logger.log_video("video", video, step=0)
    assert list(Path("csv_logs/run/videos").iterdir()) == []


def test_an_existing_video_is_never_replaced():
    first = CSVLogger("run").log_video("video", video_of(1), step=0)
    again = CSVLogger("run")  # a restarted run
    with pytest.warns(VidrecWarning, match=r"video_0.mp4 exists and is kept; this video is .*video_0_1.mp4"):
        second = again.log_video("video", video_of(2), step=0)
    with pytest.warns(VidrecWarning, match="video_0_2"):
        again.log_video("video", video_of(3), step=0)
    assert [numbers_in(path) for path in (first.path, second.path)] == [[1], [2]]
    assert [(row["step"], row["file"]) for row in rows()] == [
        ("0", "videos/video_0.mp4"),
        ("0", "videos/video_0_1.mp4"),
        ("0", "videos/video_0_2.mp4"),
    ]


@pytest.mark.filterwarnings("error")
def test_a_warning_that_is_an_error_comes_after_the_video_is_published():
    CSVLogger("run").log_video("video", video_of(1), step=0)
    recorder = VideoRecorder(CSVLogger("run"), "video")
    recorder._apply_transform(numbered(2))
    with pytest.raises(VidrecWarning):  # as the tests' own settings want
        recorder.dump(step=0)
    assert len(rows()) == 2
    recorder.dump()
    assert len(rows()) == 2
    assert numbers_in(Path("csv_logs/run/videos/video_0_1.mp4")) == [2]


@pytest.mark.parametrize("lacks", ["links", "one device"])
def test_other_file_systems_give_the_same_files(lacks, monkeypatch):
    def no_link(source, target):
        raise OSError("Operation not permitted")

    if lacks == "links":
        monkeypatch.setattr(os, "link", no_link)
    else:
        shm = Path("/dev/shm")
        if not shm.is_dir() or shm.stat().st_dev == Path().stat().st_dev:
            pytest.skip("there is no second file system")
        with tempfile.TemporaryDirectory(dir=shm) as log_dir:
            source = CSVLogger("run", log_dir=log_dir).log_video("video", video_of(9), step=0)
            copied = CSVLogger("run").log_video("video", source, step=0)
            assert numbers_in(source.path) == [9]
        assert numbers_in(copied.path) == [9]
        return
    logger = CSVLogger("run")
    logger.log_video("video", video_of(1), step=0)
    with pytest.warns(VidrecWarning, match="exists and is kept"):
        logger.log_video("video", video_of(2), step=0)
    assert [numbers_in(Path("csv_logs/run/videos", name)) for name in ("video_0.mp4", "video_0_1.mp4")] == [[1], [2]]
    assert list(Path("csv_logs/run/videos").glob("*part*")) == []


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "..", "", ".", "a/", "with\0zero"])
def test_names_that_lead_out_of_the_folder_are_refused(name):
    logger = CSVLogger("run")
    for call in (
        lambda: logger.log_video(name, video_of(1), step=0),
        lambda: logger.log_scalar(name, 1.0),
        lambda: logger.experiment.add_text(name, "text"),
    ):
        with pytest.raises(TagError):
            call()
    recorder = VideoRecorder(logger, "video")
    recorder._apply_transform(numbered(1))
    if name not in ("", "."):
        with pytest.raises(TagError):
            recorder.dump(suffix=f"x/../{name}")
    assert numbers_in(recorder.dump().path) == [1]


def test_the_experiment_of_torchrls_documentation_stays_possible():
    logger = CSVLogger("./dump", video_fps=24)
    assert logger.log_video("video", video_of(1), step=0).path.samefile("csv_logs/dump/videos/video_0.mp4")


@since_torchrl("0.14")
def test_steps_count_up_when_none_is_given_and_are_restored():
    logger = CSVLogger("run")
    assert [logger.log_video("video", video_of(1)).path.stem for _ in range(2)] == ["video_0", "video_1"]
    other = CSVLogger("other")
    other.load_state_dict(logger.state_dict())
    assert other.log_video("video", video_of(1)).path.stem == "video_2"


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_it_survives_pickling_after_it_has_logged_scalars(pickler):
    logger = CSVLogger("run")
    logger.log_scalar("loss/train", 1.0, step=0)
    other = pickle.loads(pickler.dumps(logger))
    other.log_scalar("loss/train", 2.0, step=1)
    logger.log_scalar("loss/train", 3.0, step=2)
    logger.log_hparams({"lr": 1e-3})
    assert Path("csv_logs/run/scalars/loss/train.csv").read_text() == "0,1.0\n1,2.0\n2,3.0\n"
    assert Path("csv_logs/run/texts/hparams0.txt").read_text() == "lr: 0.001"
    assert other.log_video("video", video_of(1), step=0).frames == 1


def test_it_is_torchrls_logger_with_torchrls_folders():
    logger = CSVLogger("run", log_dir=Path("logs"))
    assert isinstance(logger, torchrl.record.CSVLogger)
    assert logger.log_dir == str(Path("logs").absolute())
    assert logger.experiment.log_dir == str(Path("logs/run").absolute())
    assert sorted(path.name for path in Path("logs/run").iterdir()) == ["scalars", "texts", "videos"]
    with pytest.raises(SettingError, match="unknown video_format 'avi'"):
        CSVLogger("run", video_format="avi")
    with pytest.raises(SettingError, match="fps='fast'"):
        CSVLogger("run", video_fps="fast")


def test_a_video_without_its_row_is_published_all_the_same():
    recorder = VideoRecorder(CSVLogger("run"), "video")
    Path("csv_logs/run/videos.csv").mkdir()
    recorder._apply_transform(numbered(1))
    with pytest.warns(VidrecWarning, match=r"video_0.mp4 is whole, but has no row in videos.csv: .*directory"):
        assert recorder.dump().frames == 1
    Path("csv_logs/run/videos.csv").rmdir()
    recorder._apply_transform(numbered(2))
    assert recorder.dump().path.name == "video_1.mp4"


def test_a_step_does_not_lead_out_of_the_folder_either():
    with pytest.raises(SettingError, match="must be a whole number"):
        CSVLogger("run").log_video("video", video_of(1), step="0/../../../../escaped")


def test_a_folder_that_cannot_be_made_leaves_the_recorder_usable():
    recorder = VideoRecorder(CSVLogger("run"), "in/the/way")
    Path("csv_logs/run/videos/in").touch()
    with pytest.raises(EncoderError, match="could not be made"):
        recorder._apply_transform(numbered(1))
    Path("csv_logs/run/videos/in").unlink()
    recorder._apply_transform(numbered(2))
    assert numbers_in(recorder.dump().path) == [2]


def test_the_working_directory_may_change_while_a_clip_is_open(tmp_path, monkeypatch):
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)
    recorder._apply_transform(numbered(1))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    recorder._apply_transform(numbered(2))
    assert recorder.dump().path == tmp_path / "csv_logs/run/videos/video_0.mp4"
    assert len(rows(tmp_path / "csv_logs/run")) == 1


def test_two_processes_lose_no_row_and_no_video():
    script = """
import sys, warnings, torch
from vidrec import CSVLogger
warnings.simplefilter("ignore")
logger = CSVLogger("run", video_format="pt")
for _ in range(40):
    logger.log_video("video", torch.zeros(1, 1, 3, 8, 8), step=0)
"""
    with started(script) as one, started(script) as two:
        assert [one.wait(), two.wait()] == [0, 0]
    files = {row["file"] for row in rows()}
    assert len(files) == len(rows()) == 80
    assert {f"videos/{path.name}" for path in Path("csv_logs/run/videos").iterdir()} == files


def test_columns_are_the_documented_ones():
    assert COLUMNS == ("tag", "step", "file", "frames", "fps", "height", "width", "codec", "seconds")


@pytest.mark.parametrize("fps", some([30, 50, 60], 50))
def test_500_frames_come_back_complete_and_in_order(fps):
    recorder = VideoRecorder(CSVLogger("run"), "video", fps=fps)
    for number in range(500):
        recorder._apply_transform(numbered(number))
    video = recorder.dump(step=3)
    assert numbers_in(video.path) == list(range(500))
    assert (video.fps, video.seconds) == (fps, pytest.approx(500 / fps))


@since_torchrl("0.14")
def test_scalars_hparams_texts_and_videos_share_a_folder_with_their_steps():
    logger = CSVLogger("run")
    for step in (1000, 2000):
        logger.log_scalar("eval/return", step / 10, step=step)
        logger.log_metrics({"loss": torch.tensor(0.5)}, step=step)
        logger.log_video("eval/video", video_of(step // 1000), step=step)
    logger.log_hparams({"lr": 1e-3})
    with pytest.raises(NotImplementedError):  # as TorchRL's
        logger.log_histogram("weights", [1.0, 2.0], step=1000, bins=10)
    logger.flush()
    logger.close()
    folder = Path("csv_logs/run")
    assert (folder / "scalars/eval/return.csv").read_text().split() == ["1000,100.0", "2000,200.0"]
    assert (folder / "scalars/loss.csv").read_text().split() == ["1000,0.5", "2000,0.5"]
    assert [path.read_text() for path in (folder / "texts").rglob("hparams*")] == ["lr: 0.001"]
    assert [(row["tag"], row["step"]) for row in rows()] == [("eval/video", "1000"), ("eval/video", "2000")]
    assert [numbers_in(folder / row["file"]) for row in rows()] == [[1], [2]]


def test_a_row_behind_one_that_was_cut_off_is_whole():
    logger = CSVLogger("run")
    recorder = VideoRecorder(logger, "video", skip=1)
    index = Path("csv_logs/run/videos.csv")
    for step in range(2):
        recorder._apply_transform(numbered(step))
        recorder.dump()
        index.write_text(index.read_text()[: None if step else -9])  # the first one on a disk that was full
    rows = list(csv.DictReader(index.read_text().splitlines()))
    assert [row["file"] for row in rows] == ["videos/video_0.mp4", "videos/video_1.mp4"]
    assert rows[1]["frames"] == "1"


@pytest.mark.parametrize("bad", [torch.zeros(3), "no video"])
def test_a_video_that_is_refused_uses_up_no_step(bad):
    logger = CSVLogger("run")
    with pytest.raises(FrameError):
        logger.log_video("video", bad)
    with pytest.raises(SettingError):
        logger.log_video("video", video_of(1), no_such_setting=1)
    assert logger.log_video("video", video_of(1)).path.name == "video_0.mp4"
    assert logger.log_video("video", video_of(1)).path.name == "video_1.mp4"


def test_a_row_goes_under_the_columns_that_the_index_has():
    logger = CSVLogger("run")
    logger.log_video("video", video_of(1), step=0)
    index = Path("csv_logs/run/videos.csv")
    index.write_text("file,note,step\nvideos/a.mp4,mine,7\n")
    logger.log_video("video", video_of(1, 2), step=3)
    own, new = rows()
    assert (own["file"], own["note"], own["step"], own["frames"]) == ("videos/a.mp4", "mine", "7", None)
    assert (new["file"], new["note"], new["step"], new["frames"]) == ("videos/video_3.mp4", "", "3", "2")
    index.write_text("".join(f"{','.join(row)}\n" for row in [["step", "file", *list(new)[3:]], ["1", "videos/b.mp4"]]))
    video = logger.log_video("video", video_of(1), step=4)
    logger.remove_video(video)
    assert [row["file"] for row in rows()] == ["videos/b.mp4"]


def test_there_is_an_index_on_a_file_system_without_locks(monkeypatch):
    def no_lock(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_lock)
    CSVLogger("run").log_video("video", video_of(1), step=0)
    assert [row["file"] for row in rows()] == ["videos/video_0.mp4"]


@pytest.mark.parametrize("where", ["no index", "an index of one row"])
def test_a_removed_video_that_has_no_row_leaves_an_index_that_can_be_read(where):
    logger = CSVLogger("run")
    video = logger.log_video("video", video_of(1), step=0)
    index = Path("csv_logs/run/videos.csv")
    index.unlink()
    if where != "no index":
        logger.log_video("video", video_of(2), step=1)
    logger.remove_video(video)
    logger.log_video("video", video_of(3), step=2)
    files = [row["file"] for row in VideoIndex(Path("csv_logs/run")).rows()]
    assert files == [f"videos/video_{step}.mp4" for step in ([2] if where == "no index" else [1, 2])]


def test_an_index_without_a_column_of_files_loses_no_row():
    index = VideoIndex(Path("csv_logs"))
    index.folder.mkdir()
    index.path.write_text("who,when,what\nme,today,videos/video_0.mp4\n")
    index.remove("videos/video_0.mp4")
    assert index.path.read_text() == "who,when,what\nme,today,videos/video_0.mp4\n"


@pytest.mark.parametrize(
    "data",
    [
        b"tag,step,file\ncaf\xe9,7,videos/a.mp4\n",
        b"tag,step,caf\xe9,file\nold,7,mine,videos/a.mp4\n",
        b"\xef\xbb\xbffile,step\nvideos/a.mp4,7\n",
    ],
)
def test_an_index_that_another_program_has_saved_keeps_its_bytes_and_gets_the_row(data):
    index = Path("csv_logs/run/videos.csv")
    logger = CSVLogger("run")
    index.write_bytes(data)
    logger.log_video("video", video_of(1), step=3)
    header, *own = data.splitlines()
    assert index.read_bytes().startswith(header.removeprefix(codecs.BOM_UTF8))
    assert own[0] in index.read_bytes()
    assert [(row["file"], row["step"]) for row in VideoIndex(index.parent).rows()] == [
        ("videos/a.mp4", "7"),
        ("videos/video_3.mp4", "3"),
    ]


def test_an_index_that_cannot_be_read_costs_the_row_and_makes_no_second_video():
    recorder = VideoRecorder(CSVLogger("run"), "video", skip=1)
    Path("csv_logs/run/videos.csv").write_bytes(b'"tag' + b"x" * 140_000)
    recorder._apply_transform(numbered(1))
    with pytest.warns(VidrecWarning, match=r"has no row in videos\.csv"):
        recorder.dump()
    assert recorder.dump() is None
    assert [path.name for path in Path("csv_logs/run/videos").iterdir()] == ["video_0.mp4"]


def test_a_copy_is_locked_until_it_has_its_name(monkeypatch):
    def no_link(source, target):
        raise OSError("Operation not permitted")

    seen = []

    def rename(self, target, rename=Path.rename):
        seen.append(in_use(self))
        return rename(self, target)

    monkeypatch.setattr(os, "link", no_link)
    monkeypatch.setattr(Path, "rename", rename)
    Path("mine").write_bytes(b"frames")
    assert publish(Path("mine"), Path("folder/video.mp4")).read_bytes() == b"frames"
    assert seen == [True]
    assert Path("mine").read_bytes() == b"frames"


def test_a_copy_that_gets_no_name_is_deleted(monkeypatch):
    def refuse(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(Path, "rename", refuse)
    Path("mine").write_bytes(b"frames")
    with pytest.raises(OSError, match="No space left"):
        publish(Path("mine"), Path("folder/video.mp4"))
    assert [*Path("folder").iterdir()] == []

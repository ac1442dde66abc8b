"""Where a logger writes: the folders of TorchRL's loggers for the same arguments; URLs; the working directory."""

import os
import pickle
from pathlib import Path

import pytest
import torchrl.record
from conftest import require, some
from numbered_frames import numbered, numbers_in

import vidrec
from vidrec import CSVLogger, SettingError, TensorboardLogger, VideoRecorder, VidrecWarning, WandbLogger
from vidrec.tools.verify import verify

pytestmark = pytest.mark.filterwarnings("ignore:Failed to load image Python extension")

VIDEO = numbered(5).permute(2, 0, 1)[None, None]

ARGUMENTS = {
    "a name": lambda: ("run",),
    "nested": lambda: ("a/b", "logs"),
    "absolute": lambda: (str(Path("elsewhere").absolute()),),
    "absolute beside a log_dir": lambda: (str(Path("elsewhere").absolute()), "logs"),
    "empty": lambda: ("",),
    "a slash at the end": lambda: ("run/", "logs/"),
    "a dot": lambda: (".", "logs"),
    "a path": lambda: (Path("a/run"), Path("logs")),
    "leads out": lambda: ("../run", "logs"),
    "leads through": lambda: ("a/../b", "logs"),
    "through a link": lambda: ("../run", "link"),
    "blanks": lambda: (" run with = and ' ", " logs"),
    "an unfinished video's": lambda: ("run.part-0", "logs"),
    "long": lambda: ("r" * 250, "logs"),
}
"""By what it is: the arguments exp_name and log_dir."""


def folders(logger_class, arguments, monkeypatch, tmp_path):
    """Return the folders that a logger makes in a folder of its own, and their files, without numbers."""
    here = tmp_path / logger_class.__module__.partition(".")[0] / "here"
    (here / "linked" / "inside").mkdir(parents=True)
    (here / "link").symlink_to(here / "linked" / "inside")
    monkeypatch.chdir(here)
    logger = logger_class(*ARGUMENTS[arguments]())
    logger.log_scalar("loss", 1.0, step=0)
    logger.flush()
    found = [path.relative_to(here.parent) for path in here.parent.rglob("*")]
    return sorted({path.parent / "events" if "tfevents" in path.name else path for path in found})


@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("name", ["CSVLogger", "TensorboardLogger"])
def test_an_experiment_has_the_folders_that_torchrls_logger_makes(name, arguments, monkeypatch, tmp_path):
    require("tensorboard")
    ours, theirs = (
        folders(getattr(module, name), arguments, monkeypatch, tmp_path) for module in (vidrec, torchrl.record)
    )
    assert ours == theirs
    assert len(ours) > 3


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_an_experiment_of_any_name_has_its_video(arguments, monkeypatch, tmp_path):
    (tmp_path / "here/inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    Path("link").symlink_to("inside")
    logger = CSVLogger(*ARGUMENTS[arguments]())
    recorder = VideoRecorder(logger, "eval/video")
    recorder._apply_transform(numbered(3))
    video = recorder.dump()
    assert numbers_in(video.path) == [3]
    assert video.path == Path(logger.experiment.log_dir, "videos/eval/video_0.mp4")
    assert list(verify(tmp_path)) == []


@pytest.mark.parametrize("name", some(["", "/a/../run of = words/"], "/a/../run of = words/"))
def test_a_run_of_wandb_has_the_name_that_torchrls_logger_gives_it(name, monkeypatch):
    require("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    named = []
    for module in (torchrl.record.loggers.wandb, vidrec):
        logger = module.WandbLogger(name, offline=True, save_dir="runs", log_env_packages=False)
        named.append((logger.experiment.name, logger.exp_name, Path(logger.experiment.dir).parent.parent.absolute()))
        logger.experiment.finish()
    assert named[0][:2] == named[1][:2]
    assert named[0][2] == named[1][2] == Path("runs/wandb").absolute()


def writes(logger):
    """Return the folder in which a logger writes scalars and videos."""
    logger.log_scalar("loss", 1.0, step=0)
    logger.flush()
    return Path(getattr(logger.experiment, "log_dir", None) or logger.experiment.dir)


@pytest.mark.parametrize(
    ("logger_class", "log_dir"),
    [
        *((CSVLogger, log_dir) for log_dir in ("~/runs", Path("~/runs"), "~", "~/runs/../others")),
        (TensorboardLogger, "~/runs"),
        (WandbLogger, Path("~/runs")),
    ],
    ids=str,
)
def test_the_home_folder_is_expanded(logger_class, log_dir, monkeypatch, tmp_path):
    require("wandb", "tensorboard")
    for name, value in [("HOME", str(tmp_path / "home")), ("WANDB_MODE", "offline"), ("WANDB_SILENT", "true")]:
        monkeypatch.setenv(name, value)
    logger = logger_class("run", log_dir=log_dir)
    inside = tmp_path / "home" / str(log_dir).removeprefix("~").removeprefix("/")
    assert writes(logger).resolve().is_relative_to(inside.resolve())
    assert not list(tmp_path.rglob("~"))
    if logger_class is WandbLogger:
        logger.experiment.finish()


@pytest.mark.parametrize("name", ["~/run", Path("~/run")], ids=["str", "Path"])
def test_so_it_is_in_the_name_of_an_experiment(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    of_recorder = VideoRecorder(name, "video").logger
    assert writes(CSVLogger(name)) == writes(TensorboardLogger(name)) == writes(of_recorder) == tmp_path / "home/run"


@pytest.mark.parametrize("arguments", [("run",), ("run", "logs"), ("a/../run", Path("logs"))], ids=str)
@pytest.mark.parametrize("logger_class", [CSVLogger, TensorboardLogger])
def test_scalars_and_videos_stay_together_when_the_working_directory_changes(
    logger_class, arguments, tmp_path, monkeypatch
):
    logger = logger_class(*arguments)
    copied = pickle.dumps(logger)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for step, one in enumerate((logger, pickle.loads(copied))):
        one.log_scalar("loss", 1.0)
        one.log_hparams({"lr": 0.1})
        one.log_video("video", VIDEO, step)
        recorder = VideoRecorder(one, "recorded")
        recorder._apply_transform(numbered(1))
        recorder.dump(step=step)
        one.flush()
        assert Path(one.log_dir).is_relative_to(tmp_path)
    assert list(Path().iterdir()) == []


URLS = ["s3://bucket/runs", "gs://bucket", "hf://datasets/me/runs", "simplecache::s3://bucket/runs", "S3://bucket"]


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_refused_by_a_logger_that_writes_files(url):
    require("wandb")
    with pytest.raises(SettingError, match=rf"WandbLogger writes files, and '{url}\S*' is no path of"):
        WandbLogger("run", log_dir=url)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("exp_name", ["run", "a/run", ""])
def test_a_url_goes_to_tensorboards_writer_as_it_is(url, exp_name, monkeypatch):
    require("tensorboard")
    made = []

    class Writer:
        def __init__(self, log_dir):
            made.append(log_dir)
            self.log_dir = log_dir

        def flush(self):
            pass

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", Writer)
    torchrl.record.loggers.tensorboard.TensorboardLogger(exp_name, url)
    logger = TensorboardLogger(exp_name, url)
    assert made[0] == made[1] == logger.log_dir == os.path.join(url, exp_name)
    assert pickle.loads(pickle.dumps(logger)).experiment.log_dir == made[0]
    assert logger.state_dict()["log_dir"] == url
    assert TensorboardLogger(f"{url}/run", "logs").log_dir == f"{url}/run"
    assert list(Path().iterdir()) == []


def test_a_url_that_a_path_has_spoiled_is_refused():
    for logger_class in (CSVLogger, TensorboardLogger):
        with pytest.raises(SettingError, match=r"was a URL, of which a Path keeps one slash only; expected a str"):
            logger_class("run", Path("s3://bucket/runs"))
        with pytest.raises(SettingError, match=r"no path; expected a str or Path"):
            logger_class(None)
        with pytest.raises(SettingError, match=r"7 is no path"):
            logger_class("run", 7)


@pytest.fixture
def memory():
    """Return a file system at the URLs ``memory://``, empty, which TensorBoard writes to like to any other."""
    require("tensorboard", "fsspec")
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield memory
    memory.store.clear()


def remote_images(memory):
    """Return the tag and bytes of each image in the event files."""
    from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

    for number, path in enumerate(memory.find("/")):
        Path(f"copied-{number}").mkdir()
        memory.get(path, f"copied-{number}/{Path(path).name}")
        accumulator = EventAccumulator(f"copied-{number}").Reload()
        yield from (
            (tag, image.encoded_image_string) for tag in accumulator.Tags()[IMAGES] for image in accumulator.Images(tag)
        )


def test_videos_are_in_an_event_file_at_a_url(memory, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    logger = TensorboardLogger("run", "memory://bucket/runs")
    recorder = VideoRecorder(logger, "eval/video")
    for number in range(4):
        recorder._apply_transform(numbered(number))
    [grows] = {path.name.partition(".")[0] for path in (tmp_path / "tmp").iterdir()}
    assert grows == "vidrec-eval-video"
    assert recorder.dump() is None
    logger.log_video("tensor", VIDEO)
    logger.close()
    found = {}
    for tag, data in remote_images(memory):
        Path("read_back.apng").write_bytes(data)
        found[tag] = numbers_in(Path("read_back.apng"))
    assert found == {"eval/video": [0, 1, 2, 3], "tensor": [5]}
    assert list((tmp_path / "tmp").iterdir()) == []
    assert [path for path in tmp_path.rglob("*") if "memory" in path.name] == []


def test_what_is_too_large_for_an_event_file_at_a_url_is_kept_here(memory, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    logger = TensorboardLogger("run", "memory://bucket/runs", max_video_bytes=10)
    with pytest.warns(VidrecWarning, match=r"it is kept as .*/tmp/vidrec-eval-video_7\.apng"):
        video = logger.log_video("eval/video", VIDEO, step=7)
    assert numbers_in(video.path) == [5]
    assert video.path == tmp_path / "tmp/vidrec-eval-video_7.apng"

"""`get_logger` and `generate_exp_name`, and the warning about TorchRL's logger for TensorBoard."""

import inspect
import re
import sys
import warnings
from pathlib import Path

import pytest
import torchrl.record
from conftest import require
from numbered_frames import numbered, numbers_in
from test_tensorboard import images, saved
from torchrl.record.loggers import utils

import vidrec
from vidrec import CSVLogger, TeeLogger, TensorboardLogger, VideoRecorder, VidrecWarning, WandbLogger
from vidrec.compat import get_logger_of

pytestmark = pytest.mark.filterwarnings("ignore:Failed to load image Python extension")

VIDEO = numbered(5).permute(2, 0, 1)[None, None]


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    require("tensorboard", "wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


def test_the_functions_have_the_signatures_of_torchrls():
    assert inspect.signature(vidrec.get_logger) == inspect.signature(utils.get_logger)
    ours, theirs = (inspect.signature(function) for function in (vidrec.generate_exp_name, utils.generate_exp_name))
    assert list(ours.parameters) == list(theirs.parameters)
    assert re.fullmatch(r"DQN_run_[0-9a-f]{8}_[\d_-]+", vidrec.generate_exp_name("DQN", "run"))


@pytest.mark.parametrize(
    ("logger_type", "ours"), [("csv", CSVLogger), ("tensorboard", TensorboardLogger), ("wandb", WandbLogger)]
)
def test_a_logger_that_vidrec_has_is_vidrecs(logger_type, ours):
    more = {"wandb_kwargs": {"project": "vidrec", "offline": True, "video_fps": 7}} if logger_type == "wandb" else {}
    logger = vidrec.get_logger(logger_type, "logs", "run", **more)
    theirs = getattr(utils, ours.__name__)
    assert type(logger) is ours
    assert isinstance(logger, theirs)
    assert logger.exp_name == "run"
    assert str(logger.log_dir).startswith(str(Path("logs").absolute()))
    if logger_type == "wandb":
        assert logger.video_fps == 7
        logger.experiment.finish()
    assert getattr(utils, ours.__name__) is theirs is not ours  # TorchRL's own module is as it was


def test_a_logger_that_vidrec_has_not_is_torchrls(tmp_path, monkeypatch):
    made = {}
    for name in ("MLFlowLogger", "TrackioLogger"):
        monkeypatch.setattr(utils, name, lambda name=name, **settings: made.update({name: settings}) or name)
    fresh = get_logger_of(vidrec.CSVLogger, vidrec.TensorboardLogger, vidrec.WandbLogger)
    assert fresh("mlflow", "logs", "run", mlflow_kwargs={"tags": {}}) == "MLFlowLogger"
    assert fresh("trackio", "logs", "run") == "TrackioLogger"
    assert made["MLFlowLogger"]["tracking_uri"] == (tmp_path / "logs").as_uri()
    assert vidrec.get_logger("", "logs", "run") is vidrec.get_logger(None, "logs", "run") is None
    with pytest.raises(NotImplementedError, match="Unsupported logger_type: 'paper'"):
        vidrec.get_logger("paper", "logs", "run")


@pytest.mark.parametrize("logger_type", ["csv", "tensorboard"])
def test_a_saved_logger_goes_on_in_the_same_folder(logger_type, tmp_path, monkeypatch):
    logger = vidrec.get_logger(logger_type, "logs", "a/run")
    logger.log_video("video", VIDEO)
    state = logger.state_dict()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = vidrec.get_logger(logger_type, "ignored", "ignored", state_dict=state)
    again.log_video("video", VIDEO)
    again.flush()
    assert list(Path().iterdir()) == []
    if logger_type == "csv":
        assert sorted(path.name for path in (tmp_path / "logs/a/run/videos").iterdir()) == [
            "video_0.mp4",
            "video_1.mp4",
        ]
    else:
        assert again.log_dir == logger.log_dir == str(tmp_path / "logs/a/run")
        assert [step for step, _ in images(again.log_dir)["video"]] == [0, 1]


def test_a_logger_in_another_process_is_vidrecs_too(monkeypatch):
    asked = []
    service = staticmethod(lambda backend, **settings: asked.append((backend, settings)) or "service")
    monkeypatch.setattr(CSVLogger, "_ServiceClass", service)
    options = {"max_queue_size": 4}
    made = vidrec.get_logger("csv", "logs", "run", service_backend="process", service_backend_options=options)
    assert made == "service"
    [(backend, settings)] = asked
    assert backend == "process"
    assert (settings["log_dir"], settings["exp_name"], settings["service_backend_options"]) == ("logs", "run", options)


WARNING = (
    r"torchrl's TensorboardLogger writes no videos here: .* Use vidrec.TensorboardLogger, which takes the same arg"
)


def test_so_does_one_in_another_process():
    theirs = torchrl.record.loggers.tensorboard.TensorboardLogger("theirs", service_backend="process")
    try:
        with pytest.warns(VidrecWarning, match=WARNING):
            VideoRecorder(theirs, "video")
    finally:
        theirs.shutdown()


@pytest.mark.parametrize("wrap", [lambda logger: logger, lambda logger: TeeLogger(CSVLogger("run"), logger)])
def test_torchrls_logger_for_tensorboard_loses_videos_and_the_recorder_says_so(wrap, capsys):
    logger = torchrl.record.loggers.tensorboard.TensorboardLogger("theirs")
    with pytest.warns(VidrecWarning, match=WARNING):
        recorder = VideoRecorder(wrap(logger), "video")
    recorder._apply_transform(numbered(1))
    recorder.dump()
    assert "can't import moviepy.editor" in capsys.readouterr().out  # what torch says of it
    logger.flush()
    assert images("tb_logs/theirs") == {}


def test_what_it_is_told_to_use_instead_has_the_video():
    recorder = VideoRecorder(TensorboardLogger("ours"), "video")
    recorder._apply_transform(numbered(1))
    recorder.dump()
    [[(_, data)]] = images("tb_logs/ours").values()
    assert numbers_in(saved(data)) == [1]


@pytest.mark.parametrize(("files", "warned"), [(["editor.py"], 0), ([], 1), (None, 1)], ids=["1", "2", "none"])
def test_the_warning_depends_on_the_moviepy_that_is_installed(files, warned, monkeypatch):
    with monkeypatch.context() as patched:
        if files is None:
            patched.setitem(sys.modules, "moviepy", None)
        else:
            Path("site/moviepy").mkdir(parents=True)
            for name in ["__init__.py", *files]:
                Path("site/moviepy", name).touch()
            patched.delitem(sys.modules, "moviepy", raising=False)
            patched.syspath_prepend(str(Path("site").absolute()))
        logger = torchrl.record.loggers.tensorboard.TensorboardLogger("theirs")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            VideoRecorder(logger, "video")
    assert len([one for one in caught if issubclass(one.category, VidrecWarning)]) == warned

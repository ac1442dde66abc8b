"""`check_logger` passes what keeps the contract, and names what does not."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import ENCODED, SERVICE, require, since_torchrl, some
from torchrl.record.loggers import CSVLogger as TorchRLCSVLogger
from torchrl.record.loggers.common import Logger
from worlds import KeepLogger

from vidrec import CSVLogger, MemoryLogger, TeeLogger, TensorboardLogger, VideoLogger, WandbLogger
from vidrec.testing import check_logger


@pytest.mark.parametrize("video_format", some([*ENCODED, "pt", "memmap"], "mp4", "gif", "pt"))
def test_the_csv_logger_passes(video_format):
    check_logger(lambda: CSVLogger("run", video_format=video_format))


@pytest.mark.parametrize("video_format", ["apng", "gif"])
def test_the_tensorboard_logger_passes(video_format):
    require("tensorboard")
    check_logger(lambda: TensorboardLogger("run", video_format=video_format))


def test_the_wandb_logger_passes(tmp_path, monkeypatch):
    require("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    loggers = []

    def make_logger():
        for logger in loggers:
            logger.experiment.finish()
        loggers.append(WandbLogger("run", offline=True, save_dir=tmp_path, log_env_packages=False))
        return loggers[-1]

    check_logger(make_logger)
    loggers[-1].experiment.finish()


@pytest.mark.parametrize(
    "make_logger",
    [
        MemoryLogger,
        KeepLogger,
        lambda: TorchRLCSVLogger("run", video_format="pt"),
        lambda: TeeLogger(CSVLogger("a"), MemoryLogger(), CSVLogger("b"), CSVLogger("c", video_format="gif")),
        lambda: TeeLogger(TeeLogger(MemoryLogger()), KeepLogger()),
    ],
    ids=["memory", "only log_video", "TorchRL", "tee", "tee of tees"],
)
def test_any_logger_passes_that_takes_what_torchrl_gives_it(make_logger):
    check_logger(make_logger)


@since_torchrl("0.14")
@pytest.mark.parametrize("logger_class", [CSVLogger, TorchRLCSVLogger])
def test_a_logger_in_another_process_passes(logger_class):
    services = []

    def make_logger():
        if not services:
            services.append(logger_class("run", video_format="pt", **SERVICE))
        return services[0].client()

    try:
        check_logger(make_logger)
    finally:
        services[0].shutdown()


# loggers that do not keep the contract


class Broken(CSVLogger):
    def __init__(self):
        super().__init__("run")


class Replaces(Broken):
    def log_video(self, name, video, step=None, **settings):
        shutil.rmtree("csv_logs/run/videos/check/", ignore_errors=True) if not hasattr(video, "path") else None
        video = super().log_video(name, video, step, **settings)
        first = Path("csv_logs/run/videos/check/recorded_3.mp4")
        if video.path != first and "recorded" in video.path.name:
            video.path.replace(first)
            return video.at(first)
        return video


class CountsWrongly(Broken):
    def log_video(self, name, video, step=None, **settings):
        video = super().log_video(name, video, step, **settings)
        object.__setattr__(video, "frames", video.frames - 1)
        return video


class LosesTheFile(Broken):
    def log_video(self, name, video, step=None, **settings):
        video = super().log_video(name, video, step, **settings)
        video.path.unlink()
        return video


class TakesTheFile(Broken):
    def log_video(self, name, video, step=None, **settings):
        published = super().log_video(name, video, step, **settings)
        if hasattr(video, "path"):
            video.path.unlink()
        return published


class PublishesUnfinishedNames(Broken):
    def log_video(self, name, video, step=None, **settings):
        video = super().log_video(name, video, step, **settings)
        return video.at(video.path.rename(video.path.with_name(f"{video.path.stem}.part-1.mp4")))


class OpensEarly(Broken):
    def open_clip(self, tag, **settings):
        clip = super().open_clip(tag, **settings)
        clip._path().parent.mkdir(parents=True, exist_ok=True)
        clip._path(len(list(clip.unfinished()))).touch()
        return clip


class TakesAnySetting(Broken):
    def open_clip(self, tag, **settings):
        settings.pop("no_such_setting", None)
        return super().open_clip(tag, **settings)


class TakesAnyRate(Broken):
    def open_clip(self, tag, **settings):
        return super().open_clip(tag, **{**settings, "fps": settings.get("fps") or 30})


class TakesAnyTag(Broken):
    def open_clip(self, tag, **settings):
        return super().open_clip(tag.replace("../", ""), **settings)


class Darkens(Broken):
    def log_video(self, name, video, step=None, **settings):
        return super().log_video(name, video if hasattr(video, "path") else video // 2, step, **settings)


class ChangesTheTensor(KeepLogger):
    def log_video(self, name, video, step=None, **settings):
        video.zero_()


class NoStep(KeepLogger):
    def log_video(self, name, video, **settings):
        raise TypeError("unexpected step") if "step" in settings else None


class NoHparams(MemoryLogger):
    def log_hparams(self, cfg):
        raise RuntimeError("no hyper-parameters here")


class NoClip(VideoLogger):
    def open_clip(self, tag, **settings):
        return None

    def log_video(self, name, video, step=None, **settings):
        pass


class LeavesWhatItDeletes(Broken):
    def open_clip(self, tag, **settings):
        clip = super().open_clip(tag, **settings)
        clip.delete = lambda: (clip.finish(), clip.detach())
        return clip


BROKEN = {
    Replaces: "was replaced by another video",
    CountsWrongly: "should have 12 frames, and has 11",
    LosesTheFile: "is not there",
    TakesTheFile: "log_video took .* away",
    PublishesUnfinishedNames: "has the name of an unfinished file",
    OpensEarly: "unfinished files were left|open_clip wrote something",
    TakesAnySetting: "a setting that does not exist was taken; expected a SettingError",
    TakesAnyRate: "fps=0 was taken",
    TakesAnyTag: r"the tag '\.\./outside' was taken; expected a TagError",
    Darkens: "of 255 brighter or darker than recorded",
    ChangesTheTensor: "changed the tensor",
    NoStep: "unexpected step",
    NoHparams: "no hyper-parameters here",
    NoClip: "NoneType",
    LeavesWhatItDeletes: "a clip that was deleted left",
}


@pytest.mark.parametrize(
    "logger", some(BROKEN, Replaces, CountsWrongly, LosesTheFile, OpensEarly, TakesAnySetting, NoStep)
)
def test_a_logger_that_breaks_the_contract_is_told_so(logger):
    with pytest.raises(Exception, match=BROKEN[logger]) as caught:
        check_logger(logger)
    assert isinstance(caught.value, AssertionError | TypeError | RuntimeError | AttributeError), repr(caught.value)


def test_the_abstract_methods_say_that_they_are():
    for call in (lambda: VideoLogger().open_clip("a"), lambda: VideoLogger().log_video("a", None)):
        with pytest.raises(NotImplementedError):
            call()
    assert not issubclass(VideoLogger, Logger)
    assert re.match("A logger", VideoLogger.__doc__)

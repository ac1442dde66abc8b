"""Our loggers where TorchRL's are taken: in its trainers, and wherever a logger is made from its class."""

import pickle
from pathlib import Path

import pytest
import torch
from conftest import require, since_torchrl
from numbered_frames import numbers_in
from tensordict import TensorDict
from torchrl.collectors import Collector
from torchrl.envs import TransformedEnv
from torchrl.modules import RandomPolicy
from torchrl.record.loggers.common import Logger
from torchrl.trainers import LogScalar, LogValidationReward, Trainer
from worlds import PixelsEnv

from vidrec import CSVLogger, MemoryLogger, TeeLogger, TensorboardLogger, VideoRecorder, WandbLogger

pytestmark = pytest.mark.filterwarnings("ignore:The 'optimizer' hook stage:FutureWarning")  # of the trainer to itself


class Loss(torch.nn.Module):
    """Just enough of one for a trainer."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, batch):
        return TensorDict({"loss": self.weight**2})


def train(logger):
    """Train for 30 frames in batches of 10, and record an evaluation of 5 steps after each."""
    env, evaluation = PixelsEnv(), TransformedEnv(PixelsEnv(), VideoRecorder(logger, "eval/video", skip=1))
    policy, loss = RandomPolicy(env.action_spec), Loss()
    trainer = Trainer(
        collector=Collector(env, policy, frames_per_batch=10, total_frames=30),
        total_frames=30,
        frame_skip=1,
        optim_steps_per_batch=1,
        loss_module=loss,
        optimizer=torch.optim.SGD(loss.parameters(), lr=0.1),
        logger=logger,
        progress_bar=False,
        log_interval=1,
    )
    validation = LogValidationReward(
        record_interval=1, record_frames=5, frame_skip=1, policy_exploration=policy, environment=evaluation
    )
    validation.register(trainer)
    LogScalar().register(trainer)
    trainer.train()


def test_a_trainer_logs_its_scalars_and_videos_with_the_csv_logger():
    train(CSVLogger("run"))
    videos = sorted(Path("csv_logs/run/videos/eval").glob("*.mp4"))
    assert [len(numbers_in(video)) for video in videos] == [6, 6, 6]
    assert sorted(number for video in videos for number in numbers_in(video)) == list(range(18))
    assert "loss.csv" in {path.name for path in Path("csv_logs/run/scalars").iterdir()}


@since_torchrl("0.14")
def test_a_trainer_logs_its_scalars_and_videos_for_tensorboard():
    require("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorboardLogger("run")
    train(logger)
    logger.flush()
    events = EventAccumulator("tb_logs/run", {"images": 0}).Reload()
    assert len([event for tag in events.Tags()["images"] for event in events.Images(tag)]) == 3
    assert [event.step for event in events.Scalars("loss")] == [10, 20, 30]


def test_a_trainer_logs_its_scalars_and_videos_to_wandb_and_several_at_once(monkeypatch):
    require("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    memory, wandb = MemoryLogger(), WandbLogger("run", offline=True, log_env_packages=False)
    train(TeeLogger(wandb, memory))
    videos = list(Path(wandb.experiment.dir, "media/videos/eval").glob("*.mp4"))
    wandb.experiment.finish()
    assert [len(numbers_in(video)) for video in videos] == [6, 6, 6]
    assert [video.value.shape for video in memory.videos] == [(1, 6, 3, 48, 64)] * 3
    assert [scalar.step for scalar in memory.scalars if scalar.name == "loss"] == [10, 20, 30]


@since_torchrl("0.14")
@pytest.mark.parametrize("logger_class", [CSVLogger, TensorboardLogger, MemoryLogger])
def test_a_class_is_enough_to_make_one_as_get_logger_does(logger_class):
    require("tensorboard")
    from torchrl.record.loggers import ProcessLogger

    logger = logger_class(log_dir="logs", exp_name="run")
    assert isinstance(logger, Logger)
    assert logger.exp_name == "run"
    pickle.dumps(logger_class)
    service = ProcessLogger(logger_class, exp_name="served", log_dir="logs", mp_context="forkserver")
    try:
        recorder = VideoRecorder(service.client(), "video", fps=30)
        recorder._apply_transform(torch.zeros(3, 48, 64, dtype=torch.uint8))
        recorder.dump(step=3)
    finally:
        service.shutdown()
    if logger_class is CSVLogger:
        assert numbers_in(Path("logs/served/videos/video_3.mp4")) == [0]

"""The logger that keeps what it is given."""

import torch
from conftest import since_torchrl
from numbered_frames import numbered, read_number
from torchrl.envs import TransformedEnv
from torchrl.record.loggers.common import Logger
from worlds import PixelsEnv

from vidrec import MemoryLogger, VideoRecorder


def test_it_keeps_the_tensor_and_what_it_was_called_with():
    logger = MemoryLogger()
    recorder = VideoRecorder(logger, "eval/video", fps=25, crf=20, skip=1)
    TransformedEnv(PixelsEnv(), recorder).rollout(4)
    assert recorder.dump(suffix="end", step=7) is None
    [logged] = logger.videos
    assert (logged.name, logged.step, logged.settings) == ("eval/video_end", 7, {"fps": 25, "crf": 20})
    assert (logged.value.dtype, logged.value.shape) == (torch.uint8, (1, 5, 3, 48, 64))
    assert [read_number(frame.permute(1, 2, 0)) for frame in logged.value[0]] == [0, 1, 2, 3, 4]


@since_torchrl("0.12")
def test_it_logs_all_kinds_with_their_steps_in_one_run():
    logger = MemoryLogger()
    assert isinstance(logger, Logger)
    for step in (10, 20):
        logger.log_scalar("loss", 0.1 * step, step)
        logger.log_metrics({"return": torch.tensor(2.0)}, step=step)
        logger.log_histogram("weights", [1.0, 2.0], step=step, bins=10)
        logger.log_video("video", numbered(step), step)
        logger.log_str("note", "text", step)
    logger.log_hparams({"lr": 1e-3})
    assert [entry.step for entry in logger.scalars] == [10, 10, 20, 20]
    for entries in (logger.histograms, logger.videos, logger.texts):
        assert [entry.step for entry in entries] == [10, 20]
    assert logger.hparams[0].value == {"lr": 1e-3}
    assert logger.videos[0].value is not None
    assert "video" in repr(logger)

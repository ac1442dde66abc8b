"""What is recorded does not depend on the device on which torch makes tensors by default, here one without memory."""

import pytest
import torch
from conftest import require, some
from numbered_frames import cells_in, numbered, numbers_in, read_number
from tensordict import TensorDict
from torchrl.envs import TransformedEnv
from worlds import PixelsEnv

from vidrec import CSVLogger, TensorboardLogger, VideoRecorder
from vidrec.testing import check_logger


def recorder(**arguments):
    return VideoRecorder(CSVLogger("run", "."), "game", skip=1, scale=1, **arguments)


def recorded(own, env, steps):
    """Record steps of an env whose tensors are made as ever."""
    env = TransformedEnv(env, own)
    td = env.reset()
    for _ in range(steps):
        next_td = env.base_env.step(env.rand_action(td))["next"]
        with torch.device("meta"):
            own._step(td, next_td)
    with torch.device("meta"):
        return own.dump()


@pytest.mark.parametrize("video_format", some(["mp4", "gif", "pt", "memmap"], "mp4", "memmap"))
def test_a_logger(video_format):
    with torch.device("meta"):
        check_logger(lambda: CSVLogger("run", ".", video_format))


def test_a_logger_of_tensorboard():
    require("tensorboard")
    with torch.device("meta"):
        check_logger(lambda: TensorboardLogger("run", "."))


def test_a_grid_with_a_frame_that_is_not_known():
    def frame(number, env_id):
        frame = numbered(4 * number + env_id + 1).float() / 255
        return frame * float("nan") if (number, env_id) == (2, 1) else frame

    video = recorded(recorder(), PixelsEnv((3,), frame=frame), 3)
    cells = [[4 * number + env_id + 1 for env_id in range(3)] for number in range(4)]
    cells[2][1] = 0
    assert cells_in(video.path, 3, (48, 64)) == cells


def test_a_caption():
    video = recorded(recorder(caption=["step", "return"]), PixelsEnv(), 3)
    assert (video.frames, video.height > 48) == (4, True)


def test_a_sample():
    own = recorder()
    sample = TensorDict({"pixels": torch.stack([numbered(number) for number in range(4)])}, 4)
    with torch.device("meta"):
        own(sample)
        video = own.dump()
    assert numbers_in(video.path) == [0, 1, 2, 3]


@pytest.mark.parametrize("video_format", ["mp4", "pt"])
def test_a_video_that_is_read(video_format):
    own = VideoRecorder(CSVLogger("run", ".", video_format), "game", skip=1)
    for number in range(3):
        own._apply_transform(numbered(number))
    with torch.device("meta"):
        assert [read_number(frame) for frame in own.dump().iter_frames()] == [0, 1, 2]

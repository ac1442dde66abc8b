"""Frames to record, the environments that show them, and what is found of them in the files.

Every frame carries its number, as 16 blocks of black and white in its upper left corner, so that a frame that was lost
or repeated is found in whatever a recorder has written.
"""

import contextlib
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Composite, Unbounded
from torchrl.envs import EnvBase

from vidrec.ffmpeg.program import find_ffmpeg

LENGTH, REAL_LENGTH = 24, 240
"""Frames of a loop that is made, and of one that was played."""

BLOCK, BLOCKS = 8, (4, 4)
"""The pixels of a block, and how many are below and beside each other."""

STORE = Path(__file__).parent.parent / "dist" / "bench"

MADE = {"84x84": (84, 84), "480x640": (480, 640), "1080x1920": (1080, 1920)}
REAL = {
    "MsPacman": ("ALE/MsPacman-v5", 270),  # it begins with the music, 265 frames in which nothing moves
    "Pong": ("ALE/Pong-v5", 60),
    "CartPole": ("CartPole-v1", 0),
    "cheetah": None,
}


def loop(name: str) -> NDArray[np.uint8]:
    """Return frames, uint8 ``[T, H, W, 3]``, of which the last goes well with the first where they are made.

    Args:
        name: a real environment, or a height and width, ``"480x640"``, with ``" noisy"`` behind it or not.
    """
    path = STORE / f"{name.replace(' ', '_')}.npy"
    if not path.exists():
        frames = real(name) if name in REAL else made(MADE[name.removesuffix(" noisy")], name.endswith("noisy"))
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, frames)
    return np.load(path)


def made(size: tuple[int, int], noisy: bool = False) -> NDArray[np.uint8]:
    """Draw what looks rendered: a smooth gradient, two moving shapes, and noise, mild or not."""
    rng = np.random.default_rng(0)
    y, x = (axis / side for axis, side in zip(np.indices(size), size, strict=True))
    frames = np.empty((LENGTH, *size, 3), np.uint8)
    for frame, phase in zip(frames, 2 * np.pi * np.arange(LENGTH) / LENGTH, strict=True):
        colours = np.stack([90 + 120 * x, 60 + 130 * y, 200 - 45 * (x + y)], -1)
        colours[np.hypot(x - 0.5 - 0.3 * np.cos(phase), y - 0.5 - 0.3 * np.sin(phase)) < 0.1] = 230, 60, 40
        colours[(abs(x - 0.5 - 0.35 * np.sin(phase)) < 0.08) & (abs(y - 0.8) < 0.05)] = 40, 40, 60
        frame[:] = np.clip(colours + rng.normal(0, 20 if noisy else 2, colours.shape), 0, 255)
    return frames


def real(name: str, length: int = REAL_LENGTH) -> NDArray[np.uint8]:
    """Play with random actions, and return frames of it."""
    if name == "cheetah":
        os.environ.setdefault("MUJOCO_GL", "osmesa")
        from dm_control import suite

        env = suite.load("cheetah", "run", task_kwargs={"random": 0})
        rng, env_step = np.random.default_rng(0), env.reset()
        frames = []
        for _ in range(length):
            frames.append(env.physics.render(240, 320, camera_id=0).copy())
            env_step = env.step(rng.uniform(-1, 1, 6))
            assert not env_step.last()
        env.physics.free()
        return np.stack(frames)
    with contextlib.suppress(ImportError):
        import ale_py

        gymnasium.register_envs(ale_py)
    game, wait = REAL[name]
    env = gymnasium.make(game, render_mode="rgb_array")
    env.reset(seed=0)
    env.action_space.seed(0)
    frames = []
    for step in range(wait + length):
        if step >= wait:
            frames.append(env.render())
        if any(env.step(env.action_space.sample())[2:4]):
            env.reset()
    env.close()
    return np.stack(frames)


def marks() -> NDArray[np.uint8]:
    """Return the blocks of all numbers, uint8 ``[32768, 32, 32, 1]``: a column for each bit, the lowest first."""
    bits = np.arange(1 << 15)[:, None] >> np.arange(BLOCKS[0] * BLOCKS[1]) & 1
    blocks = (255 * bits.astype(np.uint8)).reshape(-1, BLOCKS[0], 1, BLOCKS[1], 1)
    return np.broadcast_to(blocks, (*blocks.shape[:2], BLOCK, BLOCKS[1], BLOCK)).reshape(len(bits), *CORNER, 1)


CORNER = (BLOCK * BLOCKS[0], BLOCK * BLOCKS[1])
MARKS = marks()


def frame_of(frames: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Return frame number `number` of an endless loop, a new array, as an environment returns it."""
    frame = frames[number % len(frames)].copy()
    frame[: CORNER[0], : CORNER[1]] = MARKS[number]
    return frame


def numbers_in(path: Path, size: tuple[int, int]) -> list[int]:
    """Return the number of each frame of a file, whatever size its recorder has given it."""
    height, width = CORNER
    if path.suffix == ".pt":
        corners = torch.load(path)[0, :, 1, :height, :width].numpy()
    else:
        scale = f"scale={size[1]}:{size[0]}:flags=area,crop={width}:{height}:0:0"
        command = [find_ffmpeg(), "-v", "error", "-i", path, "-vf", scale]
        command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"]
        done = subprocess.run(command, capture_output=True, check=True)
        corners = np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width)
    middles = corners[:, BLOCK // 2 :: BLOCK, BLOCK // 2 :: BLOCK].reshape(len(corners), -1)
    return [int(number) for number in ((middles > 127) << np.arange(middles.shape[1])).sum(1)]


def lost_and_repeated(found: list[int], frames: int) -> tuple[int, int]:
    """Return how many of the frames 0 to `frames` - 1 are not there, and how many are there again."""
    counts = Counter(found)
    return sum(number not in counts for number in range(frames)), len(found) - len(counts)


def busy(seconds: float) -> float:
    """Compute for so long, as a simulator does, time without a core not counted; return how long it took."""
    begin, until = time.perf_counter(), time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    return time.perf_counter() - begin


class Simulator(EnvBase):
    """An environment of TorchRL's that never ends, whose steps take `step_s` seconds of a core.

    Attributes:
        busy_s: how long that took in the last step, in seconds.
    """

    def __init__(self, frames: NDArray[np.uint8], step_s: float) -> None:
        super().__init__()
        self.frames, self.step_s, self.steps, self.busy_s = frames, step_s, 0, 0.0
        self.observation_spec = Composite(pixels=Unbounded(frames.shape[1:], dtype=torch.uint8))
        self.action_spec = self.reward_spec = Unbounded((1,))

    def _pixels(self) -> torch.Tensor:
        return torch.from_numpy(frame_of(self.frames, self.steps))

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        self.steps = 0
        return TensorDict({"pixels": self._pixels()})

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        self.busy_s = busy(self.step_s)
        self.steps += 1
        return TensorDict(
            {"pixels": self._pixels(), "reward": torch.zeros(1), "done": torch.zeros(1, dtype=torch.bool)}
        )

    def _set_seed(self, seed: int | None) -> None:
        pass

    def roll(self, frames: int, env: EnvBase | None = None) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames of the reset and of ``frames - 1`` steps of `env`, which is this one in transforms."""
        env = env or self
        tensordict = env.reset()
        yield tensordict["pixels"].numpy()
        for _ in range(frames - 1):
            tensordict, following = env.step_and_maybe_reset(tensordict.set("action", torch.zeros(1)))
            yield tensordict["next", "pixels"].numpy()
            tensordict = following


class GymSimulator(gymnasium.Env):
    """The same as an environment of Gymnasium's, whose `render` returns the frame of the step."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012 - as Gymnasium has it
    render_mode = "rgb_array"
    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, frames: NDArray[np.uint8], step_s: float) -> None:
        self.frames, self.step_s, self.steps, self.busy_s = frames, step_s, 0, 0.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        self.steps = 0
        self.frame = frame_of(self.frames, 0)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.busy_s = busy(self.step_s)
        self.steps += 1
        self.frame = frame_of(self.frames, self.steps)
        return np.zeros(1, np.float32), 0.0, False, False, {}

    def render(self) -> NDArray[np.uint8]:
        return self.frame

    def roll(self, frames: int, env: Any = None) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames of the reset and of ``frames - 1`` steps of `env`, which wraps this one, or several."""
        env = env or self
        env.reset()
        yield self.frame
        for _ in range(frames - 1):
            env.step(np.zeros((getattr(env, "num_envs", 1), 1), np.float32))
            yield self.frame

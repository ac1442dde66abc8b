"""What recording costs where frames are drawn for it: `render=True`, pixels in the data, and Gymnasium's RecordVideo.

    python benchmarks/bench_render.py [rounds [CartPole, cheetah or plain]]

A step of the same Gymnasium env under TorchRL, in ms, until its last video is published. Each way is measured in each
round, one after the other; the figures are medians, and in brackets is their ratio to no recording. Ways that draw
every frame, wanted or not, take a twentieth of the steps: each costs the same.
"""

import contextlib
import shutil
import statistics
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import gymnasium
import numpy as np
import torch
from dm_control import suite
from gymnasium.wrappers import RecordVideo, TimeLimit
from torchrl.envs import GymWrapper, TransformedEnv
from torchrl.record import PixelRenderTransform

from vidrec import CSVLogger, VideoRecorder

EPISODE, FOLDER = 200, "bench_render"
NEVER = "no frame"
WORK = {
    NEVER: (20_000, {"episode_trigger": lambda number: False}),
    "1 of 100 episodes": (20_000, {"episode_trigger": lambda number: number == 50}),
    "200 frames every 10,000 steps": (20_000, {"step_trigger": lambda step: step % 10_000 == 0}),
    "all frames": (1_000, {"episode_trigger": lambda number: True}),
}


class Cheetah(gymnasium.Env):
    """dm_control's cheetah as an env of Gymnasium, which RecordVideo wraps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 100}  # noqa: RUF012 - as Gymnasium has it
    render_mode = "rgb_array"
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (17,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (6,), np.float32)

    def __init__(self, **flags):
        self.drawn = {"camera_id": 0, "render_flag_overrides": flags}
        self.env = suite.load("cheetah", "run", task_kwargs={"random": 0})

    def reset(self, *, seed=None, options=None):
        return self._observation(self.env.reset()), {}

    def step(self, action):
        step = self.env.step(action)
        return self._observation(step), step.reward, False, False, {}

    def render(self):
        return self.env.physics.render(240, 320, **self.drawn).copy()  # PixelRenderTransform takes no negative strides

    def close(self):
        self.env.close()  # or else the garbage collector frees the window in the middle of another one's step

    def _observation(self, step):
        return np.concatenate(list(step.observation.values()))


def cartpole():
    return TimeLimit(gymnasium.make("CartPole-v1", render_mode="rgb_array").unwrapped, EPISODE)


def cheetah():
    return TimeLimit(Cheetah(), EPISODE)


def plain_cheetah():
    """Without what takes most of the time in software: shadows, the reflection in the floor and the sky."""
    return TimeLimit(Cheetah(shadow=False, reflection=False, skybox=False), EPISODE)


def balance(td):
    """Keep the pole up, for whole episodes."""
    angle, speed = td["observation"][2:].tolist()
    return td.set("action", torch.tensor([1, 0] if angle + 0.5 * speed < 0 else [0, 1]))


def plain(make, trigger):
    return TransformedEnv(GymWrapper(make())), None


def rendered(make, trigger):
    recorder = _recorder(trigger, render=True)
    return TransformedEnv(GymWrapper(make()), recorder), recorder


def pixels(make, trigger):
    recorder = _recorder(trigger)
    return TransformedEnv(GymWrapper(make(), from_pixels=True, pixels_only=False), recorder), recorder


def pixel_render(make, trigger):
    recorder = _recorder(trigger)
    env = TransformedEnv(GymWrapper(make()), PixelRenderTransform())
    return env.append_transform(recorder), recorder


def record_video(make, trigger):
    env = RecordVideo(
        make(), FOLDER, disable_logger=True, video_length=200 if "step_trigger" in trigger else 0, **trigger
    )
    return TransformedEnv(GymWrapper(env)), None


def _recorder(trigger, **settings):
    bound = {"max_frames": 200} if "step_trigger" in trigger else {}
    return VideoRecorder(CSVLogger("run", FOLDER), "video", skip=1, **trigger, **bound, **settings)


DRAWS_ALL = (pixels, pixel_render)
WAYS = {
    "no recording": plain,
    "vidrec, `render=True`": rendered,
    "vidrec, pixels in the data": pixels,
    "vidrec, behind `PixelRenderTransform`": pixel_render,
    "Gymnasium `RecordVideo`": record_video,
}


def seconds_per_step(make, policy, way, work):
    """Return how long a step takes, the publishing of the last video included."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    steps, trigger = WORK[work]
    steps //= 20 if way in DRAWS_ALL and work != "all frames" else 1
    env, recorder = way(make, trigger)
    env.set_seed(0)
    env.rollout(20, policy)  # makes the window
    if recorder is not None:
        recorder.dump()
    begin = time.perf_counter()
    done = 0
    while done < steps:
        done += len(env.rollout(min(EPISODE, steps - done), policy))
    if recorder is not None:
        recorder.dump()
    env.close()
    return (time.perf_counter() - begin) / done


def main(rounds, only=None):
    for name, make, policy in [
        ("CartPole", cartpole, balance),
        ("cheetah", cheetah, None),
        ("plain", plain_cheetah, None),
    ]:
        if only and name != only:
            continue
        print(f"\n| {name}, ms a step | {' | '.join(WORK)} |\n|---|{'---|' * len(WORK)}", flush=True)
        taken = {}
        for _ in range(rounds):
            for work in WORK:
                for title, way in WAYS.items():
                    if way is plain and work != NEVER:
                        continue
                    # in a process of its own: dm_control may hang where the garbage collector frees an earlier window
                    with ProcessPoolExecutor(1, get_context("spawn")) as process:
                        seconds = process.submit(seconds_per_step, make, policy, way, work).result()
                    taken.setdefault((title, work), []).append(seconds)
                    shutil.rmtree(FOLDER, ignore_errors=True)
        none = statistics.median(taken["no recording", NEVER])
        for title in WAYS:
            cells = []
            for work in WORK:
                with contextlib.suppress(KeyError):
                    seconds = statistics.median(taken[title, work])
                    cells.append(f"{seconds * 1e3:.3f} ({seconds / none:.2f})")
            print(f"| {title} | {' | '.join(cells + [''] * (len(WORK) - len(cells)))} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, *sys.argv[2:])

"""Measure vidrec beside TorchRL's own recorder: time, memory, and whether the frames are there.

    python benchmarks/bench.py [--repeat 3] [--frames 1000]

Every case runs in a fresh process, warmed up with a few frames; repetitions are interleaved, and medians printed. The
exit code is 0 whatever the figures are. Memory is read from Linux's /proc, and "nan" elsewhere.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torchrl.record
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Composite, Unbounded
from torchrl.envs import EnvBase, TransformedEnv

import vidrec
from vidrec.ffmpeg.program import find_ffmpeg

LIBRARIES = {"vidrec": vidrec, "TorchRL": torchrl.record}
SIZE, STEP_S, WARM_UP = (480, 640), 0.005, 5
SHORT, LONG = 100, 10_000


def scene(size: tuple[int, int], length: int = 24) -> torch.Tensor:
    """Return a loop that looks rendered: a smooth gradient, two moving shapes, mild noise; uint8 ``[T, H, W, 3]``."""
    rng = np.random.default_rng(0)
    y, x = (axis / side for axis, side in zip(np.indices(size), size, strict=True))
    loop = np.empty((length, *size, 3), np.uint8)
    for frame, phase in zip(loop, 2 * np.pi * np.arange(length) / length, strict=True):
        colours = np.stack([90 + 120 * x, 60 + 130 * y, 200 - 45 * (x + y)], -1)
        colours[np.hypot(x - 0.5 - 0.3 * np.cos(phase), y - 0.5 - 0.3 * np.sin(phase)) < 0.1] = 230, 60, 40
        colours[(abs(x - 0.5 - 0.35 * np.sin(phase)) < 0.08) & (abs(y - 0.8) < 0.05)] = 40, 40, 60
        frame[:] = np.clip(colours + rng.normal(0, 2, colours.shape), 0, 255)
    return torch.from_numpy(loop)


class Simulator(EnvBase):
    """An env whose step waits, as for a simulator; its frames are made beforehand, and it never ends."""

    def __init__(self, frames: torch.Tensor) -> None:
        super().__init__()
        self.frames, self.steps = frames, 0
        self.observation_spec = Composite(pixels=Unbounded(frames.shape[1:], dtype=torch.uint8))
        self.action_spec = self.reward_spec = Unbounded((1,))

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        return TensorDict({"pixels": self.frames[0]})

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        time.sleep(STEP_S)
        self.steps += 1
        frame = self.frames[self.steps % len(self.frames)]
        return TensorDict({"pixels": frame, "reward": torch.zeros(1), "done": torch.zeros(1, dtype=torch.bool)})

    def _set_seed(self, seed: int | None) -> None:
        pass


def roll(env: EnvBase, frames: int) -> None:
    """Step as a collector does, keeping nothing: the frames are those of the reset and of ``frames - 1`` steps."""
    tensordict = env.reset()
    for _ in range(frames - 1):
        _, tensordict = env.step_and_maybe_reset(tensordict.set("action", torch.zeros(1)))


def memory_mb(field: str, process: str | int = "self") -> float:
    """Return ``VmRSS`` (now) or ``VmHWM`` (the peak) of a process, in MB."""
    status = Path(f"/proc/{process}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), math.nan)


def encoder_mb() -> float:
    """Return the peak memory of the child processes, in MB."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    return sum(memory_mb("VmHWM", child) for child in listing.read_text().split()) if listing.exists() else math.nan


def count_frames(path: Path) -> int:
    """Decode a video from beginning to end, and count."""
    command = [find_ffmpeg(), "-v", "error", "-i", path, "-fps_mode", "passthrough", "-f", "framecrc", "-"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return sum(not line.startswith("#") for line in lines)


def rollout_and_dump(case: str, frames: int, size: tuple[int, int], folder: str) -> dict[str, float]:
    """Time a rollout and the `dump` after it, and measure how far the memory of this process grows meanwhile."""
    env, library = Simulator(scene(size)), LIBRARIES.get(case)
    if library is not None:
        logger = library.CSVLogger("bench", folder, video_format="mp4")
        env = TransformedEnv(env, library.VideoRecorder(logger, "clip", skip=1))
    dump = (lambda suffix=None: None) if library is None else env.transform.dump
    roll(env, WARM_UP)
    dump("warm_up")
    np.ones(2 * frames * 3 * math.prod(size), np.uint8)  # so that no one waits for a virtual machine to get its memory
    before_mb = memory_mb("VmRSS")
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # the peak of the warm-up does not count

    start = time.perf_counter()
    roll(env, frames)
    row = {"rollout_s": time.perf_counter() - start, "encoder_mb": encoder_mb()}
    start = time.perf_counter()
    dump()
    row |= {"dump_s": time.perf_counter() - start, "peak_mb": memory_mb("VmHWM") - before_mb}
    return row | {"frames": sum(count_frames(p) for p in Path(folder).rglob("*.mp4") if "warm_up" not in p.name)}


def dump_alone(case: str, frames: int, size: tuple[int, int], folder: str) -> dict[str, float]:
    """Time vidrec's `dump` after frames that came as fast as they could."""
    loop = scene(size)
    recorder = vidrec.VideoRecorder(vidrec.CSVLogger("bench", folder, video_format="mp4"), "clip", skip=1)
    for length in (WARM_UP, frames):
        for i in range(length):
            recorder(TensorDict({"pixels": loop[i % len(loop)][None]}, [1]))
        start = time.perf_counter()
        video = recorder.dump()
        dump_s = time.perf_counter() - start
    return {"dump_s": dump_s, "frames": count_frames(video.path)}


def compare(cases: list[tuple[Any, ...]], repeat: int) -> list[dict[str, float]]:
    """Measure `cases` in turn, `repeat` times, in a process of its own each time; return the medians of each case."""

    def measure(*case: Any) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-W", "ignore", __file__, "--case", json.dumps([*case, folder])]
            output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        return json.loads(output.splitlines()[-1])

    rounds = [[measure(*case) for case in cases] for _ in range(repeat)]
    return [{name: median(row[name] for row in rows) for name in rows[0]} for rows in zip(*rounds, strict=True)]


def main(repeat: int, frames: int) -> None:
    names = ["env alone", *LIBRARIES]
    try:
        import torchcodec.encoders  # noqa: F401
    except Exception as error:
        names.remove("TorchRL")
        print(
            f"No row of TorchRL ({type(error).__name__}): its mp4 needs `pip install torchcodec==0.13.0`, and FFmpeg's"
        )
        print("libraries of the system (`apt-get install ffmpeg`)\n")

    print(f"{frames} frames of {SIZE[0]}x{SIZE[1]} to mp4, steps of {STEP_S * 1e3:g} ms, medians of {repeat}\n")
    print("            rollout s   dump s   wall / env alone   peak MB   encoder MB   frames in file")
    rows = dict(zip(names, compare([(name, frames, SIZE) for name in names], repeat), strict=True))
    wall = {name: (row["rollout_s"] + row["dump_s"]) / rows["env alone"]["rollout_s"] for name, row in rows.items()}
    for name, row in rows.items():
        times = f"{row['rollout_s']:11.2f}{row['dump_s']:9.3f}{wall[name]:19.2f}"
        print(f"{name:10}{times}{row['peak_mb']:10.1f}{row['encoder_mb']:13.0f}{row['frames']:17.0f}")
    print(f"\nwall, vidrec / env alone         {wall['vidrec']:7.2f}   target: at most 1.2")
    if "TorchRL" in rows:
        (_, ours, theirs), peak_mb = rows.values(), max(rows["vidrec"]["peak_mb"], 1)
        print(f"dump, vidrec / TorchRL       1 / {theirs['dump_s'] / ours['dump_s']:7.0f}   target: at most 1 / 100")
        print(f"peak, vidrec / TorchRL       1 / {theirs['peak_mb'] / peak_mb:7.0f}   below 1 MB counted as 1 MB")
        print(f"peak with the encoder's      1 / {theirs['peak_mb'] / (peak_mb + ours['encoder_mb']):7.0f}")

    print(f"\ndump of vidrec, frames as fast as they come, medians of {repeat}\n")
    print(f"{SHORT:>18} frames{LONG:>9} frames   ratio, target: at most 3")
    for size in ((84, 84), (240, 320)):
        short, long = compare([("dump", SHORT, size), ("dump", LONG, size)], repeat)
        lost = SHORT + LONG - short["frames"] - long["frames"]
        ratio = f"{long['dump_s'] / short['dump_s']:8.2f}" + (f"   {lost:.0f} FRAMES LOST" if lost else "")
        print(f"{f'{size[0]}x{size[1]}':10}{short['dump_s']:13.3f} s{long['dump_s']:14.3f} s{ratio}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        print(json.dumps((dump_alone if given.case[0] == "dump" else rollout_and_dump)(*given.case)))
    else:
        main(given.repeat, given.frames)

"""Measure what a recorder adds to the training process: CPU time of one ``env.step``, beside TorchRL's recorder.

    python benchmarks/bench_step.py [--rounds 60] [--passes 5] [--json]

The env gives prebuilt tensors, so that its step costs little. Each row times the same step with an empty transform,
with TorchRL's recorder (its CSVLogger, "pt") and with ours (mp4 at preset="ultrafast", scale=1), and one `os.write` of
the bytes that ours writes, into the pipe of another FFmpeg that was started with the same arguments and waits. These
take turns within a round, in another order each time. A figure is the median of differences within a round. Only the
CPU time of this process counts, with torch on one thread; between the steps it waits, so that FFmpeg keeps up. The
exit code is 0 whatever the figures are.
"""

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any
from unittest import mock

import torch
import torchrl.record
from torchrl.envs.transforms import Transform
from walk import prepared

import vidrec

NEVER = 10**9
LENGTH = 8  # of the loop of frames
WARM_UP = 5
WAIT_S = 150e-6  # before each step, for FFmpeg to be at rest
STEPS = 20  # of a skipped step in one reading of the clock
PIPE_BYTES = 2**20

Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: also the key of its figures.
        target: what must be reached, in words.
        limit: returns from the figures of all rows what `cost` may be at the most, in microseconds.
        shape: of a frame of one env.
        batch: how many envs; None is a single one, without a batch.
        beyond_write: whether what must be reached is beyond one write of the same bytes.
        pause_s: how long to wait after a round, so that FFmpeg keeps up.
        ours: arguments of our recorder alone.
        both: arguments of both recorders.
    """

    name: str
    target: str
    limit: Callable[[Figures], float]
    shape: tuple[int, ...] = (84, 84, 3)
    dtype: torch.dtype = torch.uint8
    batch: int | None = None
    beyond_write: bool = False
    pause_s: float = 0.0
    ours: dict[str, Any] = field(default_factory=dict)
    both: dict[str, Any] = field(default_factory=dict)

    @property
    def recorded(self) -> bool:
        return self.pause_s > 0

    def cost(self, figures: Figures) -> float:
        own = figures[self.name]
        return own["vidrec"] - own["write"] if self.beyond_write else own["vidrec"]


def skipped_rows() -> Iterator[Row]:
    """Yield the rows of frames that nobody wants; TorchRL's recorder skips them in all."""

    def never(number: int) -> bool:
        return False

    ways = {
        "skipped": {"skip": NEVER},
        "not triggered": {"step_trigger": never, "max_frames": 9, "skip": 1},
        "unwanted episode": {"episode_trigger": never, "skip": 1},
    }
    envs = {"single env": {}, "grid of 64": {"batch": 64}, "64 envs": {"batch": 64, "both": {"make_grid": False}}}
    for way, ours in ways.items():
        for where, arguments in envs.items():
            name = f"{way}, {where}"
            target = "1.5 x TorchRL's skipped step"
            yield Row(name, target, lambda known, name=name: 1.5 * known[name]["TorchRL"], ours=ours, **arguments)


SMALL, HWC, CHW, FLOAT = "84x84x3", "480x640x3 HWC", "480x640x3 CHW", "480x640x3 float32 CHW"
CAPTIONED = "480x640x3 with three names"
GRID, VIDEOS = "grid of 64 x 84x84x3", "16 envs, a video each"


def recorded_rows() -> Iterator[Row]:
    """Yield the rows of frames that are recorded."""
    yield Row(
        SMALL,
        "1.5 x TorchRL's recorded step, beyond a write",
        lambda known: 1.5 * known[SMALL]["TorchRL"],
        pause_s=0.001,
        beyond_write=True,
    )
    yield Row(
        HWC,
        f"2 x {SMALL} beyond its write, beyond a write",
        lambda known: 2 * (known[SMALL]["vidrec"] - known[SMALL]["write"]),
        (480, 640, 3),
        pause_s=0.008,
        beyond_write=True,
    )
    yield Row(CHW, "1.2 x HWC", lambda known: 1.2 * known[HWC]["vidrec"], (3, 480, 640), pause_s=0.008)
    yield Row(
        FLOAT, "less than TorchRL", lambda known: known[FLOAT]["TorchRL"], (3, 480, 640), torch.float32, pause_s=0.008
    )
    yield Row(
        CAPTIONED,
        "1 ms more than HWC",
        lambda known: known[HWC]["vidrec"] + 1000,
        (480, 640, 3),
        pause_s=0.008,
        ours={"caption": ["step", "reward", "return"]},
    )
    yield Row(GRID, "2 x a write", lambda known: 2 * known[GRID]["write"], batch=64, pause_s=0.012)
    yield Row(
        VIDEOS,
        f"16 x {SMALL}",
        lambda known: 16 * known[SMALL]["vidrec"],
        batch=16,
        pause_s=0.008,
        both={"make_grid": False},
    )


def scene(row: Row) -> torch.Tensor:
    """Return a loop of moving gradients, ``[LENGTH, (batch,) *shape]``."""
    height, width = row.shape[1:] if row.shape[0] == 3 else row.shape[:2]
    y, x = torch.arange(height)[:, None, None], torch.arange(width)[None, :, None]
    t, colours = torch.arange(LENGTH)[:, None, None, None], torch.arange(3)
    frames = ((x * (1 + colours) + y * (3 - colours)) * 255 // (3 * (height + width)) + 4 * t) % 256
    frames = frames.to(torch.uint8) if row.dtype is torch.uint8 else frames.to(row.dtype) / 255
    if row.shape[0] == 3:
        frames = frames.permute(0, 3, 1, 2).contiguous()
    return frames if row.batch is None else frames[:, None].repeat(1, row.batch, 1, 1, 1)


class Waiting:
    """An FFmpeg that was started as that of our recorder, to write the same number of bytes to."""

    def __init__(self, command: list[str], folder: str, size: int) -> None:
        command = [*command[:-1], f"file:{tempfile.mkdtemp(dir=folder)}/write.mp4"]
        at = command.index("-progress") + 1 if "-progress" in command else 0
        command[at : at + 1] = ["pipe:2"] if at else command[:1]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, bufsize=0
        )
        assert self.process.stdin is not None
        if sys.platform == "linux":
            import fcntl

            with contextlib.suppress(OSError):
                fcntl.fcntl(self.process.stdin.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.frames = torch.randint(0, 256, (LENGTH, 1), dtype=torch.uint8).repeat(1, size).numpy()

    def write(self, at: int) -> None:
        rest = self.frames[at % LENGTH].data
        while rest:
            rest = rest[os.write(self.process.stdin.fileno(), rest) :]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Measured:
    """A row with its envs, and all that was measured of it, in microseconds."""

    def __init__(self, row: Row, folder: str) -> None:
        self.row = row
        commands: list[list[str]] = []
        popen = subprocess.Popen

        class Noted(popen):  # type: ignore[type-arg, valid-type, misc]
            def __init__(self, args: Any, *more: Any, **settings: Any) -> None:
                commands.append([str(part) for part in args])
                super().__init__(args, *more, **settings)

        own = tempfile.mkdtemp(dir=folder)
        theirs = {"skip": 1 if row.recorded else NEVER, **row.both}
        ours = {"skip": 1, **row.both, **row.ours, "preset": "ultrafast", "scale": 1}
        self.theirs = torchrl.record.VideoRecorder(torchrl.record.CSVLogger("torchrl", own), "video", **theirs)
        self.ours = vidrec.VideoRecorder(vidrec.CSVLogger("vidrec", own, video_format="mp4"), "video", **ours)
        transforms = {"empty": Transform(), "TorchRL": self.theirs, "vidrec": self.ours}
        frames, batch = scene(row), () if row.batch is None else (row.batch,)
        with mock.patch.object(subprocess, "Popen", Noted):
            self.envs = {name: prepared(frames, each, batch) for name, each in transforms.items()}
            for name in self.envs:
                self.step(name, WARM_UP)
        self.waiting = []
        if row.recorded:
            encoders = [command for command in commands if "pipe:0" in command]
            sides = [int(side) for side in encoders[0][encoders[0].index("-video_size") + 1].split("x")]
            self.waiting = [Waiting(command, own, 3 * math.prod(sides)) for command in encoders]
        self.written = 0
        self.samples: dict[str, list[float]] = {name: [] for name in ("empty", "TorchRL", "vidrec", "write")}

    def step(self, name: str, steps: int = 1) -> float:
        """Return the CPU time of one step, in microseconds."""
        env, tensordict = self.envs[name]
        arguments = [tensordict.copy() for _ in range(steps)]
        before = time.process_time_ns()
        for argument in arguments:
            env.step(argument)
        return (time.process_time_ns() - before) / steps / 1000

    def write(self) -> float:
        before = time.process_time_ns()
        for encoder in self.waiting:
            encoder.write(self.written)
        spent = time.process_time_ns() - before
        self.written += 1
        return spent / 1000

    def run(self, rounds: int) -> None:
        row, names = self.row, [*self.envs, *(["write"] if self.waiting else [])]
        self.theirs.obs.clear()
        for turn in range(-WARM_UP, rounds):
            self.step("empty", WARM_UP)
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                until = time.perf_counter() + (WAIT_S if row.recorded else 0)
                while time.perf_counter() < until:
                    pass
                spent = self.write() if name == "write" else self.step(name, 1 if row.recorded else STEPS)
                if turn >= 0:
                    self.samples[name].append(spent)
            time.sleep(row.pause_s)

    @property
    def figures(self) -> dict[str, float]:
        empty, write = self.samples["empty"], self.samples["write"] or [0.0]
        beyond = {
            name: median(own - other for own, other in zip(self.samples[name], empty, strict=True))
            for name in ("TorchRL", "vidrec")
        }
        return {"empty": median(empty), **beyond, "write": median(write)}

    def close(self) -> None:
        self.envs["vidrec"][0].close()
        for encoder in self.waiting:
            encoder.close()


def measure(rows: list[Row], rounds: int, passes: int) -> Figures:
    """Return for each row the medians: of the step with an empty transform, what recorders add to it, and a write."""
    with tempfile.TemporaryDirectory() as folder:
        measured = [Measured(row, folder) for row in rows]
        try:
            for _ in range(passes):
                for each in measured:
                    each.run(rounds)
            return {each.row.name: each.figures for each in measured}
        finally:
            for each in measured:
                each.close()


def main(rounds: int, passes: int, as_json: bool) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = [*skipped_rows(), *recorded_rows()]
    figures = measure(rows, rounds, passes)
    table = []
    for row in rows:
        cost, limit = row.cost(figures), row.limit(figures)
        table.append(
            {
                "row": row.name,
                **figures[row.name],
                "cost": cost,
                "limit": limit,
                "target": row.target,
                "reached": cost <= limit,
            }
        )
    if as_json:
        print(json.dumps(table, indent=1))
        return
    print(f"CPU microseconds of one step, {rounds * passes} rounds; torch {torch.__version__}, one thread")
    heads = ["", "empty", "+TorchRL", "+vidrec", "x TorchRL", "write", "measured", "at most", "", "must reach"]
    print("".join(f"{head:>{width}}" for head, width in zip(heads, WIDTHS, strict=True)))
    for line in table:
        cells = [line["row"], *(f"{line[name]:.1f}" for name in ("empty", "TorchRL", "vidrec"))]
        cells += [f"{line['vidrec'] / line['TorchRL']:.2f}", f"{line['write']:.1f}" if line["write"] else "-"]
        cells += [f"{line['cost']:.1f}", f"{line['limit']:.1f}", "yes" if line["reached"] else "NO"]
        print("".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=False)) + f"   {line['target']}")


WIDTHS = [29, 9, 10, 9, 11, 8, 10, 9, 5, 13]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=60, help="of each row in each pass")
    parser.add_argument("--passes", type=int, default=5, help="over all rows")
    parser.add_argument("--json", action="store_true", dest="as_json")
    main(**vars(parser.parse_args()))

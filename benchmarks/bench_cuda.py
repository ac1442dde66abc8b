"""Measure what recording frames that live on a GPU adds to a step, beside ``tensor.cpu()`` in each step.

    python benchmarks/bench_cuda.py [--steps 300] [--busy-ms 2] [--json]

The env keeps the GPU busy for a while in each step and gives prebuilt tensors on it. Each row runs the same steps with
nothing, with a copy of the same frames by ``tensor.cpu()``, which waits for the step, and with a recorder (mp4 at
preset="ultrafast", scale=1). ``call`` is the median time until ``env.step`` returns, ``step`` the time of all steps,
until the GPU has done them, by their number; ``dump`` is not part of it. Without a GPU there is nothing to measure.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from tensordict import TensorDictBase
from torchrl.envs import TransformedEnv
from torchrl.envs.transforms import Transform
from walk import PrebuiltEnv

import vidrec

LENGTH = 8  # of the loop of frames
WARM_UP = 20
WAYS = ("nothing", "cpu()", "vidrec")


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: also the key of its figures.
        shape: of a frame.
        batch: how many envs there are; None is one without a batch.
        shown: how many of them are recorded.
        ours: more arguments of the recorder.
    """

    name: str
    shape: tuple[int, int, int]
    batch: int | None = None
    shown: int = 1
    ours: dict[str, Any] = field(default_factory=dict)


ROWS = [
    Row("16 of 256 x 128x128, a grid", (128, 128, 3), 256, 16, {"env_ids": range(16)}),
    Row("16 of 256 x 128x128, a video each", (128, 128, 3), 256, 16, {"env_ids": range(16), "make_grid": False}),
    Row("256 x 128x128, a grid", (128, 128, 3), 256, 256),
    Row("one of 720x1280", (720, 1280, 3)),
]


class BusyEnv(PrebuiltEnv):
    """An env that keeps its GPU busy in each step."""

    def __init__(self, frames: torch.Tensor, batch_size: tuple[int, ...], busy: Callable[[], None]) -> None:
        super().__init__(frames, batch_size)
        self.busy = busy
        self.outcomes = [outcome.to(frames.device) for outcome in self.outcomes]

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        self.busy()
        return super()._step(tensordict)


class Read(Transform):
    """Copies the frames of the first envs into main memory, as a recorder would that knows no better."""

    def __init__(self, shown: int) -> None:
        super().__init__()
        self.shown = shown

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        pixels = next_tensordict["pixels"]
        (pixels if pixels.ndim == 3 else pixels[: self.shown]).cpu()
        return next_tensordict


def measure(row: Row, way: str, steps: int, device: str, busy: Callable[[], None], done: Callable[[], None]) -> Any:
    """Return the median time until a step returns, and that of a step, in ms."""
    batch = () if row.batch is None else (row.batch,)
    frames = torch.randint(256, (LENGTH, *batch, *row.shape), dtype=torch.uint8, device=device)
    with tempfile.TemporaryDirectory() as folder:
        transform = Transform() if way == "nothing" else Read(row.shown)
        if way == "vidrec":
            logger = vidrec.CSVLogger("cuda", folder)
            transform = vidrec.VideoRecorder(logger, "video", skip=1, preset="ultrafast", scale=1, **row.ours)
        env = TransformedEnv(BusyEnv(frames, batch, busy), transform)
        tensordict = env.reset().set("action", torch.zeros((*batch, 1), device=device))
        calls = []
        for at in range(WARM_UP + steps):
            if at == WARM_UP:
                done()
                begin = time.perf_counter()
            argument, before = tensordict.copy(), time.perf_counter()
            env.step(argument)
            calls.append(time.perf_counter() - before)
        done()
        spent = time.perf_counter() - begin
        env.close()
    return 1000 * median(calls[WARM_UP:]), 1000 * spent / steps


def cycles_of(busy_ms: float) -> int:
    """Return how many cycles of the GPU take so long."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    torch.cuda._sleep(10**8)
    end.record()
    end.synchronize()
    return round(busy_ms * 10**8 / begin.elapsed_time(end))


def main(steps: int, busy_ms: float, as_json: bool) -> None:
    if not torch.cuda.is_available():
        sys.exit("bench_cuda.py measures frames on a CUDA device, and PyTorch finds none here")
    cycles = cycles_of(busy_ms)
    figures = {}
    for row in ROWS:
        ways = [
            measure(row, way, steps, "cuda", lambda: torch.cuda._sleep(cycles), torch.cuda.synchronize) for way in WAYS
        ]
        figures[row.name] = {
            way: {"call_ms": call, "step_ms": step} for way, (call, step) in zip(WAYS, ways, strict=True)
        }
    if as_json:
        print(json.dumps(figures, indent=1))
        return
    print(f"ms a step, {steps} steps; torch {torch.__version__}, {torch.cuda.get_device_name()}; call / step")
    print(f"{'':36}" + "".join(f"{way:>18}" for way in WAYS))
    for name, own in figures.items():
        cells = [f"{own[way]['call_ms']:.3f} / {own[way]['step_ms']:.3f}" for way in WAYS]
        print(f"{name:36}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--busy-ms", type=float, default=2.0, help="how long the GPU is busy in each step")
    parser.add_argument("--json", action="store_true", dest="as_json")
    main(**vars(parser.parse_args()))

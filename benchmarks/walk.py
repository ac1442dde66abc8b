"""Print the way of one frame: the functions of vidrec that one step of an env runs, in order, indented by depth.

    python benchmarks/walk.py [--skipped]

The env has run for some steps before, so that files are open and everything that is kept has been made. What runs
inside other libraries is left out.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Composite, Unbounded
from torchrl.envs import EnvBase, TransformedEnv
from torchrl.envs.transforms import Transform

import vidrec

PACKAGE = Path(vidrec.__file__).parent
Hook = tuple[Callable[[], Any], Callable[[Any], None]]
INLINED = {"<listcomp>", "<setcomp>", "<dictcomp>"}  # no calls from Python 3.12 on


class PrebuiltEnv(EnvBase):
    """An env whose steps cost little: it gives prebuilt tensors, one after another, and never ends by itself.

    Args:
        frames: ``[T, *batch_size, ...]``, the frames of the steps; they come again after the last.
        batch_size: of the env.
    """

    def __init__(self, frames: torch.Tensor, batch_size: tuple[int, ...] = ()) -> None:
        super().__init__(batch_size=batch_size)
        shape = (*batch_size, 1)
        self.observation_spec = Composite(pixels=Unbounded(frames.shape[1:], dtype=frames.dtype), shape=batch_size)
        self.action_spec = self.reward_spec = Unbounded(shape)
        flag = torch.zeros(shape, dtype=torch.bool)
        entries = {"reward": torch.ones(shape), "done": flag, "terminated": flag, "truncated": flag}
        self.outcomes = [TensorDict({"pixels": frame, **entries}, batch_size) for frame in frames]
        self.steps = 0

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        return self.outcomes[0].exclude("reward")

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        self.steps += 1
        return self.outcomes[self.steps % len(self.outcomes)].copy()

    def _set_seed(self, seed: int | None) -> None:
        pass


def prepared(
    frames: torch.Tensor, transform: Transform, batch_size: tuple[int, ...] = ()
) -> tuple[EnvBase, TensorDictBase]:
    """Return an env that was reset, and what a step of it takes; give each step a copy of that."""
    env = TransformedEnv(PrebuiltEnv(frames, batch_size), transform)
    return env, env.reset().set("action", torch.zeros((*batch_size, 1)))


@dataclass
class Call:
    """One call of a function of vidrec; `depth` counts the functions of vidrec around it, and `caller` is the next."""

    file: str
    function: str
    depth: int
    caller: str | None

    def __str__(self) -> str:
        return f"{'  ' * self.depth}{self.file}: {self.function}"


def step_watched(
    env: EnvBase, tensordict: TensorDictBase, hook: Hook, function: Callable[..., Any], warm_up: int = 5
) -> None:
    """Take one step of an env under a function for ``sys.setprofile`` or ``settrace``, after some steps without it."""
    for _ in range(warm_up):
        env.step(tensordict.copy())
    get, set_ = hook
    argument, before = tensordict.copy(), get()
    set_(function)
    try:
        env.step(argument)
    finally:
        set_(before)


def walk(env: EnvBase, tensordict: TensorDictBase, warm_up: int = 5) -> list[Call]:
    """Return the calls of vidrec's functions during one ``env.step``, after so many others."""
    calls: list[Call] = []

    def ours(frame: FrameType | None) -> list[FrameType]:
        found = []
        while frame is not None:
            if PACKAGE in Path(frame.f_code.co_filename).parents and frame.f_code.co_name not in INLINED:
                found.append(frame)
            frame = frame.f_back
        return found

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and (around := ours(frame)) and around[0] is frame:
            files = [Path(each.f_code.co_filename).relative_to(PACKAGE).as_posix() for each in around[:2]]
            calls.append(Call(files[0], frame.f_code.co_qualname, len(around) - 1, files[1] if files[1:] else None))

    step_watched(env, tensordict, (sys.getprofile, sys.setprofile), note, warm_up)
    return calls


def main(skipped: bool) -> None:
    frames = torch.arange(4 * 84 * 84 * 3).to(torch.uint8).view(4, 84, 84, 3)
    with tempfile.TemporaryDirectory() as folder:
        logger = vidrec.CSVLogger("walk", folder)
        recorder = vidrec.VideoRecorder(logger, "video", skip=10**9 if skipped else 1, preset="ultrafast", scale=1)
        env, tensordict = prepared(frames, recorder)
        calls = walk(env, tensordict)
        env.close()
    print(*calls, sep="\n")
    print(f"{len(calls)} calls in {len({call.file for call in calls})} files")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--skipped", action="store_true", help="the way of a frame that nobody wants")
    main(**vars(parser.parse_args()))

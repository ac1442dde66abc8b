"""What a step pays for its recorder, counted rather than timed: the same on any machine, however busy it is.

`benchmarks/bench_step.py` times it.
"""

import sys
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchrl.record
from conftest import product
from torchrl.envs.transforms import Transform
from walk import Call, prepared, step_watched, walk

from vidrec import CSVLogger, VideoRecorder

ROOMS = ["cli", "testing.py", "recorder.py", "sources", "recording", "loggers", "clips", "frames", "ffmpeg", "files"]
"""From the top down; below are values that all may use."""

CALLS_SKIPPED = 8
CALLS_RECORDED = {"HWC": 12, "CHW": 12, "float CHW": 21, "grey": 21}
FILES_RECORDED = {"HWC": 7, "CHW": 7, "float CHW": 8, "grey": 8}
INSTRUCTIONS_SKIPPED = {"single": 1.5, "grid": 1.5, "videos": 2.5}  # times those of TorchRL's recorder; each counts
INSTRUCTIONS_RECORDED = 1.5
C_CALLS_SKIPPED = {"single": 5, "grid": 5, "videos": 6}  # calls of Python's, torch's and NumPy's functions in C
C_CALLS_RECORDED = {"HWC": 21, "CHW": 24, "float CHW": 54, "grey": 29}
FRAMES_COPIED = {"HWC": 0, "CHW": 0, "float CHW": 2, "grey": 0}  # the memory that a step takes, in frames of uint8 RGB


def never(number: int) -> bool:
    return False


UNWANTED = {
    "skipped": {"skip": 10**9},
    "not triggered": {"skip": 1, "step_trigger": never, "max_frames": 9},
    "unwanted episode": {"skip": 1, "episode_trigger": never},
}
ENVS = {"single": ((), {}), "grid": ((64,), {}), "videos": ((64,), {"make_grid": False})}
PIXELS = torch.randint(256, (4, 84, 84, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
FRAMES = {
    "HWC": PIXELS,
    "CHW": PIXELS.permute(0, 3, 1, 2).contiguous(),
    "float CHW": PIXELS.permute(0, 3, 1, 2).contiguous() / 255,
    "grey": PIXELS[..., :1].contiguous(),
}


def frames_of(batch: tuple[int, ...]) -> torch.Tensor:
    return PIXELS.view(4, *[1] * len(batch), 84, 84, 3).expand(4, *batch, 84, 84, 3).contiguous()


def ours(**arguments: Any) -> VideoRecorder:
    folder = tempfile.mkdtemp(dir=".")
    return VideoRecorder(CSVLogger("ours", folder), "video", **{"preset": "ultrafast", "scale": 1, **arguments})


def theirs(**arguments: Any) -> torchrl.record.VideoRecorder:
    return torchrl.record.VideoRecorder(torchrl.record.CSVLogger("theirs", "."), "video", **arguments)


def way(frames: torch.Tensor, batch: tuple[int, ...] = (), warm_up: int = 5, **arguments: Any) -> list[Call]:
    env, tensordict = prepared(frames, ours(**arguments), batch)
    calls = walk(env, tensordict, warm_up)
    env.close()
    return calls


def instructions(transform: Transform, frames: torch.Tensor, batch: tuple[int, ...]) -> int:
    """Return how many instructions of Python one step takes in all, those of other libraries included."""
    env, tensordict = prepared(frames, transform, batch)
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Callable[..., Any]:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    step_watched(env, tensordict, (sys.gettrace, sys.settrace), trace)
    env.close()
    return count


def c_calls(transform: Transform, frames: torch.Tensor, batch: tuple[int, ...] = ()) -> list[str]:
    """Return the functions in C that one step calls in all, those that other libraries call included."""
    env, tensordict = prepared(frames, transform, batch)
    calls = []

    def profile(frame: Any, event: str, function: Any) -> None:
        if event == "c_call":
            calls.append(function.__qualname__)

    step_watched(env, tensordict, (sys.getprofile, sys.setprofile), profile)
    env.close()
    return calls


def times_theirs(frames: torch.Tensor, batch: tuple[int, ...], arguments: dict[str, Any], skip: int) -> float:
    """Return the instructions that our recorder adds to a step, as a multiple of those that TorchRL's adds."""
    shared = {name: value for name, value in arguments.items() if name == "make_grid"}
    empty = instructions(Transform(), frames, batch)
    torchrls = instructions(theirs(skip=skip, **shared), frames, batch) - empty
    return (instructions(ours(**arguments), frames, batch) - empty) / torchrls


def bytes_taken(frames: torch.Tensor, batch: tuple[int, ...] = ()) -> int:
    """Return how much memory one recorded step takes, from torch in all and from Python and NumPy at its peak."""
    env, tensordict = prepared(frames, ours(skip=1), batch)
    for _ in range(5):
        env.step(tensordict.copy())
    argument = tensordict.copy()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        env.step(argument)
    by_torch = sum(max(0, event.self_cpu_memory_usage) for event in profile.events())
    argument = tensordict.copy()
    tracemalloc.start()
    try:
        env.step(argument)
        by_python = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    env.close()
    return by_torch + by_python


def room(file: str) -> int:
    name = file.partition("/")[0]
    return ROOMS.index(name) if name in ROOMS else len(ROOMS)


@product(unwanted=UNWANTED, envs=ENVS)
def test_a_frame_that_nobody_wants_costs_a_few_calls_at_the_top(unwanted, envs):
    batch, more = ENVS[envs]
    calls = way(frames_of(batch), batch, **UNWANTED[unwanted], **more)
    assert len(calls) <= CALLS_SKIPPED, "\n".join(map(str, calls))
    assert {call.file.partition("/")[0] for call in calls} <= {"recorder.py", "sources", "recording"}


@product(unwanted=UNWANTED, envs=ENVS)
def test_a_frame_that_nobody_wants_costs_the_instructions_of_a_frame_that_torchrl_skips(unwanted, envs):
    batch, more = ENVS[envs]
    arguments = {**UNWANTED[unwanted], **more}
    assert times_theirs(frames_of(batch), batch, arguments, skip=10**9) <= INSTRUCTIONS_SKIPPED[envs]


@product(unwanted=UNWANTED, envs=ENVS)
def test_a_frame_that_nobody_wants_costs_a_few_calls_into_c(unwanted, envs):
    batch, more = ENVS[envs]
    calls = c_calls(ours(**UNWANTED[unwanted], **more), frames_of(batch), batch)
    others = c_calls(Transform(), frames_of(batch), batch)
    assert len(calls) - len(others) <= C_CALLS_SKIPPED[envs], Counter(calls) - Counter(others)


@pytest.mark.parametrize("frames", FRAMES)
def test_a_recorded_frame_costs_a_few_calls_into_c(frames):
    calls, others = (c_calls(transform, FRAMES[frames]) for transform in (ours(skip=1), Transform()))
    assert len(calls) - len(others) <= C_CALLS_RECORDED[frames], Counter(calls) - Counter(others)


@pytest.mark.parametrize("frames", FRAMES)
def test_a_recorded_frame_goes_down_through_a_few_files_and_calls(frames):
    calls = way(FRAMES[frames], skip=1)
    shown = "\n".join(map(str, calls))
    assert len(calls) <= CALLS_RECORDED[frames], shown
    assert len({call.file for call in calls}) <= FILES_RECORDED[frames], shown
    climbs = [call for call in calls if call.caller is not None and room(call.file) < room(call.caller)]
    assert not climbs, f"{shown}\n\nup again: {climbs}"
    assert calls[0].file == "recorder.py"
    assert any(call.file.startswith("ffmpeg/") for call in calls)


def test_a_recorded_frame_costs_so_many_instructions():
    assert times_theirs(FRAMES["HWC"], (), {"skip": 1}, skip=1) <= INSTRUCTIONS_RECORDED


@pytest.mark.parametrize("frames", FRAMES)
def test_a_recorded_frame_is_copied_as_seldom_as_can_be(frames):
    height, width = (-2, -1) if "CHW" in frames else (-3, -2)
    large = FRAMES[frames].repeat_interleave(4, height).repeat_interleave(4, width)  # Python's own objects are small
    assert bytes_taken(large) <= (FRAMES_COPIED[frames] + 0.5) * 3 * (4 * 84) ** 2


def test_a_grid_is_copied_once():
    taken = bytes_taken(frames_of((64,)), (64,))
    assert taken <= 1.5 * PIXELS[0].numel() * 64


def test_a_grid_costs_as_many_calls_for_many_envs_as_for_few():
    few, many = (way(frames_of((count,)), (count,), skip=1) for count in (4, 64))
    assert [call.function for call in many] == [call.function for call in few]


@pytest.mark.parametrize("skip", [1, 10**9])
def test_the_calls_of_a_step_do_not_grow_with_the_steps_before(skip):
    early, late = (way(frames_of(()), warm_up=steps, skip=skip) for steps in (5, 300))
    assert [call.function for call in late] == [call.function for call in early]

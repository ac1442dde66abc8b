"""What is measured, each case in a process of its own; `bench.py` has the cases."""

import os
import resource
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from clips import frame_of, loop, lost_and_repeated, numbers_in
from peers import ALONE, CRF, FPS, PEERS, PRESET

WARM_UP = 5
Row = dict[str, Any]


def memory_mb(field: str, process: str | int = "self") -> float:
    """Return ``VmRSS`` (now) or ``VmHWM`` (the peak) of a process, in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0.0)


def children_mb() -> float:
    """Return the peak memory of the child processes, in MB."""
    return sum(
        memory_mb("VmHWM", child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    )


def cpu_s() -> tuple[float, float]:
    """Return the CPU time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own, others = (each.ru_utime + each.ru_stime for each in used)
    return own, others


def rollout(way: str, clip: str, step_s: float, frames: int, equal: bool = False) -> Row:
    """Record a rollout and finish the video.

    Returns:
        ``wall_s``, of it ``finish_s``; ``own_cpu_s`` and ``cpu_s``, that with all child processes; ``wait_s``, the
        longest that a step took beyond the simulator's own time; ``peak_mb``, how much this process grew, and
        ``resident_mb``, that at every 100th frame; ``child_mb``, the peak of its children; ``kb`` of the file; and how
        many frames were ``lost`` and ``repeated``, decoded from it.
    """
    shown = loop(clip)
    size = shown.shape[1:3]

    def record(name: str, count: int) -> tuple[list[float], Row]:
        folder = Path(name).absolute()
        folder.mkdir()
        recorder = (ALONE | PEERS)[way](folder, size, equal)
        simulator = recorder.engine(shown, step_s)
        env = recorder.begin(simulator)
        waits, resident, before = [], [], time.perf_counter()
        for number, frame in enumerate(simulator.roll(count, env)):
            recorder.add(frame)
            now = time.perf_counter()
            waits.append(now - before - simulator.busy_s)
            before = now
            if number % 100 == 0:
                resident.append(memory_mb("VmRSS"))
        child_mb = children_mb()
        begin = time.perf_counter()
        recorder.finish()
        return waits, {
            "finish_s": time.perf_counter() - begin,
            "resident_mb": [mb - resident[0] for mb in resident],
            "child_mb": child_mb,
        }

    record("warm_up", WARM_UP)
    np.ones(2 * frames * shown[0].size, np.uint8)  # so that no one waits for a virtual machine to get its memory
    resident_mb = memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak of the warm-up does not count
    cpu, begin = cpu_s(), time.perf_counter()
    waits, row = record("measured", frames)
    row["wall_s"] = time.perf_counter() - begin
    own, children = (after - before for after, before in zip(cpu_s(), cpu, strict=True))
    row |= {"own_cpu_s": own, "cpu_s": own + children, "wait_s": max(waits[1:]), "median_wait_s": median(waits)}
    row["peak_mb"] = memory_mb("VmHWM") - resident_mb
    files = [path for path in Path("measured").rglob("*") if path.suffix in (".mp4", ".pt")]
    found = [number for path in sorted(files) for number in numbers_in(path, size)]
    row["lost"], row["repeated"] = lost_and_repeated(found, frames) if way in PEERS else (0, 0)
    return row | {"kb": sum(path.stat().st_size for path in files) / 1000}


def ffmpeg_alone(clip: str, frames: int, equal: bool = False) -> Row:
    """Have FFmpeg encode the same raw frames from memory, by the arguments that vidrec gives it."""
    from vidrec.ffmpeg.encoding import Encoding
    from vidrec.ffmpeg.program import find_ffmpeg

    shown = loop(clip)
    height, width = size = shown.shape[1:3]
    encoding = Encoding.of("mp4", fps=FPS, **({"crf": CRF, "preset": PRESET, "scale": 1} if equal else {}))
    with tempfile.NamedTemporaryFile(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as raw:
        for number in range(frames):
            raw.write(frame_of(shown, number))
        raw.flush()
        command = [find_ffmpeg(), "-nostdin", "-loglevel", "error", "-f", "rawvideo", "-pixel_format", "rgb24"]
        command += ["-video_size", f"{width}x{height}", "-framerate", str(FPS), "-i", raw.name]
        (_, before), begin = cpu_s(), time.perf_counter()
        subprocess.run([*command, *encoding.ffmpeg_args(size), "alone.mp4"], check=True)
        return {"wall_s": time.perf_counter() - begin, "cpu_s": cpu_s()[1] - before}


def limits(clip: str) -> Row:
    """Time what nothing in Python can be below of: a copy of a frame, and a write into a pipe that is emptied."""
    frame = loop(clip)[0].copy()
    copies, writes, target = [], [], np.empty_like(frame)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0) as drain:
        assert drain.stdin is not None
        for _ in range(200):
            begin = time.perf_counter()
            np.copyto(target, frame)
            copies.append(time.perf_counter() - begin)
            time.sleep(0.002)
            begin, rest = time.perf_counter(), frame.data.cast("B")
            while rest:
                rest = rest[os.write(drain.stdin.fileno(), rest) :]
            writes.append(time.perf_counter() - begin)
        drain.stdin.close()
    return {"copy_us": median(copies) * 1e6, "write_us": median(writes) * 1e6}


def atari(record: bool, frames: int) -> Row:
    """Play MsPacman with random actions, as in the README, with the recorder at its defaults or without one."""
    from torchrl.envs import GymEnv, TransformedEnv

    import vidrec

    env, recorder = GymEnv("ALE/MsPacman-v5", from_pixels=True), None
    if record:
        recorder = vidrec.VideoRecorder(vidrec.CSVLogger("run", "measured"), "video", skip=1)
        env = TransformedEnv(env, recorder)
    env.rollout(WARM_UP)
    if recorder is not None:
        recorder.dump()
    (own, others), begin = cpu_s(), time.perf_counter()
    env.rollout(frames, break_when_any_done=False)
    if recorder is not None:
        recorder.dump()
    wall_s, now = time.perf_counter() - begin, cpu_s()
    return {"wall_s": wall_s, "own_cpu_s": now[0] - own, "cpu_s": sum(now) - own - others}


def clips_of(length: int, frames: int, clip: str) -> Row:
    """Record frames as clips of `length` frames, one after another, and finish each."""
    from tensordict import TensorDict
    from torch import from_numpy

    import vidrec

    shown = loop(clip)
    recorder = vidrec.VideoRecorder(vidrec.CSVLogger("run", "measured"), "video", skip=1)
    first_s, rest_s, finish_s = [], [], []
    for turn in range(-1, frames // length):
        if turn == 0:
            first_s, rest_s, finish_s, (own, others), start = [], [], [], cpu_s(), time.perf_counter()
        for number in range(length):
            sample = TensorDict({"pixels": from_numpy(frame_of(shown, number))[None]}, [1])
            begin = time.perf_counter()
            recorder(sample)
            (rest_s if number else first_s).append(time.perf_counter() - begin)
        begin = time.perf_counter()
        recorder.dump()
        finish_s.append(time.perf_counter() - begin)
    now = cpu_s()
    return {
        "first_ms": median(first_s) * 1e3,
        "frame_ms": median(rest_s) * 1e3,
        "finish_ms": median(finish_s) * 1e3,
        "wall_s": time.perf_counter() - start,
        "own_cpu_s": now[0] - own,
        "cpu_s": sum(now) - own - others,
    }


def many_envs(rounds: int) -> Row:
    """Return the CPU time of steps of many envs, as `bench_step` measures it, in microseconds."""
    import torch
    from bench_step import Row as Step
    from bench_step import measure as measure_steps

    torch.set_num_threads(1)
    kept = {"env_ids": range(16)}
    steps = [
        Step("64 envs, a video each", "", lambda known: 0, batch=64, pause_s=0.02, both={"make_grid": False}),
        Step("16 envs, a video each", "", lambda known: 0, batch=16, pause_s=0.01, both={"make_grid": False}),
        Step(
            "16 of 1,024 envs, a video each",
            "",
            lambda known: 0,
            batch=1024,
            pause_s=0.01,
            both={"make_grid": False},
            ours=kept,
        ),
        *(Step(f"grid of {n}", "", lambda known: 0, batch=n, pause_s=n / 3000) for n in (4, 16, 64, 1024)),
    ]
    return measure_steps(steps, rounds, 1)


MEASURES: dict[str, Callable[..., Row]] = {
    each.__name__: each for each in (rollout, ffmpeg_alone, limits, atari, clips_of, many_envs)
}


def measure(name: str, arguments: Sequence[Any]) -> Row:
    """Measure one case in this process, in a folder that is deleted; nothing is printed."""
    warnings.simplefilter("ignore")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        row = MEASURES[name](*arguments)
        os.chdir("/")
    return row

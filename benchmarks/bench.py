"""Measure vidrec beside what a user would record with instead, and write benchmarks/RESULTS.md with its plots.

    python benchmarks/bench.py [--quick | --only SECTION ...]

The ways take turns in each round, each in a process of its own that is warmed up with a few frames. Figures are medians
of the rounds. --quick measures a part with few frames, once, and writes nothing; --only measures these sections again,
and takes the others from the last time. The exit code is 0 whatever the figures are. Ratios are the result: times
depend on the machine.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import measures
from clips import STORE
from peers import ALONE, CRF, PEERS, PRESET

from vidrec.ffmpeg.program import find_ffmpeg

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
MEASURED = STORE / "figures.json"
WALL = "wall / max(env alone, FFmpeg alone)"
FFMPEG, ENV, OURS, TORCHRL, IN_MEMORY = "FFmpeg alone", "env alone", "vidrec", "TorchRL, mp4", "TorchRL, pt"
QUICK = [ENV, FFMPEG, OURS, TORCHRL, "mediapy"]
QUICK_FRAMES, EPISODE_FRAMES = 150, 600
PACKAGES = [
    "vidrec",
    "torch",
    "torchrl",
    "torchcodec",
    "gymnasium",
    "stable-baselines3",
    "lerobot",
    "imageio-ffmpeg",
    "mediapy",
    "av",
]

FORKSERVER = get_context("forkserver")
FORKSERVER.set_forkserver_preload(["measures"])

Case = tuple[str, tuple[Any, ...]]
Rows = list[dict[str, Any]]
"""The figures of one case, round after round."""


@dataclass(frozen=True)
class Section:
    """Cases that are measured side by side: in each round each once, one after another.

    Attributes:
        cases: by name: a function of `measures` and its arguments.
    """

    title: str
    cases: Mapping[str, Case]
    rounds: int = 2


def rollouts(title: str, clip: str, step_s: float, frames: int, *, equal: bool = False, rounds: int = 2) -> Section:
    """Return the section of one kind of work: the environment and FFmpeg alone, ours, and all peers."""
    ways = [name for name, peer in PEERS.items() if peer.has_equal or not equal]
    cases: dict[str, Case] = {name: ("rollout", (name, clip, step_s, frames, equal)) for name in [*ALONE, *ways]}
    return Section(title, {**cases, FFMPEG: ("ffmpeg_alone", (clip, frames, equal))}, rounds)


EQUAL = f"libx264, crf {CRF}, {PRESET}, not enlarged"
ROLLOUTS = {
    "slow": rollouts("480x640, an environment of 5 ms, 1,000 frames", "480x640", 0.005, 1000),
    "fast": rollouts("480x640, an environment of 0 ms, 1,000 frames", "480x640", 0.0, 1000, rounds=1),
    "atari": rollouts("MsPacman, 210x160, an environment of 1 ms, 1,000 frames", "MsPacman", 0.001, 1000),
    "large": rollouts("1080x1920, an environment of 33 ms, 120 frames", "1080x1920", 0.033, 120, rounds=1),
    "equal": rollouts(
        f"480x640, an environment of 5 ms, 400 frames; all with {EQUAL}", "480x640", 0.005, 400, equal=True, rounds=1
    ),
    "equal atari": rollouts(
        f"MsPacman, an environment of 1 ms, 1,000 frames; all with {EQUAL}",
        "MsPacman",
        0.001,
        1000,
        equal=True,
        rounds=1,
    ),
}
OTHERS = ["Pong", "CartPole", "cheetah", "84x84", "84x84 noisy", "480x640 noisy"]
MORE = {
    "others": Section(
        "Other frames, an environment of 1 ms, 300 frames",
        {f"{clip}, {way}": ("rollout", (way, clip, 0.001, 300)) for clip in OTHERS for way in QUICK if way != FFMPEG},
        1,
    ),
    "length": Section(
        "How long `dump()` takes",
        {
            f"{way}, {frames:,} frames": ("rollout", (way, "cheetah", 0.0, frames))
            for way in (OURS, TORCHRL)
            for frames in (100, 10_000)
        },
        1,
    ),
    "memory": Section(
        "Memory",
        {OURS: ("rollout", (OURS, "MsPacman", 0.0, 20_000))}
        | {way: ("rollout", (way, "MsPacman", 0.0, 2_000)) for way in PEERS if way != OURS},
        1,
    ),
    "atari cpu": Section("Playing MsPacman", {"alone": ("atari", (False, 1000)), "recorded": ("atari", (True, 1000))}),
    "episodes": Section(
        "Short episodes",
        {f"{length} frames": ("clips_of", (length, EPISODE_FRAMES, "MsPacman")) for length in (10, EPISODE_FRAMES)},
    ),
    "envs": Section("Many environments", {OURS: ("many_envs", (60,))}, 1),
    "limits": Section(
        "What nothing can be below", {clip: ("limits", (clip,)) for clip in ("MsPacman", "480x640", "1080x1920")}, 1
    ),
}


def quick() -> dict[str, Section]:
    """Return a part of the sections, with few frames, for one round."""

    def shorter(case: Case) -> Case:
        name, arguments = case
        at = 1 if name == "ffmpeg_alone" else 3
        return name, (*arguments[:at], QUICK_FRAMES, *arguments[at + 1 :])

    short = {
        key: Section(each.title, {name: shorter(each.cases[name]) for name in QUICK if name in each.cases}, 1)
        for key, each in ROLLOUTS.items()
        if key in ("slow", "atari")
    }
    return short | {"episodes": Section("Short episodes", MORE["episodes"].cases, 1)}


def measured(case: Case) -> dict[str, Any]:
    """Measure a case in a process of its own, which has everything imported, and in a folder of its own."""
    with ProcessPoolExecutor(1, FORKSERVER) as process:
        return process.submit(measures.measure, *case).result()


@dataclass(frozen=True)
class Figures:
    """What was measured in a section: the rows of each of its cases."""

    rows: Mapping[str, Rows]

    def of(self, name: str, field: str) -> float:
        return median(row[field] for row in self.rows[name])

    def ratios(self, name: str, field: str, over: str | list[str]) -> list[float]:
        """Return one figure of a case over that of another one, or the largest of several, round by round."""
        others = [over] if isinstance(over, str) else over
        return [
            row[field] / max(self.rows[other][turn][field] for other in others)
            for turn, row in enumerate(self.rows[name])
        ]

    def ratio(self, name: str, field: str, over: str | list[str]) -> float:
        return median(self.ratios(name, field, over))

    def walls(self, name: str) -> list[float]:
        """Return the time of a rollout and its end over that of the environment or FFmpeg alone, the longer one."""
        return self.ratios(name, "wall_s", [alone(name), FFMPEG])

    def wall(self, name: str) -> float:
        return median(self.walls(name))

    def cpu(self, name: str) -> float:
        """Return the CPU time of recording, in all processes, over that of FFmpeg alone."""
        return (self.of(name, "cpu_s") - self.of(alone(name), "cpu_s")) / self.of(FFMPEG, "cpu_s")

    @property
    def peers(self) -> list[str]:
        """The other recorders; but not what encodes nothing."""
        return [name for name in self.rows if name in PEERS and name not in (OURS, IN_MEMORY)]

    def best(self, of: Callable[[str], float], *, whole: bool = False) -> tuple[str, float]:
        """Return the peer with the lowest figure, and the figure; if `whole`, of those that lose no frame."""
        theirs = {name: of(name) for name in self.peers if not (whole and self.of(name, "lost"))}
        name = min(theirs, key=lambda name: theirs[name])
        return name, theirs[name]


def alone(name: str) -> str:
    """Return the way of the environment that this one steps, without a recorder."""
    engine = PEERS[name].engine if name in PEERS else None
    return next((way for way, recorder in ALONE.items() if recorder.engine is engine), ENV)


def run(sections: Mapping[str, Section]) -> Iterator[tuple[str, Figures]]:
    """Measure one section after another, and say on stderr how far it is."""
    for key, section in sections.items():
        begin = time.perf_counter()
        rounds = [{name: measured(case) for name, case in section.cases.items()} for _ in range(section.rounds)]
        print(f"{section.title}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
        yield key, Figures({name: [row[name] for row in rounds] for name in section.cases})


@dataclass(frozen=True)
class Goal:
    """One line of what must be reached.

    Attributes:
        bound: in words.
        ours, theirs: what was measured, theirs of the best of the peers.
        reached: None where nothing is asked for but the figure.
    """

    measure: str
    bound: str
    ours: str
    theirs: str = ""
    reached: bool | None = None


def goals(found: Mapping[str, Figures]) -> Iterator[Goal]:
    """Yield what must be reached, as far as it was measured."""
    if slow := found.get("slow"):
        ours, (best, theirs) = slow.wall(OURS), slow.best(slow.wall, whole=True)
        yield Goal(
            "480x640, 5 ms: wall / env alone",
            "at most 1.10, and the lowest of all that lose no frame",
            f"{ours:.2f}",
            f"{theirs:.2f} ({best})",
            ours <= 1.10 and ours <= theirs,
        )
        ours, (best, theirs) = slow.cpu(OURS), slow.best(slow.cpu)
        yield Goal(
            "the same: CPU of recording / FFmpeg alone",
            "at most 1.10",
            f"{ours:.2f}",
            f"{theirs:.2f} ({best})",
            ours <= 1.10,
        )
    if fast := found.get("fast"):
        ours, (best, theirs) = fast.wall(OURS), fast.best(fast.wall, whole=True)
        yield Goal(
            "480x640, 0 ms: wall / max(env alone, FFmpeg alone)",
            "at most 1.15",
            f"{ours:.2f}",
            f"{theirs:.2f} ({best})",
            ours <= 1.15,
        )
    if atari := found.get("atari"):
        ours, (best, theirs) = atari.wall(OURS), atari.best(atari.wall)
        yield Goal(
            "MsPacman, 1 ms, at the defaults: wall / env alone",
            "lower than every peer's",
            f"{ours:.2f}",
            f"{theirs:.2f} ({best})",
            ours < theirs,
        )
    if large := found.get("large"):
        ours, (best, theirs) = large.of(OURS, "wait_s") * 1e3, large.best(lambda name: large.of(name, "wait_s") * 1e3)
        yield Goal(
            "1080x1920, 33 ms: the longest wait of a step",
            "at most a frame, 33 ms",
            f"{ours:.0f} ms",
            f"{theirs:.0f} ms ({best}, {large.of(best, 'lost'):.0f} frames lost)",
            ours <= 1000 / 30,
        )
    if length := found.get("length"):
        short, long = (length.of(f"{OURS}, {frames:,} frames", "finish_s") for frames in (100, 10_000))
        theirs_s = length.of(f"{TORCHRL}, 10,000 frames", "finish_s")
        yield Goal(
            "`dump()` of 10,000 frames",
            "as that of 100; at most 1/100 of TorchRL's",
            f"{long / short:.2f} times that of 100; 1/{theirs_s / long:.0f}",
            f"{theirs_s:.1f} s (TorchRL)",
            long < 1.5 * short and long < theirs_s / 100,
        )
    if memory := found.get("memory"):
        [row] = memory.rows[OURS]
        grown = row["resident_mb"][-1] - row["resident_mb"][5]
        yield Goal(
            "growth of the process, frame 500 to 20,000",
            "at most 8 MB",
            f"{grown:.1f} MB; FFmpeg's peak {row['child_mb']:.0f} MB",
            f"{memory.rows[TORCHRL][0]['resident_mb'][-1]:.0f} MB after 2,000 (TorchRL)",
            grown <= 8,
        )
    if played := found.get("atari cpu"):
        ratio = played.of("recorded", "cpu_s") / played.of("alone", "cpu_s") - 1
        yield Goal("CPU of recording MsPacman / CPU of playing it", "stated", f"{ratio:.2f}")
    rollout_rows = [found[key] for key in ROLLOUTS if key in found]
    if rollout_rows:
        wrong = sum(int(each.of(OURS, name)) for each in rollout_rows for name in ("lost", "repeated"))
        worst = {name: sum(int(each.of(name, "lost")) for each in rollout_rows if name in each.rows) for name in PEERS}
        losers = ", ".join(f"{name} {count}" for name, count in worst.items() if count)
        yield Goal("frames lost or repeated, in all rollouts below", "0", f"{wrong}", f"lost: {losers}", wrong == 0)
    if envs := found.get("envs"):
        [steps] = envs.rows[OURS]
        ratio = steps["64 envs, a video each"]["vidrec"] / steps["64 envs, a video each"]["write"]
        yield Goal("64 envs, a video each: CPU of a step / 64 writes", "at most 1.5", f"{ratio:.2f}", "", ratio <= 1.5)
        ratio = steps["16 of 1,024 envs, a video each"]["vidrec"] / steps["16 envs, a video each"]["vidrec"]
        yield Goal("16 of 1,024 envs / 16 of 16", "the unwanted cost nothing", f"{ratio:.2f}", "", ratio <= 1.1)
    if episodes := found.get("episodes"):
        first = episodes.of("10 frames", "first_ms")
        yield Goal("start of a clip: first frame to return", "at most 3 ms", f"{first:.1f} ms", "", first <= 3)
        own, all_ = (
            episodes.of("10 frames", field) / episodes.of(f"{EPISODE_FRAMES} frames", field)
            for field in ("own_cpu_s", "cpu_s")
        )
        yield Goal(
            "episodes of 10 frames / the same frames in one clip: CPU",
            "less than 2",
            f"{own:.1f} of our process, {all_:.1f} in all",
            "",
            all_ < 2,
        )


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, ["---"] * len(heads), *lines])


def goals_table(found: Mapping[str, Figures]) -> str:
    mark = {True: "yes", False: "**no**", None: "stated"}
    lines = [(g.measure, g.bound, g.ours, g.theirs, mark[g.reached]) for g in goals(found)]
    return table(["measure", "must reach", "vidrec", "best of the peers", "reached"], lines)


def rollout_table(figures: Figures) -> str:
    heads = ["", WALL, "CPU of recording / FFmpeg alone", "longest wait", "finish"]
    heads += ["memory + children's", "file", "lost", "repeated"]
    lines = []
    for name in figures.rows:
        if name == FFMPEG or name in ALONE:
            lines.append([name, f"{figures.of(name, 'wall_s'):.2f} s", *[""] * 7])
            continue
        ratios = figures.walls(name)
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
        lines.append(
            [
                f"**{name}**" if name == OURS else name,
                f"{median(ratios):.2f}{spread}",
                f"{figures.cpu(name):.2f}",
                f"{figures.of(name, 'wait_s') * 1e3:.0f} ms",
                f"{figures.of(name, 'finish_s') * 1e3:.0f} ms",
                f"{figures.of(name, 'peak_mb'):.0f} + {figures.of(name, 'child_mb'):.0f} MB",
                f"{figures.of(name, 'kb'):,.0f} KB",
                f"{figures.of(name, 'lost'):.0f}",
                f"{figures.of(name, 'repeated'):.0f}",
            ]
        )
    return table(heads, lines)


def others_table(figures: Figures) -> str:
    lines = [
        [way, *(f"{figures.ratio(f'{clip}, {way}', 'wall_s', f'{clip}, {ENV}'):.2f}" for clip in OTHERS)]
        for way in QUICK
        if way in PEERS
    ]
    return table(["wall / env alone", *OTHERS], lines)


def envs_table(figures: Figures) -> str:
    [steps] = figures.rows[OURS]
    ways = ("vidrec", "TorchRL", "write")
    lines = [[name, *(f"{step[way]:,.0f} us" for way in ways)] for name, step in steps.items()]
    return table(
        ["84x84, CPU of a step beyond that without a recorder", "vidrec", "TorchRL", "the writes alone"], lines
    )


def episodes_table(figures: Figures) -> str:
    lines = []
    for name in figures.rows:
        first, frame, finish = (figures.of(name, f"{which}_ms") for which in ("first", "frame", "finish"))
        own, all_ = (figures.of(name, field) * 1e3 / EPISODE_FRAMES for field in ("own_cpu_s", "cpu_s"))
        times = [f"{first:.1f} ms", f"{frame:.2f} ms", f"{finish:.0f} ms", f"{own:.2f} ms", f"{all_:.2f} ms"]
        lines.append([f"clips of {name}", *times])
    return table(["", "first frame", "each other", "`dump()`", "CPU of ours, a frame", "in all, a frame"], lines)


def limits_table(figures: Figures) -> str:
    lines = [
        [clip, *(f"{figures.of(clip, field):.0f} us" for field in ("copy_us", "write_us"))] for clip in figures.rows
    ]
    return table(["a frame", "a copy in memory", "a write into a pipe that is emptied"], lines)


def machine() -> str:
    """Return what it was measured on, and with."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.partition(": ")[2] for line in info.splitlines() if line.startswith("model name")), "")
    ffmpeg = subprocess.run([find_ffmpeg(), "-version"], capture_output=True, text=True, check=True).stdout.split()[2]
    python = f"Python {platform.python_version()}, FFmpeg {ffmpeg.partition('-')[0]}"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    words = f"It ran on {os.cpu_count()} cores ({model or platform.processor()}), {python}, {versions}."
    return textwrap.fill(f"This page is written by `make bench`. {words}", 120, break_on_hyphens=False)


def plot(found: Mapping[str, Figures]) -> None:
    """Draw the time of the rollouts, and memory over frames."""
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "vidrec"  # the same file for the same figures
    shown = {"slow": "480x640, 5 ms", "fast": "480x640, 0 ms", "atari": "MsPacman, 1 ms"}
    figure, axes = plt.subplots(1, len(shown), figsize=(12, 3.6), sharey=True)
    names = [OURS, *found["slow"].peers][::-1]
    for axis, (key, title) in zip(axes, shown.items(), strict=True):
        walls = [found[key].wall(name) for name in names]
        bars = axis.barh(names, walls, color=["tab:blue" if name == OURS else "0.7" for name in names])
        axis.bar_label(bars, [f"{wall:.2f}" for wall in walls], padding=2)
        axis.axvline(1, color="0.3", linewidth=0.8)
        axis.set(title=title, xlabel=WALL)
        axis.margins(x=0.15)
    figure.tight_layout()
    figure.savefig(DOCS / "wall.svg", metadata={"Date": None})
    figure, axis = plt.subplots(figsize=(7, 3.6))
    for name, [row] in found["memory"].rows.items():
        numbers = [100 * at for at in range(len(row["resident_mb"]))]
        axis.plot(numbers, row["resident_mb"], label=name, linewidth=2.5 if name == OURS else 1)
    axis.set(xlabel="frames of MsPacman", ylabel="MB more than at the first", xlim=(0, 2_000))
    axis.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(DOCS / "memory.svg", metadata={"Date": None})


def report(found: Mapping[str, Figures]) -> str:
    """Return the page of results."""
    parts = [INTRODUCTION.format(machine=machine(), goals=goals_table(found))]
    parts += [f"## {section.title}\n\n{rollout_table(found[key])}" for key, section in ROLLOUTS.items()]
    tables: dict[str, Callable[[Figures], str]] = {
        "others": others_table,
        "envs": envs_table,
        "episodes": episodes_table,
        "limits": limits_table,
    }
    parts += [f"## {MORE[key].title}\n\n{table(found[key])}" for key, table in tables.items()]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """\
# Results of `make bench`

{machine}

The ways take turns in each round, each in a process of its own; figures are medians, with the lowest and highest of the
rounds in brackets where there are several. The environment computes for as long as it says, and makes a new numbered
frame each step. Each recorder has its own defaults where nothing else is said, and its frames are decoded and counted.
Gymnasium's and Stable-Baselines3's recorders are compared with an environment of Gymnasium's alone. `TorchRL, pt`
encodes nothing.

## What must be reached

{goals}

![time of a rollout and the end of its video, over the environment or FFmpeg alone](../docs/wall.svg)

![memory of the process over frames](../docs/memory.svg)"""


def main(is_quick: bool, only: list[str] | None) -> None:
    if is_quick:
        print(goals_table(dict(run(quick()))))
        return
    sections = {**ROLLOUTS, **MORE}
    rows: dict[str, Mapping[str, Rows]] = {} if only is None else json.loads(MEASURED.read_text())
    for key, figures in run(sections if only is None else {key: sections[key] for key in only}):
        rows[key] = figures.rows
        MEASURED.write_text(json.dumps(rows))
    found = {key: Figures(rows[key]) for key in sections}
    (HERE / "RESULTS.md").write_text(report(found))
    plot(found)
    print(goals_table(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a part, with few frames, once; nothing is written")
    parser.add_argument("--only", nargs="*", choices=[*ROLLOUTS, *MORE], help="sections to measure again, or none")
    given = parser.parse_args()
    main(given.quick, given.only)

"""Envs in workers, the videos that their recorders leave, and what these are to hold."""

import re
import time
from collections import defaultdict
from pathlib import Path

from numbered_frames import numbered, numbers_in, read_number
from torchrl.envs import TransformedEnv
from worlds import EpisodesEnv, name_of

from vidrec import CSVLogger, VideoRecorder


class EpisodeEnv(EpisodesEnv):
    """A single env whose frames name the env that it is told to be."""

    def __init__(self, env_id, lengths):
        self.env_id = env_id
        super().__init__([lengths], batch_size=())
        self.is_closed = False  # what asks whether it is to be closed is told so, as by an env of Gymnasium

    def _out(self, **more):
        td = super()._out(**more)
        return td.set("pixels", numbered(name_of(self.env_id, self.episodes[0], self.steps[0]), self.size))


def place(number):
    """Undo `name_of`."""
    return number >> 9, number >> 5 & 15, number & 31


def recorder(logger=None, **kwargs):
    kwargs = {"skip": 1, **kwargs}
    return VideoRecorder(logger or CSVLogger("run", video_format="mkv"), "video", **kwargs)


def found(folder="csv_logs/run/videos"):
    """The names of all videos, and the numbers in their frames."""
    assert not list(Path().rglob("*.part-*"))
    return {str(path.relative_to(folder)): numbers_in(path) for path in sorted(Path(folder).rglob("*.*"))}


def frames_in(*batches):
    """The numbers of all frames in data of any batch size, those at a reset and those after a step."""
    numbers = set()
    for td in batches:
        for pixels in (td["pixels"], td.get(("next", "pixels"), td["pixels"])):
            numbers.update(read_number(frame) for frame in pixels.flatten(0, -4))
    return numbers


def collected(collector):
    """The numbers of all frames that a collector gives out, which is shut down."""
    try:
        return set().union(*(frames_in(td) for td in collector))
    finally:
        collector.shutdown()


def episodes(numbers):
    """The frames of each env and episode, from the first to the last one that was seen."""
    last = defaultdict(int)
    for env_id, episode, step in map(place, numbers):
        last[env_id, episode] = max(last[env_id, episode], step)
    return {
        (env_id, episode): [name_of(env_id, episode, step) for step in range(steps + 1)]
        for (env_id, episode), steps in last.items()
    }


def endings(*rollouts):
    """How the episodes in rollouts ended, by env and episode; not those that did not."""
    ended = {}
    for td in rollouts:
        after = td["next"].flatten()
        for at in after["done"].flatten().nonzero().flatten().tolist():
            env_id, episode, _ = place(read_number(after["pixels"][at]))
            ended[env_id, episode] = "terminated" if after["terminated"][at] else "truncated"
    return ended


def worker_env(logger, env_id, lengths, **kwargs):
    return TransformedEnv(EpisodeEnv(env_id, lengths), recorder(logger, **kwargs))


def processes(mark):
    """The processes with this text in their command line."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if str(mark) in line]


def check_nothing_is_left(folder):
    """Check that soon no encoder runs, and no video is unfinished: a worker renames it after its encoder ended."""

    def left():
        return processes(folder) + list(folder.rglob("*.part-*"))

    until = time.monotonic() + 10
    while left() and time.monotonic() < until:
        time.sleep(0.05)
    assert left() == []


def of_workers(videos):
    """Videos of workers by the env that they show, in the order of their steps; each worker shows one."""
    env_ids = defaultdict(list)
    workers = defaultdict(set)
    for name, numbers in videos.items():
        worker, step = re.fullmatch(r"video(?:_worker(\d+))?_(\d+)\.mkv", name).groups()
        (env_id,) = {place(number)[0] for number in numbers}
        env_ids[env_id].append((int(step), numbers))
        workers[worker].add(env_id)
    assert all(len(shown) == 1 for shown in workers.values())
    return {env_id: [numbers for _, numbers in sorted(own)] for env_id, own in env_ids.items()}


def of_actors(videos):
    """The same of actors."""
    env_ids = defaultdict(list)
    for name, numbers in videos.items():
        step = re.fullmatch(r"video_actor-[\w.-]+?_(\d+)\.mkv", name)[1]
        env_ids[place(numbers[0])[0]].append((int(step), numbers))
    return {env_id: [numbers for _, numbers in sorted(own)] for env_id, own in env_ids.items()}


class SlowLogger(CSVLogger):
    """A logger that takes no video until `let_go`; it refuses one if that says so."""

    def log_video(self, name, video, step=None, **settings):
        gate = Path(self.log_dir, "gate")
        while not gate.exists():
            time.sleep(0.01)
        if gate.read_text():
            gate.write_text("")
            raise OSError("the disk of the logger is full")
        return super().log_video(name, video, step, **settings)


def let_go(folder="csv_logs", fails=False):
    """Let a `SlowLogger` go on; the next video fails if `fails`."""
    new = Path(folder, "gate.new")
    new.parent.mkdir(exist_ok=True)
    new.write_text("fails" if fails else "")
    new.rename(new.with_name("gate"))


class SilentLogger(SlowLogger):
    """One that has videos in no file."""

    def log_video(self, name, video, step=None, **settings):
        super().log_video(name, video, step, **settings)


def dump_until(recorder, holds, seconds=20, **kwargs):
    """Dump again and again: what a logger answers late is known to a later one."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        recorder.dump(**kwargs)

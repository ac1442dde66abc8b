"""Actors of Ray record through one logger, which is an actor itself: only files travel."""

import functools
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import require, since_torchrl
from numbered_frames import numbered, numbers_in, rows
from tensordict.nn import TensorDictModule
from torchrl.collectors import Evaluator
from workers import (
    SlowLogger,
    collected,
    dump_until,
    endings,
    episodes,
    found,
    frames_in,
    let_go,
    of_actors,
    place,
    worker_env,
)
from worlds import name_of

from vidrec import CSVLogger, SettingError, VideoRecorder
from vidrec.loggers import SentVideo, service
from vidrec.loggers.clients import RayClient
from vidrec.tools import repair

pytestmark = [
    since_torchrl("0.14"),
    pytest.mark.filterwarnings(
        "ignore:Nested TransformedEnvs",
        "ignore:The policy is not an nn.Module",
        "ignore:RayCollector iteration started",
    ),
]


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    require("ray")
    import ray

    folder = tmp_path_factory.mktemp("ray")
    ray.init(
        num_cpus=16,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        logging_level="error",
        runtime_env={"env_vars": {"PYTHONPATH": os.path.dirname(__file__), "TMPDIR": str(folder)}},
    )
    ray.temporary = folder
    yield ray
    ray.shutdown()


@pytest.fixture
def logger(ray):
    options = {"actor_options": {"num_cpus": 0}}
    log_dir = Path("csv_logs").resolve()
    own = CSVLogger("run", log_dir, video_format="mkv", service_backend="ray", service_backend_options=options)
    yield own
    if own.is_alive:
        own.shutdown()


@pytest.fixture
def actors(ray):
    """Return a function that makes actors, each with an env of its own."""
    made = []

    class Actor:
        def __init__(self, make):
            self.env = make()

        def rollout(self, steps):
            return self.env.rollout(steps, break_when_any_done=False)

        def close(self):
            self.env.close()

        def dump(self, step):
            return self.env.transform.dump(step=step)

    def make(makers, **options):
        made.extend(ray.remote(num_cpus=1, **options)(Actor).remote(maker) for maker in makers)
        return made[-len(makers) :]

    yield make
    for actor in made:
        ray.kill(actor)


def left(ray):
    """The unfinished clips in the folder for temporary files."""
    return sorted((ray.temporary / f"vidrec-clips-{os.getuid()}").glob("*.part-*.mkv"))


@pytest.mark.long
@pytest.mark.parametrize("count", [2, 8])
def test_ten_episodes_of_each_actor_arrive(count, ray, logger, actors):
    client = logger.client()
    made = actors([functools.partial(worker_env, client, at, [3, 5], dump_on_done=True) for at in range(count)])
    rollouts = ray.get([actor.rollout.remote(39) for actor in made])
    ray.get([actor.close.remote() for actor in made])
    expected, ended = episodes(frames_in(*rollouts)), endings(*rollouts)
    assert len(expected) == count * 10
    videos = found()
    assert of_actors(videos) == {
        env_id: [numbers for (at, _), numbers in sorted(expected.items()) if at == env_id] for env_id in range(count)
    }
    for row in rows():
        numbers = videos[Path(row["file"]).name]
        assert row["ended"] == ended.get(place(numbers[0])[:2], "unfinished")
    assert len(rows()) == count * 10
    assert not left(ray)


@pytest.mark.long
def test_the_driver_dumps_the_recorder_of_an_actor_and_gets_its_video(ray, logger, actors):
    (actor,) = actors([functools.partial(worker_env, logger.client(), 1, [30])], name="eval")
    ray.get(actor.rollout.remote(4))
    video = ray.get(actor.dump.remote(7))
    assert video.path == Path("csv_logs/run/videos/video_actor-eval_7.mkv").resolve()
    assert numbers_in(video.path) == [name_of(1, 0, step) for step in range(5)]


@pytest.mark.long
def test_a_collector_of_ray_records_what_it_collects(ray, logger):
    from torchrl.collectors.distributed import RayCollector

    collector = RayCollector(
        [functools.partial(worker_env, logger.client(), at, [3, 5], dump_on_done=True) for at in range(2)],
        frames_per_batch=20,
        total_frames=60,
        sync=True,
        remote_configs={"num_cpus": 1},
    )
    numbers = collected(collector)
    videos = of_actors(found())
    assert set(videos) == {0, 1}
    for env_id, own in videos.items():
        recorded = [number for video in own for number in video]
        assert {number for number in numbers if place(number)[0] == env_id} <= set(recorded) | _last(recorded)
        assert own == [numbers for _, numbers in sorted(episodes(recorded).items())]


def _last(recorded):
    """The frames of the episode after the last one, whose video is not finished when its collector is ended."""
    env_id, episode, _ = place(max(recorded))
    return {name_of(env_id, episode + 1, step) for step in range(6)}


def _repaired(ray):
    """The numbers in the videos that `vidrec repair` makes of what is left; they are deleted."""
    videos = [one.video for one in repair.repair(ray.temporary) if not one.failed and one.video is not None]
    numbers = [numbers_in(video) for video in videos]
    for video in videos:
        video.unlink()
    return numbers


@pytest.mark.long
@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_an_actor_that_ends_leaves_its_last_clip_whole(end, ray, logger, actors):
    _repaired(ray)  # what the actors of other tests have left
    (actor,) = actors([functools.partial(worker_env, logger.client(), 2, [30], dump_on_done=True)])
    ray.get(actor.rollout.remote(5))
    before = set(found())
    ray.kill(actor) if end == "kill" else actor.__ray_terminate__.remote()
    expected = [name_of(2, 0, step) for step in range(6)]
    until = time.monotonic() + 30
    while time.monotonic() < until:  # published, or where `vidrec repair` finds it
        published = [numbers for name, numbers in found().items() if name not in before]
        if published == [expected]:
            break
        if _repaired(ray) == [expected]:
            break
        time.sleep(0.2)
    else:
        pytest.fail(f"{published} was published, {left(ray)} is left")
    assert not left(ray)


@pytest.mark.long
def test_a_driver_that_is_gone_leaves_whole_clips(ray, tmp_path):
    _repaired(ray)
    script = """
        import functools, os, sys, time
        import ray
        from workers import collected, worker_env

        if __name__ == "__main__":
            env_vars = {"PYTHONPATH": os.environ["PYTHONPATH"], "TMPDIR": os.environ["TMPDIR"]}
            ray.init(address=sys.argv[1], runtime_env={"env_vars": env_vars}, log_to_driver=False)
            from vidrec import CSVLogger

            logger = CSVLogger("run", os.getcwd(), video_format="mkv", service_backend="ray",
                               service_backend_options={"actor_options": {"num_cpus": 0}})

            @ray.remote
            class Actor:
                def __init__(self, make):
                    self.env = make()
                    self.env.rollout(7, break_when_any_done=False)

                def ready(self):
                    return True

            actor = Actor.remote(functools.partial(worker_env, logger.client(), 1, [30]))
            ray.get(actor.ready.remote())
            print("ready", flush=True)
            os.kill(os.getpid(), 9)
    """
    (tmp_path / "driver.py").write_text(textwrap.dedent(script))
    env = {**os.environ, "PYTHONPATH": os.path.dirname(__file__), "TMPDIR": str(ray.temporary)}
    done = subprocess.run(
        [sys.executable, "driver.py", ray.get_runtime_context().gcs_address],
        env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "ready" in done.stdout, done.stderr
    until = time.monotonic() + 60
    expected, repaired = [name_of(1, 0, step) for step in range(8)], []
    while not repaired and time.monotonic() < until:
        time.sleep(0.5)
        if published := list(Path("run").rglob("video*_0.mkv")):
            assert [numbers_in(video) for video in published] == [expected]
            return
        repaired = _repaired(ray)
    assert repaired == [expected]


@pytest.mark.long
def test_a_node_far_away_shares_no_folder_and_leaves_its_clips_when_it_is_gone(tmp_path):
    require("ray")
    for name in ("near", "far"):
        (tmp_path / name).mkdir()
    script = """
        import functools, os, sys, time
        import ray
        from ray.cluster_utils import Cluster
        from workers import collected, worker_env

        if __name__ == "__main__":
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 2**28})
            far = cluster.add_node(num_cpus=2, resources={"far": 1}, object_store_memory=2**28)
            path = {"PYTHONPATH": os.environ["PYTHONPATH"]}
            there = {"env_vars": {**path, "TMPDIR": os.path.abspath("far")}}
            ray.init(address=cluster.address, log_to_driver=False)
            from vidrec import CSVLogger

            near = {"num_cpus": 0, "runtime_env": {"env_vars": {**path, "TMPDIR": os.path.abspath("near")}}}
            logger = CSVLogger("run", os.getcwd(), video_format="mkv", service_backend="ray",
                               service_backend_options={"actor_options": near})

            @ray.remote(resources={"far": 0.1}, runtime_env=there)
            class Actor:
                def __init__(self, make):
                    self.env = make()

                def rollout(self, steps):
                    self.env.rollout(steps, break_when_any_done=False)

                def dump(self):
                    return str(self.env.transform.dump(step=0).path)

            actor = Actor.remote(functools.partial(worker_env, logger.client(), 1, [30]))
            ray.get(actor.rollout.remote(7))
            print(ray.get(actor.dump.remote()), flush=True)
            ray.get(actor.rollout.remote(3))
            cluster.remove_node(far, allow_graceful=False)
            time.sleep(3)
            ray.shutdown()
            cluster.shutdown()
    """
    (tmp_path / "driver.py").write_text(textwrap.dedent(script))
    env = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    done = subprocess.run([sys.executable, "driver.py"], env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    video = Path(next(line for line in done.stdout.split() if line.endswith(".mkv")))
    assert numbers_in(video) == [name_of(1, 0, step) for step in range(8)]
    assert video.is_relative_to(tmp_path / "run/videos")
    assert not list(Path("near").rglob("*.mkv"))
    (repaired,) = repair.repair(tmp_path / "far")
    assert numbers_in(repaired.video) == [name_of(1, 1, step) for step in range(4)]


def test_a_large_file_goes_in_pieces(ray, logger, monkeypatch):
    monkeypatch.setattr(service, "PIECE_BYTES", 1000)
    recorder = VideoRecorder(logger, "video", skip=1)
    for number in range(100):
        recorder._apply_transform(numbered(number))
    sent = []
    begin = RayClient.begin
    monkeypatch.setattr(RayClient, "begin", lambda self, *args, **kw: (sent.append(args), begin(self, *args, **kw))[1])
    video = recorder.dump(step=0)
    assert numbers_in(video.path) == list(range(100))
    pieces = [args[1] for args in sent if args[0] == "log_video_piece"]
    assert len(pieces) > 3
    assert {len(piece) for piece in pieces[:-1]} == {1000}
    assert sum(map(len, pieces)) == video.path.stat().st_size


@pytest.mark.long
def test_a_file_of_which_a_piece_is_lacking_is_published_again(ray, logger, monkeypatch):
    monkeypatch.setattr(service, "PIECE_BYTES", 1000)
    recorder = VideoRecorder(logger, "video", skip=1)
    for number in range(100):
        recorder._apply_transform(numbered(number))
    begin = RayClient.begin

    def lose(self, method, *args, **kwargs):
        if method == "log_video_piece" and args[2] == 1000:
            args = (b"", *args[1:])
        return begin(self, method, *args, **kwargs)

    monkeypatch.setattr(RayClient, "begin", lose)
    with pytest.raises(RuntimeError, match=r"(?s)log_video_file.* 1000 of \d+ bytes of .* have arrived"):
        dump_until(recorder, lambda: False, step=0)
    monkeypatch.setattr(RayClient, "begin", begin)
    recorder.dump()
    logger.flush()
    assert found() == {"video_0.mkv": list(range(100))}


@pytest.mark.long
def test_a_recorder_does_not_wait_for_a_logger_far_away(ray, actors, tmp_path):
    options = {"actor_options": {"num_cpus": 0}}
    slow = SlowLogger("run", tmp_path, video_format="mkv", service_backend="ray", service_backend_options=options)
    (actor,) = actors([functools.partial(worker_env, slow.client(), 1, [30])], name="slow")
    ray.get(actor.rollout.remote(4))
    recorder = VideoRecorder(slow, "video", skip=1)
    recorder._apply_transform(numbered(5))
    video = recorder.dump(step=3)
    assert isinstance(video, SentVideo)
    assert "under way" in repr(video)
    dumped = actor.dump.remote(7)
    assert ray.wait([dumped], timeout=1) == ([], [dumped])  # what it returns has its place when it arrives
    let_go(tmp_path)
    assert numbers_in(ray.get(dumped).path) == [name_of(1, 0, step) for step in range(5)]
    assert numbers_in(video.path) == [5]
    slow.shutdown(timeout=60)


@pytest.mark.long
def test_an_evaluator_of_ray_records_its_evaluations(ray, tmp_path):
    options = {"actor_options": {"num_cpus": 0}}
    slow = SlowLogger("run", tmp_path, video_format="mkv", service_backend="ray", service_backend_options=options)
    evaluator = Evaluator(
        functools.partial(worker_env, slow.client(), 1, [3, 5], dump_on_done=True),
        policy_factory=_policy,
        max_steps=9,
        backend="ray",
        num_gpus=0,
        ray_kwargs={"num_cpus": 1},
    )
    for _ in range(3):
        evaluator.evaluate()
    later = threading.Timer(1, let_go, [tmp_path])
    later.start()
    evaluator.shutdown()  # closes the env, which waits for the logger
    later.join()
    expected = [[name_of(1, episode, step) for step in range(steps)] for episode, steps in enumerate((4, 6, 4))]
    assert list(of_actors(found(tmp_path / "run" / "videos")).values()) == [expected]
    assert [row["ended"] for row in rows(tmp_path / "run")] == ["terminated", "terminated", "truncated"]
    slow.shutdown(timeout=60)


class _Zeros(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, done):
        return self.weight.expand(done.shape)


def _policy(env):
    return TensorDictModule(_Zeros(), in_keys=["done"], out_keys=["action"])


@pytest.mark.long
def test_the_example_of_actors_records_a_video_of_each(ray, tmp_path):
    example = Path(__file__).parent.parent / "examples/ray_workers.py"
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "videos/actors/videos").iterdir())
    assert names == ["cartpole_actor-left_0.mp4", "cartpole_actor-right_0.mp4"]


def test_options_that_ray_does_not_take_are_refused(ray):
    with pytest.raises(SettingError, match=r"unknown service_backend_options \['context'\]"):
        CSVLogger("run", service_backend="ray", service_backend_options={"context": "spawn"})

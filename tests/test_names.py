"""The names of videos: those of one program, whoever records them and whatever was started before."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from conftest import START_METHODS, require
from numbered_frames import numbered, numbers_in, rows
from processes import started
from torchrl._utils import logger as torchrl_logger
from torchrl.collectors import Evaluator
from torchrl.envs import AsyncEnvPool, ParallelEnv, SerialEnv, TransformedEnv
from worlds import KeepLogger, PixelsEnv

from vidrec import CSVLogger, VideoRecorder


def videos():
    """The names of all videos, without folder and extension; none has the next free name, and all are whole."""
    paths = list(Path("csv_logs/run/videos").rglob("*.*"))
    assert all(numbers_in(path) for path in paths)
    assert sorted(row["file"] for row in rows()) == sorted(f"videos/{path.name}" for path in paths)
    return {path.stem for path in paths}


def make_env(batch=(), tag="video", **kwargs):
    recorder = VideoRecorder(CSVLogger("run", video_format="mkv"), tag, **{"skip": 1, **kwargs})
    return TransformedEnv(PixelsEnv(batch), recorder)


@pytest.fixture
def others():
    """Processes that were started before."""
    for _ in range(3):
        process = multiprocessing.get_context("fork").Process(target=int)
        process.start()
        process.join()


# a batch of one


@pytest.mark.parametrize("batch", [(), (1,), (1, 1)])
def test_one_env_needs_no_number(batch):
    env = make_env(batch, make_grid=False)
    env.rollout(3)
    assert env.transform.dump().env_id is None
    episodes = make_env(batch, "each", make_grid=False, dump_on_done=True)
    episodes.rollout(3)
    episodes.close()
    assert videos() == {"video_0", "each_ep0_0"}
    assert {row["env_id"] for row in rows()} == {""}


def test_one_env_of_several_keeps_its_number():
    env = make_env((3,), make_grid=False, env_ids=[2])
    env.rollout(3)
    assert env.transform.dump().env_id == 2
    assert videos() == {"video_env2_0"}


# workers


def test_the_workers_of_a_serial_env_have_names_of_their_own():
    env = SerialEnv(3, make_env)
    env.rollout(3)
    env.close()
    assert videos() == {"video_0", "video_worker1_0", "video_worker2_0"}


def test_a_serial_env_in_the_workers_of_another_has_both_numbers():
    env = SerialEnv(2, lambda: SerialEnv(2, make_env))
    env.rollout(3)
    env.close()
    assert videos() == {"video_0", "video_worker0-1_0", "video_worker1-0_0", "video_worker1-1_0"}


@pytest.mark.parametrize("use_buffers", [True, False])
def test_the_workers_of_a_parallel_env_have_the_same_names_whatever_was_before(use_buffers, others):
    for _ in range(2):
        env = ParallelEnv(2, make_env, use_buffers=use_buffers, mp_start_method="fork")
        env.rollout(3)
        env.close()
        names = videos()
        assert names == ({"video_0", "video_worker1_0"} if use_buffers else {"video_worker1_0", "video_worker2_0"})
        for path in Path("csv_logs/run/videos").iterdir():
            path.unlink()
        Path("csv_logs/run/videos.csv").unlink()


def test_two_parallel_envs_at_once_do_not_share_a_name():
    envs = [ParallelEnv(2, make_env, mp_start_method="fork") for _ in range(2)]
    for env in envs:
        env.rollout(3)
    for env in envs:
        env.close()
    assert videos() == {"video_0", *(f"video_worker{number}_0" for number in (1, 2, 3))}


def test_the_workers_of_an_async_env_have_names_of_their_own():
    env = AsyncEnvPool([make_env] * 2, backend="multiprocessing", exchange="queue")
    env.step(env.rand_action(env.reset()))
    env.close()
    assert videos() == {"video_0", "video_worker1_0"}


def move(td):
    return td.set("action", torch.zeros(1))


@pytest.mark.filterwarnings("ignore:Nested TransformedEnvs", "ignore:trajs_per_batch")
def test_the_process_of_an_evaluator_is_one_and_has_no_number(others):
    evaluator = Evaluator(
        make_env, policy_factory=lambda: move, num_trajectories=1, max_steps=5, backend="process", dump_video=True
    )
    try:
        for step in (0, 100):
            evaluator.evaluate(step=step)
    finally:
        evaluator.shutdown()
    assert {"video_0", "video_100"} <= videos()
    assert not any("worker" in name for name in videos())


def log_calls(queue):
    logger = KeepLogger()
    recorder = VideoRecorder(logger, "video", skip=1)
    recorder._apply_transform(numbered(1))
    recorder.dump("final", 3)
    queue.put([(name, step) for name, _, step, _ in logger.calls])


@pytest.mark.parametrize("method", START_METHODS)
def test_a_logger_that_takes_tensors_is_called_with_torchrls_name_in_a_process_too(method):
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=log_calls, args=(queue,))
    process.start()
    assert queue.get(timeout=60) == [("video_final", 3)]
    process.join()


def work(barrier):
    env = make_env()
    env.rollout(3)
    barrier.wait(60)
    env.close()


def test_processes_of_the_programs_own_count_those_that_record_now(others):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    processes = [context.Process(target=work, args=(barrier,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert videos() == {f"video_worker{number}_0" for number in (1, 2, 3)}


def test_the_workers_of_a_data_loader_have_its_numbers():
    class Frames(torch.utils.data.IterableDataset):
        def __iter__(self):
            recorder = VideoRecorder(CSVLogger("run", video_format="mkv"), "video", skip=1)
            for number in range(4):
                recorder._apply_transform(numbered(number))
                yield number
            recorder.dump()

    assert len(list(torch.utils.data.DataLoader(Frames(), num_workers=2, multiprocessing_context="fork"))) == 8
    assert videos() == {"video_0", "video_worker1_0"}


def test_torchrl_does_not_warn_of_recorders_in_workers(caplog):
    torchrl_logger.addHandler(caplog.handler)
    try:
        env = SerialEnv(2, make_env)
        env.rollout(2)
        env.close()
    finally:
        torchrl_logger.removeHandler(caplog.handler)
    assert "VideoRecorder" not in caplog.text


# ranks and actors

RANK = """
    import os, sys
    import torch.distributed
    from test_names import make_env

    if "RANK" not in os.environ:
        torch.distributed.init_process_group(
            "gloo", init_method="file://" + os.getcwd() + "/store", rank=int(sys.argv[1]), world_size=2
        )
    env = make_env()
    env.rollout(3)
    env.close()
"""


@pytest.mark.parametrize("how", ["RANK", pytest.param("init_process_group", marks=pytest.mark.long)])
def test_each_rank_has_a_name_of_its_own(how):
    first, second = ({"RANK": rank, "WORLD_SIZE": "2"} if how == "RANK" else {} for rank in "01")
    with started(RANK, 0, env=first) as one, started(RANK, 1, env=second) as two:
        for rank in (one, two):
            assert rank.wait(120) == 0, rank.stderr.read().decode()
    assert videos() == {"video_0", "video_rank1_0"}


def test_a_program_of_one_rank_has_none(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    env = make_env()
    env.rollout(2)
    env.close()
    assert videos() == {"video_0"}


@pytest.mark.long
def test_each_actor_of_ray_has_a_name_of_its_own(tmp_path):
    require("ray")
    script = tmp_path / "actors.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            sys.path.insert(0, sys.argv[1])
            import ray

            @ray.remote(num_cpus=0)
            class Actor:
                def record(self, tests, folder):
                    import os
                    sys.path.insert(0, tests)
                    os.chdir(folder)
                    from test_names import make_env
                    env = make_env()
                    env.rollout(3)
                    return env.transform.dump(step=4).frames

            ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
            import os
            actors = [Actor.remote(), Actor.remote(), Actor.options(name="critic").remote()]
            print(ray.get([actor.record.remote(sys.argv[1], os.getcwd()) for actor in actors]))
            """
        )
    )
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, str(script), str(Path(__file__).parent)]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert out.stdout.splitlines()[-1:] == ["[4, 4, 4]"], out.stderr
    names = videos()
    assert len(names) == 3
    assert "video_actor-critic_4" in names
    assert all(name.startswith("video_actor-") and name.endswith("_4") for name in names)

"""Any number of processes record through one logger, which runs in a process of its own."""

import functools
import multiprocessing
import os
import pickle
import re
import signal
import time
from pathlib import Path

import pytest
from conftest import SERVICE, START_METHODS, require, since_torchrl, some
from numbered_frames import numbered, numbers_in, rows
from torchrl._comm.mailbox import MailboxClient
from torchrl.collectors import Evaluator, MultiAsyncCollector, MultiSyncCollector
from torchrl.envs import AsyncEnvPool, ParallelEnv
from torchrl.record.loggers import ProcessLogger
from workers import (
    check_nothing_is_left,
    collected,
    dump_until,
    endings,
    episodes,
    found,
    frames_in,
    of_workers,
    place,
    worker_env,
)
from worlds import EpisodesEnv, name_of

import vidrec
from vidrec import (
    CSVLogger,
    ServiceError,
    SettingError,
    TensorboardLogger,
    VideoRecorder,
    VidrecWarning,
    WandbLogger,
)
from vidrec.tools import repair, scan

pytestmark = [
    since_torchrl("0.14"),
    *map(
        pytest.mark.filterwarnings,
        ["ignore:Nested TransformedEnvs", "ignore:trajs_per_batch", "ignore:The default exchange of AsyncEnvPool"],
    ),
]


@pytest.fixture
def logger():
    service = CSVLogger("run", video_format="mkv", **SERVICE)
    yield service
    if service.is_alive:
        service.shutdown()


def makers(logger, count, lengths=(3, 5), **kwargs):
    return [functools.partial(worker_env, logger, env_id, list(lengths), **kwargs) for env_id in range(count)]


def each(start_method, work, count, *args):
    """Run `work(number, *args)` in as many processes at the same time."""
    context = multiprocessing.get_context(start_method)
    processes = [context.Process(target=work, args=(number, *args)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * count


# the episodes of all arrive


@pytest.mark.parametrize(
    ("start_method", "turn"),
    [
        ("fork", 0),
        *(pytest.param("fork", turn, marks=pytest.mark.long) for turn in range(1, 10)),
        *(pytest.param(method, 0, marks=pytest.mark.long) for method in ("forkserver", "spawn")),
    ],
)
def test_ten_episodes_of_each_of_eight_workers_arrive(start_method, turn, logger, tmp_path):
    env = ParallelEnv(8, makers(logger, 8, dump_on_done=True), mp_start_method=start_method)
    rollout = env.rollout(39, break_when_any_done=False)
    env.close()
    check_nothing_is_left(tmp_path)
    expected, ended = episodes(frames_in(rollout)), endings(rollout)
    assert len(expected) == 80
    videos = found()
    assert of_workers(videos) == {
        env_id: [numbers for (at, _), numbers in sorted(expected.items()) if at == env_id] for env_id in range(8)
    }
    assert sorted(name.rpartition("_")[2] for name in videos) == sorted(8 * [f"{step}.mkv" for step in range(10)])
    for row in rows():
        numbers = videos[Path(row["file"]).name]
        assert (int(row["frames"]), int(row["length"])) == (len(numbers), len(numbers) - 1)
        assert row["ended"] == ended.get(place(numbers[0])[:2], "unfinished")
    assert len(rows()) == 80


@pytest.mark.parametrize("kind", some([MultiSyncCollector, MultiAsyncCollector], MultiAsyncCollector))
def test_collectors_of_several_processes_share_one_logger(kind, logger, tmp_path):
    collector = kind(
        makers(logger, 2, (9, 12)), frames_per_batch=20 if kind is MultiSyncCollector else 10, total_frames=60
    )
    numbers = collected(collector)
    check_nothing_is_left(tmp_path)
    videos = of_workers(found())
    assert set(videos) == {0, 1}
    for env_id, own in videos.items():
        recorded = [number for video in own for number in video]
        assert {number for number in numbers if place(number)[0] == env_id} <= set(recorded)
        assert recorded == [number for at in sorted(episodes(recorded)) for number in episodes(recorded)[at]]


def test_the_envs_of_an_asynchronous_pool_share_one_logger(logger, tmp_path):
    pool = AsyncEnvPool(makers(logger, 3, (4,), dump_on_done=True), backend="multiprocessing")
    rollout = pool.rollout(6, break_when_any_done=False)
    pool.close()
    check_nothing_is_left(tmp_path)
    expected = episodes(frames_in(rollout))
    videos = of_workers(found())
    assert set(videos) == {0, 1, 2}
    for env_id, own in videos.items():
        assert own == [numbers for (at, _), numbers in sorted(expected.items()) if at == env_id]


def test_an_evaluator_in_a_process_dumps_into_it(logger, tmp_path):
    policy = functools.partial(_zeros)
    evaluator = Evaluator(
        functools.partial(_evaluated, logger), None, policy_factory=lambda: policy,
        num_trajectories=2, max_steps=6, backend="process", dump_video=True,
    )  # fmt: skip
    try:
        evaluator.evaluate(step=10)
    finally:
        evaluator.shutdown()
    check_nothing_is_left(tmp_path)
    assert {"video_env0_10.mkv", "video_env1_10.mkv"} <= set(found())


def _zeros(td):
    import torch

    return td.set("action", torch.zeros(2, 1))


def _evaluated(logger):
    from torchrl.envs import TransformedEnv

    recorder = VideoRecorder(logger, "video", skip=1, make_grid=False)
    return TransformedEnv(EpisodesEnv([[3], [4]]), recorder)


def _four_frames(number, client):
    recorder = VideoRecorder(client, f"video{number}", skip=1)
    for at in range(4):
        recorder._apply_transform(numbered(at))
    recorder.dump(step=number)


def test_workers_share_one_event_file_of_tensorboard(tmp_path):
    require("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorboardLogger("run", str(tmp_path), **SERVICE)
    each("forkserver", _four_frames, 2, logger.client())
    logger.shutdown()
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    shown = {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}
    assert sorted(shown.values()) == [[0], [1]]
    assert all(re.fullmatch(r"video\d(_worker\d+)?", tag) for tag in shown)
    assert not list(tmp_path.rglob("*.part-*"))


@pytest.mark.long
def test_workers_share_one_run_of_wandb(tmp_path, monkeypatch):
    require("wandb")
    for name, value in [("MODE", "offline"), ("SILENT", "true"), ("DIR", str(tmp_path))]:
        monkeypatch.setenv(f"WANDB_{name}", value)
    # the service is spawned: a server of forks was started before the environment was set
    options = {"service_backend": "process", "service_backend_options": {"context": "spawn"}}
    logger = WandbLogger("run", save_dir=str(tmp_path), offline=True, project="workers", **options)
    each("forkserver", _four_frames, 2, logger.client())
    logger.shutdown(timeout=60)
    videos = list(tmp_path.rglob("media/videos/*.mp4"))
    assert len(videos) == 2
    assert all(numbers_in(video) == [0, 1, 2, 3] for video in videos)


# copies of one client


def _scalars_and_videos(number, client):
    for step in range(20):
        client.log_scalar(f"loss/{number}", number + step, step=step)
    recorder = VideoRecorder(client, f"video{number}", skip=1)
    for step in range(5):
        for at in range(4):
            recorder._apply_transform(numbered(name_of(number, step, at)))
        video = recorder.dump(step=step)
        assert re.fullmatch(rf"video{number}(_worker\d+)?_{step}.mkv", video.path.name)
        assert numbers_in(video.path) == [name_of(number, step, at) for at in range(4)]


@pytest.mark.parametrize("start_method", START_METHODS)
@pytest.mark.parametrize("owner", [False, True], ids=["client", "owner"])
def test_each_copy_of_a_client_gets_its_own_replies(owner, start_method, logger):
    each(start_method, _scalars_and_videos, 4, logger if owner else logger.client())
    logger.log_scalar("loss/4", 1.0, step=0)  # nor does the owner get another one's
    assert len(rows()) == 20
    for number in range(4):
        logged = Path(f"csv_logs/run/scalars/loss/{number}.csv").read_text().split()
        assert logged == [f"{step},{float(number + step)}" for step in range(20)]


def test_a_copy_in_the_same_process_is_a_client_of_its_own(logger):
    client = logger.client()
    copy = pickle.loads(pickle.dumps(client))
    for one in (client, copy, pickle.loads(pickle.dumps(logger))):
        one.log_scalar("loss", 1.0, step=0)
    assert (copy.exp_name, copy.log_dir) == (client.exp_name, client.log_dir) == ("run", logger.log_dir)
    with pytest.raises(AttributeError, match="no lifecycle capability"):
        copy.shutdown()


def test_the_clients_of_torchrls_own_service_work_as_there(tmp_path):
    service = ProcessLogger(CSVLogger, "run", video_format="mkv", mp_context="forkserver")
    try:
        recorder = VideoRecorder(service, "video", skip=1)
        for number in range(5):
            recorder._apply_transform(numbered(number))
        assert numbers_in(recorder.dump(step=0).path) == list(range(5))
    finally:
        service.shutdown()


def test_an_unknown_backend_is_refused():
    with pytest.raises((SettingError, ValueError), match="carrier pigeon"):
        CSVLogger("run", service_backend="carrier pigeon")


# what travels


@pytest.mark.long
def test_what_travels_is_the_name_of_a_file(logger, monkeypatch):
    recorder = VideoRecorder(logger, "video", skip=1)
    for number in range(1000):
        recorder._apply_transform(numbered(number, (240, 320)))
    sent = []
    submit = MailboxClient.submit
    monkeypatch.setattr(MailboxClient, "submit", lambda self, payload: (sent.append(payload), submit(self, payload))[1])
    recorder.dump(step=0)
    assert len(pickle.dumps(sent)) < 1000 * 240 * 320 * 3 / 50
    assert len(pickle.dumps(sent)) < 10_000
    assert rows()[0]["frames"] == "1000"


# faults


def _hang(number, client, ready):
    recorder = VideoRecorder(client, f"video{number}", skip=1)
    for at in range(60):
        recorder._apply_transform(numbered(at))
    ready.wait()
    time.sleep(60)


def test_a_worker_that_is_killed_leaves_its_clip_in_the_folder_of_the_logger_and_the_others_go_on(logger):
    context = multiprocessing.get_context("forkserver")
    ready = context.Barrier(2)
    process = context.Process(target=_hang, args=(0, logger.client(), ready))
    process.start()
    ready.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    recorder = VideoRecorder(logger, "video1", skip=1)
    folder = Path("csv_logs/run").resolve()
    _until(lambda: all(clip.abandoned for clip in scan.left_clips(folder)))
    with pytest.warns(VidrecWarning, match=f"1 clip is left unfinished in {re.escape(str(folder))}"):
        recorder._apply_transform(numbered(7))
    assert recorder.dump(step=0).frames == 1
    (repaired,) = repair.repair(folder)
    assert numbers_in(repaired.video) == list(range(60))
    assert {row["tag"] for row in rows()} == {"video0", "video1"}


def test_a_video_is_kept_where_the_logger_would_have_it_when_that_is_killed(logger, tmp_path):
    recorder = VideoRecorder(logger, "video", skip=1)
    for number in range(20):
        recorder._apply_transform(numbered(number))
    os.kill(logger._process.pid, signal.SIGKILL)
    with pytest.raises(ServiceError, match="has ended, and log_video_file was not done") as caught:
        dump_until(recorder, lambda: False, step=3)
    kept = re.search(r"is kept, in (\S+);", caught.value.__notes__[0])[1]
    assert Path(kept).parent == tmp_path / "csv_logs/run/videos"
    assert numbers_in(Path(kept)) == list(range(20))
    with pytest.raises(ServiceError):
        dump_until(recorder, lambda: False)
    again = CSVLogger("run", video_format="mkv", **SERVICE)
    recorder.logger = again.client()
    recorder.dump()
    assert numbers_in(tmp_path / "csv_logs/run/videos/video_3.mkv") == list(range(20))
    assert [row["step"] for row in rows()] == ["3"]
    again.shutdown()
    logger.shutdown()


def test_a_logger_that_does_not_answer_is_given_up(logger):
    recorder = VideoRecorder(logger, "video", skip=1)
    recorder._apply_transform(numbered(1))
    pid = logger._process.pid
    os.kill(pid, signal.SIGSTOP)
    vidrec.set_service_timeout(0.5)
    try:
        with pytest.raises(ServiceError, match=r"has not answered log_video_file within 0\.5 s"):
            dump_until(recorder, lambda: False, step=0)
    finally:
        vidrec.set_service_timeout()
        os.kill(pid, signal.SIGCONT)
    assert recorder.dump().path.name == "video_0.mkv"
    assert [row["frames"] for row in rows()] == ["1"]


def _until(holds):
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_time_out_is_a_number_of_seconds():
    with pytest.raises(SettingError, match="timeout_s=0 must be a number of seconds"):
        vidrec.set_service_timeout(0)

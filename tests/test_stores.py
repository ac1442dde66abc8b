"""`CSVLogger` at the URL of an object store: a real server of S3, the store in memory, and what may go wrong."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import deque
from pathlib import Path

import pytest
from conftest import missing, require, some
from numbered_frames import numbered, numbers_in
from processes import SECONDS, run_python, started, wait_for_encoders, within, without
from test_cli import call
from torchrl.envs import ParallelEnv, TransformedEnv
from worlds import PixelsEnv, random_frames

import vidrec
from vidrec import (
    CSVLogger,
    EncoderError,
    ExtraError,
    SettingError,
    StoreError,
    TeeLogger,
    Uploads,
    VideoRecorder,
    VidrecWarning,
    keep_best,
)
from vidrec.files.store import PIECE_BYTES, Store
from vidrec.loggers import uploads as uploads_module
from vidrec.testing import check_logger
from vidrec.tools import listing
from vidrec.tools.repair import repair
from vidrec.tools.verify import verify

fsspec = pytest.importorskip("fsspec")

URL = "s3://bucket/runs"
VIDEO = numbered(5).permute(2, 0, 1)[None, None]


@pytest.fixture(autouse=True)
def _own_spool(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDREC_SPOOL", str(tmp_path / "spool"))
    memory = fsspec.filesystem("memory")
    with within(SECONDS):
        yield
    while uploads_module._uploaders:  # none sends what its test has left to the server of another
        uploads_module._uploaders.pop()._tasks = deque([threading.Event().wait])
    memory.store.clear()


class Server:
    """A server of S3 in a process of its own, which forgets all when it is killed."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # by a name: to connect is to look it up
        self.env = {
            "AWS_ENDPOINT_URL": f"http://localhost:{self.port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self):
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)
        self.files.mkdir("bucket")

    def kill(self):
        self.process.kill()
        self.process.wait()

    @functools.cached_property
    def files(self):
        import s3fs

        login = {"endpoint_url": self.env["AWS_ENDPOINT_URL"], "key": "key", "secret": "secret"}
        return s3fs.S3FileSystem(**login, use_listings_cache=False, skip_instance_cache=True)


@pytest.fixture
def away(monkeypatch):
    """A server of S3 of this test, which is not yet there."""
    require("s3fs", "moto", "flask_cors")
    server = Server()
    for name, value in {**server.env, "AWS_MAX_ATTEMPTS": "1"}.items():  # s3fs tries again as well
        monkeypatch.setenv(name, value)
    yield server
    if hasattr(server, "process"):
        server.process.send_signal(signal.SIGCONT)
        server.kill()


@pytest.fixture(scope="session")
def _server():
    require("s3fs", "moto", "flask_cors")
    server = Server()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(_server, monkeypatch):
    """A server of S3 with an empty bucket."""
    for name, value in _server.env.items():
        monkeypatch.setenv(name, value)
    _server.files.rm("bucket", recursive=True)
    _server.files.mkdir("bucket")
    return _server


@pytest.fixture
def memory():
    """The files at URLs ``memory://``."""
    return fsspec.filesystem("memory")


def record(recorder, numbers):
    for number in numbers:
        recorder._apply_transform(numbered(number))


def arrived(files, folder="bucket/runs/run/videos"):
    """Return the frames of each video in a store by its name; each has a row beside it that says the same."""
    found = {}
    rows = {}
    with tempfile.TemporaryDirectory() as here:
        for path in sorted(files.find(folder)):
            name = str(path).strip("/").removeprefix(f"{folder}/")
            if name.endswith(".json"):
                rows[name.removesuffix(".json")] = json.loads(files.cat(path))
            else:
                files.get(path, f"{here}/{Path(name).name}")
                found[name] = numbers_in(Path(here, Path(name).name))
    assert {name: (row["file"], row["frames"]) for name, row in rows.items()} == {
        name: (f"videos/{name}", len(numbers)) for name, numbers in found.items()
    }
    return found


def flush(logger):
    """Flush a logger whose store has only just come back."""
    until = time.monotonic() + SECONDS
    while True:
        try:
            return logger.flush()
        except StoreError:
            assert time.monotonic() < until
            time.sleep(0.1)


TRIED_AGAIN = pytest.mark.filterwarnings("ignore:.*takes no videos, which is tried again:vidrec.VidrecWarning")


def waiting():
    """Return the finished videos that wait on this machine."""
    return sorted(path for path in Path("spool").rglob("*.mp4") if ".part-" not in path.name)


# where a video is


@pytest.mark.parametrize("where", some([("run", URL), (f"{URL}/run",), (f"{URL}/run", "elsewhere")], (f"{URL}/run",)))
def test_a_video_grows_here_and_goes_up_whole_with_a_row_of_its_own(server, where):
    logger = CSVLogger(*where)
    recorder = VideoRecorder(logger, "eval/video")
    record(recorder, range(4))
    assert {path.name[:11] for path in Path("spool").rglob("videos/eval/*")} == {"video.part-"}
    assert server.files.find("bucket") == []
    video = recorder.dump(step=7)
    assert video.url == f"{URL}/run/videos/eval/video_7.mp4"
    logger.flush()
    assert arrived(server.files) == {"eval/video_7.mp4": [0, 1, 2, 3]}
    assert not video.path.exists()
    row = json.loads(server.files.cat("bucket/runs/run/videos/eval/video_7.mp4.json"))
    assert (row["tag"], row["step"], row["fps"], row["codec"]) == ("eval/video", 7, 30, "libx264")
    logger.close()
    assert list(Path("spool").rglob("*.*")) == []
    assert list(Path().iterdir()) == [Path("spool")]


def test_a_recorder_takes_a_url(server):
    recorder = VideoRecorder(f"{URL}/run", "game")
    record(recorder, [1, 2])
    recorder.dump()
    recorder.logger.flush()
    assert arrived(server.files) == {"game_0.mp4": [1, 2]}


def test_it_keeps_the_contract_of_a_logger():
    check_logger(lambda: CSVLogger("check", "memory://bucket"))


@TRIED_AGAIN
def test_dump_does_not_wait_for_the_store(monkeypatch):
    require("s3fs")
    monkeypatch.setattr(uploads_module, "LOOK_S", 0.1)  # for the steps of an earlier run
    silent = Server()
    for name, value in silent.env.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", silent.port)):  # takes connections, and never answers
        recorder = VideoRecorder(CSVLogger("run", URL), "game")
        for _ in range(2):
            record(recorder, range(3))
            recorder.dump()
        assert [numbers_in(path) for path in waiting()] == [[0, 1, 2]] * 2


@pytest.mark.long
def test_a_large_file_goes_up_in_pieces(server, tmp_path):
    path = tmp_path / "large.mp4"
    data = os.urandom(PIECE_BYTES) * 3 + b"end"
    path.write_bytes(data)
    store = Store(URL)
    assert [store.put_new(path, "large.mp4", token) for token in "ab"] == ["large.mp4", "large_1.mp4"]
    for name in ("large.mp4", "large_1.mp4"):
        assert server.files.cat(f"bucket/runs/{name}") == data
        assert server.files.info(f"bucket/runs/{name}")["ETag"].endswith('-4"')


@pytest.mark.long
def test_memory_is_flat_in_the_size_of_a_file(server, tmp_path):
    path = tmp_path / "large.mp4"
    path.write_bytes(bytes(20 * PIECE_BYTES))
    script = f"""
    import resource
    from pathlib import Path
    from vidrec.files.store import Store
    store = Store({URL!r})
    small = Path("small.mp4")
    small.write_bytes(b"small")
    store.put_new(small, "small.mp4", "small")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store.put_new(Path("large.mp4"), "large.mp4", "large")
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    assert int(run_python(script).stdout) < 64


def test_scalars_and_texts_go_up_under_names_of_the_process(server):
    loggers = [CSVLogger("run", URL) for _ in range(2)]
    for number, logger in enumerate(loggers):
        logger.log_scalar("loss", number, step=3)
        logger.log_hparams({"lr": number})
        logger.flush()
        logger.log_scalar("loss", 10 + number, step=4)
        logger.close()
    texts = [server.files.cat(path).decode() for path in server.files.find("bucket/runs/run/scalars")]
    assert sorted(texts) == ["3,0.0\n4,10.0\n", "3,1.0\n4,11.0\n"]
    assert sorted(map(server.files.cat, server.files.find("bucket/runs/run/texts"))) == [b"lr: 0", b"lr: 1"]
    assert list(Path("spool").rglob("*.*")) == []


def test_a_copied_folder_is_listed_verified_and_pruned_like_any_other(server):
    logger = CSVLogger("run", URL)
    for step in (0, 1000):
        logger.log_video("eval/video", VIDEO, step)
    logger.flush()
    server.files.get("bucket/runs", "copied", recursive=True)
    found = vidrec.videos("copied")
    here = Path("copied/run").resolve()
    assert [(one.run, one.tag, one.step, one.frames, one.fps) for one in found] == [
        (here, "eval/video", 0, 1, 30),
        (here, "eval/video", 1000, 1, 30),
    ]
    assert list(verify(Path("copied").resolve())) == []
    found[0].delete()
    assert sorted(path.name for path in Path("copied/run/videos/eval").iterdir()) == [
        "video_1000.mp4",
        "video_1000.mp4.json",
    ]
    Path("copied/run/videos/eval/video_1000.mp4").unlink()
    [problem] = verify(Path("copied").resolve())
    assert problem.file.name == "video_1000.mp4"
    [dropped] = repair(Path("copied").resolve(), sync=True)
    assert "the row of a video that is not there" in dropped.outcome
    assert list(Path("copied/run/videos/eval").iterdir()) == []


def test_a_row_that_is_damaged_is_said_and_one_of_somebody_else_is_none():
    Path("copied").mkdir()
    Path("copied/a_0.mp4").touch()
    Path("copied/a_0.mp4.json").write_text('{"tag"')
    Path("copied/b_0.mp4").touch()
    Path("copied/b_0.mp4.json").write_text('{"title": "a film"}')
    with pytest.warns(VidrecWarning, match=r"a_0\.mp4\.json cannot be read"):
        found = vidrec.videos("copied")
    assert [(video.path.name, video.tag) for video in found] == [("a_0.mp4", None), ("b_0.mp4", None)]


def test_keep_best_deletes_in_the_store(memory):
    logger = CSVLogger("run", "memory://bucket/runs")
    recorder = VideoRecorder(logger, "best", keep=keep_best(1))
    env = TransformedEnv(PixelsEnv(horizon=2), recorder)
    for _ in range(3):
        env.rollout(10)
        logger.flush()
    env.close()
    logger.flush()
    assert list(arrived(memory)) == ["best_ep0_0.mp4"]
    assert [video.url for video in recorder.videos] == ["memory://bucket/runs/run/videos/best_ep0_0.mp4"]


@TRIED_AGAIN
def test_a_video_that_is_removed_before_it_went_up_is_gone(away):
    logger = CSVLogger("run", URL)
    videos = [logger.log_video("game", VIDEO, step) for step in range(2)]
    logger.remove_video(videos[1])
    away.start()
    logger.flush()
    assert list(arrived(away.files)) == ["game_0.mp4"]
    assert waiting() == []


def test_dump_renames_what_the_end_of_the_environment_has_published(memory):
    logger = CSVLogger("run", "memory://bucket/runs")
    recorder = VideoRecorder(logger, "game", skip=1)
    env = TransformedEnv(PixelsEnv(), recorder)
    env.rollout(3)
    env.close()
    logger.flush()
    assert list(arrived(memory)) == ["game_0.mp4"]
    recorder.dump("last", step=9)
    logger.flush()
    assert arrived(memory) == {"game_last_9.mp4": [0, 1, 2, 3]}


def test_loggers_share_one_clip_with_a_folder(memory):
    recorder = VideoRecorder(TeeLogger(CSVLogger("run", "memory://bucket/runs"), CSVLogger("here")), "game")
    record(recorder, range(3))
    recorder.dump()
    recorder.logger.flush()
    assert numbers_in(Path("csv_logs/here/videos/game_0.mp4")) == [0, 1, 2]
    assert arrived(memory) == {"game_0.mp4": [0, 1, 2]}


# names


def test_list_shows_what_is_in_the_store(server, memory):
    for run, step in (("a", 3), ("a", 4), ("b", 5)):
        logger = CSVLogger(run, URL)
        recorder = VideoRecorder(logger, "deep/game", skip=1)
        for number in range(4):
            recorder._apply_transform(numbered(number))
        recorder.dump(step=step)
        logger.close()
    server.files.pipe_file("bucket/runs/b/videos/foreign.mp4", b"no video")
    server.files.pipe_file("bucket/runs/b/videos/bad.mp4", b"no video")
    server.files.pipe_file("bucket/runs/b/videos/bad.mp4.json", b"{")
    server.files.pipe_file("bucket/runs/b/notes.json", b"{}")
    done = call("list", URL, "--sort", "step", "--json", env=server.env)
    rows = json.loads(done.stdout)
    assert done.returncode == 1
    assert f"{URL}/b/videos/bad.mp4.json cannot be read" in done.stderr
    listed = [[row[name] for name in ("run", "tag", "step", "frames", "file")] for row in rows]
    folder = "videos/deep/game"
    assert listed[:3] == [
        ["a", "deep/game", 3, 4, f"{URL}/a/{folder}_3.mp4"],
        ["a", "deep/game", 4, 4, f"{URL}/a/{folder}_4.mp4"],
        ["b", "deep/game", 5, 4, f"{URL}/b/{folder}_5.mp4"],
    ]
    assert [row[-1] for row in listed[3:]] == [f"{URL}/b/videos/bad.mp4", f"{URL}/b/videos/foreign.mp4"]
    assert all(row["bytes"] > 0 for row in rows)
    server.files.rm("bucket/runs/b/videos/bad.mp4.json")
    done = call("list", f"{URL}/", "--where", "run=a", "--sort", "-step", "-n", 1, env=server.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "game_4.mp4" in done.stdout
    assert "1 of 5 videos" in done.stdout
    one = json.loads(call("list", f"{URL}/a", "--where", "step=3", "--json", env=server.env).stdout)
    assert [(row["run"], row["file"]) for row in one] == [(".", f"{URL}/a/{folder}_3.mp4")]


@pytest.mark.parametrize("url", [URL, "memory://bucket/runs"])
def test_a_row_that_is_deleted_while_one_lists_does_not_hide_the_others(url, server, memory, monkeypatch):
    files = server.files if url == URL else memory
    logger = CSVLogger("run", url)
    for step in (1, 2):
        logger.log_video("game", VIDEO, step)
    logger.close()
    find = Store.find

    def find_and_delete(self):
        found = find(self)
        files.rm(f"{url}/run/videos/game_1.mp4.json")
        return found

    monkeypatch.setattr(Store, "find", find_and_delete)
    assert [(video.tag, video.step) for video in listing.read_store(url).videos] == [(None, None), ("game", 2)]


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("s3://bucket/nothing", 2, "there is nothing at s3://bucket/nothing"),
        pytest.param("s3://no-such-bucket", 2, "there is nothing at s3://no-such-bucket", marks=pytest.mark.long),
        ("nothing://bucket", 2, "is the URL of no object store"),
    ],
)
def test_list_says_what_is_wrong_with_a_url(url, code, said, server):
    done = call("list", url, env=server.env)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in " ".join(done.stderr.replace("\u2502", " ").split())


def test_list_says_that_a_store_is_away(away):
    done = call("list", URL, env=away.env)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"vidrec: {URL} cannot be read: " in done.stderr


@pytest.mark.parametrize("url", some([URL, "memory://bucket/runs"], URL))
def test_an_existing_video_is_never_replaced(url, server, memory):
    files = server.files if url == URL else memory
    numbers = [7, 8, 9]
    for number in numbers:
        logger = CSVLogger("run", url)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            logger.log_video("game", numbered(number).permute(2, 0, 1)[None, None], 0)
            logger.close()
        taken = f"{url}/run/videos/game_0.mp4 exists and is kept; this video is {url}/run/videos/game_0_"
        assert [str(warning.message).startswith(taken) for warning in told] == [True] * (number > 7)
    assert arrived(files) == {"game_0.mp4": [7], "game_0_1.mp4": [8], "game_0_2.mp4": [9]}


def test_a_name_that_this_process_has_used_is_told_at_once(memory):
    logger = CSVLogger("run", "memory://bucket/runs")
    logger.log_video("game", VIDEO, 0)
    logger.flush()
    with pytest.warns(VidrecWarning, match=r"game_0\.mp4 exists and is kept; this video is .*game_0_1\.mp4"):
        assert logger.log_video("game", VIDEO, 0).url.endswith("game_0_1.mp4")
    logger.flush()
    assert list(arrived(memory)) == ["game_0.mp4", "game_0_1.mp4"]


def test_the_steps_of_a_run_go_on_after_those_in_the_store(server):
    for expected in ("game_0.mp4", "game_1.mp4", "game_2.mp4"):
        recorder = VideoRecorder(CSVLogger("run", URL), "game")
        record(recorder, [1])
        assert recorder.dump().url.endswith(expected)
        recorder.logger.close()
    assert list(arrived(server.files)) == ["game_0.mp4", "game_1.mp4", "game_2.mp4"]


class Plain(type(fsspec.filesystem("memory"))):
    """A store in which the last of two that take the same name wins, whatever is asked."""

    protocol = "gs"
    store = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    def put_file(self, lpath, rpath, callback=None, mode="overwrite", **kwargs):
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        super().pipe_file(path, value)

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("gs://").strip("/")


@pytest.mark.parametrize("scheme", ["gs", "plain"])
def test_where_the_last_of_two_would_win_names_have_the_mark_of_the_process(scheme, monkeypatch):
    fsspec.register_implementation(scheme, type("Store", (Plain,), {"protocol": scheme}), clobber=True)
    monkeypatch.setattr(Plain, "store", {})
    loggers = [CSVLogger("run", f"{scheme}://bucket/runs") for _ in range(2)]
    for logger in loggers:
        logger.log_video("game", VIDEO, 3)
        logger.close()
    names = [path.rpartition("/")[2] for path in Plain.store if path.endswith(".mp4")]
    assert len(set(names)) == 2
    assert all(name.startswith("game_3_p") and len(name) == len("game_3_p.mp4") + 16 for name in names)
    assert CSVLogger("run", f"{scheme}://bucket/runs").next_step("game") == 4


WORKER = """
    import sys
    from numbered_frames import numbered
    from vidrec import CSVLogger, VideoRecorder

    worker, url = int(sys.argv[1]), sys.argv[2]
    recorder = VideoRecorder(CSVLogger("run", url), "game", step=lambda: episode)
    for episode in range(10):
        for step in range(6):
            recorder._apply_transform(numbered(worker << 7 | episode << 3 | step))
        recorder.dump()
"""


@pytest.mark.long
@pytest.mark.parametrize("series", range(1, 11))
def test_ten_episodes_of_each_of_eight_workers_arrive_complete_under_names_of_their_own(server, series):
    from contextlib import ExitStack

    with ExitStack() as stack:
        workers = [stack.enter_context(started(WORKER, worker, URL)) for worker in range(8)]
        told = [worker.communicate()[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 8, told
    found = arrived(server.files)
    expected = [
        [worker << 7 | episode << 3 | step for step in range(6)] for worker in range(8) for episode in range(10)
    ]
    assert sorted(found.values()) == sorted(expected)
    names = {f"game_{episode}{again}.mp4" for episode in range(10) for again in ("", *(f"_{n}" for n in range(1, 8)))}
    assert set(found) == names
    for name, numbers in found.items():
        assert name.startswith(f"game_{numbers[0] >> 3 & 15}")
    assert waiting() == []


# a server of forks may have been started before the address of the store was set
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.long)])
def test_workers_of_an_environment_send_what_they_record(server, method):
    logger = CSVLogger("run", URL)
    logger.log_video("first", VIDEO, 0)
    logger.flush()  # the parent's thread and connections are there

    def make():
        return TransformedEnv(PixelsEnv(horizon=2), VideoRecorder(logger, "game", skip=1))

    env = ParallelEnv(2, make, mp_start_method=method)
    env.rollout(2)
    env.close()
    logger.log_video("last", VIDEO, 0)
    logger.flush()
    found = arrived(server.files)
    assert {name: len(numbers) for name, numbers in found.items()} == {
        "first_0.mp4": 1,
        "game_0.mp4": 3,
        "game_worker1_0.mp4": 3,
        "last_0.mp4": 1,
    }


# the end of the process


def test_what_is_dumped_at_the_end_of_the_process_arrives(server):
    script = f"""
    from numbered_frames import numbered
    from vidrec import CSVLogger, VideoRecorder
    logger = CSVLogger("run", {URL!r})
    recorder = VideoRecorder(logger, "game")
    for number in range(3):
        recorder._apply_transform(numbered(number))
    logger.log_scalar("loss", 1)
    """
    done = run_python(script)
    assert done.stderr == ""
    assert arrived(server.files) == {"game_0.mp4": [0, 1, 2]}
    assert len(server.files.find("bucket/runs/run/scalars")) == 1
    assert list(Path("spool").rglob("*.*")) == []


def test_sigterm_sends_what_is_recorded(away):
    away.start()
    away.process.send_signal(signal.SIGSTOP)
    with started(f"{WORKER}        __import__('time').sleep(60)\n", 0, URL) as child:
        until = time.monotonic() + SECONDS
        while not list(Path("spool").rglob("game_0.mp4")):
            assert time.monotonic() < until
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        away.process.send_signal(signal.SIGCONT)
        assert child.wait() == 128 + signal.SIGTERM
    assert arrived(away.files) == {"game_0.mp4": list(range(6))}
    assert list(Path("spool").rglob("*.*")) == []


def test_the_end_of_the_process_waits_so_long_and_says_where_what_is_left_is(away):
    script = f"""
    from numbered_frames import numbered
    from vidrec import CSVLogger, Uploads
    logger = CSVLogger("run", {URL!r}, uploads=Uploads(exit_s=0.2))
    logger.log_video("game", numbered(5).permute(2, 0, 1)[None, None], 3)
    """
    done = run_python(script)
    assert f"1 videos are not yet in {URL}/run" in done.stderr
    [left] = map(Path.absolute, waiting())
    assert f"They are whole in {left.parents[1]}; the next logger for this URL on this machine sends" in done.stderr
    assert numbers_in(left) == [5]


# faults


def test_a_store_that_goes_away_and_comes_back_gets_all_and_training_goes_on_meanwhile(away):
    away.start()
    logger = CSVLogger("run", URL)
    recorder = VideoRecorder(logger, "game")
    record(recorder, [0])
    recorder.dump()
    logger.flush()
    assert list(arrived(away.files)) == ["game_0.mp4"]
    away.kill()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for number in range(1, 60):
            record(recorder, [number, number])
            recorder.dump()
            if told:
                break
            time.sleep(0.2)
    assert f"{URL}/run takes no videos, which is tried again: " in str(told[0].message)
    assert [numbers_in(path)[0] for path in waiting()] == sorted(range(1, number + 1), key=str)
    away.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VidrecWarning)  # it came back without its bucket
        logger.flush()
    assert arrived(away.files) == {f"game_{at}.mp4": [at, at] for at in range(1, number + 1)}
    assert waiting() == []


def test_a_backlog_that_is_full_is_an_error_that_costs_no_video(away):
    logger = CSVLogger("run", URL, uploads=Uploads(backlog=2, wait_s=0.1))
    recorder = VideoRecorder(TeeLogger(logger, CSVLogger("here")), "game")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VidrecWarning)
        for number in range(2):
            record(recorder, [number])
            recorder.dump()
        record(recorder, [2])
        with pytest.raises(
            StoreError, match=r"2 videos are not yet in .*/run: .*whole in .*No more than 2 may wait"
        ) as error:
            recorder.dump()
        assert "call dump() again" in error.value.__notes__[0]
        with pytest.raises(StoreError, match="2 videos are not yet in"):
            logger.flush()
        assert len(list(Path("csv_logs/here/videos").glob("*.mp4"))) == 3  # the other one goes on
        away.start()
        flush(logger)
        recorder.dump()
        flush(logger)
    assert arrived(away.files) == {f"game_{number}.mp4": [number] for number in range(3)}


VICTIM = """
    import os, sys, time
    from numbered_frames import numbered
    from vidrec import CSVLogger, VideoRecorder

    recorder = VideoRecorder(CSVLogger("run", sys.argv[1]), "game")
    for clip in range(3):
        for step in range(3):
            recorder._apply_transform(numbered(clip << 3 | step))
        recorder.dump()
    recorder._apply_transform(numbered(100))
    os.write(1, b".")
    time.sleep(100)
"""


@pytest.mark.parametrize("going_up", [pytest.param(True, marks=pytest.mark.long), False])
def test_a_process_that_is_killed_leaves_whole_videos_which_the_next_one_sends(away, going_up):
    if going_up:  # the server takes the connection and does not answer
        away.start()
        away.process.send_signal(signal.SIGSTOP)
    with started(VICTIM, URL) as victim:
        assert victim.stdout.read(1) == b"."
        time.sleep(1)
        victim.kill()
        victim.wait()
    wait_for_encoders(Path("spool").resolve())
    clips = {f"game_{clip}.mp4": [clip << 3 | step for step in range(3)] for clip in range(3)}
    assert {path.name: numbers_in(path) for path in waiting()} == clips
    assert [video.step for video in vidrec.videos("spool")] == [0, 1, 2]
    if going_up:
        away.process.send_signal(signal.SIGCONT)
    else:
        away.start()

    logger = CSVLogger("run", URL)
    recorder = VideoRecorder(logger, "other")
    spool = logger.clips_folder()
    with pytest.warns(VidrecWarning, match=rf"1 clip is left unfinished in {spool}.*`vidrec repair {spool}` makes"):
        record(recorder, [200])
    with pytest.warns(VidrecWarning, match=rf"3 videos, .*left in .*, go to {URL}/run now"):  # noqa: PT031
        recorder.dump()
        logger.flush()
    assert arrived(away.files) == {**clips, "other_0.mp4": [200]}
    [repaired] = repair(spool)
    assert repaired.outcome == "repaired"
    logger.close()

    logger = CSVLogger("run", URL)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        logger.flush()
    assert "1 videos, which an earlier process left" in str(told[0].message)
    logger.close()
    assert arrived(away.files) == {**clips, "other_0.mp4": [200], "game_0_1.mp4": [100]}
    assert list(Path("spool").rglob("*.*")) == []


def test_a_process_that_runs_keeps_what_it_has(away):
    first, second = CSVLogger("run", URL), CSVLogger("run", URL)
    first.log_video("game", VIDEO, 0)
    second.log_scalar("loss", 1)
    assert [spool.folder for spool in uploads_module.Spool.left(f"{URL}/run")] == []


@pytest.fixture
def small_disk(monkeypatch):
    """A spool on a disk of 512 KB."""
    folder = Path("small").absolute()
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        missing(f"a small disk cannot be mounted: {done.stderr}")
    monkeypatch.setenv("VIDREC_SPOOL", str(folder / "spool"))
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@TRIED_AGAIN
def test_a_full_disk_is_an_error_at_a_frame_and_what_was_finished_arrives(away, small_disk):
    noise = random_frames(48, 64, 3)
    logger = CSVLogger("run", URL)
    recorder, other = VideoRecorder(logger, "game"), VideoRecorder(CSVLogger("here"), "game")
    finished = 0
    with pytest.raises(EncoderError, match=r"No space left on device") as error:  # noqa: PT012
        while True:
            for number in range(20):
                other._apply_transform(noise(number, 0))
                recorder._apply_transform(noise(number, 0))
            recorder.dump()
            finished += 1
    assert finished > 1
    assert str(small_disk) in str(error.value)
    other.dump()
    for path in small_disk.rglob("*.part-*"):
        path.unlink()
    away.start()
    logger.flush()
    record(recorder, [1, 2, 3])
    recorder.dump()
    logger.flush()
    files = [path for path in away.files.find("bucket/runs/run/videos") if path.endswith(".mp4")]
    assert len(files) == finished + 1, [away.files.cat(f + ".json") for f in files]
    assert sum(len(numbers) for numbers in arrived(away.files).values()) == 20 * finished + 3


def test_what_a_store_has_damaged_is_not_deleted_here_and_is_sent_again(memory, monkeypatch):
    whole = type(memory).put_file
    sent = []

    def put_file(self, source, target, **settings):
        sent.append(target)
        whole(self, source, target, **settings)
        if len(sent) == 1:
            data = bytearray(self.cat(target))
            data[len(data) // 2] ^= 1
            self.pipe(target, bytes(data))

    monkeypatch.setattr(type(memory), "put_file", put_file)
    logger = CSVLogger("run", "memory://bucket/runs")
    with pytest.warns(VidrecWarning) as told:  # noqa: PT031
        logger.log_video("game", VIDEO, 0)
        logger.flush()
    assert "game_0.mp4 is not what was sent there" in str(told[0].message)
    assert "game_0.mp4 exists and is kept; this video is memory://" in str(told[1].message)
    [path] = [path for path in memory.find("/") if path.endswith("_1.mp4")]
    memory.get(path, "there.mp4")
    assert numbers_in(Path("there.mp4")) == [5]


def test_an_answer_that_is_lost_makes_no_second_video(server, monkeypatch):
    import s3fs

    whole = s3fs.S3FileSystem._put_file
    sent = []

    async def put_file(self, source, target, **settings):
        sent.append(target)
        await whole(self, source, target, **settings)
        if len(sent) == 1:
            raise ConnectionError("the answer is lost")

    monkeypatch.setattr(s3fs.S3FileSystem, "_put_file", put_file)
    logger = CSVLogger("run", URL)
    with pytest.warns(VidrecWarning, match="ConnectionError: the answer is lost"):  # noqa: PT031
        logger.log_video("game", VIDEO, 0)
        logger.flush()
    assert arrived(server.files) == {"game_0.mp4": [5]}
    assert sent == [sent[0]] * 2
    logger = CSVLogger("run", URL)
    with pytest.warns(VidrecWarning, match="exists and is kept"):  # noqa: PT031
        logger.log_video("game", VIDEO, 0)  # the same bytes, but another video
        logger.flush()
    assert arrived(server.files) == {"game_0.mp4": [5], "game_0_1.mp4": [5]}


def test_a_spool_that_cannot_be_made_is_said_with_its_setting(monkeypatch):
    Path("file").touch()
    monkeypatch.setenv("VIDREC_SPOOL", "file/spool")
    with pytest.raises(StoreError, match=r"file/spool/.* cannot be made: .*VIDREC_SPOOL names another place"):
        CSVLogger("run", "memory://bucket")


# what cannot be


@pytest.mark.parametrize("url", ["nothing://bucket", "simplecache::s3://bucket/runs", "file:///runs", "S3://bucket"])
def test_a_url_of_no_object_store_is_refused(url):
    with pytest.raises(SettingError, match="is the URL of no object store"):
        CSVLogger("run", url)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "settings", [{"backlog": 0}, {"backlog": 1.5}, {"wait_s": -1}, {"exit_s": "long"}, {"wait_s": float("nan")}]
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(SettingError, match=next(iter(settings))):
        Uploads(**settings)


def test_a_missing_package_is_named_with_what_installs_it():
    script = f"""
    from vidrec import CSVLogger, ExtraError
    try:
        CSVLogger("run", {URL!r})
    except ExtraError as error:
        print(error)
    """
    told = run_python(without("s3fs") + "import textwrap\n" + "exec(textwrap.dedent('''" + script + "'''))").stdout
    assert 'pip install "vidrec[s3]"' in told
    assert "s3fs" in told
    with pytest.raises(ExtraError, match="gcsfs"):
        CSVLogger("run", "gcs://bucket")

"""What a video file says of itself: read with FFmpeg's own tool, where no videos.csv is beside it."""

import json
import math
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import missing, some
from numbered_frames import numbered, numbers_in, rows
from processes import started, wait_for_encoders, within
from test_cli import answer, call
from test_faults import FOREVER, VICTIM, kill
from test_notebook import assert_plays, find, open_page
from test_repair import RUN, leave, repaired
from torchrl.envs import SerialEnv, TransformedEnv
from worlds import PixelsEnv

import vidrec
from vidrec import CSVLogger, TeeLogger, VideoRecorder
from vidrec.ffmpeg import metadata
from vidrec.ffmpeg.metadata import COLUMNS, ROOM

KEEPING = ["mp4", "webm", "mkv"]


@pytest.fixture(autouse=True)
def _nothing_hangs():
    with within(120):
        yield


def told(path):
    """Return what ffprobe finds in a file."""
    if (ffprobe := shutil.which("ffprobe")) is None:
        missing("ffprobe is not installed")
    command = [ffprobe, "-v", "error", "-show_entries", "format_tags", "-of", "json", f"file:{path}"]
    tags = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["format"].get("tags", {})
    comment = {name.lower(): value for name, value in tags.items()}.get("comment", "{}")
    found = json.loads(comment)
    assert metadata.read(path) == found
    return found


def recorded(*numbers, step=None, tag="game", video_format="mp4", **settings):
    recorder = VideoRecorder(CSVLogger("run", ".", video_format), tag, skip=1, **settings)
    for number in numbers:
        recorder._apply_transform(numbered(number))
    return recorder.dump(step=step).path


@pytest.mark.parametrize("video_format", KEEPING)
def test_a_file_says_what_its_row_says(video_format):
    env = SerialEnv(2, lambda: PixelsEnv(horizon=4))
    recorder = VideoRecorder(CSVLogger("run", ".", video_format), "eval", make_grid=False, episode_trigger=lambda n: n)
    env = TransformedEnv(env, recorder)
    env.rollout(9, break_when_any_done=False)
    env.close()
    assert len(rows(RUN)) == 4
    for row in rows(RUN):
        found = told(RUN / row["file"])
        assert found.pop("vidrec") == vidrec.__version__
        assert {name: str(value) for name, value in found.items()} == {name: row[name] for name in COLUMNS if row[name]}
        assert {"step", "env_id", "episode", "return", "ended"} < set(found)


@pytest.mark.parametrize("video_format", ["gif", "apng"])
def test_what_keeps_no_comment_has_none(video_format):
    assert told(recorded(*range(5), video_format=video_format)) == {}


def test_what_is_known_in_the_end_changes_no_other_byte(monkeypatch):
    changed = []
    overwrite = metadata.overwrite

    def watched(path, known):
        before = path.read_bytes()
        overwrite(path, known)
        changed.append((before, path.read_bytes()))

    monkeypatch.setattr(metadata, "overwrite", watched)
    for video_format in KEEPING:
        recorded(*range(40), step=10**9, video_format=video_format)
    assert len(changed) == len(KEEPING)
    for before, after in changed:
        assert len(before) == len(after)
        different = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
        assert 0 < different[-1] - different[0] < ROOM


def test_a_video_of_several_parts_says_it_too():
    recorder = VideoRecorder(CSVLogger("run", "."), "game", skip=1)
    for number in range(30):
        recorder._apply_transform(numbered(number))
        if number == 9:
            assert len(recorder.obs) == 10  # ends a part
    path = recorder.dump(step=7).path
    assert numbers_in(path) == [*range(30)]
    assert told(path).items() > {"step": 7, "tag": "game"}.items()


def test_the_last_frames_alone_say_it_too():
    assert told(recorded(*range(30), step=5, last=10)).items() > {"step": 5, "tag": "game"}.items()


def test_each_of_several_loggers_has_it():
    recorder = VideoRecorder(TeeLogger(CSVLogger("a", "."), CSVLogger("b", ".")), "game", skip=1)
    recorder._apply_transform(numbered(0))
    recorder.dump(step=3)
    assert [told(Path(run, "videos/game_3.mp4"))["step"] for run in "ab"] == [3, 3]


def test_a_tensor_that_is_logged_and_frames_that_are_written_say_what_is_known():
    video = CSVLogger("run", ".").log_video("black", torch.zeros(3, 3, 48, 64, dtype=torch.uint8), 4)
    assert told(video.path).items() > {"step": 4, "tag": "black"}.items()
    assert set(told(vidrec.write("a.mp4", [numbered(0)]).path)) == {"vidrec", "time"}


def test_a_video_that_gets_another_step_after_its_env_is_closed_says_that():
    recorder = VideoRecorder(CSVLogger("run", "."), "game", skip=1)
    env = TransformedEnv(PixelsEnv(), recorder)
    env.rollout(5)
    env.close()
    [closed] = RUN.glob("videos/*.mp4")
    assert told(closed)["step"] == 0
    path = recorder.dump(step=500).path
    assert path.name == "game_500.mp4"
    assert told(path)["step"] == 500
    assert told(path)["tag"] == "game"


@pytest.mark.parametrize("video_format", some(["mp4", "webm"], "mp4"))
def test_chromium_plays_a_file_that_says_it_and_one_that_is_made_of_such(browser, video_format):
    frames = torch.stack([numbered(number) for number in range(40)]).permute(0, 3, 1, 2)
    video = CSVLogger("run", ".", video_format).log_video("eval", frames, 1000)
    reel = vidrec.reel([video, video], f"reel.{video_format}")
    assert told(video.path)["step"] == told(reel.path)["step"] == 1000
    open_page(browser, video, reel)
    for player, one in zip(find(browser, "video"), (video, reel), strict=True):
        assert_plays(browser, player, one)


# what there is no room for


@pytest.mark.parametrize("tag", ["eval/spiel ö 游戏", "a \"b\" 'c' \\ %d", "-n", "/".join("x" * 150 for _ in range(2))])
def test_a_tag_may_be_anything_that_has_room(tag):
    assert told(recorded(0, step=2, tag=tag)).items() > {"step": 2, "tag": tag}.items()


def test_what_has_no_room_is_left_out_the_least_important_first():
    long = "/".join("x" * 190 for _ in range(3))
    path = recorded(*range(5), step=2, tag=long)
    assert set(told(path)) == {"vidrec", "step", "time"}
    assert numbers_in(path) == [*range(5)]
    assert len(metadata.text({"tag": long, "step": 1})) == ROOM
    fits = metadata.text(
        {"step": 1, "tag": "x" * (ROOM - len('{"vidrec": "0.1.0", "step": 1, "tag": ""}')), "time": "t"}
    )
    assert json.loads(fits).keys() == {"vidrec", "step", "tag"}
    assert len(fits) == ROOM


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_return_that_is_no_number_in_json_is_text(value):
    assert json.loads(metadata.text({"return": value}), parse_constant=pytest.fail)["return"] == str(value)


# a crash


def test_a_file_that_a_kill_left_says_what_was_known_at_its_start_and_keeps_it_when_it_is_repaired(tmp_path):
    with started(VICTIM + FOREVER, 1 / 60, 60, "numbers", *KEEPING, cwd=tmp_path) as victim:
        kill(victim, 80, "the training")
    wait_for_encoders(tmp_path)
    run = tmp_path / "csv_logs/run"
    left = {path.suffix[1:]: told(path) for path in run.glob("videos/*.part-*") if path.suffix != ".log"}
    assert sorted(left) == sorted(KEEPING)
    for path in repaired(run):
        start = left[path.suffix[1:]]
        assert start.keys() == {"vidrec", "tag", "env_step", "time"}
        assert told(path) == start | {"step": 0, "ended": "unfinished"}


@pytest.mark.parametrize("has_manifest", [True, False])
def test_repair_keeps_what_a_finished_file_says(has_manifest):
    path = leave("mp4", "game")
    metadata.overwrite(path, {"tag": "game", "step": 90, "return": 12.5, "ended": "terminated"})
    if not has_manifest:
        path.with_suffix(".log").unlink()
    [video] = repaired()
    known = {"vidrec": vidrec.__version__, "step": 0, "return": 12.5, "tag": "game", "ended": "terminated"}
    assert told(video).items() >= known.items()
    if has_manifest:
        [row] = rows(RUN)
        assert (row["tag"], row["step"], row["return"], row["ended"]) == ("game", "0", "12.5", "terminated")


# where there is no videos.csv


def test_info_and_list_and_videos_say_it_without_an_index():
    for number, video_format in enumerate(KEEPING):
        recorded(*range(5), step=100 + number, tag="eval", video_format=video_format)
    (RUN / "videos.csv").unlink()
    found = {(one["step"], one["tag"], Path(one["file"]).suffix) for one in answer("info", RUN)}
    assert found == {(str(100 + number), "eval", f".{name}") for number, name in enumerate(KEEPING)}
    assert sorted(one["step"] for one in answer("list", RUN, "--where", "tag=eval")) == [100, 101, 102]
    assert {(video.tag, video.step) for video in vidrec.videos(".")} == {("eval", step) for step in (100, 101, 102)}
    assert "eval" in call("info", RUN / "videos/eval_100.mp4").stdout


def test_a_row_goes_before_what_the_file_says():
    path = recorded(0, step=5)
    metadata.overwrite(path, {"step": 6, "tag": "other", "return": 1.5})
    [one] = answer("info", path)
    assert (one["step"], one["tag"], one["return"]) == ("5", "game", "1.5")


# files of others, and damaged ones


@pytest.mark.parametrize("video_format", KEEPING)
def test_a_file_that_is_cut_off_or_changed_anywhere_is_read_without_an_error(video_format):
    path = recorded(*range(10), step=3, video_format=video_format)
    data = path.read_bytes()
    chance = random.Random(0)
    found = set()
    for _ in range(400):
        damaged = bytearray(data[: chance.randrange(len(data))] if chance.random() < 0.5 else data)
        for _ in range(chance.randrange(20)):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.choice([0, 1, 127, 255])
        path.write_bytes(damaged)
        found.add(metadata.read(path).get("step"))
        metadata.overwrite(path, {"step": 4})
        assert path.stat().st_size == len(damaged)
    assert {None, 3} <= found


def test_a_file_of_others_is_left_as_it_is():
    source = ["-f", "lavfi", "-i", "testsrc=d=1:s=64x48"]
    for name, args in {"plain.mp4": [], "own.mp4": ["-metadata", "comment=hello"], "other.mkv": []}.items():
        code, stderr = vidrec.ffmpeg.program.run([*source, *args, f"file:{name}"])
        assert (code, stderr) == (0, "")
        before = Path(name).read_bytes()
        metadata.overwrite(Path(name), {"step": 1})
        assert Path(name).read_bytes() == before
        assert metadata.read(Path(name)) == {}
    for name, data in {"empty.mp4": b"", "text.webm": b"no video", "a.mkv": b'{"vidrec": "1"}', "a.txt": b"{}"}.items():
        Path(name).write_bytes(data)
        assert metadata.read(Path(name)) == {}
    assert metadata.read(Path("missing.mp4")) == metadata.read(Path(".")) == {}
    metadata.overwrite(Path("missing.mp4"), {"step": 1})
    assert not Path("missing.mp4").exists()

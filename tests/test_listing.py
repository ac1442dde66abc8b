"""The videos of a folder: `vidrec list`, `vidrec prune` and `vidrec.videos`, in folders of every kind."""

import csv
import json
import os
import re
import shlex
import subprocess
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import torch
from conftest import ENCODED, product, require, some
from numbered_frames import numbered, read_number, rows
from processes import COMMAND, run_python, started, within, without
from test_cli import AS_A_MODULE, VIDREC, answer, call, edit_index, published
from test_docs import blocks
from test_repair import RUN, leave, tree
from torchrl.envs import SerialEnv, TransformedEnv
from worlds import PixelsEnv

import vidrec
from vidrec import CSVLogger, SettingError, TensorboardLogger, VideoRecorder, VidrecError, VidrecWarning, WandbLogger
from vidrec.files.index import COLUMNS as INDEX_COLUMNS
from vidrec.files.index import EPISODE_COLUMNS, START_COLUMNS, VideoIndex
from vidrec.tools import listing, prune, query
from vidrec.tools.query import COLUMNS, Condition, duration_s, duration_text

NOW = datetime.now(timezone.utc)


@pytest.fixture(autouse=True)
def _nothing_hangs():
    with within(120):
        yield


def add(folder=RUN, /, days=0.0, there=True, **row):
    """Add a row, and a file for it that nobody is to open; return the file."""
    index = VideoIndex(Path(folder))
    Path(folder, "videos").mkdir(parents=True, exist_ok=True)
    step = row.setdefault("step", len(index.rows()))
    file = row.setdefault("file", f"videos/{row.get('tag', 'game')}_{step}.mp4")
    if there:
        Path(folder, file).write_bytes(b"video")
    time = (NOW - timedelta(days=days)).isoformat(timespec="seconds")
    index.add(**{"tag": "game", "frames": 20, "fps": 30.0, "seconds": 0.667, "time": time, **row})
    return Path(folder, file)


def many(*returns, **row):
    for value in returns:
        add(**{"return": value, "length": 5, "ended": "terminated"}, **row)


def listed(*args, column="return", **more):
    """Return a column of what `vidrec list` lists of the run."""
    return [one[column] for one in answer("list", RUN, *args, **more)]


def refusal(*args):
    """Return what a command says of arguments that it does not take, in one line without the box."""
    done = call(*args)
    assert (done.returncode, done.stdout) == (2, "")
    return " ".join(done.stderr.replace("│", " ").split())


# what is listed


def test_a_row_says_what_a_recorder_knew_of_its_video():
    env = SerialEnv(2, lambda: PixelsEnv(horizon=4))
    recorder = VideoRecorder(CSVLogger("run", "."), "eval/game", make_grid=False, episode_trigger=lambda n: True)
    env = TransformedEnv(env, recorder)
    env.rollout(9, break_when_any_done=False)
    env.close()
    found = answer("list", ".")
    assert len(found) == 6
    assert list(found[0]) == [name for name in COLUMNS if name != "age"]
    [one] = [row for row in found if (row["env"], row["episode"]) == (1, 1)]
    assert datetime.fromisoformat(one.pop("time")) <= datetime.now(timezone.utc)
    file = Path(one["file"])
    assert one.pop("bytes") == file.stat().st_size
    size = {"frames": 5, "fps": 30.0, "height": 192, "width": 256, "seconds": 5 / 30, "codec": "libx264"}
    of_episode = {"episode": 1, "return": 4.0, "length": 4, "ended": "terminated", "env_step": 4}
    about = {"run": "run", "tag": "eval/game", "step": one["step"], "env": 1, "agent": None, "file": one["file"]}
    assert one == about | size | of_episode
    assert file == Path("run/videos/eval") / file.name


def test_the_table_has_a_line_a_video_and_no_column_that_is_empty():
    add(**{"return": 12.5, "step": 1000}, days=3)
    add(tag="a tag, with ü 雪", step=2)
    head, one, two, count = call("list", RUN).stdout.splitlines()
    assert head.split() == ["tag", "step", "return", "frames", "seconds", "bytes", "age", "file"]
    assert one.split() == ["game", "1000", "12.5", "20", "0.67", "0.0kB", "3d", "run/videos/game_1000.mp4"]
    assert two.startswith("a tag, with ü 雪     2       -      20")
    assert two.endswith("run/videos/a tag, with ü 雪_2.mp4")
    assert count == "2 videos"
    assert call("list", RUN, "-n", "1").stdout.splitlines()[-1] == "1 of 2 videos"


NAMES = ["a space", "ü 雪", "a, comma", 'a "quote"', "[red]no markup[/red]", "-dash", "a=b"]


@pytest.mark.parametrize("name", some(NAMES, "ü 雪", 'a "quote"', "-dash"))
def test_names_are_listed_filtered_and_deleted_whatever_is_in_them(name):
    CSVLogger(name, ".").log_video(name, torch.zeros(3, 3, 48, 64, dtype=torch.uint8), 7)
    add(name, tag="other", days=2)
    [one] = answer("list", ".", "--where", f"tag={name}", "--where", f"run = {name}")
    assert (one["tag"], one["step"], one["file"]) == (name, 7, f"{name}/videos/{name}_7.mp4")
    assert f"{name}/videos/{name}_7.mp4\n" in call("list", ".", env={"PYTHONUTF8": "1"}).stdout
    assert len(answer("prune", ".", "--where", f"tag={name}")) == 1
    assert [video.tag for video in vidrec.videos(".")] == ["other"]
    assert not Path(name, f"videos/{name}_7.mp4").exists()


def test_a_name_that_a_terminal_would_obey_is_printed_as_text():
    (RUN / "videos").mkdir(parents=True)
    for name in (b"\xff\xfe.mp4", b"\x1b[31mred.mp4", b"a\nb.mp4"):
        (RUN / "videos" / os.fsdecode(name)).write_bytes(b"video")
    assert len(call("list", RUN).stdout.splitlines()) == 5
    assert len(answer("list", RUN)) == 3


def test_several_runs_below_a_folder_are_told_from_each_other():
    for name in ("first", "second/deep"):
        add(name, **{"return": len(name)})
    found = answer("list", ".", "--sort", "run")
    assert [(one["run"], one["file"]) for one in found] == [
        ("first", "first/videos/game_0.mp4"),
        ("second/deep", "second/deep/videos/game_0.mp4"),
    ]
    assert call("list", ".").stdout.split()[0] == "run"
    assert [one["run"] for one in answer("list", "first")] == ["."]
    assert [one["run"] for one in answer("list", "first/videos")] == [".."]
    assert call("list", "first").stdout.split()[0] == "tag"


def test_an_empty_folder_has_no_videos():
    Path("empty").mkdir()
    assert answer("list", "empty") == []
    assert call("list", "empty").stdout == "0 videos\n"
    assert answer("prune", "empty", "--keep-best", 1) == []
    assert vidrec.videos("empty") == []


def test_a_foreign_folder_is_listed_by_its_files_and_none_is_pruned():
    Path("foreign/deep").mkdir(parents=True)
    for name in ("a.mp4", "deep/b.gif", "notes.txt", "policy.py"):
        Path("foreign", name).write_bytes(b"mine")
    Path("foreign/videos.csv").write_text("name;date\nholiday;2020\n")
    Path("foreign/link.mp4").symlink_to("nowhere")
    done = call("list", "foreign", "--json")
    assert [(one["file"], one["tag"], one["bytes"]) for one in json.loads(done.stdout)] == [
        ("foreign/a.mp4", None, 4),
        ("foreign/deep/b.gif", None, 4),
    ]
    before = tree()
    assert "has no column file" in done.stderr
    assert json.loads(call("prune", "foreign", "--older-than", "0s", "--json").stdout) == []
    assert tree() == before


def test_what_is_unfinished_is_not_listed():
    published(step=1)
    leave()
    assert listed(column="step") == [1]


def test_a_row_whose_file_is_gone_is_counted_on_stderr():
    published(step=0)
    add(step=1, there=False)
    done = call("list", RUN, "--json")
    assert [one["step"] for one in json.loads(done.stdout)] == [0]
    assert (done.returncode, done.stderr) == (
        0,
        "vidrec: 1 row is of a video that was deleted; `vidrec repair --sync` drops it\n",
    )
    assert [video.step for video in vidrec.videos(RUN)] == [0]


DAMAGED = {
    "other bytes": bytes(range(256)) * 20,
    "one long field": b"tag,step,file\n" + b"x" * 200_000 + b",1,2\n",
    "no column file": b"a,b\n1,2\n",
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_an_index_that_cannot_be_read_is_said_and_its_videos_are_listed_by_their_files(data):
    published()
    (RUN / "videos.csv").write_bytes(data)
    done = call("list", ".", "--json")
    assert [one["file"] for one in json.loads(done.stdout)] == ["run/videos/game_0.mp4"]
    assert done.returncode == 1
    assert done.stderr.startswith(f"vidrec: {RUN.absolute() / 'videos.csv'} cannot be read: ")
    with pytest.warns(VidrecWarning, match=r"videos.csv cannot be read"):
        assert len(vidrec.videos(".")) == 1


def test_values_that_cannot_be_read_are_not_known():
    add(**dict.fromkeys(["frames", "fps", "seconds", "env_id", "episode", "return", "length", "height"], "many"))
    add(file="videos/\0.mp4", there=False)
    VideoIndex(RUN).add(tag="game", step="-", file="videos/game_0.mp4", time="yesterday")
    [one] = json.loads(call("list", RUN, "--json").stdout)
    known = {name for name, value in one.items() if value is not None}
    assert known == {"run", "tag", "step", "bytes", "time", "file"}


def test_rows_that_lead_out_of_the_folder_or_to_other_files_are_neither_listed_nor_pruned(tmp_path):
    Path("policy.py").write_text("mine")
    Path("other.mp4").write_text("mine")
    clip = leave()
    for file in ("../other.mp4", str(tmp_path / "other.mp4"), "../policy.py", f"videos/{clip.name}", ""):
        add(file=file, there=False, days=9)
    before = tree()
    assert answer("list", RUN) == []
    assert answer("prune", RUN, "--older-than", "1d") == []
    assert tree() == before


def test_json_is_the_same_each_time_and_has_numbers_that_json_lacks_as_text():
    many("nan", "inf", "-inf", 1)
    once = call("list", RUN, "--json").stdout
    time.sleep(1.1)
    assert call("list", RUN, "--json").stdout == once
    assert [one["return"] for one in json.loads(once, parse_constant=pytest.fail)] == ["nan", "inf", "-inf", 1.0]


def test_json_of_a_list_has_what_videos_has():
    published(step=3)
    add(step=4, env_id=1, **{"return": 2})
    names = {"env": "env_id", "return": "return_"}
    for row, video in zip(answer("list", RUN), vidrec.videos(RUN), strict=True):
        assert str(video.path) == os.path.abspath(row.pop("file"))
        assert (video.run, video.time.isoformat()) == (RUN.absolute(), row.pop("time"))
        assert row.pop("run") == "."
        assert {name: getattr(video, names.get(name, name)) for name in row} == row


# which of them


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("return=10", [10]),
        ("return==10.0", [10]),
        ("return!=10", [9, 100, -3, None]),
        ("return<10", [9, -3]),
        ("return<=10", [9, 10, -3]),
        ("return>9", [10, 100]),  # as numbers: as text "9" is the largest
        (" return >= 10 ", [10, 100]),
        ("return>=1e1", [10, 100]),
        ("return=", [None]),
        ("return!=", [9, 10, 100, -3]),
        ("tag=game", [9, 10, 100, -3, None]),
        ("tag>game", []),
        ("age<1h", [9, 10, 100, -3, None]),
        ("age>1h", []),
        ("time>2020-01-01", [9, 10, 100, -3, None]),
        ("time<2020-01-01T10:00", []),
        ("step>=3", [-3, None]),
        ("env_id=", [9, 10, 100, -3, None]),
        ("file=run/videos/game_1.mp4", [10]),
    ],
)
def test_a_condition_keeps_those_for_which_it_holds(condition, found):
    many(9, 10, 100, -3, None)
    assert listed("--where", condition) == found


def test_all_of_several_conditions_hold():
    for env_id in (1, 2, 10):
        for ended in ("terminated", "truncated"):
            add(env_id=env_id, ended=ended, step=env_id, file=f"videos/{env_id}{ended}.mp4")
    found = answer("list", RUN, "--where", "env=2", "--where", "ended==terminated")
    assert [(one["env"], one["ended"]) for one in found] == [(2, "terminated")]
    assert listed("--where", "env>2", column="env") == [10, 10]


def test_nan_is_the_worst_return():
    many("nan", 1, "-inf")
    assert listed("--where", "return=nan") == ["nan"]
    assert listed("--where", "return<0") == ["nan", "-inf"]
    assert listed("--sort", "return") == ["nan", "-inf", 1]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--where", "retrun>1"], "there is no column 'retrun'; expected one of run, tag, step, env, agent, episode, "),
        (["--sort", "-retrun"], "there is no column 'retrun'; expected one of run, tag, step, "),
        (["--where", "env"], "'env' is no condition; expected a column, one of = == != < <= > >=, and a value"),
        (["--where", "env~2"], "'env~2' is no condition"),
        (["--where", "env=two"], "'env=two': 'two' is no number"),
        (["--where", "return<"], "'return<': '' is no number"),
        (["--where", "age<30"], "'30' is no length of time; expected a number and s, m, h, d or w"),
        (["--where", "time<soon"], "'soon' is no time; expected one such as 2026-11-29"),
        (["-n", "-1"], "Invalid value for '-n'"),
    ],
)
def test_what_cannot_be_asked_is_said_with_what_can(args, said):
    assert said in refusal("list", ".", *args)


def test_sorting_is_stable_and_what_is_not_known_comes_last():
    many(2, None, 1, 2, 10)
    assert listed("--sort", "return") == [1, 2, 2, 10, None]
    assert listed("--sort", "-return") == [10, 2, 2, 1, None]
    assert listed("--sort", "-return", column="step") == [4, 0, 3, 2, 1]
    assert listed("--sort", "-return", "--sort", "-step", column="step") == [4, 3, 0, 2, 1]
    assert listed("--sort", "-return", "-n", 2) == [10, 2]
    assert listed("-n", 0) == []


def test_the_newest_come_first_by_age():
    for days in (3, 1, 2):
        add(days=days)
    assert listed("--sort", "age", column="step") == listed("--sort", "-time", column="step") == [1, 2, 0]


@pytest.mark.parametrize(
    "text", some(["", "30", "d", "30x", "-1d", "1 d 2 h", "1e3d", "nan", "٣d", "1.d"], "", "30", "1 d 2 h", "nan")
)
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(SettingError, match="is no length of time; expected a number and s, m, h, d or w"):
        duration_s(text)
    assert "is no length of time" in refusal("prune", ".", "--older-than", text)


def test_a_length_of_time_is_shown_as_it_is_written():
    assert [duration_s(text) for text in ("0s", "90s", "1.5h", "30d", "2w")] == [0, 90, 5400, 30 * 86400, 14 * 86400]
    assert [duration_text(s) for s in (-5, 0, 119, 120, 7199, 86400, 172800, 10 * 86400, 1e8)] == [
        *("0s", "0s", "119s", "2m", "119m", "24h", "2d", "10d", "165w")
    ]


def test_a_column_of_the_list_is_one_of_the_index():
    same = {"env_id": "env"}
    ours = {*INDEX_COLUMNS, *EPISODE_COLUMNS, *START_COLUMNS}
    assert {same.get(name, name) for name in ours} == {*COLUMNS} - {"run", "bytes", "age"}


# what is pruned


def names(folder=RUN):
    """Return the files and the rows of a run, which must be the same."""
    files = sorted(path.relative_to(folder).as_posix() for path in Path(folder, "videos").iterdir())
    assert files == sorted(row["file"] for row in rows(folder))
    return files


def test_all_but_the_best_are_deleted_together_with_their_rows():
    many(3, 5, 1, 5, "nan")
    found = answer("prune", RUN, "--keep-best", 2)
    assert [(one["return"], one["outcome"]) for one in found] == [(3, "deleted"), (1, "deleted"), ("nan", "deleted")]
    assert names() == ["videos/game_1.mp4", "videos/game_3.mp4"]
    assert answer("prune", RUN, "--keep-best", 2) == []


def test_the_best_are_counted_for_each_value_of_a_column():
    for tag in ("eval", "train"):
        for run in ("first", "second"):
            for value in (1, 2, 3):
                add(run, tag=tag, **{"return": value})
    assert len(answer("prune", ".", "--keep-best", 1, "--per", "tag", "--per", "run", "--dry-run")) == 8
    answer("prune", ".", "--keep-best", 2, "--per", "tag")
    left = answer("list", ".")
    assert [(one["run"], one["tag"], one["return"]) for one in left] == [
        *[("first", "eval", 3), ("first", "train", 3), ("second", "eval", 3), ("second", "train", 3)]
    ]


def test_only_what_is_old_enough_and_not_among_the_best_is_deleted():
    for days, value in ((40, 1), (40, 9), (1, 2), (31, 3), (40, None)):
        add(days=days, **{"return": value})
    everything = ["--keep-best", 1, "--older-than", "30d"]
    assert [one["return"] for one in answer("prune", RUN, *everything, "--dry-run")] == [1, 3]
    assert [one["return"] for one in answer("prune", RUN, *everything)] == [1, 3]
    assert [one["return"] for one in answer("prune", RUN, "--older-than", "30d")] == [9, None]
    assert listed() == [2]


def test_a_video_without_a_return_is_not_the_worst():
    many(None, 1, 2)
    assert [one["return"] for one in answer("prune", RUN, "--keep-best", 1)] == [1]


def test_only_those_are_deleted_for_which_a_condition_holds():
    many(1, 2, 3, tag="eval")
    many(1, 2, 3, tag="train")
    answer("prune", RUN, "--keep-best", 1, "--where", "tag=train")
    assert [(one["tag"], one["return"]) for one in answer("list", RUN)] == [
        *[("eval", 1), ("eval", 2), ("eval", 3), ("train", 3)]
    ]
    answer("prune", RUN, "--where", "return<3")
    assert len(names()) == 2


def test_a_dry_run_of_prune_changes_nothing_and_says_what_would_be_deleted():
    many(1, 2, 3)
    before = tree()
    assert [one["outcome"] for one in answer("prune", RUN, "--keep-best", 1, "--dry-run")] == ["to be deleted"] * 2
    assert call("prune", RUN, "--keep-best", 1, "--dry-run").stdout.splitlines()[-1] == (
        "2 of 3 videos would be deleted, 0.0kB"
    )
    assert tree() == before
    assert call("prune", RUN, "--keep-best", 1).stdout.splitlines()[-1] == "2 of 3 videos were deleted, 0.0kB"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "nothing says what to delete; expected --keep-best, --older-than or --where"),
        (["--dry-run"], "nothing says what to delete"),
        (["--per", "tag", "--older-than", "1d"], "--per says for what --keep-best counts, and there is no --keep-best"),
        (["--keep-best", "0"], "Invalid value for '--keep-best'"),
        (["--keep-best", "1", "--per", "color"], "there is no column 'color'; expected one of run, tag"),
    ],
)
def test_prune_is_told_what_to_delete(args, said):
    published()
    before = tree()
    assert said in refusal("prune", RUN, *args)
    assert tree() == before


def test_a_row_that_changed_meanwhile_keeps_its_file():
    path = add(**{"return": 1})
    [video] = vidrec.videos(RUN)
    edit_index(",1,", ",2,")  # a training has published another video under this name
    with pytest.raises(VidrecError, match="has another row by now, and is kept"):
        video.delete()
    assert path.exists()
    VideoIndex(RUN).remove("videos/game_0.mp4")  # or is about to add its row
    with pytest.raises(VidrecError, match="has another row by now, and is kept"):
        video.delete()
    assert path.exists()


def test_a_file_that_cannot_be_deleted_keeps_its_row():
    many(1, 2)
    path = RUN / "videos/game_0.mp4"
    path.unlink()
    path.mkdir()  # which unlink refuses, of root too
    [video, _] = vidrec.videos(RUN)
    with pytest.raises(OSError, match="game_0"):
        video.delete()
    found = answer("prune", RUN, "--older-than", "0s", code=1)
    assert [one["outcome"].split(":")[0] for one in found] == ["failed", "deleted"]
    assert [row["file"] for row in rows(RUN)] == ["videos/game_0.mp4"]


def test_delete_removes_file_and_row_and_may_be_called_twice():
    many(1, 2)
    [one, _] = vidrec.videos(RUN)
    one.delete()
    one.delete()
    assert names() == ["videos/game_1.mp4"]
    Path("other.mp4").write_bytes(b"mine")
    [other] = [video for video in vidrec.videos(".") if video.row is None]
    other.delete()
    assert not Path("other.mp4").exists()


# while a training records

TRAINING = """
    import sys
    from numbered_frames import numbered
    from vidrec import CSVLogger, VideoRecorder
    logger = CSVLogger("run", ".", "memmap")
    kept, brief = (VideoRecorder(logger, tag, skip=1) for tag in ("kept", "brief"))
    growing = VideoRecorder(CSVLogger("run", "."), "growing", skip=1)
    growing._apply_transform(numbered(0))
    print("ready", flush=True)
    for number in range(150):
        for recorder in (kept, brief, growing):
            recorder._apply_transform(numbered(number))
        kept.dump()
        logger.remove_video(brief.dump())
    print("done", flush=True)
    sys.stdin.readline()
    print(growing.dump().frames, flush=True)
"""


def test_listing_and_pruning_while_a_training_records_and_deletes_takes_nothing_else():
    with started(TRAINING) as training:
        assert training.stdout.readline() == b"ready\n"
        deleted = set()
        while len(deleted) < 100:
            for _ in range(20):
                found = listing.read(RUN)
                assert not found.deleted
                assert not found.unreadable
                assert "growing" not in {video.tag for video in found.videos}
                assert not [video for video in found.videos if video.tag == "kept" and video.step in deleted]
            done = answer("prune", RUN, "--where", "tag=kept", "--where", "step>=20", "--where", "step<120")
            assert all(one["outcome"] == "deleted" for one in done)
            deleted |= {one["step"] for one in done}
        assert training.stdout.readline() == b"done\n"
        assert answer("prune", RUN, "--older-than", "0s", "--where", "tag=growing") == []
        training.stdin.write(b"\n")
        assert training.stdout.readline() == b"151\n"
    assert deleted == {*range(20, 120)}
    left = answer("list", RUN, "--where", "tag=kept")
    assert [one["step"] for one in left] == [*range(20), *range(120, 150)]
    assert [read_number(frame) for frame in vidrec.videos(RUN)[30].iter_frames()] == [130]
    assert call("verify", RUN).returncode == 0


def test_a_video_that_a_training_deletes_while_one_looks_is_simply_gone(monkeypatch):
    path = add()
    rows_of = VideoIndex.rows

    def then_deleted(self):
        found = rows_of(self)
        if self.remove("videos/game_0.mp4"):
            path.unlink()
        return found

    monkeypatch.setattr(VideoIndex, "rows", then_deleted)
    found = listing.read(RUN)
    assert (found.videos, found.deleted) == ([], [])


# 10,000 videos, and what it does not need


@pytest.fixture(scope="module")
def huge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("huge")
    (folder / "videos").mkdir()
    columns = (*INDEX_COLUMNS, *EPISODE_COLUMNS, *START_COLUMNS)
    with (folder / "videos.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for number in range(10_000):
            name = f"videos/game_env{number % 8}_ep{number}_{number}.mp4"
            (folder / name).write_bytes(b"video")
            row = {"tag": "game", "step": number, "file": name, "frames": 200, "fps": 30.0, "seconds": 6.7}
            episode = {"env_id": number % 8, "episode": number, "return": number / 7, "length": 200}
            writer.writerow({**row, **episode, "ended": "terminated", "time": NOW.isoformat(timespec="seconds")})
    return folder


SECONDS = """
    import sys
    import time
    begin = time.process_time()
    sys.argv = ["vidrec", *sys.argv[1:]]
    from vidrec.__main__ import main
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
    print(time.process_time() - begin, "torch" in sys.modules, file=sys.stderr)
"""


ASKED = [[], ["--json"], ["--sort", "-return", "--where", "env=2", "-n", 10]]


@pytest.mark.parametrize("args", some(ASKED, []))
def test_ten_thousand_videos_are_listed_in_less_than_a_second(args, huge):
    seconds, has_torch = zip(
        *(run_python(SECONDS, "list", huge, *args, has=COMMAND).stderr.split() for _ in range(3)), strict=True
    )
    assert min(map(float, seconds)) < 1
    assert set(has_torch) == {"False"}


def test_thousands_are_pruned_in_seconds(huge):
    begin = time.process_time()
    found = listing.read(huge)
    shown = [(query.row_of(video, ".", video.path.name), video) for video in found.videos]
    unwanted = prune.unwanted(shown, keep_best=20, per=["env"])
    assert len(list(prune.prune(unwanted, dry_run=False))) == 10_000 - 8 * 20
    assert time.process_time() - begin < 5
    assert len(rows(huge)) == len(list((huge / "videos").iterdir())) == 160


COMMANDS = [["list", "."], ["info", "."], ["prune", ".", "--older-than", "1d"], ["gallery", ".", "--force"]]


@pytest.mark.parametrize("command", some(COMMANDS, ["prune", ".", "--older-than", "1d"]))
def test_a_command_starts_without_torch_in_less_than_half_a_second(command):
    def once():
        seconds, has_torch = run_python(SECONDS, *command, has=()).stderr.split()
        assert has_torch == "False"
        return float(seconds)

    assert min(once() for _ in range(3)) < 0.5


def test_a_pipe_that_closes_is_no_traceback(huge):
    done = subprocess.run(
        f"{' '.join(VIDREC)} list {huge} | head -n 1", shell=True, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == "tag"
    assert done.stderr == ""


# objects


@product(video_format=[*ENCODED, "pt", "memmap"], row=["its row", "no row", "a wrong row"])
def test_the_frames_of_a_video_in_a_folder_are_those_that_were_recorded(video_format, row):
    path = published(video_format, frames=12)
    if row == "no row":
        VideoIndex(RUN).remove(f"videos/{path.name}")
    elif row == "a wrong row":
        edit_index(",12,", ",7,")
    [video] = vidrec.videos("run")
    if row == "no row" and video_format in ("pt", "memmap"):
        with pytest.raises(ValueError, match=r"no row of videos\.csv tells its shape"):
            next(video.iter_frames())
        assert "tells its shape" in video._repr_html_()
        return
    assert [read_number(frame) for frame in video.iter_frames()] == [*range(12)]
    frame = next(video.iter_frames())
    assert (frame.dtype, frame.shape[-1]) == (torch.uint8, 3)
    assert "12 frames" in video._repr_html_()
    assert video.size == (None if row == "no row" else tuple(frame.shape[:2]))


def test_a_video_that_is_gone_is_said_in_a_notebook_and_raised_elsewhere():
    published()
    [video] = vidrec.videos(RUN)
    video.delete()
    assert video._repr_html_().startswith("<p>")
    with pytest.raises(OSError, match="game_0"):
        next(video.iter_frames())


def test_videos_of_what_is_no_folder_are_refused():
    with pytest.raises(SettingError, match="missing is no folder"):
        vidrec.videos("missing")
    with pytest.raises(SettingError, match="is no path of this machine"):
        vidrec.videos("s3://bucket/run")


# TensorBoard and Weights & Biases


def record(logger, frames=6, **keywords):
    recorder = VideoRecorder(logger, "eval/game", make_grid=False, episode_trigger=lambda n: True, **keywords)
    env = TransformedEnv(SerialEnv(2, lambda: PixelsEnv(horizon=frames - 1)), recorder)
    env.rollout(frames - 1, break_when_any_done=False)
    env.close()


@pytest.mark.parametrize("video_format", some(["apng", "gif"], "apng"))
@pytest.mark.filterwarnings("ignore:Failed to load image Python extension")
def test_videos_in_an_event_file_are_listed_and_read(video_format):
    require("tensorboard")
    logger = TensorboardLogger("run", "tb", video_format=video_format)
    logger.log_scalar("loss", 1.0, 3)
    record(logger)
    logger.log_video("plain", torch.zeros(4, 3, 48, 64, dtype=torch.uint8), 5)
    logger.experiment.add_image("still", numbered(1), 0, dataformats="HWC")
    logger.experiment.close()
    found = answer("list", "tb")
    assert [(one["tag"], one["step"], one["frames"], one["height"], one["width"]) for one in found] == [
        ("eval/game_env0", 0, 6, 48, 64),
        ("eval/game_env1", 1, 6, 48, 64),
        ("plain", 5, found[2]["frames"], 48, 64),
    ]
    assert [(one["env"], one["episode"], one["return"], one["length"], one["ended"]) for one in found] == [
        *[(0, 0, 5, 5, "terminated"), (1, 0, 5, 5, "terminated"), (None,) * 5]
    ]
    assert {one["run"] for one in found} == {"run"}
    [video, _, _] = vidrec.videos("tb")
    assert [read_number(frame) for frame in video.iter_frames()] == [*range(6)]
    assert "6 frames" in video._repr_html_()
    with pytest.raises(SettingError, match="no single video can be deleted from there"):
        video.delete()
    before = tree()
    assert answer("prune", "tb", "--older-than", "0s") == []
    assert tree() == before


@pytest.mark.filterwarnings("ignore:Failed to load image Python extension")
def test_a_damaged_event_file_is_said_and_a_growing_one_is_read_so_far():
    require("tensorboard")
    logger = TensorboardLogger("run", "tb")
    record(logger)
    logger.experiment.close()
    [events] = Path("tb/run").glob("*tfevents*")
    data = events.read_bytes()
    events.write_bytes(data[:-10])
    assert len(answer("list", "tb")) == 2
    events.write_bytes(b"no event" * 10)
    done = call("list", "tb", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, [])
    assert "TensorBoard finds no event in it" in done.stderr
    events.write_bytes(b"")
    assert answer("list", "tb") == []


def test_without_tensorboard_the_other_videos_are_listed_and_an_error_says_what_to_install():
    add()
    (RUN / "events.out.tfevents.1").write_bytes(b"events")
    done = run_python(without("tensorboard") + AS_A_MODULE, "list", RUN, "--json", check=False, has=())
    assert len(json.loads(done.stdout)) == 1
    assert done.returncode == 1
    assert 'needs tensorboard, which is not installed: pip install "vidrec[tensorboard]"' in done.stderr


def test_the_videos_of_a_run_of_wandb_are_listed_with_their_keys(monkeypatch):
    require("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger("run", offline=True, save_dir=".", project="test")
    try:
        record(logger)
    finally:
        logger.experiment.finish()
    found = answer("list", ".")
    assert sorted(one["tag"] for one in found) == ["eval/game_env0", "eval/game_env1"]
    [run] = {one["run"] for one in found}
    assert run.startswith("wandb/offline-run-")  # and not once more by the link to the latest
    for video in vidrec.videos("."):
        assert [read_number(frame) for frame in video.iter_frames()] == [*range(6)]


def test_a_reader_more_adds_its_videos(monkeypatch):
    def of_text(found):
        for path in found.files:
            if path.suffix == ".row":
                found.add(path.with_suffix(".bin"), path.parent, **json.loads(path.read_text()))

    Path("a.bin").write_bytes(b"12345")
    Path("a.row").write_text(json.dumps({"tag": "far", "return_": 3.0}))
    monkeypatch.setattr(listing, "READERS", (*listing.READERS, of_text))
    [video] = vidrec.videos(".")
    assert (video.tag, video.return_, video.bytes) == ("far", 3.0, 5)


def test_a_condition_of_the_library_is_that_of_the_command():
    assert Condition.of("return >= 2") == Condition("return", ">=", 2)
    assert Condition.of("tag = a = b") == Condition("tag", "=", "a = b")


# the page


PAGE = Path(__file__).parent.parent / "docs/cli.md"
MASKS = {r"\d+\.\d[kM]B": "1.0kB", r"\b\d+[smh]\b": "1s", r'("bytes": )\d+': r"\g<1>1", r'("time": ).*"': r'\g<1>""'}
MASKS |= {r"\.part-[0-9a-f]{8}": ".part-0123abcd"}


def masked(text):
    """Return what a command prints without what differs from one time to another, and without spaces between cells."""
    for pattern, same in MASKS.items():
        text = re.sub(pattern, same, text)
    return [line.split() for line in text.splitlines()]


@pytest.mark.long
def test_each_command_on_the_page_prints_what_stands_there():
    run_python("\n".join(next(lines for language, _, lines in blocks(PAGE) if language == "python")))
    page = []
    for lines in (lines for language, _, lines in blocks(PAGE) if language == "console"):
        printed = []
        for command in [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]:
            if command == "vidrec repair videos":
                leave(tag="pole", run=Path("videos/run"))
            printed.append(f"$ {command}")
            program, *args = shlex.split(command)
            if program == "rm":
                Path(*args).unlink()
            else:
                printed += call(*args).stdout.splitlines()
        page.append((lines, printed))
    if os.environ.get("VIDREC_SAVE_OUTPUT"):
        text = PAGE.read_text()
        for lines, printed in page:
            old, new = ("\n".join(["```console", *block, "```"]) for block in (lines, printed))
            text = text.replace(old, new, 1)
        PAGE.write_text(text)
        return
    for lines, printed in page:
        assert masked("\n".join(printed)) == masked("\n".join(lines))

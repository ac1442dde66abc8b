"""Every FFmpeg that is there records, survives kills and repairs; what an FFmpeg lacks is said before anything moves.

The FFmpeg of the virtual environment is that of all other tests. Here are the system's, and those that
`make test-ffmpegs` puts beside it, from 4.2 on. An independent decoder reads the videos back.
"""

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import pytest
from conftest import OLD_ENCODED, missing
from numbered_frames import numbers_in, rows
from processes import started, wait_for_encoders
from test_faults import FOREVER, VICTIM, dots, kill
from test_repair import is_ordinary

SYSTEM = shutil.which("ffmpeg")
OTHERS = map(str, Path(sys.prefix).glob("ffmpegs/*/imageio_ffmpeg/binaries/ffmpeg-*"))
FFMPEGS = [
    pytest.param(path, id=Path(path).name, marks=pytest.mark.long if others else [])
    for others, paths in enumerate([[SYSTEM or "ffmpeg"], OTHERS])
    for path in paths
]


@pytest.fixture(params=FFMPEGS)
def ffmpeg(request, monkeypatch):
    """The FFmpeg that scripts use from here on."""
    if request.param == "ffmpeg":
        missing("the system has no FFmpeg")
    monkeypatch.setenv("FFMPEG_BINARY", request.param)
    return request.param


def run(script, *args):
    """Run a script in a fork, with the FFmpeg of the test; return what it prints."""
    with started(script, *args) as child:
        output, errors = child.communicate()
        assert child.returncode == 0, errors.decode()
    return output.decode()


REPAIR = """
    import json
    from pathlib import Path
    from vidrec.ffmpeg import metadata
    from vidrec.ffmpeg.program import find_ffmpeg
    from vidrec.tools.repair import repair
    from vidrec.tools.verify import info, verify

    folder = Path("csv_logs/run").absolute()
    done = [one.outcome for one in repair(folder)]
    problems = [problem.problem for problem in verify(folder)]
    videos = sorted(folder.glob("videos/*"))
    kept = {".mp4", ".webm", ".mkv"}
    assert all(metadata.read(path)["step"] == 0 for path in videos if path.suffix in kept)
    print(json.dumps([find_ffmpeg(), done, problems, {path.name: info(path)["seconds"] for path in videos}]))
"""

RECORD = """
    import sys
    from numbered_frames import numbered, read_number
    from vidrec import CSVLogger, VideoRecorder

    for name in sys.argv[2:]:
        recorder = VideoRecorder(CSVLogger("run", video_format=name), name, skip=1, fps=sys.argv[1])
        for number in range(20):
            recorder._apply_transform(numbered(number))
        assert [read_number(frame.permute(1, 2, 0)) for frame in recorder.obs] == [*range(20)]  # ends a part
        for number in range(20, 75):
            recorder._apply_transform(numbered(number))
        video = recorder.dump()
        assert [read_number(frame) for frame in video.iter_frames()] == [*range(75)]
"""


@pytest.mark.parametrize(
    ("fps", "formats"),
    [
        ("30000/1001", ["mp4"]),
        pytest.param("30000/1001", OLD_ENCODED, marks=pytest.mark.long),
        pytest.param("30", OLD_ENCODED, marks=pytest.mark.long),
    ],
)
def test_each_format_at_its_defaults_holds_every_frame_at_its_time(ffmpeg, fps, formats, tmp_path):
    run(RECORD, fps, *formats)
    used, done, problems, seconds = json.loads(run(REPAIR))
    assert (used, done, problems) == (ffmpeg, [], [])
    assert sorted(seconds) == sorted(f"{name}_0.{name}" for name in formats)
    assert {row["frames"] for row in rows()} == {"75"}
    for name, length in seconds.items():
        path = tmp_path / "csv_logs/run/videos" / name
        assert numbers_in(path) == list(range(75))
        assert is_ordinary(path)
        assert length == pytest.approx(75 * (1 if fps == "30" else 1.001) / 30, abs=0.02)


@pytest.mark.parametrize(
    ("who", "formats"),
    [
        ("the training and its encoders", ["mp4", "webm"]),
        pytest.param("the training", OLD_ENCODED, marks=pytest.mark.long),
        pytest.param("the training and its encoders", OLD_ENCODED, marks=pytest.mark.long),
    ],
)
def test_a_kill_costs_what_the_promises_say_and_repair_makes_ordinary_videos(ffmpeg, who, formats, tmp_path):
    with started(VICTIM + FOREVER, 1 / 60, 60, "numbers", *formats) as victim:
        returned, _ = kill(victim, 200, who)
    wait_for_encoders(tmp_path)
    assert all(".part-" in path.name for path in Path("csv_logs/run/videos").iterdir())
    used, done, problems, seconds = json.loads(run(REPAIR))
    assert (used, done, problems) == (ffmpeg, ["repaired"] * len(formats), [])
    lost = 0 if who == "the training" else 120
    for name in seconds:
        path = tmp_path / "csv_logs/run/videos" / name
        numbers = numbers_in(path)
        assert numbers == list(range(len(numbers))), name
        assert returned - lost <= len(numbers) <= returned + 1, name
        assert is_ordinary(path), name


# what it lacks


@pytest.fixture
def lacking(tmp_path, monkeypatch):
    """Make the FFmpeg of scripts one that answers as a shell script says, or as the one of the other tests."""

    def lacking(answers):
        path = tmp_path / "bin" / "ffmpeg"
        path.parent.mkdir()
        path.write_text(f'#!/bin/sh\ncase "$*" in\n{answers}\nesac\nexec {imageio_ffmpeg.get_ffmpeg_exe()} "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("FFMPEG_BINARY", str(path))
        return path

    return lacking


MAKE = """
    import sys, vidrec

    try:
        recorder = vidrec.VideoRecorder(vidrec.CSVLogger("run", video_format=sys.argv[1]), "video")
    except vidrec.VidrecError as error:
        print(f"{type(error).__name__}: {error}")
"""


def version(text, libavutil):
    report = f"ffmpeg version {text} Copyright\\nlibavutil      {libavutil}.100 / {libavutil}.100\\n"
    return f"*-version*) printf '{report}'; exit;;"


@pytest.mark.parametrize(
    ("text", "libavutil"), [("4.1.11", "56. 22"), ("3.4.8-0ubuntu0.2", "55. 78"), ("N-92-g1", "56. 30")]
)
def test_an_ffmpeg_that_is_too_old_is_refused_with_what_it_takes(lacking, text, libavutil):
    path = lacking(version(text, libavutil))
    said = run(MAKE, "mp4")
    assert said.startswith(f"EncoderError: FFmpeg {text} ({path}) is too old: vidrec needs 4.2 or later; ")
    assert "FFMPEG_BINARY" in said


@pytest.mark.parametrize(("text", "libavutil"), [("n4.2.2", "56. 31"), ("2026-01-01-git-abc", "61.  3")])
def test_an_ffmpeg_that_is_new_enough_is_not_refused_whatever_it_calls_itself(lacking, text, libavutil):
    lacking(version(text, libavutil))
    assert run(MAKE, "mp4") == ""


@pytest.mark.parametrize(
    ("video_format", "answers", "message"),
    [
        ("mp4", "*libx264*) echo \"Unknown encoder 'libx264'\" >&2; exit 1;;", "has no encoder 'libx264'"),
        ("webm", "*libvpx-vp9*) exit 1;;", "has no encoder 'libvpx-vp9'"),
        ("mp4", "*' mp4 '*) echo \"Requested output format 'mp4' is not known.\" >&2; exit 1;;", "'mp4' is not known"),
        ("gif", "*palettegen*) echo \"No such filter: 'palettegen'\" >&2; exit 1;;", "No such filter: 'palettegen'"),
        ("apng", "*'f apng'*) echo 'Unable to find a muxer' >&2; exit 1;;", "Unable to find a muxer"),
    ],
)
def test_what_a_default_lacks_is_said_when_the_recorder_is_made(lacking, video_format, answers, message):
    path = lacking(answers)
    said = run(MAKE, video_format)
    assert said.startswith("SettingError: FFmpeg ")
    assert f"({path})" in said
    assert message in said
    assert "another FFmpeg" in said


def test_webp_is_refused_where_it_could_not_be_read_back(ffmpeg):
    reads = "webp_anim" in subprocess.run([ffmpeg, "-demuxers"], capture_output=True, text=True).stdout
    said = run(MAKE, "webp")
    assert (said == "") == reads
    assert reads or f"({ffmpeg}) reads 0 of 3 frames that it wrote" in said


def test_what_another_format_lacks_is_no_obstacle_and_a_repair_encodes_nothing(lacking, tmp_path):
    with started(VICTIM + FOREVER, 1 / 60, 60, "numbers", "mp4") as victim:
        returned = dots(victim, 60)
        victim.kill()
        returned += len(victim.stdout.read())
    wait_for_encoders(tmp_path)
    lacking("*libx264*) exit 1;;")
    assert run(MAKE, "webm") == ""
    _, done, problems, _ = json.loads(run(REPAIR))
    assert (done, problems) == (["repaired"], [])
    numbers = numbers_in(tmp_path / "csv_logs/run/videos/mp4_0.mp4")
    assert numbers == list(range(len(numbers)))
    assert returned <= len(numbers) <= returned + 1


def test_ffmpeg_is_asked_once_in_a_process(lacking, tmp_path):
    lacking(f'*) echo "$*" >> {tmp_path}/asked;;')
    run("import vidrec\nfor _ in range(3): vidrec.VideoRecorder(vidrec.CSVLogger('run'), 'video')")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == len(set(asked))

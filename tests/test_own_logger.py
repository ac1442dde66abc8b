"""The logger of `docs/logger.md` keeps the contract."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from numbered_frames import numbered, numbers_in

import vidrec
from vidrec import TeeLogger, VideoRecorder
from vidrec.testing import check_logger

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples/own_logger.py"


@pytest.fixture
def json_logger():
    spec = importlib.util.spec_from_file_location("own_logger", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.JsonLogger


def test_the_example_keeps_the_contract(json_logger, tmp_path):
    folders = iter(range(100))
    check_logger(lambda: json_logger(tmp_path / str(next(folders))))


def test_a_recorder_streams_into_it_and_its_lines_say_what_is_there(json_logger, tmp_path):
    recorder = VideoRecorder(json_logger(tmp_path / "videos"), "video", skip=1)
    for number in range(40):
        recorder._apply_transform(numbered(number))
    video = recorder.dump(step=7)
    assert video.path == tmp_path / "videos" / "video_7.mp4"
    assert numbers_in(video.path) == list(range(40))
    lines = (tmp_path / "videos" / "videos.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"file": "video_7.mp4", "step": 7, "frames": 40}]
    assert sorted(path.name for path in video.path.parent.iterdir()) == ["video_7.mp4", "videos.jsonl"]


def test_it_can_stand_beside_another_one(json_logger, tmp_path):
    loggers = [json_logger(tmp_path / "a"), json_logger(tmp_path / "b")]
    recorder = VideoRecorder(TeeLogger(*loggers), "video")
    for number in range(10):
        recorder._apply_transform(numbered(number))
    recorder.dump()
    assert [numbers_in(tmp_path / folder / "video_0.mp4") for folder in "ab"] == [list(range(10))] * 2


def test_the_page_shows_the_example_which_is_short_and_uses_public_names_only():
    source = EXAMPLE.read_text()
    assert source in re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/logger.md").read_text(), re.M | re.S)
    assert len(source.splitlines()) < 40
    imported = re.findall(r"^from (vidrec\S*) import (.*)$", source, re.M)
    assert {module for module, _ in imported} == {"vidrec", "vidrec.loggers"}
    for module, names in imported:
        public = set(importlib.import_module(module).__all__)
        assert public.issuperset(names.split(", "))


def test_what_a_logger_needs_is_found_and_nothing_else():
    assert vidrec.loggers.open_clip is vidrec.clips.open_clip
    with pytest.raises(AttributeError, match="no_such_name"):
        vidrec.loggers.no_such_name

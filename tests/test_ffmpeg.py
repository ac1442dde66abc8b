"""FFmpeg for whole files: read back, and joined."""

import itertools
import os

import pytest
from conftest import ENCODED, fill, product, some
from numbered_frames import numbers_in, read_number

from vidrec.errors import EncoderError
from vidrec.ffmpeg.encoding import Encoding
from vidrec.ffmpeg.files import contents, join
from vidrec.ffmpeg.stream import read_frames


def read(path, frames):
    return read_frames(path, Encoding.of(path.suffix[1:]).file_size((48, 64)), frames)


RATES = ["30", "30000/1001", "60", "10"]


@product(pairs=False, video_format=ENCODED, fps=RATES, lengths=[(3, 4, 5), (1, 1, 40)])
def test_joined_parts_hold_all_frames_in_order(start, tmp_path, video_format, fps, lengths):
    parts, total = [], 0
    for part, length in enumerate(lengths):
        encoder = start(tmp_path / f"it's %d part {part}.{video_format}", fps=fps)
        fill(encoder, range(total, total + length))
        total += encoder.finish()
        parts.append(encoder.path)
    whole = tmp_path / f"it's whole.{video_format}"
    encoding = Encoding.of(video_format, fps=fps)
    assert join(parts, whole, encoding, {}) == total
    assert numbers_in(whole) == list(range(total))
    assert [read_number(frame) for frame in read(whole, total)] == list(range(total))
    assert all(part.exists() for part in parts)


@pytest.mark.parametrize("lost", ["first", "second"])
def test_parts_that_cannot_be_joined_are_an_error_and_stay(start, tmp_path, lost):
    encoder = start(tmp_path / "a.mp4")
    fill(encoder, range(2))
    encoder.finish()
    parts = [encoder.path, tmp_path / "gone.mp4"]
    with pytest.raises(EncoderError, match=r"(could not join .*a\.mp4, .*|reads nothing of .*)gone\.mp4: "):
        join(parts[:: -1 if lost == "first" else 1], tmp_path / "whole.mp4", Encoding(), {})
    assert numbers_in(encoder.path) == [0, 1]


@pytest.mark.parametrize(
    ("video_format", "fps"),
    [
        *(
            pytest.param(
                *pair, marks=pytest.mark.long if number % len(RATES) != number // len(RATES) % len(RATES) else []
            )
            for number, pair in enumerate(itertools.product(ENCODED, RATES))
        ),
        ("mp4", "1000"),
        ("webm", "1000"),
        ("gif", "0.5"),
    ],
)
def test_what_is_read_is_what_an_independent_decoder_finds(start, tmp_path, video_format, fps):
    encoder = start(tmp_path / f"a.{video_format}", fps=fps)
    fill(encoder, range(61))
    assert encoder.finish() == 61
    found = [read_number(frame) for frame in read(encoder.path, 61)]
    assert found == numbers_in(encoder.path) == list(range(61))


@pytest.mark.parametrize("video_format", some(ENCODED, "webp"))
@pytest.mark.parametrize("name", ["loss%d", "what*", "%03d [1]?", "-i"])
def test_a_name_that_may_be_a_pattern_is_that_of_one_file(start, tmp_path, name, video_format):
    encoder = start(tmp_path / f"{name}.{video_format}")
    fill(encoder, range(5))
    encoder.finish()
    assert [contents(encoder.path, decode=decode).frames for decode in (True, False)] == [5, 5]
    assert [read_number(frame) for frame in read(encoder.path, 5)] == list(range(5))


@pytest.mark.parametrize("video_format", ["mp4", "gif"])
@pytest.mark.parametrize("content", [None, b"", b"junk"])
def test_a_file_that_cannot_be_read_is_an_encoder_error(tmp_path, video_format, content):
    path = tmp_path / f"a.{video_format}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EncoderError, match=f"{path}"):
        list(read(path, 2))


@pytest.mark.parametrize("video_format", ENCODED)
def test_a_file_with_fewer_frames_is_an_error_after_those(start, tmp_path, video_format):
    encoder = start(tmp_path / f"a.{video_format}")
    fill(encoder, range(3))
    encoder.finish()
    frames = read(encoder.path, 5)
    assert [read_number(next(frames)) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(EncoderError, match="holds 3 frames; expected 5"):
        next(frames)


def test_a_reader_that_is_left_early_leaves_nothing(start, tmp_path):
    encoder = start(tmp_path / "a.mp4")
    fill(encoder, range(100))
    encoder.finish()
    before = sorted(os.listdir("/proc/self/fd"))
    frames = read(encoder.path, 100)
    assert read_number(next(frames)) == 0
    frames.close()
    assert sorted(os.listdir("/proc/self/fd")) == before

from fractions import Fraction
from pathlib import Path

import pytest

from vidrec.clips.video import Video
from vidrec.ffmpeg.encoding import Encoding


def test_a_video_knows_its_size_length_and_place():
    video = Video(Path("a.mp4"), 60, Fraction(30000, 1001), 48, 64, Encoding())
    assert video.size == (48, 64)
    assert video.seconds == pytest.approx(2.002)
    moved = video.at(Path("b.mp4"))
    assert (moved.path, moved.frames, moved.size) == (Path("b.mp4"), 60, (48, 64))

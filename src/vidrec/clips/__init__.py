"""One video: a growing one (a clip) and a finished one (`Video`). No RL library.

A clip is one of

    EncodedClip   in a file, by FFmpeg            mp4, webm, mkv, gif, apng, webp
    MemmapClip    in a file of raw frames         memmap
    PtClip        in a file for ``torch.load``    pt
    TensorClip    in memory, as tensors           loggers that know only tensors
    TailClip      in memory, the last frames      until it writes them into one of the others
"""

from collections.abc import Mapping
from pathlib import Path

from vidrec.clips.base import Clip, FileClip
from vidrec.clips.encoded import EncodedClip
from vidrec.clips.memory import TensorClip
from vidrec.clips.raw import MemmapClip, PtClip, save
from vidrec.clips.tail import TailClip
from vidrec.clips.video import Video
from vidrec.ffmpeg.encoding import Encoding

__all__ = [
    "Clip",
    "EncodedClip",
    "FileClip",
    "MemmapClip",
    "PtClip",
    "TailClip",
    "TensorClip",
    "Video",
    "open_clip",
    "save",
]

CLIPS: Mapping[str, type[FileClip]] = {"pt": PtClip, "memmap": MemmapClip}
"""The video formats that FFmpeg does not write."""


def open_clip(stem: Path, encoding: Encoding, index: Path | None = None) -> FileClip:
    """Return the kind of clip that writes `encoding`, see `FileClip`; it opens nothing before its first frame."""
    return CLIPS.get(encoding.video_format, EncodedClip)(stem, encoding, index)

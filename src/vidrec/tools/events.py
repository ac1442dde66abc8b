"""The videos in an event file of TensorBoard, read by TensorBoard's own reader."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

from vidrec.errors import need

_EPISODE = "/episode/text_summary"
_ABOUT = re.compile(
    r"(env (?P<env_id>\d+)(, )?)?(agent (?P<agent>\d+)(, )?)?"
    r"(episode (?P<episode>\d+), return (?P<return_>\S+), length (?P<length>\d+), (?P<ended>\w+))?"
)
"""What `vidrec.TensorboardLogger` writes beside a video, as text."""

_FLOATS = (1, 2)
"""float32 and float64, as a tensor in an event file names them."""


@dataclass
class EventVideo:
    """A video in an event file.

    Attributes:
        about: what the text beside it says of the env and the episode, by the names of `vidrec.FolderVideo`.
    """

    tag: str
    step: int
    wall_time: float
    suffix: str
    bytes: int
    frames: int
    height: int
    width: int
    about: dict[str, Any] = field(default_factory=dict)


def is_event_file(path: Path) -> bool:
    """Return whether TensorBoard takes a file for an event file."""
    return "tfevents" in path.name


def read(path: Path) -> list[EventVideo]:
    """Return the videos in an event file, which may be growing: its images that move.

    Raises:
        ExtraError: TensorBoard is not installed.
        ValueError: it is damaged, or no event file.
    """
    status = path.stat()
    return list(_read(path, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=256)
def _read(path: Path, size: int, time_ns: int) -> list[EventVideo]:
    """Return the videos in an event file, which is read again once it has another size or time."""
    found: list[EventVideo] = []
    for value, step, wall_time in _values(path):
        if value.HasField("image"):
            found += _videos(value, step, wall_time)
        elif value.tag.endswith(_EPISODE) and value.tensor.string_val:
            tag, about = value.tag.removesuffix(_EPISODE), value.tensor.string_val[0].decode(errors="replace")
            beside = [video for video in found if (video.tag, video.step) == (tag, step)]
            if beside and (match := _ABOUT.fullmatch(about)):
                kinds = {"return_": float, "ended": str}
                known = {name: text for name, text in match.groupdict().items() if text is not None}
                beside[-1].about.update({name: kinds.get(name, int)(text) for name, text in known.items()})
    return found


def scalars(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the scalars in an event file, which may be growing, by tag: the step and the value of each.

    Raises:
        ExtraError: TensorBoard is not installed.
        ValueError: it is damaged, or no event file.
    """
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for value, step, _ in _values(path):
        if value.HasField("simple_value"):
            found[value.tag].append((step, value.simple_value))
        elif value.HasField("tensor") and value.tensor.dtype in _FLOATS and not value.tensor.tensor_shape.dim:
            from tensorboard.util.tensor_util import make_ndarray

            found[value.tag].append((step, float(make_ndarray(value.tensor))))
    return found


def data_of(path: Path, video: EventVideo) -> bytes:
    """Return the bytes of a video in an event file.

    Raises:
        ExtraError: TensorBoard is not installed.
        ValueError: it is not there any more.
    """
    sought = video.tag, video.step, video.wall_time
    for value, step, wall_time in _values(path):
        if (value.tag, step, wall_time) == sought and value.HasField("image"):
            return bytes(value.image.encoded_image_string)
    raise ValueError(f"{path} has no video {video.tag!r} at step {video.step} any more")


def _values(path: Path) -> Iterator[tuple[Any, int, float]]:
    """Yield each value of a summary, its step, and when it was written, in seconds since 1970."""
    need("tensorboard", "an event file")
    from google.protobuf.message import DecodeError
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    empty = True
    try:
        for event in LegacyEventFileLoader(str(path)).Load():
            empty = False
            for value in event.summary.value:
                yield value, event.step, event.wall_time
    except DecodeError as error:
        raise ValueError(f"it is damaged: {error}") from error
    if empty and path.stat().st_size:
        raise ValueError("TensorBoard finds no event in it")


def _videos(value: Any, step: int, wall_time: float) -> Iterator[EventVideo]:
    """Yield an image if it moves."""
    from PIL import Image

    data = value.image.encoded_image_string
    try:
        with Image.open(BytesIO(data)) as image:
            if getattr(image, "is_animated", False):
                suffix = {"GIF": ".gif", "WEBP": ".webp"}.get(str(image.format), ".apng")
                about = len(data), image.n_frames, image.height, image.width
                yield EventVideo(value.tag, step, wall_time, suffix, *about)
    except (OSError, ValueError, SyntaxError, EOFError):  # it is no image that Pillow knows
        return

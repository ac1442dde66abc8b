"""One file of several videos: beside each other, one after the other, or as a contact sheet of one. No torch."""

import itertools
import math
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vidrec.captions import Strip, caption
from vidrec.errors import EncoderError, SettingError
from vidrec.ffmpeg import metadata
from vidrec.ffmpeg.encoder import Encoder
from vidrec.ffmpeg.encoding import ENCODED, MAX_SIDE, Encoding, format_of
from vidrec.ffmpeg.stream import Array, Source
from vidrec.files.manifest import SUFFIX, Manifest
from vidrec.files.names import MARK, make_folder, move_to, remove
from vidrec.tools.query import number

MAX_BESIDE = 64
"""How many videos may be beside each other: each is read by an FFmpeg of its own."""

IMAGES = (".png", ".jpg", ".jpeg")

Size = tuple[int, int]

Watch = Callable[[Iterable[Any], int], Iterable[Any]]
"""Yields what it is given, so many, and may show how far that has come."""


@dataclass(frozen=True)
class Shown:
    """A video to be shown.

    Attributes:
        path: its file.
        row: what is known of it, by column of ``videos.csv``, beside what the file says of itself.
        label: what stands below it; None is made of what is known.
    """

    path: Path
    row: Mapping[str, Any] = field(default_factory=dict)
    label: str | None = None

    def known(self) -> dict[str, Any]:
        """Return what is known of it, by column."""
        row = metadata.row(self.path) | {name: value for name, value in self.row.items() if value not in (None, "")}
        return {name: _value(row[name]) for name in metadata.COLUMNS if name in row}

    def title(self) -> str:
        """Return its label, such as ``"eval  step 1000  return 12.5"``; the name of the file, if nothing is known."""
        if self.label is not None:
            return self.label
        known = self.known()
        numbers = [text_of(name, known[name]) for name in ("step", "return") if name in known]
        return "  ".join([str(known.get("tag", self.path.stem)), *numbers])


@dataclass(frozen=True)
class Joined:
    """A video that was made of others, as `vidrec.Video` has it."""

    path: Path
    frames: int
    encoding: Encoding
    size: Size


def labelled(videos: Sequence[Shown], labels: Sequence[str] | None) -> list[Shown]:
    """Return the videos with these labels; None leaves them as they are."""
    if labels is not None and len(labels) != len(videos):
        raise SettingError(f"there are {len(labels)} labels for {len(videos)} videos; expected one for each")
    texts = [video.label for video in videos] if labels is None else labels
    return [replace(video, label=label) for video, label in zip(videos, texts, strict=True)]


def text_of(name: str, value: Any) -> str:
    """Return a value with its name, such as ``"return 12.5"``."""
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def unwatched(items: Iterable[Any], total: int) -> Iterable[Any]:
    """Return them as they are."""
    return items


def compare(
    videos: Sequence[Shown], target: Path, *, fps: Any = None, overwrite: bool = False, watch: Watch = unwatched
) -> Joined:
    """Write videos beside each other into one, frame i of each in frame i, see `vidrec.compare`."""
    if not 2 <= len(videos) <= MAX_BESIDE:
        raise SettingError(f"there are {len(videos)} videos to compare; expected from 2 to {MAX_BESIDE}")
    return _join(videos, target, _beside, max, 2, len(videos), fps, overwrite, watch)


def reel(
    videos: Sequence[Shown], target: Path, *, fps: Any = None, overwrite: bool = False, watch: Watch = unwatched
) -> Joined:
    """Write videos one after the other into one, each frame once, see `vidrec.reel`."""
    if not videos:
        raise SettingError("there are no videos for a reel; expected one or more")
    return _join(videos, target, _in_turn, sum, 1, 1, fps, overwrite, watch)


def sheet(
    video: Shown, target: Path, n: int = 16, *, overwrite: bool = False, watch: Watch = unwatched
) -> dict[str, Any]:
    """Write a contact sheet of `n` frames of a video, spread evenly from the first to the last, into an image.

    Returns:
        ``sheet``, the file; ``columns`` and ``rows`` of it; and ``shown``, the numbers of the frames.
    """
    if target.suffix.lower() not in IMAGES:
        raise SettingError(f"the name {target.name!r} does not say an image; expected one of {', '.join(IMAGES)}")
    if n < 1:
        raise SettingError(f"n={n} must be a number of frames, 1 or more")
    with _new(target, overwrite, {}) as (path, _):
        source = Source.of(video.path)
        shown = sorted({round(at * (source.frames - 1) / max(1, n - 1)) for at in range(n)})[:n]
        cell = _cell([source], 1, len(shown))
        with closing(source.read(_fitted(source.size, cell))) as frames:
            wanted = [frame for at, frame in enumerate(watch(frames, source.frames)) if at in shown]
        texts = [f"frame {at}" for at in shown[: len(wanted)]]
        [image] = caption(np.stack(wanted), texts, 1, tile=True)
        Image.fromarray(image).save(path)
    columns = math.ceil(math.sqrt(len(texts)))
    rows = math.ceil(len(texts) / columns)
    return {"sheet": str(target), "columns": columns, "rows": rows, "shown": shown[: len(wanted)]}


Frames = Callable[[Sequence[Source], Sequence[str], Size], Generator[Array, None, None]]
"""Yields the frames of a video of these sources, with their titles, in cells of a size."""


def _join(
    videos: Sequence[Shown],
    target: Path,
    frames_of: Frames,
    length: Callable[[Iterable[int]], int],
    lines: int,
    cells: int,
    fps: Any,
    overwrite: bool,
    watch: Watch,
) -> Joined:
    video_format = format_of(target.name, ENCODED)
    encoding = None if fps is None else Encoding.of(video_format, fps=fps)
    with _new(target, overwrite, {"video_format": video_format}) as (path, stderr):
        sources = [Source.of(video.path) for video in watch(videos, len(videos))]
        encoding = encoding or Encoding.of(video_format, fps=sources[0].fps)
        encoding.try_out()
        told = metadata.args_of_several(video_format, [{"file": video.path.name, **video.known()} for video in videos])
        titles, cell = [video.title() for video in videos], _cell(sources, lines, cells)
        encoder = None
        try:
            with closing(frames_of(sources, titles, cell)) as frames:
                for frame in watch(frames, length(source.frames for source in sources)):
                    if encoder is None:
                        size: Size = frame.shape[:2]
                        args = [*encoding.ffmpeg_args(size, growing=False), *told]
                        encoder = Encoder(path, size, encoding.fps, args, stderr)
                    encoder.write(frame)
            assert encoder is not None
            count = encoder.finish()
        except BaseException:
            if encoder is not None:
                encoder.kill()
            raise
    return Joined(target, count, encoding, encoding.file_size(size))


def _beside(sources: Sequence[Source], titles: Sequence[str], cell: Size) -> Generator[Array, None, None]:
    with ExitStack() as stack:
        read = [stack.enter_context(closing(source.read(_fitted(source.size, cell)))) for source in sources]
        cells, counts = np.zeros((len(sources), *cell, 3), np.uint8), [0] * len(sources)
        for at in itertools.count():
            for video, frames in enumerate(read):
                if (frame := next(frames, None)) is not None:
                    _place(frame, cells[video])
                    counts[video] += 1
            if max(counts) == at:
                return
            marks = [f"frame {at}" if count > at else f"ended at frame {count - 1}" for count in counts]
            texts = [f"{title}\n{mark}" for title, mark in zip(titles, marks, strict=True)]
            yield caption(cells, texts, 2, tile=True)[0]


def _in_turn(sources: Sequence[Source], titles: Sequence[str], cell: Size) -> Generator[Array, None, None]:
    for source, title in zip(sources, titles, strict=True):
        canvas = np.zeros((1, *cell, 3), np.uint8)
        with closing(source.read(_fitted(source.size, cell))) as frames:
            for frame in frames:
                _place(frame, canvas[0])
                yield caption(canvas, [title], 1)[0]


def _place(frame: Array, cell: Array) -> None:
    """Put a frame into the middle of a cell."""
    height, width = frame.shape[:2]
    top, left = (cell.shape[0] - height) // 2, (cell.shape[1] - width) // 2
    cell[top : top + height, left : left + width] = frame


def _cell(sources: Sequence[Source], lines: int, cells: int) -> Size:
    """Return the size of a cell: the largest height and width, made smaller if so many of them are too large."""
    height, width = (max(source.size[axis] for source in sources) for axis in (0, 1))
    columns = math.ceil(math.sqrt(cells))
    rows = math.ceil(cells / columns)
    while True:
        strip = Strip.of((height, width), lines, cells)
        over = max(rows * (strip.top + strip.height), columns * strip.width) / MAX_SIDE
        if over <= 1:
            return height, width
        height, width = max(1, int(height / over)), max(1, int(width / over))


def _fitted(size: Size, cell: Size) -> Size:
    """Return the size that frames have in a cell: enlarged by a whole factor, or smaller, as large as it can be.

    >>> _fitted((84, 84), (200, 300)), _fitted((400, 600), (200, 200))
    ((168, 168), (133, 200))
    """
    factor: float = min(most // side for side, most in zip(size, cell, strict=True))
    factor = factor or min(most / side for side, most in zip(size, cell, strict=True))
    height, width = (max(1, int(side * factor)) for side in size)
    return height, width


@contextmanager
def _new(target: Path, overwrite: bool, about: Mapping[str, Any]) -> Iterator[tuple[Path, int]]:
    """Give a file to write, and where FFmpeg's stderr goes; the file gets the name `target` once it is whole."""
    exists = f"{target} exists; overwrite=True replaces a file"
    if target.is_dir() or (target.exists() and not overwrite):
        raise SettingError(exists)
    make_folder(target.parent)
    path = target.with_name(f"{target.stem}{MARK}{secrets.token_hex(4)}{target.suffix}")
    try:
        held = Manifest(path.with_suffix(SUFFIX), about)
    except OSError as error:
        raise EncoderError(f"no file can be made beside {target}: {error}") from error
    try:
        yield path, held.descriptor
        if not move_to(path, target, overwrite=overwrite):
            raise SettingError(exists)
    finally:
        remove(path)
        held.remove()


def _value(value: Any) -> Any:
    """Return a value of a row as what it says: a number, if it is one."""
    try:
        return number(value) if isinstance(value, str) else value
    except SettingError:
        return value

"""Videos made of finished ones: `compare`, `reel` and `sheet`."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vidrec.clips.video import Video
from vidrec.clips.write import watched
from vidrec.errors import SettingError
from vidrec.files.places import Place, local_place
from vidrec.tools import joining, scan
from vidrec.tools.joining import Joined, Shown
from vidrec.tools.listing import ListedVideo


def compare(
    videos: Iterable[Any], path: Place, *, labels: Sequence[str] | None = None, fps: Any = None, overwrite: bool = False
) -> Video:
    """Write videos beside each other into one file, two in a row, more in a grid.

        >>> import numpy as np
        >>> import vidrec
        >>> for step in (0, 1000):
        ...     frames = np.full((30 + step // 100, 96, 128, 3), step // 4, np.uint8)
        ...     _ = vidrec.CSVLogger("run", "logs").log_video("eval", frames.transpose(0, 3, 1, 2), step)
        >>> video = vidrec.compare(vidrec.videos("logs"), "compared.mp4", labels=["old", "new"])
        >>> video.frames, video.size
        (40, (434, 1024))

    Frame i shows frame i of each, whatever their rates. A video that ends before others shows its last frame, and below
    it, where its label and the number of the frame are, stands that it ended. Each is in a cell as high as the highest
    and as wide as the widest: enlarged by a whole factor, as far as there is room, and in the middle. Where the grid
    would have more than 4096 pixels a side, the cells are smaller. One frame of each is in memory.

    Args:
        videos: from 2 to 64 paths, or what `vidrec.videos` or a recorder returned, of files that FFmpeg encoded.
        path: the file; its suffix says the format, as for `vidrec.write`. It has its name once it is whole.
        labels: what stands below each; None is the tag, step and return, as far as they are known, or the file's name.
        fps: frames per second; None is that of the first video.
        overwrite: whether a file of that name is replaced.

    Raises:
        SettingError: arguments that cannot be; or the file exists, and `overwrite` is False.
        EncoderError: FFmpeg cannot read all of a video, which is named, or cannot encode.
    """
    target = Path(local_place("vidrec.compare", path))
    return _video(joining.compare(_shown(videos, labels), target, fps=fps, overwrite=overwrite, watch=watched))


def reel(
    videos: Iterable[Any], path: Place, *, labels: Sequence[str] | None = None, fps: Any = None, overwrite: bool = False
) -> Video:
    """Write videos one after the other into one file, each frame once, with a title below.

    Frames of other sizes and rates are shown as by `compare`. The arguments and errors are those of `compare`; there
    may be any number of videos.
    """
    target = Path(local_place("vidrec.reel", path))
    return _video(joining.reel(_shown(videos, labels), target, fps=fps, overwrite=overwrite, watch=watched))


def sheet(video: Any, path: Place, n: int = 16, *, overwrite: bool = False) -> dict[str, Any]:
    """Write a contact sheet of a video: `n` frames, from the first to the last, with their numbers, in one image.

    Args:
        video: as one of `compare`.
        path: the image, ``.png`` or ``.jpg``.
        n: how many frames.
        overwrite: whether a file of that name is replaced.

    Returns:
        ``sheet``, the image; its ``columns`` and ``rows``; and ``shown``, the numbers of the frames.

    Raises:
        SettingError, EncoderError: as by `compare`.
    """
    target = Path(local_place("vidrec.sheet", path))
    return joining.sheet(_one(video), target, n, overwrite=overwrite, watch=watched)


def _shown(videos: Iterable[Any], labels: Sequence[str] | None) -> list[Shown]:
    return joining.labelled([_one(video) for video in videos], labels)


def _one(video: Any) -> Shown:
    if isinstance(video, Video):
        return Shown(video.path, {**video.row(), "tag": video.tag})
    if isinstance(video, ListedVideo):
        if video.event is not None:
            raise SettingError(f"{video.tag!r} is in the event file {video.path}; expected a file of its own")
        return Shown(video.path, video.row or {})
    path = Path(local_place("vidrec", video))
    return Shown(path, scan.row_of(path) or {})


def _video(made: Joined) -> Video:
    return Video(made.path, made.frames, made.encoding.fps, *made.size, made.encoding)

"""A video of frames that are there already, without env, recorder or logger: `write`."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vidrec.clips import Video, open_clip
from vidrec.errors import FrameError, SettingError
from vidrec.ffmpeg.encoding import Encoding, format_of
from vidrec.files.names import move_to
from vidrec.files.places import Place, local_place
from vidrec.frames import arrange, check_layout, to_rgb
from vidrec.frames.layout import CHANNELS


def write(
    path: Place, frames: Any, fps: Any = 30, *, layout: str | None = None, overwrite: bool = False, **settings: Any
) -> Video:
    """Write frames into a video file.

        >>> import numpy as np
        >>> import vidrec
        >>> frames = np.zeros((60, 48, 64, 3), np.uint8)
        >>> vidrec.write("videos/black.mp4", frames, fps=30).seconds
        2.0

    The file is encoded as a recorder encodes it. It grows under an unfinished name, and has its own once it is whole.
    If that takes longer than two seconds, a terminal shows how far it has come.

    Args:
        path: the file; its suffix says the format, such as ``.mp4`` or ``.gif``, see `Encoding`. Its folder is made.
        frames: a tensor or array ``[T, H, W, C]``, ``[T, C, H, W]`` or ``[T, H, W]``; or a list or other iterable of
            frames, which are taken one by one. C is 1, 3 or 4; uint8, or floats in [0, 1].
        fps: frames per second.
        layout: names the last axes where the shape does not tell, such as ``"THWC"`` or ``"CHW"``.
        overwrite: whether a file of that name is replaced.
        **settings: of the encoder: ``crf``, ``preset``, ``video_codec``, ``pixel_format``, ``scale``, ``options``.

    Raises:
        SettingError: a path, suffix or setting that cannot be; or the file exists, and `overwrite` is False.
        FrameError: a frame that is refused, frames of several sizes, or none.
        EncoderError: FFmpeg failed.
    """
    target = Path(local_place("vidrec.write", path))
    encoding = Encoding.of(format_of(target.name), fps=fps, **settings)
    if target.is_dir() or (target.exists() and not overwrite):
        raise SettingError(f"{target} exists; overwrite=True replaces a file")
    clip = open_clip(target.with_suffix(""), encoding)
    try:
        for frame in _frames(frames, None if layout is None else check_layout(layout)):
            if clip.size not in (None, frame.shape[1:3]):
                was = f"{clip.size} (height, width)"
                raise FrameError(f"frame {clip.frames} is {tuple(frame.shape[1:3])}, and those before it are {was}")
            clip.write(frame)
        if not clip.frames:
            raise FrameError(f"there are no frames for {target}")
        video = clip.finish()
        if not move_to(video.path, target, overwrite=overwrite):
            raise SettingError(f"{target} was made meanwhile; overwrite=True replaces it")
        return video.at(target)
    finally:
        clip.delete()


def _frames(frames: Any, layout: str | None) -> Iterator[Tensor]:
    """Yield the frames one by one, or several at a time, uint8 ``[N, H, W, 3]``."""
    if hasattr(frames, "__array__") and not isinstance(frames, Tensor):
        frames = np.asarray(frames)
    if isinstance(frames, Tensor | np.ndarray):
        frames, layout = _frames_of(frames, layout)
    if not isinstance(frames, Iterable):
        raise FrameError(f"frames are a {type(frames).__name__}; expected an array, or an iterable of frames")
    for number, frame in enumerate(watched(frames)):
        name = f"frame {number}"
        yield to_rgb(arrange(frame, layout=layout, name=name), name=name)


def watched(frames: Iterable[Any], total: int | None = None) -> Iterable[Any]:
    """Show how far a loop over `frames` has come, of so many, on a terminal, if it takes longer than two seconds."""
    if sys.stderr is None or not sys.stderr.isatty():
        return frames
    from tqdm import tqdm

    class Bar(tqdm):
        monitor_interval = 0  # no thread

    return Bar(frames, total=total, unit=" frames", delay=2, leave=False)


def _frames_of(array: Any, layout: str | None) -> tuple[Iterable[Any], str | None]:
    """Return the frames of an array, and the layout of each."""
    shape = tuple(array.shape)
    if layout is None:
        if array.ndim < 3:
            raise FrameError(f"frames of shape {shape} are no video; expected [T, H, W, C], [T, C, H, W] or [T, H, W]")
        if array.ndim == 3 and {shape[0], shape[-1]} & {*CHANNELS}:
            raise FrameError(
                f"frames of shape {shape} could be one frame, or grey ones; say which with layout=, for example "
                'layout="HWC", "CHW" or "THW"'
            )
    elif len(layout) >= array.ndim:
        if layout[0] in "HWC":  # its frames do not follow one another along the first axis
            return [array], layout
        return array, layout[1:]
    return array, layout

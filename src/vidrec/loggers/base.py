"""What a logger must be for a recorder to stream into it, and what becomes of the others."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from vidrec.clip import Clip, TensorClip
from vidrec.errors import FrameError
from vidrec.frames import arrange, contiguous, to_rgb
from vidrec.video import Video


@runtime_checkable
class VideoLogger(Protocol):
    """A logger that says how it wants its videos, and takes them finished. Its other methods are TorchRL's."""

    def open_clip(self, tag: str, **settings: Any) -> Clip:
        """Return a clip that writes what this logger wants, where it wants it. Opens nothing before its first picture.

        Args:
            tag: the name that the video will have, or its beginning.
            **settings: what the recorder's user asked for; goes before the logger's own, see `Encoding.of`.

        Raises:
            SettingError: an unknown setting or an impossible value.
            TagError: a tag that cannot be a name here.
        """
        ...

    def log_video(self, name: str, video: Video | Tensor, step: int | None = None, **settings: Any) -> Video:
        """Publish a video.

        Args:
            name: its tag.
            video: a finished one, whose file is the logger's from now on; or a tensor, see `write_tensor`.
            step: the step it belongs to; None counts up from 0 for each name.
            **settings: as for `open_clip`; they say how a tensor is encoded, and are not used for a finished video.

        Returns:
            The video where it is now.
        """
        ...


def open_clip(logger: Any, tag: Any, settings: Mapping[str, Any]) -> Clip:
    """Return a clip for any logger: its own if it has one to give, else one that keeps a tensor."""
    clip = logger.open_clip(tag, **settings) if isinstance(logger, VideoLogger) else None
    return clip if isinstance(clip, Clip) else TensorClip()  # a mock has every method, and is no VideoLogger


def write_tensor(clip: Clip, video: Tensor, name: str) -> None:
    """Write a whole video into `clip`: uint8, or floats in [0, 1], ``[N, T, C, H, W]``, N videos one after another.

    Raises:
        FrameError: another shape or number of channels, or values that no picture has.
    """
    if not isinstance(video, Tensor) or video.ndim != 5:
        came = f"shape {tuple(video.shape)}" if isinstance(video, Tensor) else type(video).__name__
        raise FrameError(f"the video {name!r} is of {came}; expected a tensor [N, T, C, H, W]")
    for frame, pictures in enumerate(video.flatten(0, 1)):
        what = f"frame {frame} of {name!r}"
        clip.write(contiguous(to_rgb(arrange(pictures, layout="CHW", name=what), name=what)))

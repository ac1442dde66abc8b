"""The videos of a folder as objects: `videos`."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from vidrec.clips.video import Video
from vidrec.errors import FrameError, VidrecWarning
from vidrec.ffmpeg.encoding import BY_SUFFIX, Encoding
from vidrec.files.places import Place, local_place
from vidrec.tools import events, listing, verify
from vidrec.tools.listing import ListedVideo


class FolderVideo(ListedVideo):
    """A video in a folder, as `vidrec.videos` returns it, with what is known without decoding it; None is not known.

    In a notebook it is shown as the last expression of a cell.

    Attributes:
        path: the file; the event file, if it is in one.
        run: the folder of its run: that of ``videos.csv`` or of the event file, a run of W&B, or where the file is.
        bytes: the size of the file, or of the video in an event file.
        time: when its first frame was recorded, in UTC; when the file was written, if no row says more.
        age_s: how long ago that was, in seconds, when the folder was looked through.
        tag: as `vidrec.Video` has it; of a W&B run and an event file the name there.
        step: in the name of the file; of a W&B run the step of W&B.
        env_id: which env it shows, if each has its own videos.
        agent: which agent, if each has its own videos.
        episode: the number of the episode that it shows, if each has its own.
        return_: the sum of the episode's rewards.
        length: how many steps the episode took.
        ended: ``"terminated"``, ``"truncated"`` or ``"unfinished"``.
        frames: how many frames it has.
        fps: frames per second.
        seconds: how long it plays.
        height: of the frames in the file, in pixels.
        width: the same.
        codec: the encoder, ``"none"`` for a tensor.
        env_step: how many steps its environment had made at its first frame.
    """

    def iter_frames(self) -> Iterator[Tensor]:
        """Read the video: yield each frame, uint8 ``[H, W, 3]``.

        Raises:
            EncoderError: FFmpeg cannot read the file.
            FrameError: it is a tensor, and no row tells its shape.
            OSError, ValueError: the file cannot be read, or is gone.
        """
        with self._opened() as video:
            yield from video.iter_frames()

    def _repr_html_(self) -> str:
        """Return what a notebook shows where the video is the last expression of a cell."""
        try:
            with self._opened() as video:
                return video._repr_html_()
        except (OSError, ValueError) as error:  # a notebook would show a traceback instead
            return f"<p>{escape(str(error))}</p>"

    @contextmanager
    def _opened(self) -> Iterator[Video]:
        """Give the video as what its file holds, whatever its row says of an encoded one."""
        with TemporaryDirectory(prefix="vidrec-") as folder:
            path = self.path
            if self.event is not None:
                path = Path(folder, f"video{self.event.suffix}")
                path.write_bytes(events.data_of(self.path, self.event))
            about = verify.info(path, None if self.row is None else dict(self.row))
            if "frames" not in about:
                raise FrameError(f"{path} is a tensor, and no row of videos.csv tells its shape")
            frames, height, width = about["frames"], about["height"], about["width"]
            encoding = Encoding.of(BY_SUFFIX[path.suffix], fps=self.fps or about.get("fps") or 30)
            dtype = shape = None
            if not encoding.format.encoded:
                dtype = about.get("dtype") or "uint8"
                shape = (
                    tuple(map(int, about["shape"].split("x"))) if about.get("shape") else (1, frames, 3, height, width)
                )
            yield Video(path, frames, encoding.fps, height, width, encoding, dtype=dtype, shape=shape)


def videos(folder: Place) -> list[FolderVideo]:
    """Return the videos in a folder and those below it, with what is known of each; none is decoded.

        >>> import numpy as np
        >>> from vidrec import CSVLogger, videos
        >>> logger = CSVLogger("run", "logs")
        >>> for step in (0, 1000):
        ...     _ = logger.log_video("eval", np.zeros((30, 3, 48, 64), np.uint8), step)
        >>> [(video.tag, video.step, video.seconds) for video in videos("logs")]
        [('eval', 0, 1.0), ('eval', 1000, 1.0)]
        >>> videos("logs")[0].delete()
        >>> [next(video.iter_frames()).shape for video in videos("logs")]
        [torch.Size([192, 256, 3])]

    It finds those of `CSVLogger`, in the order of their rows; then what Weights & Biases keeps in its runs, what is in
    event files of TensorBoard, and other files by what they say of themselves. A clip that is being recorded is none. A
    row of a video that was deleted is left out.

    Args:
        folder: where to look; ``~`` is expanded.

    Raises:
        SettingError: it is no folder.

    Warns:
        VidrecWarning: a ``videos.csv`` or an event file cannot be read, as without ``vidrec[tensorboard]``; the others
            are returned.
    """
    found = listing.read(Path(local_place("vidrec.videos", folder)))
    for text in found.unreadable:
        warnings.warn(text, VidrecWarning, stacklevel=2)
    return [FolderVideo(**vars(video)) for video in found.videos]

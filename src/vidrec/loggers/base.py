"""What a logger must be for a recorder to stream into it, and how every other logger is made one."""

import operator
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vidrec.clips import Clip, FileClip, TensorClip, Video
from vidrec.errors import FrameError, ServiceError, SettingError, VidrecError, VidrecWarning, shown
from vidrec.ffmpeg.encoding import Encoding
from vidrec.frames import arrange, as_video, to_rgb


@dataclass(frozen=True)
class ClipPlace:
    """What `vidrec.clips.open_clip` is called with."""

    stem: Path
    encoding: Encoding
    index: Path | None


class SentVideo(Video):
    """A video that is under way to its logger: what a `log_video` returns that does not wait until it is published.

    All that the video shows is known at once. `path` and `url` wait for the logger's answer, and raise its error. A
    pickled one is what the logger answered.

    Args:
        video: as it is on this machine.
        answer: what `log_video` returns that waits, to come.
    """

    answer: "Future[Video | None]"
    _pid: int

    def __init__(self, video: Video, answer: "Future[Video | None]") -> None:
        self.__dict__.update(vars(video), answer=answer, _pid=os.getpid())

    def wait(self) -> Video | None:
        """Return what the logger answers."""
        if self._pid != os.getpid() and not self.answer.done():
            raise ServiceError(
                "the logger's answer goes to the process that has sent the video, of which this is a fork"
            )
        return self.answer.result()

    @property
    def path(self) -> Path:
        """Where the file is for the logger."""
        if (there := self.wait()) is None:
            raise FileNotFoundError("the logger has this video in no file")
        return there.path

    @property
    def url(self) -> str | None:
        """Where it goes in an object store."""
        there = self.wait()
        return None if there is None else there.url

    def at(self, path: Path) -> Video:
        """Return the same video, found at `path`."""
        known = {name: value for name, value in vars(self).items() if name not in ("answer", "_pid")}
        return Video(**{**known, "path": path, "url": self.url})

    def __repr__(self) -> str:
        return repr(self.answer.result()) if self.answer.done() else f"<a video of {self.frames} frames, under way>"

    def __reduce__(self) -> tuple[Any, ...]:
        return answered, (self.wait(),)


def answered(video: Any) -> Any:
    """Return what `log_video` returned, or the answer that it did not wait for."""
    return video.wait() if isinstance(video, SentVideo) else video


@dataclass(frozen=True)
class Received:
    """A file that comes in pieces: what tells it from others, its name, and its size in bytes."""

    token: str
    name: str
    size: int

    @property
    def path(self) -> Path:
        """Where it is in the process of the logger."""
        return Path(_received().name, self.token, Path(self.name).name)


class VideoLogger:
    """A logger that says how it wants its videos, and takes them finished: a base class beside TorchRL's `Logger`.

    A subclass writes `open_clip` and `log_video`; `vidrec.testing.check_logger` tells whether it keeps the contract.
    """

    def open_clip(self, tag: str, **settings: Any) -> Clip:
        """Return a clip that writes what this logger wants, where it wants it. Opens nothing before its first frame.

        Args:
            tag: the name that the video will have, or its beginning; may hold ``/``.
            **settings: what the recorder's user asked for; goes before the logger's own, see `Encoding.of`.

        Raises:
            SettingError: an unknown setting or an impossible value.
            TagError: a tag that cannot be a name here.
        """
        raise NotImplementedError

    def log_video(self, name: str, video: Any, step: int | None = None, **settings: Any) -> Video | None:
        """Publish a video.

        Args:
            name: its tag.
            video: what `Clip.finish` of a clip of this logger returned, a `Video`, whose file is linked, copied or
                read, and stays; or a tensor or array ``[N, T, C, H, W]`` or ``[T, C, H, W]``, see `write_tensor`.
            step: the step it belongs to; None counts up from 0 for each name.
            **settings: as for `open_clip`; they say how a tensor is encoded, and are not used for a finished video.

        Returns:
            The video where it is now; None if there it is no file. A logger that publishes in the background returns a
            `SentVideo`: if that fails, the recorder logs the video again.
        """
        raise NotImplementedError

    def remove_video(self, video: Video) -> None:
        """Delete a video that `log_video` returned, and all that says it is there; does nothing where that cannot be.

        Called for what `vidrec.keep_best` and the like do not want any more.
        """

    def next_step(self, tag: str, origin: str | None = None) -> int:
        """Return the step at which the automatic steps of a recorder begin: after what is there of an earlier run.

        Args:
            tag: of the recorder.
            origin: of the recorder, such as ``"worker1"``, which is in the names of its videos; None for the first.
        """
        return 0

    def clips_folder(self) -> Path | None:
        """Return the folder, with all below it, in which a crash leaves clips; None if there is none of its own."""
        return None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if hasattr(cls, "_ServiceClass"):  # what TorchRL, since 0.14, calls for `service_backend`
            cls._ServiceClass = partial(_service, cls)

    # A client of a logger that runs in another process reaches the methods named log_..., and no others. These are what
    # `ServiceLogger` needs of them.

    def log_video_clip(self, tag: str, **settings: Any) -> ClipPlace | VidrecError | None:
        """Return what `open_clip` would write, None if no file. An exception is returned: raised, it is but text."""
        try:
            clip = self.open_clip(tag, **settings)
        except VidrecError as error:
            return error
        return ClipPlace(clip.stem, clip.encoding, clip.index) if isinstance(clip, FileClip) else None

    def log_video_file(
        self, name: str, video: Video, file: Received | None, step: int | None, /, **settings: Any
    ) -> Video | None:
        """Publish a video; its file is the one that came in pieces, if that is given, and else stays.

        A call that is repeated, as its reply did not arrive, publishes nothing.
        """
        call = (name, step, video.path)
        try:
            if call not in _done:
                if file is not None and (size := file.path.stat().st_size) != file.size:
                    raise OSError(f"{size} of {file.size} bytes of {file.name} have arrived")
                with warnings.catch_warnings():
                    warnings.simplefilter("default", VidrecWarning)  # it is published, whatever warnings are here
                    _done[call] = self.log_video(name, video if file is None else video.at(file.path), step, **settings)
                if len(_done) > REMEMBERED:
                    del _done[next(iter(_done))]
            return _done[call]
        finally:
            if file is not None:
                shutil.rmtree(file.path.parent, ignore_errors=True)

    def log_video_piece(self, data: bytes, file: Received, at: int) -> None:
        """Append to a file, for `log_video_file`, what begins at this byte."""
        file.path.parent.mkdir(exist_ok=True)
        with file.path.open("ab") as content:
            if content.tell() == at:  # or else a piece is lacking, which `log_video_file` says
                content.write(data)

    def log_video_call(self, method: str, *args: Any) -> Any:
        """Call `next_step`, `remove_video` or `clips_folder`."""
        return getattr(self, method)(*args)


def _service(logger_class: type, *args: Any, **kwargs: Any) -> Any:
    from vidrec.loggers.clients import service

    return service(logger_class, *args, **kwargs)


REMEMBERED = 1000
"""How many videos a process knows again that it has published for others."""

_done: dict[tuple[str, int | None, Path], Video | None] = {}


@cache
def _received() -> TemporaryDirectory[str]:
    """Return the folder for files that come in pieces, which goes with the process."""
    return TemporaryDirectory(prefix="vidrec-")


class TensorLogger(VideoLogger):
    """What makes any object with ``log_video(name, video, step, **settings)``, or None, a `VideoLogger`."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def open_clip(self, tag: str, **settings: Any) -> TensorClip:
        """Return a clip that keeps its frames; the settings are for the logger to judge."""
        return TensorClip()

    def log_video(self, name: str, video: Any, step: int | None = None, **settings: Any) -> None:
        """Call the logger as TorchRL's recorder does, with a uint8 tensor ``[1, T, 3, H, W]``."""
        if self.logger is not None:
            self.logger.log_video(name=name, video=video, step=step, **settings)

    def __repr__(self) -> str:
        return repr(self.logger)


def whole_step(step: Any) -> int | None:
    """Return a step as an int: of a tensor or numpy's too. None stays None.

    Raises:
        SettingError: it is no whole number.
    """
    if step is None:
        return None
    if not isinstance(step, bool):
        with suppress(TypeError):
            return operator.index(step)
    raise SettingError(f"step={shown(step)} must be a whole number, such as 1000, or None")


def encoding_of(video_format: str, video_fps: Any, settings: Mapping[str, Any]) -> Encoding:
    """Return a logger's own encoding, with what a recorder's user asked for, `settings`, before it."""
    if "video_format" in settings:
        raise SettingError("video_format is an argument of the logger, not of the recorder or log_video")
    fps = settings.get("fps")
    return Encoding.of(video_format, **{**settings, "fps": video_fps if fps is None else fps})


@contextmanager
def finished(video: Any, name: str, open_clip: Callable[[], Clip], step: int | None = None) -> Iterator[Video]:
    """Give what a logger was given as a finished video; a tensor is written into a clip that `open_clip` returns.

    The file of a tensor is deleted in the end: it is published, or whoever called still has the tensor. `step` is what
    that file says of itself, see `vidrec.ffmpeg.metadata`.
    """
    if isinstance(video, Video):
        yield video
        return
    clip = open_clip()
    clip.tag, clip.step = name, step
    try:
        write_tensor(clip, video, name)
        yield clip.finish()
    finally:
        clip.delete()


def tag_of(name: str, video: Video) -> str:
    """Return the tag of a video that is published under this name: its recorder's, if the name is made of that."""
    tag = video.tag
    return tag if tag is not None and (name == tag or name.startswith(f"{tag}_")) else name


def series(name: str, video: Video) -> str:
    """Return the name that the videos of all episodes have in common, for loggers that show them one beside another."""
    episode = video.episode
    return name if episode is None or not episode.numbered else name.removesuffix(f"_ep{episode.number}")


def describe(video: Video) -> str:
    """Return what a video shows, such as ``"env 0, episode 3, return 12, length 40, terminated"``."""
    parts = [f"{name} {at}" for name, at in [("env", video.env_id), ("agent", video.agent)] if at is not None]
    if (episode := video.episode) is not None:
        parts += [f"episode {episode.number}", f"return {episode.return_:g}", f"length {episode.length}", episode.ended]
    return ", ".join(parts)


def write_tensor(clip: Clip, video: Any, name: str) -> None:
    """Write a whole video into `clip`: what `as_video` takes, N videos one after another, uint8 or floats in [0, 1].

    Raises:
        FrameError: it is no video, has no frames, or values that no frame has.
    """
    frames = as_video(video, name).flatten(0, 1)
    if not len(frames):
        raise FrameError(f"the video {name!r} of shape {tuple(video.shape)} has no frames")
    for number, frame in enumerate(frames):
        what = f"frame {number} of {name!r}"
        clip.write(to_rgb(arrange(frame, layout="CHW", name=what), name=what))

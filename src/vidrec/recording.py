"""What one recorder has recorded since its last dump, and who finishes it.

A recorder's clip is its own: a copy of the recorder (`clone`, `deepcopy`, pickle) begins with none, and records into
another. It is finished by the first of

- `dump` of the recorder, or of the one that it is a copy of, directly or through other copies, in this process;
- `close` of its environment, which dumps it;
- the end of the interpreter, which dumps all that are open. A process that ends without that (SIGKILL, `os._exit`)
  leaves the file to FFmpeg, which finishes it under its unfinished name;
- a fork: the child forgets the clips of its parent.
"""

import atexit
import contextlib
import os
import threading
import uuid
import warnings
import weakref
from typing import Any

from torch import Tensor

from vidrec.clip import Clip, TensorClip
from vidrec.errors import EncoderError, VidrecWarning, raise_first, words
from vidrec.loggers.base import TensorLogger
from vidrec.loggers.service import adapt
from vidrec.video import Video


class Recording:
    """The state of a recorder that is not TorchRL's: where it writes, how far it has come, and its clip.

    Attributes:
        logger: where videos go; None keeps frames in memory, for `to_animation`.
        tag: the name of the videos.
        settings: what `log_video` is called with beside name, video and step.
        max_frames: how many frames a clip has at the most; None does not bound it.
        iter: the step of the next video if `dump` is not told one: how many were dumped. Copies in the same process
            count together, so that their videos do not get the same name.
        count: pictures offered since the last dump, kept or not.
        beyond: pictures that came after `max_frames`.
    """

    def __init__(self) -> None:
        self.logger = None
        self.tag: Any = None
        self.settings: dict[str, Any] = {}
        self.max_frames: int | None = None
        self._begin(0)

    def _begin(self, iter: int, ancestors: tuple[str, ...] = ()) -> None:
        """Begin with nothing recorded, as a copy of a copy ... of the recordings with these ids."""
        self.count = self.beyond = 0
        self._clip: Clip | None = None
        self._lock = threading.RLock()  # an evaluator's thread records what the main thread may dump
        self._id, self._ancestors = uuid.uuid4().hex, ancestors
        with _registry:
            _alive.add(self)
            family = ancestors[0] if ancestors else self._id
            self._counter = _counters.setdefault(family, _Counter(iter))

    def copy(self) -> "Recording":
        """Return the recording of a copy of the recorder: the same settings, nothing recorded."""
        other = Recording.__new__(Recording)
        other.__setstate__(self.__getstate__())
        return other

    def __getstate__(self) -> dict[str, Any]:
        kept = ("logger", "tag", "settings", "max_frames", "iter")
        return {**{name: getattr(self, name) for name in kept}, "ancestors": (*self._ancestors, self._id)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.logger, self.tag, self.max_frames = state["logger"], state["tag"], state["max_frames"]
        self.settings = dict(state["settings"])
        self._begin(state["iter"], state["ancestors"])

    def check(self) -> None:
        """Raise now what the first picture would: an unknown setting, a tag that cannot be."""
        self._adapted.open_clip(self.tag, **self.settings)

    @property
    def logger(self) -> Any:
        return self._logger

    @logger.setter
    def logger(self, value: Any) -> None:
        self._logger, self._adapted = value, adapt(value)

    @property
    def iter(self) -> int:
        return self._counter.value

    @iter.setter
    def iter(self, value: int) -> None:
        self._counter.value = value

    @property
    def clip(self) -> Clip:
        """The clip that the next picture goes to. An empty one is made anew, for the logger and tag of the moment."""
        with self._lock:
            keeps = isinstance(self._clip, TensorClip) and isinstance(self._adapted, TensorLogger)
            if self._clip is None or (self._clip.size is None and not self._clip.waiting and not keeps):
                self._clip = self._adapted.open_clip(self.tag, **self.settings)
            return self._clip

    def admit(self, pictures: int) -> int:
        """Return for how many of so many pictures `max_frames` has room, and count the others."""
        with self._lock:
            room = pictures if self.max_frames is None else max(0, self.max_frames - self.clip.frames)
            self.beyond += max(0, pictures - room)
            return min(room, pictures)

    def add(self, pictures: Tensor) -> None:
        """Write uint8 pictures ``[N, H, W, 3]`` in main memory to the clip."""
        with self._lock:
            try:
                self.clip.write(pictures)
            except EncoderError:
                self._forget()  # the message names what is left of it
                raise
            finally:
                if self._clip is not None and self._clip.size is not None and self not in _open:
                    _open.add(self)
                    _be_first_at_exit()

    def pictures(self) -> list[Tensor]:
        """Read back what the clip shows, uint8 ``[H, W, 3]`` each; whoever records meanwhile waits."""
        with self._lock:
            return list(self.clip.pictures())

    def dump(self, suffix: str | None = None, step: int | None = None) -> Video | None:
        """Finish and publish this recording and those of its copies; return the first video, None if there is none.

        One that fails keeps its clip, and does not keep the others from theirs; the first failure is raised in the end.
        """
        videos: list[Video] = []
        errors: list[Exception] = []
        for recording in self._family():
            try:
                video = recording._publish(suffix, self.iter if step is None else step)
            except Exception as error:
                errors.append(error)
                continue
            if video is not None:
                videos.append(video)
        raise_first(errors)
        return videos[0] if videos else None

    def discard(self) -> None:
        """Throw away what was recorded since the last dump."""
        with self._lock:
            if self._clip is not None:
                self._clip.discard()
            self._forget()

    def _family(self) -> list["Recording"]:
        """This recording, and those of its copies and of their copies."""
        with _registry:
            return [self, *(other for other in _alive if self._id in other._ancestors)]

    def _publish(self, suffix: str | None, step: int) -> Video | None:
        """Finish and publish what there is; return the video if it is one."""
        with self._lock:
            if self._clip is None or not self._clip.waiting:
                self.discard()
                return None
            new = bool(self._clip.frames)  # or else there is only what a logger has not taken before
            try:
                video = self._clip.finish()
            except EncoderError:
                self._forget()
                raise
            published = None
            if self.logger is not None:
                name = "_".join(part for part in (self.tag, suffix) if part is not None)
                try:
                    published = self._adapted.log_video(name, video, step, **self.settings)
                except VidrecWarning:  # it is published, and the user wants warnings to be errors
                    self._forget()
                    self.iter += 1
                    raise
                except Exception as error:
                    where = f"in {video.path}" if isinstance(video, Video) else "in memory"
                    if self._clip.frames:
                        error.add_note(f"the video of {self.tag!r} is kept, {where}; call dump() again to log it")
                    else:  # a clip that is several has put aside what not all have taken, and has said so
                        self.iter += new
                        self.count = self.beyond = 0
                    raise
            beyond = self.beyond
            self._forget()
            self.iter += new
        if beyond:
            warnings.warn(
                f"{beyond} pictures of {self.tag!r} came after max_frames={self.max_frames} and are not in the video",
                VidrecWarning,
                stacklevel=2,
            )
        return published if isinstance(published, Video) else None

    def _forget(self) -> None:
        self._clip = None
        self.count = self.beyond = 0
        _open.discard(self)


class _Counter:
    def __init__(self, value: int) -> None:
        self.value = value


_registry = threading.RLock()
_alive: "weakref.WeakSet[Recording]" = weakref.WeakSet()
_counters: "weakref.WeakValueDictionary[str, _Counter]" = weakref.WeakValueDictionary()
_open: set[Recording] = set()
"""The recordings with something in their clip, kept alive until it is dumped."""


def _dump_all() -> None:
    for recording in list(_open):
        try:
            recording.dump()
        except Exception as error:
            with contextlib.suppress(VidrecWarning):  # also where warnings are errors, the others have their turn
                warnings.warn(f"a video was not finished at exit: {words(error)}", VidrecWarning, stacklevel=1)


def _be_first_at_exit() -> None:
    """Let `_dump_all` run before what loggers have registered in the meantime, such as the end of their run."""
    atexit.unregister(_dump_all)
    atexit.register(_dump_all)


def _forget_all() -> None:
    global _registry
    _registry = threading.RLock()
    for recording in list(_alive):
        recording._lock = threading.RLock()  # whoever held it is not in this process
        if recording._clip is not None:
            recording._clip.leave()
            recording._forget()


os.register_at_fork(after_in_child=_forget_all)

"""What one recorder has recorded since its last dump, and who finishes it.

There is a track, with a clip, for each env that has videos of its own, or one for all. A recorder's clips are its
own: a copy of the recorder (`clone`, `deepcopy`, pickle) begins with none, and records into others. They are finished
by the first of

- the end of the episode, where each has a video of its own;
- `dump` of the recorder, or of the one that it is a copy of, directly or through other copies, in this process;
- `close` of its environment, which dumps it;
- what `vidrec.recording.lifetime` sees: the end of the interpreter, SIGTERM, a recorder that nobody has any more.
"""

import itertools
import threading
import uuid
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from vidrec.clips import Clip, TensorClip
from vidrec.clips.video import Video
from vidrec.episode import Episode
from vidrec.errors import EncoderError, VidrecWarning, raise_first
from vidrec.loggers.base import TensorLogger, VideoLogger
from vidrec.loggers.service import adapt
from vidrec.recording import lifetime
from vidrec.recording.failure import Failure, Failures, tell
from vidrec.recording.lifetime import worker
from vidrec.sources.episodes import Keep


@dataclass(eq=False)
class Track:
    """What is recorded of one env, or of all in one frame, since its last video.

    Attributes:
        env: which one of a batched env has its videos to itself; None if there is but one video.
        clip: the video being recorded, None before its first frame.
        logger: that opened the clip.
        count: frames offered since the last video, kept or not.
        beyond: frames that came after `max_frames`.
        episode: returns the episode that runs, None where they do not matter.
        failed: how many frames came of a clip that has failed, with ``on_error="warn"``; the others are lost until
            the next video.
    """

    env_id: int | None = None
    clip: Clip | None = None
    logger: VideoLogger | None = None
    count: int = 0
    beyond: int = 0
    episode: Callable[[], Episode | None] | None = None
    failed: int = 0

    @property
    def frames(self) -> int:
        return 0 if self.clip is None else self.clip.frames

    @property
    def offered(self) -> int:
        """How many frames its clip has, or would have."""
        return max(self.frames, self.failed)

    @property
    def waiting(self) -> bool:
        return self.clip is not None and self.clip.waiting

    def forget(self) -> None:
        """Begin anew."""
        self.clip = None
        self.count = self.beyond = 0
        self.failed = 0


class Recording:
    """The state of a recorder that is not TorchRL's: where it writes, how far it has come, and its clips.

    Attributes:
        logger: where videos go; None keeps frames in memory, for `to_animation`.
        tag: the name of the videos.
        settings: what `log_video` is called with beside name, video and step.
        max_frames: how many frames a clip has at the most; None does not bound it.
        keep: which episodes are worth a video; None keeps all.
        on_error: ``"raise"``, or ``"warn"`` to go on.
        failures: what went wrong and was not raised.
        iter: the step of the next video if `dump` is not told one: how many times was dumped. Copies in the same
            process count together, so that their videos do not get the same name.
        tracks: the clips, by env. There is always the one of no env, first.
        pending: finished clips of episodes that could not be published, each with its name and step, for `dump`.
    """

    def __init__(self) -> None:
        self.logger = None
        self.tag: Any = None
        self.settings: dict[str, Any] = {}
        self.max_frames: int | None = None
        self.keep: Callable[[Episode], bool] | None = None
        self.on_error = "raise"
        self._begin(0)

    def _begin(self, iter: int, ancestors: tuple[str, ...] = ()) -> None:
        """Begin with nothing recorded, as a copy of a copy ... of the recordings with these ids."""
        self.tracks: dict[int | None, Track] = {None: Track()}
        self.pending: list[tuple[Track, str, int, Episode | None]] = []
        self._beyond = 0  # of episodes whose videos are finished
        self.lock = threading.RLock()  # an evaluator's thread records what the main thread may dump
        self._id, self._ancestors, self._born = uuid.uuid4().hex, ancestors, next(_births)
        self.failures = Failures()
        lifetime.begin(self)
        with lifetime.lock:
            family = ancestors[0] if ancestors else self._id
            self._counter = _counters.setdefault(family, _Counter(iter))

    def __del__(self, adopt: Callable[["Recording"], None] = lifetime.adopt) -> None:
        if "tracks" in self.__dict__ and self.waiting:
            adopt(self)

    def copy(self) -> "Recording":
        """Return the recording of a copy of the recorder: the same settings, nothing recorded."""
        other = Recording.__new__(Recording)
        other.__setstate__(self.__getstate__())
        return other

    def __getstate__(self) -> dict[str, Any]:
        kept = ("logger", "tag", "settings", "max_frames", "keep", "on_error", "iter")
        return {**{name: getattr(self, name) for name in kept}, "ancestors": (*self._ancestors, self._id)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in ("logger", "tag", "max_frames", "keep", "on_error"):
            setattr(self, name, state[name])
        self.settings = dict(state["settings"])
        self._begin(state["iter"], state["ancestors"])

    def check(self) -> None:
        """Raise now what the first frame would: an unknown setting, a tag that cannot be."""
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
    def count(self) -> int:
        """Frames offered since the last dump, kept or not; of the env to which most were."""
        return max(track.count for track in self.tracks.values())

    @count.setter
    def count(self, value: int) -> None:
        for track in self.tracks.values():
            track.count = value

    @property
    def waiting(self) -> bool:
        """Whether there is something to publish."""
        return bool(self.pending) or any(track.waiting for track in self.tracks.values())

    def guarded(self, frames: int = 0, clip: int | None = None) -> "_Guard":
        """With ``on_error="warn"``, report what is raised inside, and that it costs so many frames of a clip."""
        return _Guard(self, frames, clip)

    def track(self, env_id: int | None) -> Track:
        """Return the track of a env."""
        return self.tracks.setdefault(env_id, Track(env_id))

    @property
    def shown(self) -> Track:
        """The track that `obs` and `to_animation` show: the first with something in it."""
        return next((track for track in self.tracks.values() if track.frames), self.tracks[None])

    def clip(self, track: Track) -> Clip:
        """Return the clip that its next frame goes to; an empty one is made anew, for the logger and tag of now."""
        with self.lock:
            keeps = isinstance(track.clip, TensorClip) and isinstance(self._adapted, TensorLogger)
            if track.clip is None or (track.clip.size is None and not track.clip.waiting and not keeps):
                episode = None if track.episode is None else track.episode()
                name = self._name(track, None, episode)
                track.clip, track.logger = self._adapted.open_clip(name, **self.settings), self._adapted
                track.clip.env_id, track.clip.episode = track.env_id, episode
                track.clip.beside = max(1, len(self.tracks) - 1)
                lifetime.opened()
            return track.clip

    def admit(self, track: Track, frames: int = 1) -> int:
        """Return for how many of so many frames `max_frames` has room, and count the others."""
        with self.lock:
            room = frames if self.max_frames is None else max(0, self.max_frames - track.frames)
            track.beyond += max(0, frames - room)
            return min(room, frames)

    def add(self, track: Track, frames: Tensor) -> None:
        """Write uint8 frames ``[N, H, W, 3]`` in main memory to the clip of a track."""
        if track.clip is None:
            lifetime.finish_adopted()
        with self.lock, self.guarded(len(frames), track.env_id):
            if track.failed:
                track.failed += len(frames)
                self.failures.lose(len(frames))
                return
            before = track.frames
            try:
                self.clip(track).write(frames)
            except EncoderError:
                self._forget(track)  # the message names what is left of it
                track.failed = 0 if self.on_error == "raise" else before + len(frames)
                raise

    def iter_frames(self) -> list[Tensor]:
        """Read back what is shown, uint8 ``[H, W, 3]`` each; whoever records meanwhile waits."""
        with self.lock:
            return list(self.clip(self.shown).iter_frames())

    def dump(
        self, suffix: str | None = None, step: int | None = None, *, alone: bool = False
    ) -> Video | Failure | None:
        """Finish and publish this recording and those of its copies; return the first video, None if there is none.

        One that fails keeps its clip, and does not keep the others from theirs; the first failure is raised in the end,
        or all of them are returned.
        """
        videos: list[Video] = []
        errors: list[Exception] = []
        for recording in [self] if alone else self._family():
            with recording.lock:
                had = [track for track in recording.tracks.values() if track.frames]
                beyond = recording._beyond + sum(track.beyond for track in had)
                recording._beyond = 0
                at = self.iter if step is None else step
                for entry in list(recording.pending):
                    try:
                        videos += recording._publish(*entry)
                        recording.pending.remove(entry)
                    except Exception as error:
                        errors.append(error)
                for track in list(recording.tracks.values()):
                    episode = None if track.episode is None else track.episode()
                    if track.failed:
                        track.forget()
                    try:
                        videos += recording._publish(track, recording._name(track, suffix, episode), at, episode)
                    except Exception as error:
                        errors.append(error)
                taken = any(not track.frames for track in had)
                self.iter += taken
            if beyond and (taken or not had):
                warnings.warn(
                    f"{beyond} frames of {recording.tag!r} came after max_frames={recording.max_frames} and are not "
                    "in the video",
                    VidrecWarning,
                    stacklevel=2,
                )
            if self.on_error == "warn" and recording is not self:
                with recording.lock:
                    self.failures.join(recording.failures)
        video = videos[0] if videos else None
        if self.on_error == "raise":
            raise_first(errors)
            return video
        with self.lock:
            for failed in errors:
                self.failures.count(failed)
        for failed in errors:
            tell(failed)
        with self.lock:
            return self.failures.take(video)

    def finish(self, track: Track, episode: Episode | None = None, step: int | None = None) -> None:
        """Publish the video of a track whose episode has ended, if it is to be kept."""
        with self.lock, self.guarded(0, track.env_id):
            self.failures.end(track.env_id)
            if not track.frames:
                if track.waiting:  # for a logger of several that has not taken its last video
                    track.count = track.beyond = 0
                    track.failed = 0
                else:
                    self.discard(track)
                return
            self._beyond += track.beyond
            at, self.iter = self.iter if step is None else step, self.iter + 1
            name = self._name(track, None, episode)
            try:
                if episode is not None and self.keep is not None and not self.keep(episode):
                    self.discard(track)
                    self.iter -= 1
                    return
                self._publish(track, name, at, episode)
            finally:
                if track.frames:  # it failed: the next episode is another video
                    self.pending.append((Track(track.env_id, track.clip, track.logger), name, at, episode))
                    track.forget()

    def discard(self, track: Track) -> None:
        """Throw away what a track has recorded since its last video."""
        with self.lock:
            if track.clip is not None:
                track.clip.delete()
            self._forget(track)

    def clear(self) -> None:
        """Throw away all that was recorded since the last dump."""
        for track in [*self.tracks.values(), *(entry[0] for entry in self.pending)]:
            self.discard(track)
        self.pending.clear()

    def _family(self) -> list["Recording"]:
        """This recording, and those of its copies and of their copies."""
        copies = [other for other in lifetime.known() if self._id in other._ancestors]
        return [self, *sorted(copies, key=lambda copy: copy._born)]

    def _name(self, track: Track, suffix: str | None = None, episode: Episode | None = None) -> str:
        parts = [self.tag, worker(), None if track.env_id is None else f"env{track.env_id}", suffix]
        parts += [] if episode is None or episode.of_grid else [f"ep{episode.number}"]
        return "_".join(str(part) for part in parts if part is not None)

    def _publish(self, track: Track, name: str, step: int, episode: Episode | None) -> list[Video]:
        """Finish and publish what a track has; return the video if it is a file."""
        if not track.waiting:
            self.discard(track)
            return []
        assert track.clip is not None
        assert track.logger is not None
        # the recorder may have another logger by now, which can do as well if it is of the same kind
        logger = self._adapted if type(self._adapted) is type(track.logger) else track.logger
        track.clip.env_id, track.clip.episode = track.env_id, episode
        try:
            video = track.clip.finish()
        except EncoderError:
            self._forget(track)
            raise
        with lifetime.undisturbed():
            try:
                published = logger.log_video(name, video, step, **self.settings)
            except VidrecWarning:  # it is published, and the user wants warnings to be errors
                track.clip.published()
                self._forget(track)
                raise
            except Exception as error:
                if track.frames:
                    where = f"in {video.path}" if isinstance(video, Video) else "in memory"
                    error.add_note(f"the video of {self.tag!r} is kept, {where}; call dump() again to log it")
                else:  # a clip that is several has put aside what not all have taken, and has said so
                    track.count = track.beyond = 0
                raise
            track.clip.published()
            self._forget(track)
        if not isinstance(published, Video):
            return []
        if episode is not None and isinstance(self.keep, Keep):
            self.keep.published(episode, partial(logger.remove_video, published))
        return [published]

    def _forget(self, track: Track) -> None:
        if track.clip is not None:
            track.clip.detach()
        track.forget()

    def leave(self) -> None:
        """Forget what belongs to the parent: called in a forked child."""
        self.lock = threading.RLock()  # whoever held it is not in this process
        for track in [*self.tracks.values(), *(entry[0] for entry in self.pending)]:
            self._forget(track)
        self.pending.clear()


class _Guard:
    """See `Recording.guarded`; entered for every frame."""

    __slots__ = ("_clip", "_frames", "_recording")

    def __init__(self, recording: Recording, frames: int, clip: int | None) -> None:
        self._recording, self._frames, self._clip = recording, frames, clip

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if self._recording.on_error == "raise" or not isinstance(error, Exception) or isinstance(error, VidrecWarning):
            return False
        with self._recording.lock:
            self._recording.failures.add(error, self._clip, self._frames)
        return True


class _Counter:
    def __init__(self, value: int) -> None:
        self.value = value


_births = itertools.count()
_counters: "weakref.WeakValueDictionary[str, _Counter]" = weakref.WeakValueDictionary()

"""What one recorder has recorded since its last dump: its streams, what is not yet published, and who finishes it.

There is a stream for each env that has videos of its own, or one for all. A recording is finished by the first of

- the end of the episode, where each has a video of its own;
- `dump` of the recorder, or of the one that it is a copy of, directly or through other copies, in this process;
- `close` of its environment, which dumps what is in files;
- what `vidrec.recording.lifetime` sees: the end of the interpreter, SIGTERM, a recorder that is garbage.

The recording owns the files of its clips. A logger links, copies or reads the video that it is given, and the
recording deletes the file once every logger has it.
"""

import copy
import threading
import time
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vidrec.clips import Video
from vidrec.episode import Episode
from vidrec.errors import (
    EncoderError,
    FrameError,
    SettingError,
    TagError,
    VidrecWarning,
    gathered,
    raise_first,
)
from vidrec.files import forks
from vidrec.frames import Arriving, arrange, to_rgb
from vidrec.recording import left, lifetime
from vidrec.recording.destination import Destination
from vidrec.recording.failure import Failure, Failures, tell
from vidrec.recording.numbering import counter_of
from vidrec.recording.origin import origin
from vidrec.recording.published import Published
from vidrec.recording.publishing import Publisher
from vidrec.recording.stream import Stream

Frames = NDArray[np.uint8] | Arriving

WAIT_S = 0.2
"""How long `dump` waits for a logger that publishes in the background, in seconds; then it goes on without it."""

NOTHING = np.empty((0, 0, 0, 3), np.uint8)

_living: "weakref.WeakValueDictionary[str, Recording]" = weakref.WeakValueDictionary()
"""The recordings of this process, by id."""


class Recording:
    """The state of a recorder that is not TorchRL's: where it writes, how far it has come, and its clips.

    Attributes:
        destination: where videos go, and under which names and steps.
        publisher: finished videos that not all loggers have taken, for the next `dump`.
        max_frames: how many frames a clip has at the most; None does not bound it.
        last: how many frames a clip has in the end, the last ones; None is all.
        on_error: ``"raise"``, or ``"warn"`` to go on.
        failures: what went wrong and was not raised.
        iter: the step of the next video if `dump` is not told one: how many times was dumped. Copies in the same
            process count together, so that their videos do not get the same name.
        streams: what is recorded, by env id. There is always the one of no env, first.
        env: weak reference to the environment that the recorder is in, if any.
        lineage: the ids of the recordings that this one is a copy of a copy ... of, its own last.
    """

    def __init__(self) -> None:
        self.destination = Destination()
        self.max_frames: int | None = None
        self.last: int | None = None
        self.on_error = "raise"
        self._begin(0)

    def _begin(self, iter: int, ancestors: tuple[str, ...] = ()) -> None:
        """Begin with nothing recorded, as a copy of a copy ... of the recordings with these ids."""
        self.streams: dict[Any, Stream] = {None: Stream()}
        self.publisher = Publisher(self.destination)
        self.env: Callable[[], Any] = lambda: None
        self.lineage = (*ancestors, uuid.uuid4().hex)
        self.failures = Failures()
        self._told_of_plain = False
        self._published = Published()
        self.lock = threading.RLock()  # an evaluator's thread records what the main thread may dump
        self._busy = self._catches_up = self._arriving = False
        self._later: list[tuple[str | None, int | None]] = []
        self._beyond = 0  # of episodes whose videos are finished
        self.destination.counter = counter_of(self.lineage[0], iter)
        _living[self.id] = self
        forks.detach_in_child(self)

    @property
    def id(self) -> str:
        """What tells it from others."""
        return self.lineage[-1]

    def copy(self) -> "Recording":
        """Return the recording of a copy of the recorder: the same settings, nothing recorded."""
        other = Recording.__new__(Recording)
        other.__setstate__({**self.__getstate__(), "destination": copy.copy(self.destination)})
        return other

    def __getstate__(self) -> dict[str, Any]:
        kept = ("destination", "max_frames", "last", "on_error", "iter", "lineage")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in ("destination", "max_frames", "last", "on_error"):
            setattr(self, name, state[name])
        self._begin(state["iter"], state["lineage"])

    @property
    def iter(self) -> int:
        return self.destination.counter.value

    @iter.setter
    def iter(self, value: int) -> None:
        self.destination.counter.value = value

    @property
    def count(self) -> int:
        """Frames offered since the last dump, kept or not; of the env to which most were."""
        return max(stream.count for stream in self.streams.values())

    @count.setter
    def count(self, value: int) -> None:
        for stream in self.streams.values():
            stream.count = value

    @property
    def waiting(self) -> bool:
        """Whether there is something to publish."""
        return self.publisher.waiting or any(stream.frames for stream in self.streams.values())

    def stream(self, env_id: int | None, agent: int | None = None) -> Stream:
        """Return the stream of an env, or of one of its agents."""
        return self.streams.setdefault(env_id if agent is None else (env_id, agent), Stream(env_id, agent))

    @property
    def shown(self) -> Stream:
        """The stream that `obs` and `to_animation` show: the first with something in it."""
        return next((stream for stream in self.streams.values() if stream.frames), self.streams[None])

    def obs(self) -> list[Tensor]:
        """Return the list of frames of what is shown, which grows with it from now on, see `Clip.obs`."""
        errors: list[Exception] = []
        with self.lock:
            if self._arriving:
                with self._publishing():
                    self._write_arrived(errors)
            raise_first(errors)
            stream = self.shown
            if stream.clip is None:
                self._open(stream)
            assert stream.clip is not None
            stream.listed = True
            return stream.clip.obs

    def tolerates(self, error: Exception, lost: int = 0, env_id: int | None = None) -> bool:
        """Return whether to go on after an error, and report it and that it costs so many frames; else raise it."""
        if self.on_error == "raise" or isinstance(error, VidrecWarning):
            return False
        with self.lock:
            self.failures.add(error, env_id, lost)
            lifetime.hold(self)  # a recording that it is a copy of may ask for what went wrong
        return True

    def room(self, stream: Stream, frames: int = 1) -> int:
        """Return for how many of so many frames `max_frames` has room, and count the others."""
        if self.max_frames is None:
            return frames
        with self.lock:
            room = min(frames, max(0, self.max_frames - stream.frames))
            stream.beyond += frames - room
            return room

    def wanting(self, streams: Sequence[Stream]) -> list[Stream]:
        """Return the streams that take one more frame, and count it for the others."""
        with self.lock:
            return [stream for stream in streams if not self._lose(stream, 1) and self.room(stream)]

    def _lose(self, stream: Stream, frames: int) -> bool:
        """Return whether a stream has failed and cannot go on, which costs so many frames."""
        if stream.failed:
            stream.failed += frames
            self.failures.lose(frames)
        return bool(stream.failed)

    def write(self, streams: Sequence[Stream], batches: Iterable[Frames]) -> None:
        """Write uint8 frames ``[N, H, W, 3]`` to each stream, as far as `max_frames` has room.

        A stream that fails does not keep the others from theirs. A `dump` from a signal handler meanwhile is done
        once the frames are written. Frames that are on their way from a device are written with the next ones, or when
        their video is finished.
        """
        errors: list[Exception] = []
        with self.lock:
            before, self._busy = self._busy, True
            try:
                if self._arriving:
                    self._write_arrived(errors)
                frames: Any
                for stream, frames in zip(streams, batches, strict=True):
                    try:
                        if stream.fresh or self.max_frames is not None:  # one that has failed is fresh
                            frames = self._admit(stream, frames, errors)
                        if frames.__class__ is Arriving:
                            frames = self._expect(stream, frames)
                        if len(frames):
                            try:
                                stream.write(frames)
                            except FrameError:
                                if stream.clip is None or not stream.clip.changed:
                                    raise
                                self._settle(stream)  # the user has made room for frames of another size
                                stream.write(self._admit(stream, frames, errors))
                    except Exception as error:
                        self._failed(stream, error, len(frames), errors)
            finally:
                self._busy = before
            if self._later and not before:
                self._dump_later()
        if errors:
            raise_first(errors)

    def _failed(self, stream: Stream, error: Exception, lost: int, errors: list[Exception]) -> None:
        """Let go of clips that cannot go on; append the error, which costs so many frames, unless it is tolerated."""
        if isinstance(error, EncoderError):  # it names what is left
            stream.fail(0 if self.on_error == "raise" else stream.frames + lost)
        if not self.tolerates(error, lost, stream.env_id) and error not in errors:  # streams share what was copied
            errors.append(error)

    def _expect(self, stream: Stream, frames: Arriving) -> NDArray[np.uint8]:
        """Return which frames, of those that are on their way, are to be written now: none, as a rule."""
        if not len(frames):
            return NOTHING
        self._arriving = True
        return NOTHING if stream.expect(frames) else np.asarray(frames)

    def _write_arrived(self, errors: list[Exception]) -> None:
        """Write the frames that were on their way when the step before returned; append to `errors`."""
        with lifetime.undisturbed():
            for stream in self.streams.values():
                lost = 0 if stream.arriving is None else len(stream.arriving)
                try:
                    stream.write_arrived()
                except Exception as error:
                    self._failed(stream, error, lost, errors)
            self._arriving = False

    def _admit(self, stream: Stream, frames: Frames, errors: list[Exception]) -> Any:
        """Return the frames for which there is room in a stream that can go on; open its clips if it has none."""
        frames = frames[: self.room(stream, len(frames))]
        if self._lose(stream, len(frames)):
            return frames[:0]
        if stream.fresh and len(frames):
            self.publisher.forget_closed()
            stream.start()
            self._open(stream)
            stream.fresh = False
            for text in left.look(self.destination.loggers):  # of clips that a crash left
                self._tell(text, errors)
        return frames

    def _open(self, stream: Stream) -> None:
        to = self.destination
        to.origin = origin(self.env(), str(to.tag))
        name, beside = to.name(stream.label, stream.episode_so_far), max(1, len(self.streams) - 1)
        stream.open(to.loggers, name, to.settings, beside, to.tag_name, self.last)
        lifetime.hold(self)

    def replace(self, stream: Stream, frames: Sequence[NDArray[np.uint8]]) -> None:
        """Record frames ``[H, W, 3]``, however many, instead of those of a stream since the last dump."""
        with self._publishing():
            kept = stream.count, stream.resets, stream.beyond, stream.began
            first = stream.env_step, stream.time
            stream.delete()
            stream.env_step, stream.time = first
            bound, self.max_frames = self.max_frames, None
            try:
                for frame in frames:
                    self.write([stream], [frame[None]])
            finally:
                self.max_frames = bound
            stream.count, stream.resets, stream.beyond, stream.began = kept

    def _settle(self, stream: Stream) -> None:
        """Record what the user has made of the list that `obs` gave out."""
        if stream.clip is not None and stream.clip.changed:
            self.replace(stream, frames_of(stream.clip.obs))

    def finish(self, stream: Stream, episode: Episode | None = None, step: int | None = None) -> None:
        """Publish the video of a stream whose episode or clip has ended, if it is to be kept."""
        arrived: list[Exception] = []
        with self._publishing():
            if self._arriving:
                self._write_arrived(arrived)
            self.failures.end(stream.env_id)
            self._settle(stream)
            errors: list[Exception] = []
            if not stream.frames or not self.destination.wants(episode, errors):
                stream.delete()
                raise_first(arrived)
                return
            beyond = stream.beyond
            self._beyond += beyond
            asked = self.destination.asked(errors)
            at = self.destination.counted(step, errors) if asked is None else asked
            plain = self._describe_plain(stream)
            ended = self.publisher.take(stream, None, at, episode or stream.episode_so_far)
            self.iter += 1
            if not errors:  # or else the next dump publishes it
                sent = [entry for entry in self.publisher.pending if not entry.output.loggers]
                self.publisher.publish([*sent, *ended], self._lists(), errors, 0)
            self._tell(plain, errors)
            errors = [error for error in errors if not self.tolerates(error, env_id=stream.env_id)]
            raise_first([*arrived, *errors])

    def dump(
        self,
        suffix: str | None = None,
        step: int | None = None,
        *,
        alone: bool = False,
        closing: bool = False,
        wait_s: float | None = WAIT_S,
    ) -> Video | Failure | None:
        """Finish and publish this recording and those of its copies; return the last video, None if there is none.

        Waits so long in all for loggers that publish in the background; None is as long as it takes.

        What cannot be published waits, under its own name and step, for the next dump, and does not keep the others
        from theirs. The first error is raised in the end, or all of them are returned.

        `closing`: the environment is closed. Frames in memory stay there, as in TorchRL. The dump that comes next may
        give what is published now another name or step.
        """
        errors: list[Exception] = []
        try:
            step = self.destination.step_of(step)
        except SettingError as refusal:
            if not self.tolerates(refusal):
                raise
            step = None
        with self.lock:
            if self._busy:  # called by a signal handler in the middle of a frame
                if not self._catches_up and (suffix, step) not in self._later:
                    self._later.append((suffix, step))
                return None
            until = None if closing or wait_s is None else time.monotonic() + wait_s
            for recording in [self] if alone else self._family():
                left_s = None if until is None else max(0, until - time.monotonic())
                recording._dump(suffix, step, errors, left_s, closing)
                if recording is not self and self.on_error == "warn":
                    self.failures.join(recording.failures)
                    if not recording.waiting:
                        lifetime.release(recording)
            video = self._published.last
            if self.on_error == "raise":
                raise_first(sorted(errors, key=lambda error: isinstance(error, VidrecWarning)))
            if not closing:
                for recording in filter(self._reaches, list(_living.values())):
                    recording._published.end()  # the next video begins another list
            if self.on_error == "raise":
                return video
            for error in errors:
                self.failures.count(error)
        for error in errors:
            tell(error)
        with self.lock:
            return self.failures.take(video)

    def _dump(
        self, suffix: str | None, step: int | None, errors: list[Exception], wait_s: float | None, closing: bool
    ) -> None:
        """Finish what is open and publish what waits; append to `errors`."""
        with self._publishing():
            if self._arriving:
                self._write_arrived(errors)
            for stream in self.streams.values():
                if closing and stream.is_only_reset:
                    stream.delete()
                self._settle(stream)
            streams = [stream for stream in self.streams.values() if not (closing and stream.in_memory)]
            had = [stream for stream in streams if stream.frames]
            beyond, self._beyond = self._beyond, 0
            asked = self.destination.asked(errors) if step is None and had else step
            finished, plain = list(self.publisher.pending), None
            for stream in streams:
                if not stream.frames:
                    stream.began = None if stream.failed else stream.began
                    stream.begin()
                    continue
                episode = stream.episode_so_far
                try:
                    self.destination.check_name(self.destination.name(stream.label, episode, suffix))
                except TagError as error:  # of the suffix; another one may do
                    errors.append(error)
                    had.remove(stream)
                    continue
                if not self.destination.wants(episode, errors):
                    had.remove(stream)
                    stream.delete()
                    continue
                beyond += stream.beyond
                at = self.destination.counted(stream.began, errors) if asked is None else asked
                plain = plain or self._describe_plain(stream)
                finished += self.publisher.take(stream, suffix, at, episode)
            self.iter += bool(had)
            if not closing and not finished and (suffix, step) != (None, None):
                self.publisher.rename_closed(suffix, step, self._lists(), errors)
            else:
                if finished or not closing:
                    self.publisher.forget_closed()
                self.publisher.publish(finished, self._lists(), errors, wait_s, closing)
        tag = self.destination.tag
        after = f"{beyond} frames of {tag!r} came after max_frames={self.max_frames} and are not in the video"
        for text in (after if beyond else None, plain):
            self._tell(text, errors)

    def _describe_plain(self, stream: Stream) -> str | None:
        """Return what to say of a clip of one colour, if it is the first of this recorder; else None."""
        if stream.colour is None or self._told_of_plain:
            return None
        self._told_of_plain = True
        return (
            f"all frames of {self.destination.tag!r}, {stream.frames} in number, are {stream.colour}. If they should "
            "not be, look at what the env draws, and at the values of its frames: value_range= says which are black "
            "and white"
        )

    @staticmethod
    def _tell(text: str | None, errors: list[Exception]) -> None:
        """Warn, if there is something to say; where warnings are errors, others have their turn."""
        if text is not None:
            with gathered(errors, VidrecWarning):
                warnings.warn(text, VidrecWarning, stacklevel=4)

    @contextmanager
    def _publishing(self) -> Iterator[None]:
        """Let a `dump` of a signal handler wait until this is done."""
        with self.lock:
            before, self._busy = self._busy, True
            try:
                yield
            finally:
                self._busy = before
                if not self.waiting and not self.failures:
                    lifetime.release(self)
            if not before:
                self._dump_later()

    def _dump_later(self) -> None:
        """Do the dumps that signal handlers have asked for meanwhile; those that ask during these find nothing new."""
        if self._catches_up:
            return
        self._catches_up = True
        try:
            while self._later:
                self.dump(*self._later.pop(0))
        finally:
            self._catches_up = False

    def delete(self) -> None:
        """Delete all that was recorded since the last dump."""
        with self.lock:
            for stream in self.streams.values():
                stream.delete()
            self.publisher.delete()
            if not self.publisher.pending:
                lifetime.release(self)

    def drop(self, skip: int) -> None:
        """Delete all that was recorded since the last dump; `skip` counts on as if it were still there."""
        with self.lock:
            counts = [(stream, stream.count % skip) for stream in self.streams.values()]
            self.delete()
            for stream, count in counts:
                stream.count = count

    def _reaches(self, other: "Recording") -> bool:
        """Return whether a dump of this one is one of another: of itself, and of its copies in no other environment."""
        env = self.env()
        return self.id in other.lineage and (env is None or other.env() in (None, env))

    def _family(self) -> list["Recording"]:
        """This recording, and the others that its dump reaches."""
        return [self, *(other for other in lifetime.held() if other is not self and self._reaches(other))]

    def _lists(self) -> list[Published]:
        """The lists of published videos that one of this recording is in: its own, and those of its originals."""
        return [one._published for one in list(_living.values()) if one._reaches(self)]

    @property
    def videos(self) -> list[Video]:
        """The videos that were published since the last dump and by it, those of copies included, in order."""
        return self._published.videos

    def detach(self) -> None:
        """Let go of what belongs to the parent: called in a forked child."""
        self.lock = threading.RLock()  # whoever held it is not in this process
        self._busy = self._catches_up = self._arriving = False
        self._later.clear()
        for stream in self.streams.values():
            stream.detach()
        self.publisher.detach()
        self._published = Published()


def frames_of(frames: Iterable[Tensor]) -> list[NDArray[np.uint8]]:
    """Return the frames of a list such as `obs`, ``[C, H, W]`` each, as uint8 ``[H, W, 3]``.

    Raises:
        FrameError: one of them is no frame, or of another size than the first.
    """
    arrays = [to_rgb(arrange(frame, layout="CHW")).numpy()[0] for frame in frames]
    for at, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise FrameError(f"obs[{at}] is {array.shape[:2]} (height, width), and obs[0] {arrays[0].shape[:2]}")
    return arrays

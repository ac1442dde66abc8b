"""The way of a finished video to its loggers: until all have it, and under another name if a dump says so."""

from collections.abc import Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from vidrec.clips import Video
from vidrec.episode import Episode
from vidrec.errors import EncoderError, VidrecWarning, add_note, gathered
from vidrec.ffmpeg import metadata
from vidrec.loggers.base import SentVideo, VideoLogger, answered
from vidrec.loggers.outputs import Output
from vidrec.recording import lifetime
from vidrec.recording.destination import Destination
from vidrec.recording.published import Entry, Published
from vidrec.recording.stream import Stream


@dataclass(eq=False)
class Unpublished:
    """A finished output, for the loggers that have not taken its video yet, under its own name and step."""

    output: Output
    label: str | None
    name: str
    step: int
    episode: Episode | None
    taken: list[tuple[VideoLogger, Any]] = field(default_factory=list)
    """The loggers that have it, or that it was sent to, and what each returned."""
    video: Any = None
    """What the clip made."""
    stays: bool = False
    """Whether it may be logged again under another name, for which the clip is needed."""

    @property
    def under_way(self) -> list[SentVideo]:
        """What was sent to loggers that have not answered yet."""
        return [video for _, video in self.taken if isinstance(video, SentVideo) and not video.answer.done()]

    @property
    def complete(self) -> bool:
        """Whether every logger has it."""
        return not self.output.loggers and not self.under_way

    def refused(self) -> list[tuple[VideoLogger, SentVideo, Exception]]:
        """Return what loggers have answered that do not take it after all; they wait for it again."""
        found = []
        for logger, video in list(self.taken):
            error = video.answer.exception() if isinstance(video, SentVideo) and video.answer.done() else None
            if isinstance(error, Exception):
                self.taken.remove((logger, video))
                self.output.loggers.append(logger)
                found.append((logger, video, error))
        return found

    def delete_if_complete(self, answer: "Future[Any]") -> None:
        """Delete the file of the clip if every logger has the video; called in a thread, when one has answered."""
        sent = [video for _, video in self.taken if isinstance(video, SentVideo)]
        if self.complete and not self.stays and not any(video.answer.exception() for video in sent):
            with suppress(Exception):
                self.output.delete_published(self.video, self.videos)

    @property
    def videos(self) -> list[Video]:
        """The files that loggers have of it on this machine."""
        files = [video for video in (answered(video) for _, video in self.taken) if isinstance(video, Video)]
        return [video for video in files if video.url is None and video.path.is_file()]

    @property
    def needs_clip(self) -> bool:
        """Whether a logger has it in no file, so that it can be logged again from that of the clip alone."""
        return len(self.videos) < len(self.taken)


class Publisher:
    """Gives the finished videos of a recording to its loggers. It owns the files of their clips until all have them.

    Its methods append what goes wrong to `errors`, and go on with the others. `lists` are those of the recording and of
    the ones that it is a copy of, in which a video is known.

    Attributes:
        pending: finished clips that not all loggers have taken, for the next `dump`.
        closed: what was published when the environment was closed, which a dump may rename.
    """

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self.pending: list[Unpublished] = []
        self.closed: list[Unpublished] = []

    @property
    def waiting(self) -> bool:
        """Whether there is something to publish, or to rename."""
        return bool(self.pending or self.closed)

    def take(self, stream: Stream, suffix: str | None, step: int, episode: Episode | None) -> list[Unpublished]:
        """Take the clips of a stream, which begins anew, as those to publish, and return these."""
        name = self._destination.name
        taken = [
            Unpublished(output, stream.label, name(stream.label, episode, suffix, output), step, episode)
            for output in stream.take()
        ]
        for entry in taken:
            if (clip := entry.output.clip) is not None:
                clip.tag, clip.episode, clip.step = self._destination.tag_name, episode, step
        self.pending += taken
        return taken

    def publish(
        self,
        entries: Sequence[Unpublished],
        lists: Sequence[Published],
        errors: list[Exception],
        wait_s: float | None,
        closing: bool = False,
    ) -> None:
        """Give each logger the videos that it waits for, and wait so long for the answers of those that answer later.

        An entry stays in `pending` until all its loggers have taken the video, or nobody will ever get it.
        """
        for entry in entries:
            self._take_back(entry, lists, errors)
            self._log(entry, lists, errors, closing)
        answers = [video.answer for entry in entries for video in entry.under_way]
        with lifetime.undisturbed():
            wait(answers, wait_s)
            for entry in entries:
                self._take_back(entry, lists, errors)
                self._conclude(entry, errors)

    def _log(self, entry: Unpublished, lists: Sequence[Published], errors: list[Exception], closing: bool) -> None:
        """Call the loggers that wait for a video."""
        output, keep = entry.output, self._destination.retention
        if not output.loggers:
            return
        try:
            entry.video = output.finished()
        except Exception as error:
            errors.append(error)
            if output.error is not None or isinstance(error, EncoderError):  # it names what is left
                self.pending.remove(entry)
                output.detach()
            return
        with lifetime.undisturbed():
            output.loggers = self._destination.current(output)
            entry.stays = closing
            published, failed = output.publish(entry.name, entry.video, entry.step, self._destination.settings)
            entry.taken += published
            self._conclude(entry, errors)
        for logger, why in failed:
            self._refused(entry, logger, why, errors)
        for logger, taken in published:
            video = taken if isinstance(taken, Video) else None
            if entry.episode is not None and keep is not None:
                with gathered(errors):
                    keep.add(entry.episode, video, logger)
            if video is not None:
                for listed in lists:
                    listed.add(Entry(video, entry.episode, keep))
            if isinstance(taken, SentVideo):
                taken.answer.add_done_callback(entry.delete_if_complete)

    def _take_back(self, entry: Unpublished, lists: Sequence[Published], errors: list[Exception]) -> None:
        """Let loggers wait for a video again that have answered that they do not take it."""
        for logger, video, error in entry.refused():
            self._rename(video, None, lists)
            self._refused(entry, logger, error, errors)
        for _, video in entry.taken:
            if isinstance(video, SentVideo) and video.answer.done() and video.answer.result() is None:
                self._rename(video, None, lists)  # it is in no file there

    def _refused(self, entry: Unpublished, logger: VideoLogger, error: Exception, errors: list[Exception]) -> None:
        """Append an error, and note where the video is."""
        errors.append(error)
        if not isinstance(error, VidrecWarning):
            where = f"in {entry.video.path}" if isinstance(entry.video, Video) else "in memory"
            whose = "" if len(self._destination.loggers) == 1 else f" for {logger!r}"
            add_note(error, f"the video {entry.name!r} is kept{whose}, {where}; call dump() again to log it")

    def _conclude(self, entry: Unpublished, errors: list[Exception]) -> None:
        """Let go of a video that every logger has."""
        if entry not in self.pending or not entry.complete:
            return
        self.pending.remove(entry)
        if entry.stays:
            self.closed.append(entry)
        if not entry.stays or not entry.needs_clip:
            errors += entry.output.delete_published(entry.video, entry.videos)

    def rename_closed(
        self, suffix: str | None, step: int | None, lists: Sequence[Published], errors: list[Exception]
    ) -> None:
        """Publish what was published when the environment was closed under another name or step, and no more as then.

        An entry of a logger that cannot delete stays.
        """
        keep = self._destination.retention
        for entry in self.closed:
            if keep is not None and entry.episode is not None and not keep.holds(entry.episode):
                continue  # another one has displaced it
            name = entry.name
            if suffix is not None:
                name = self._destination.name(entry.label, entry.episode, suffix, entry.output)
            at = entry.step if step is None else step
            if (name, at) == (entry.name, entry.step):
                continue
            for logger, taken in entry.taken:
                try:
                    old = answered(taken)
                    video = next((file for file in entry.videos if file is old), entry.video)
                    if isinstance(video, Video):
                        metadata.overwrite(video.path, {**metadata.read(video.path), "step": at})
                    new = answered(logger.log_video(name, video, at, **self._destination.settings))
                    if isinstance(old, Video):
                        if isinstance(new, Video):
                            self._rename(taken, new, lists)
                        logger.remove_video(old)
                except Exception as error:
                    errors.append(error)
        self.forget_closed()

    def _rename(self, old: Video, new: Video | None, lists: Sequence[Published]) -> None:
        """Let all who know of a video know it by its other name, or that it is not there."""
        if (keep := self._destination.retention) is not None:
            keep.rename(old, new)
        for listed in lists:
            listed.rename(old, new)

    def forget_closed(self) -> None:
        """Delete the files of videos that were kept for another name."""
        for entry in self.closed:
            if entry.needs_clip:
                entry.output.delete_published(entry.video, entry.videos)
        self.closed.clear()

    def delete(self) -> None:
        """Delete what loggers wait for, but for what they have been sent."""
        for entry in self.pending:
            if entry.output.loggers:
                entry.output.delete()
        self.pending = [entry for entry in self.pending if not entry.output.loggers]

    def detach(self) -> None:
        """Let go of what belongs to the parent: called in a forked child."""
        for entry in (*self.pending, *self.closed):
            entry.output.detach()
        self.pending.clear()
        self.closed.clear()

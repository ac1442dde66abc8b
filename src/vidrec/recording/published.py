"""The videos that were published since the last dump."""

from dataclasses import dataclass

from vidrec.clips import Video
from vidrec.episode import Episode
from vidrec.recording.retention import Retention


@dataclass
class Entry:
    """A video, and what may displace it."""

    video: Video
    episode: Episode | None
    keep: Retention | None

    @property
    def stays(self) -> bool:
        """Whether it is still there."""
        return self.keep is None or self.episode is None or self.keep.holds(self.episode)


class Published:
    """The videos that were published since the last dump and by it, in order; the next one begins anew."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._ended = False

    def add(self, entry: Entry) -> None:
        """Add a video."""
        if self._ended:
            self._entries, self._ended = [], False
        if entry.keep is not None:
            self._entries = [other for other in self._entries if other.stays]
        self._entries.append(entry)

    def rename(self, old: Video, new: Video | None) -> None:
        """Replace a video by the same one under another name; None removes it."""
        for entry in list(self._entries):
            if entry.video is old and new is None:
                self._entries.remove(entry)
            elif entry.video is old and new is not None:
                entry.video = new

    def end(self) -> None:
        """Begin anew with the next video: a dump returned."""
        self._ended = True

    @property
    def videos(self) -> list[Video]:
        """Those that are still there."""
        return [entry.video for entry in self._entries if entry.stays]

    @property
    def last(self) -> Video | None:
        """The last one since the last dump; None if there is none."""
        return None if self._ended or not (videos := self.videos) else videos[-1]

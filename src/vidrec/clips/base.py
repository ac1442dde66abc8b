"""Clip, a video that is being recorded, and FileClip, one that grows in a file."""

import glob
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidrec.clips.video import Video
from vidrec.episode import Episode
from vidrec.errors import EncoderError, FrameError
from vidrec.ffmpeg.encoding import Encoding
from vidrec.files import forks
from vidrec.files.index import time_text
from vidrec.files.manifest import SUFFIX, Manifest
from vidrec.files.names import MARK, make_folder

Array = np.ndarray[Any, Any]


class Clip(ABC):
    """A video that is being recorded: frames of one size. A logger makes it, a recorder writes and finishes it.

    Nothing is opened before the first frame. More frames may come after `finish`: the next `finish` returns them all.

    Attributes:
        tag: that of the recorder, see `Video`.
        env_id: which env of a batched env it shows, if each has its own videos.
        agent: which agent of it, if each has its own videos.
        episode: which episode it shows, if each has its own video; as far as it is known.
        step: the step it is published with, once that is known.
        env_step: how many steps the environment had made at the first frame; None without one.
        time: when the first frame was recorded; None is when the file is made.
        beside: how many clips are recorded at the same time, this one included; encoders share the processors.
    """

    tag: str | None = None
    env_id: int | None = None
    agent: int | None = None
    episode: Episode | None = None
    step: int | None = None
    env_step: int | None = None
    time: datetime | None = None
    beside = 1
    _obs: list[Tensor] | None = None
    _own: list[tuple[Tensor, int]]  # what was put into `_obs`, and how often it was written to by then

    def write(self, frames: Array | Tensor) -> None:
        """Add `frames`, uint8 ``[N, H, W, 3]``, in main memory, with any strides. The clip keeps no reference to them.

        Raises:
            FrameError: they have another size than the clip's first frame; the clip is unchanged.
            EncoderError: the clip cannot go on.
        """
        for frame in self._checked(frames):
            self._add(frame)
            if self._obs is not None:
                self._list(frame)

    @property
    @abstractmethod
    def frames(self) -> int:
        """How many frames it has."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int] | None:
        """(height, width) of its frames, in pixels; None before the first."""

    @property
    def in_memory(self) -> bool:
        """Whether `finish` returns a tensor, and no file."""
        return False

    @abstractmethod
    def finish(self) -> Any:
        """Return all frames that were written, in the form that `log_video` of its logger takes.

        That is a `Video`, or a uint8 tensor ``[1, T, 3, H, W]``.
        """

    @abstractmethod
    def iter_frames(self) -> Iterator[Tensor]:
        """Yield the frames so far, as the video shows them: uint8 ``[H, W, 3]`` each, of the size that was written."""

    @property
    def obs(self) -> list[Tensor]:
        """The frames so far as a list, uint8 ``[3, H, W]`` each, that from now on grows with the clip."""
        if self._obs is None:
            frames = [frame.permute(2, 0, 1) for frame in self.iter_frames()]
            self._obs, self._own = frames, [(frame, frame._version) for frame in frames]
        return self._obs

    @property
    def shown(self) -> int:
        """How many frames there are to publish: those of the list, if the user has it."""
        return self.frames if self._obs is None else len(self._obs)

    @property
    def changed(self) -> bool:
        """Whether the user has changed the list."""
        if self._obs is None or len(self._obs) != len(self._own):
            return self._obs is not None
        return any(a is not b or a._version != old for a, (b, old) in zip(self._obs, self._own, strict=True))

    def take_obs_of(self, other: "Clip") -> None:
        """Go on with the list of an empty clip instead of which this one is written."""
        if other._obs is not None:
            self._obs, self._own = other._obs, []

    def _list(self, frame: Array) -> None:
        assert self._obs is not None
        tensor = planes(frame)
        self._obs.append(tensor)
        self._own.append((tensor, tensor._version))

    @abstractmethod
    def delete(self) -> None:
        """Delete what was written, files included."""

    def published(self) -> None:  # noqa: B027 - most keep nothing
        """Remove what was needed until its logger had taken the result of `finish`."""

    def detach(self) -> None:  # noqa: B027 - most have nothing open
        """Close what is open, and keep all files as they are. The clip is not used again."""

    def _checked(self, frames: Array | Tensor) -> Array:
        """Return `frames` as an array, or raise `FrameError` if they have another size than those before."""
        array = np.asarray(frames)
        size = self.size
        if size is not None and array.shape[1:3] != size:
            raise FrameError(
                f"frame {self.frames} is {array.shape[1:3]} (height, width), but this clip began with {size}; "
                "call dump() before the frame changes size"
            )
        return array

    def _add(self, frame: Array) -> None:
        """Add one frame, uint8 ``[H, W, 3]``, with any strides."""
        raise NotImplementedError


def planes(frame: Array) -> Tensor:
    """Return a copy of a frame ``[H, W, 3]`` as a tensor ``[3, H, W]``."""
    return torch.from_numpy(np.array(frame.transpose(2, 0, 1), order="C"))


class FileClip(Clip):
    """A clip that grows in a file next to its final place. The name of the file says that it is not finished.

    A `Manifest` stands next to it until it is published, for `vidrec.tools.repair`.

    Args:
        stem: the folder and the beginning of the name; ``.part-<random>.<extension>`` is added.
        encoding: how the file is encoded.
        index: the folder whose index will have a row for the video; None if there is none.
    """

    size: tuple[int, int] | None = None

    def __init__(self, stem: Path, encoding: Encoding, index: Path | None = None) -> None:
        self.encoding = encoding
        self.stem, self.index = stem, index
        self._token = secrets.token_hex(4)
        self._manifest: Manifest | None = None
        self._about: dict[str, Any] = {}

    def unfinished(self) -> set[Path]:
        """Return the unfinished files of all clips of the same name in the same folder, also those of others."""
        return set(self.stem.parent.glob(f"{glob.escape(self.stem.name)}{MARK}*"))

    @abstractmethod
    def finish(self) -> Video: ...

    def published(self) -> None:
        if self._manifest is not None:
            self._manifest.remove()
        _open.discard(self)

    def detach(self) -> None:
        if self._manifest is not None:
            self._manifest.close()
        _open.discard(self)

    def _open(self, size: tuple[int, int]) -> Manifest:
        """Return the manifest of the clip; the first call makes it, and its folder."""
        if self._manifest is None:
            make_folder(self.stem.parent)
            self.time = self.time or datetime.now(timezone.utc)
            height, width = self.encoding.file_size(size)
            about: dict[str, Any] = {"video_format": self.encoding.video_format, "codec": self.encoding.codec}
            about |= {"fps": str(self.encoding.fps), "height": height, "width": width}
            about |= {"tag": self.tag, "env_step": self.env_step, "time": time_text(self.time)}
            about |= {"env_id": self.env_id, "agent": self.agent}
            about |= {"episode": None if self.episode is None else self.episode.number}
            about["index"] = None if self.index is None else os.path.relpath(self.index, self.stem.parent)
            self._about = about
            path = self._path().with_suffix(SUFFIX)
            try:
                with forks.lock:
                    self._manifest = Manifest(path, about)
                    forks.detach_in_child(self)
            except OSError as error:
                raise EncoderError(f"{path}, the manifest of a clip, could not be made: {error}") from error
            self.size = size
            _open.add(self)
        return self._manifest

    def _path(self, part: str = "") -> Path:
        return self.stem.with_name(f"{self.stem.name}{MARK}{self._token}{part}.{self.encoding.format.extension}")

    def _video(self, path: Path) -> Video:
        assert self.size is not None
        height, width = self.encoding.file_size(self.size)
        shows: dict[str, Any] = {"env_id": self.env_id, "agent": self.agent, "episode": self.episode, "tag": self.tag}
        shows |= {"env_step": self.env_step, "time": self.time}
        return Video(path, self.frames, self.encoding.fps, height, width, self.encoding, **shows)


_open: set[FileClip] = set()
"""The clips that have files. They are kept alive until they are published or detached: the garbage collector would
close them."""

"""TailClip, the end of a clip."""

from typing import Any

from torch import Tensor

from vidrec.clips.base import Array, Clip
from vidrec.clips.memory import TensorClip


class TailClip(TensorClip):
    """A clip of the last frames that are written to it: they stay in memory, and `finish` writes them into another.

    It takes no frames after `finish`, which may be called again.

    Args:
        clip: what they are written into, a clip without frames.
        last: how many frames it has at the most.
    """

    def __init__(self, clip: Clip, last: int) -> None:
        super().__init__()
        self.clip, self._last = clip, last

    @property
    def in_memory(self) -> bool:
        return self.clip.in_memory

    def write(self, frames: Array | Tensor) -> None:
        for frame in self._checked(frames)[-self._last :]:
            self._add(frame)
        del self._obs[: -self._last]

    def finish(self) -> Any:
        self.clip.env_id, self.clip.episode, self.clip.beside = self.env_id, self.episode, self.beside
        if isinstance(self.clip, TensorClip):
            self.clip.take_obs_of(self)
        for frame in self._obs[self.clip.frames :]:  # all, but for those of a `finish` that failed
            self.clip.write(frame.permute(1, 2, 0)[None])
        return self.clip.finish()

    def delete(self) -> None:
        super().delete()
        self.clip.delete()

    def published(self) -> None:
        self.clip.published()

    def detach(self) -> None:
        self.clip.detach()

"""TailClip, the end of a clip."""

from typing import Any

from torch import Tensor

from vidrec.clips.base import Array, Clip
from vidrec.clips.memory import TensorClip
from vidrec.frames import arrange, to_rgb


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
        array = self._checked(frames)[-self._last :]
        del self._obs[: max(0, len(self._obs) + len(array) - self._last)]
        for frame in array:
            self._add(frame)

    def finish(self) -> Any:
        # not those of its first frame, which is gone
        for name in ("tag", "env_id", "agent", "episode", "step", "beside"):
            setattr(self.clip, name, getattr(self, name))
        if isinstance(self.clip, TensorClip):
            self.clip.take_obs_of(self)
        for frame in self._obs[self.clip.frames :]:  # all, but for those of a `finish` before
            self.clip.write(to_rgb(arrange(frame, layout="CHW")))
        return self.clip.finish()

    def delete(self) -> None:
        super().delete()
        self.clip.delete()

    def published(self) -> None:
        self.clip.published()

    def detach(self) -> None:
        self.clip.detach()

"""TensorClip, a clip in memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

from vidrec.clips.base import Array, Clip, planes


class TensorClip(Clip):
    """A clip in memory, for loggers that take tensors: `obs` is what TorchRL's recorder keeps, uint8 ``[3, H, W]``."""

    def __init__(self) -> None:
        self._obs: list[Tensor] = []

    @property
    def in_memory(self) -> bool:
        return True

    @property
    def changed(self) -> bool:
        return False

    @property
    def frames(self) -> int:
        return len(self._obs)

    @property
    def size(self) -> tuple[int, int] | None:
        return (self._obs[0].shape[1], self._obs[0].shape[2]) if self._obs else None

    def finish(self) -> Tensor:
        return torch.stack(self._obs).unsqueeze(0)

    def iter_frames(self) -> Iterator[Tensor]:
        return (frame.permute(1, 2, 0) for frame in self._obs)

    def delete(self) -> None:
        self._obs = []

    def _add(self, frame: Array) -> None:
        self._obs.append(planes(frame))

    def _list(self, frame: Array) -> None:
        """Do nothing: the list is the clip."""

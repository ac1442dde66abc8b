"""TensorClip, a clip in memory."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vidrec.clips.base import Array, Clip


class TensorClip(Clip):
    """A clip in memory, for loggers that take tensors: `obs` is what TorchRL's recorder keeps, uint8 ``[3, H, W]``."""

    def __init__(self) -> None:
        self.obs: list[Tensor] = []

    @property
    def frames(self) -> int:
        return len(self.obs)

    @property
    def size(self) -> tuple[int, int] | None:
        return (self.obs[0].shape[1], self.obs[0].shape[2]) if self.obs else None

    def finish(self) -> Tensor:
        return torch.stack(self.obs).unsqueeze(0)

    def iter_frames(self) -> Iterator[Tensor]:
        return (frame.permute(1, 2, 0) for frame in self.obs)

    def delete(self) -> None:
        self.obs.clear()

    def _add(self, frame: Array) -> None:
        self.obs.append(torch.from_numpy(np.array(frame.transpose(2, 0, 1), order="C")))

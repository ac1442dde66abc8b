"""vidrec: videos of TorchRL environments and datasets, made while they run. A drop-in for `torchrl.record`."""

from vidrec.encoding import Encoding
from vidrec.episodes import Episode, keep_best, keep_last
from vidrec.errors import EncoderError, ExtraError, FrameError, SettingError, TagError, VidrecError, VidrecWarning
from vidrec.loggers.base import VideoLogger
from vidrec.loggers.csv import CSVLogger
from vidrec.loggers.memory import MemoryLogger
from vidrec.loggers.tee import TeeLogger
from vidrec.loggers.tensorboard import TensorboardLogger
from vidrec.loggers.wandb import WandbLogger
from vidrec.recorder import PixelRenderTransform, TensorDictRecorder, VideoRecorder
from vidrec.video import Video

__version__ = "0.1.0"

__all__ = [
    "CSVLogger",
    "EncoderError",
    "Encoding",
    "Episode",
    "ExtraError",
    "FrameError",
    "MemoryLogger",
    "PixelRenderTransform",
    "SettingError",
    "TagError",
    "TeeLogger",
    "TensorDictRecorder",
    "TensorboardLogger",
    "Video",
    "VideoLogger",
    "VideoRecorder",
    "VidrecError",
    "VidrecWarning",
    "WandbLogger",
    "keep_best",
    "keep_last",
]

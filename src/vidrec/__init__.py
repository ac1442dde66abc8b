"""vidrec: videos of TorchRL environments and datasets, made while they run. A drop-in for `torchrl.record`."""

from vidrec.encoding import Encoding
from vidrec.errors import EncoderError, FrameError, SettingError, TagError, VidrecError, VidrecWarning
from vidrec.loggers.csv import CSVLogger
from vidrec.recorder import PixelRenderTransform, TensorDictRecorder, VideoRecorder
from vidrec.video import Video

__version__ = "0.1.0"

__all__ = [
    "CSVLogger",
    "EncoderError",
    "Encoding",
    "FrameError",
    "PixelRenderTransform",
    "SettingError",
    "TagError",
    "TensorDictRecorder",
    "Video",
    "VideoRecorder",
    "VidrecError",
    "VidrecWarning",
]

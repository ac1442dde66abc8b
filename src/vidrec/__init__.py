"""vidrec: videos of TorchRL environments and datasets, made while they run. A drop-in for `torchrl.record`."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidrec.clips.folder import FolderVideo as FolderVideo
    from vidrec.clips.folder import videos as videos
    from vidrec.clips.joining import compare as compare
    from vidrec.clips.joining import reel as reel
    from vidrec.clips.joining import sheet as sheet
    from vidrec.clips.video import Video as Video
    from vidrec.clips.write import write as write
    from vidrec.episode import Episode as Episode
    from vidrec.errors import EncoderError as EncoderError
    from vidrec.errors import ExtraError as ExtraError
    from vidrec.errors import FrameError as FrameError
    from vidrec.errors import ServiceError as ServiceError
    from vidrec.errors import SettingError as SettingError
    from vidrec.errors import StoreError as StoreError
    from vidrec.errors import TagError as TagError
    from vidrec.errors import VidrecError as VidrecError
    from vidrec.errors import VidrecWarning as VidrecWarning
    from vidrec.ffmpeg.encoder import set_ffmpeg_timeout as set_ffmpeg_timeout
    from vidrec.ffmpeg.encoding import Encoding as Encoding
    from vidrec.loggers.base import VideoLogger as VideoLogger
    from vidrec.loggers.csv import CSVLogger as CSVLogger
    from vidrec.loggers.memory import MemoryLogger as MemoryLogger
    from vidrec.loggers.service import set_service_timeout as set_service_timeout
    from vidrec.loggers.tee import TeeLogger as TeeLogger
    from vidrec.loggers.tensorboard import TensorboardLogger as TensorboardLogger
    from vidrec.loggers.uploads import Uploads as Uploads
    from vidrec.loggers.utils import generate_exp_name as generate_exp_name
    from vidrec.loggers.utils import get_logger as get_logger
    from vidrec.loggers.wandb import WandbLogger as WandbLogger
    from vidrec.recorder import PixelRenderTransform as PixelRenderTransform
    from vidrec.recorder import TensorDictRecorder as TensorDictRecorder
    from vidrec.recorder import VideoRecorder as VideoRecorder
    from vidrec.recording.failure import Failure as Failure
    from vidrec.recording.lifetime import handle_sigterm as handle_sigterm
    from vidrec.recording.retention import keep_best as keep_best
    from vidrec.recording.retention import keep_last as keep_last
    from vidrec.sources.captions import Moment as Moment

__version__ = "0.1.0"

_NAMES = {
    "ffmpeg.encoder": ("set_ffmpeg_timeout",),
    "ffmpeg.encoding": ("Encoding",),
    "episode": ("Episode",),
    "recording.retention": ("keep_best", "keep_last"),
    "errors": (
        *("EncoderError", "ExtraError", "FrameError", "ServiceError", "SettingError", "StoreError", "TagError"),
        *("VidrecError", "VidrecWarning"),
    ),
    "recording.failure": ("Failure",),
    "recording.lifetime": ("handle_sigterm",),
    "loggers.base": ("VideoLogger",),
    "loggers.csv": ("CSVLogger",),
    "loggers.memory": ("MemoryLogger",),
    "loggers.service": ("set_service_timeout",),
    "loggers.tee": ("TeeLogger",),
    "loggers.tensorboard": ("TensorboardLogger",),
    "loggers.uploads": ("Uploads",),
    "loggers.utils": ("generate_exp_name", "get_logger"),
    "loggers.wandb": ("WandbLogger",),
    "recorder": ("PixelRenderTransform", "TensorDictRecorder", "VideoRecorder"),
    "sources.captions": ("Moment",),
    "clips.folder": ("FolderVideo", "videos"),
    "clips.joining": ("compare", "reel", "sheet"),
    "clips.video": ("Video",),
    "clips.write": ("write",),
}
"""What each module gives; imported on first use, so that the command line need not wait for torch."""

_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        if not name.startswith("_") and find_spec(f"vidrec.{name}") is not None:
            return import_module(f"vidrec.{name}")
        raise AttributeError(f"module 'vidrec' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"vidrec.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

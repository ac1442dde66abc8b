"""What a user would record with instead, each as its documentation says, and with the settings of FFmpeg equal to ours.

A recorder is made with a folder, a frame's size (height, width), and whether its settings are equal to ours: libx264,
crf 20, preset veryfast, not enlarged. `begin` is called with the environment, then `add` with each frame, and each
class uses what its library needs. `finish` returns when the file is whole.
"""

import importlib
import logging
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
from clips import GymSimulator, Simulator
from numpy.typing import NDArray
from torchrl.envs import EnvBase, TransformedEnv

from vidrec.ffmpeg.program import find_ffmpeg

FPS, CRF, PRESET = 30, 20, "veryfast"
Size = tuple[int, int]


class Recorder:
    """Records nothing: the environment alone.

    Attributes:
        engine: the library whose environment is stepped.
        has_equal: whether its settings can be made equal to ours.
    """

    engine: type[Simulator] | type[GymSimulator] = Simulator
    has_equal = False

    def __init__(self, folder: Path, size: Size, equal: bool) -> None:
        self.folder, self.size, self.equal = folder, size, equal

    def begin(self, env: Any) -> Any:
        """Open what is to be written to, and return the environment to step."""
        return env

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Record a frame."""

    def finish(self) -> None:
        """Return once the file is whole."""


class GymAlone(Recorder):
    engine = GymSimulator


class OfTorchRL(Recorder):
    """A recorder that is a transform: TorchRL's, or ours."""

    package, video_format = "torchrl.record", "mp4"

    def begin(self, env: EnvBase) -> EnvBase:
        module = importlib.import_module(self.package)
        logger = module.CSVLogger("run", str(self.folder), video_format=self.video_format, video_fps=FPS)
        self.recorder = module.VideoRecorder(logger, "video", skip=1, **self.settings())
        return TransformedEnv(env, self.recorder)

    def settings(self) -> dict[str, Any]:
        return {}

    def finish(self) -> None:
        self.recorder.dump()


class TorchRLInMemory(OfTorchRL):
    video_format = "pt"


class Vidrec(OfTorchRL):
    package, has_equal = "vidrec", True

    def settings(self) -> dict[str, Any]:
        return {"crf": CRF, "preset": PRESET, "scale": 1} if self.equal else {}


class RecordVideo(Recorder):
    engine = GymSimulator

    def begin(self, env: GymSimulator) -> Any:
        from gymnasium.wrappers import RecordVideo

        self.env = RecordVideo(env, str(self.folder), episode_trigger=lambda number: True, fps=FPS, disable_logger=True)
        return self.env

    def finish(self) -> None:
        self.env.close()


class VecVideoRecorder(Recorder):
    engine = GymSimulator
    length = 10**9

    def begin(self, env: GymSimulator) -> Any:
        from stable_baselines3.common.vec_env import DummyVecEnv, VecVideoRecorder

        self.env = VecVideoRecorder(
            DummyVecEnv([lambda: env]), str(self.folder), lambda step: step == 0, video_length=self.length
        )
        return self.env

    def finish(self) -> None:
        self.env.close()


class ImageioFFmpeg(Recorder):
    has_equal = True

    def begin(self, env: Simulator) -> Simulator:
        import imageio_ffmpeg

        own = {"quality": None, "output_params": ["-crf", str(CRF), "-preset", PRESET], "macro_block_size": 1}
        path = str(self.folder / "video.mp4")
        settings = own if self.equal else {}
        self.writer = imageio_ffmpeg.write_frames(path, self.size[::-1], fps=FPS, **settings)
        self.writer.send(None)
        return env

    def add(self, frame: NDArray[np.uint8]) -> None:
        self.writer.send(frame)

    def finish(self) -> None:
        self.writer.close()


class Mediapy(Recorder):
    has_equal = True

    def begin(self, env: Simulator) -> Simulator:
        import mediapy

        mediapy.set_ffmpeg(find_ffmpeg())
        settings = {"crf": CRF, "ffmpeg_args": f"-preset {PRESET}"} if self.equal else {}
        self.writer = mediapy.VideoWriter(self.folder / "video.mp4", self.size, fps=FPS, **settings)
        self.writer.__enter__()
        return env

    def add(self, frame: NDArray[np.uint8]) -> None:
        self.writer.add_image(frame)

    def finish(self) -> None:
        self.writer.close()


class PyAV(Recorder):
    """PyAV behind a thread and a queue that blocks when it is full: what one writes who reads how to do it."""

    has_equal = True
    queue_length = 30

    def begin(self, env: Simulator) -> Simulator:
        self.frames: queue.Queue[NDArray[np.uint8] | None] = queue.Queue(self.queue_length)
        self.thread = threading.Thread(target=self._encode)
        self.thread.start()
        return env

    def add(self, frame: NDArray[np.uint8]) -> None:
        self.frames.put(frame)  # the environment makes a new one each step; one that is reused would have to be copied

    def _encode(self) -> None:
        import av

        with av.open(str(self.folder / "video.mp4"), "w") as container:
            options = {"crf": str(CRF), "preset": PRESET} if self.equal else {}
            stream = container.add_stream("libx264", rate=FPS, options=options)
            stream.height, stream.width = self.size
            stream.pix_fmt = "yuv420p"
            while (frame := self.frames.get()) is not None:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())

    def finish(self) -> None:
        self.frames.put(None)
        self.thread.join()


class LeRobot(Recorder):
    """LeRobot's own `StreamingVideoEncoder`; what its module imports for other things is not installed."""

    has_equal = True

    def begin(self, env: Simulator) -> Simulator:
        settings = {"vcodec": "h264", "crf": CRF, "g": 60} if self.equal else {}
        self.encoder = _lerobot().StreamingVideoEncoder(FPS, **settings)
        self.encoder.start_episode(["video"], self.folder)
        return env

    def add(self, frame: NDArray[np.uint8]) -> None:
        self.encoder.feed_frame("video", frame)

    def finish(self) -> None:
        self.encoder.finish_episode()


def _lerobot() -> ModuleType:
    others = ["torchvision", "datasets", "datasets.features", "datasets.features.features", "lerobot.datasets.utils"]
    sys.modules.update({name: mock.MagicMock() for name in others if name not in sys.modules})
    from lerobot.datasets import compute_stats, video_utils

    assert compute_stats
    logging.disable(logging.WARNING)  # of dropped frames, which are counted in the file
    return video_utils


ALONE: dict[str, Callable[..., Recorder]] = {"env alone": Recorder, "Gymnasium's env alone": GymAlone}
PEERS: dict[str, type[Recorder]] = {
    "vidrec": Vidrec,
    "TorchRL, mp4": OfTorchRL,
    "TorchRL, pt": TorchRLInMemory,
    "Gymnasium RecordVideo": RecordVideo,
    "SB3 VecVideoRecorder": VecVideoRecorder,
    "LeRobot StreamingVideoEncoder": LeRobot,
    "imageio-ffmpeg": ImageioFFmpeg,
    "mediapy": Mediapy,
    "PyAV, thread and queue": PyAV,
}

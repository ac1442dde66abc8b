"""Record a game of Atari; needs `pip install "vidrec[examples]"`."""

from torchrl.envs import GymEnv, TransformedEnv

from vidrec import CSVLogger, VideoRecorder

logger = CSVLogger("atari", log_dir="videos")
recorder = VideoRecorder(logger, "mspacman", skip=1, fps="env")
env = TransformedEnv(GymEnv("ALE/MsPacman-v5", from_pixels=True), recorder)
env.set_seed(0)
env.rollout(300)

video = recorder.dump()
print(f"{video.path}: {video.path.stat().st_size:,} bytes, {video.width}x{video.height}, ", end="")
print(f"{video.frames} frames, {video.seconds:.1f} s at {video.fps} fps")
env.close()

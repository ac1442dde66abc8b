"""Draw and record one episode in ten, and none of the others; needs `pip install "vidrec[examples]"`."""

from torchrl.envs import GymEnv, TransformedEnv

from vidrec import CSVLogger, VideoRecorder

logger = CSVLogger("on_demand", log_dir="videos")
recorder = VideoRecorder(
    logger, "cartpole", skip=1, render=True, episode_trigger=lambda episode: episode % 10 == 0, fps="env"
)
# no from_pixels: the data hold no frames
env = TransformedEnv(GymEnv("CartPole-v1", render_mode="rgb_array"), recorder)

env.rollout(500, break_when_any_done=False)
env.close()
for video in recorder.videos:
    print(video.path, video.frames)

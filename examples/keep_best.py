"""Keep videos of the three best games of 20; needs `pip install "vidrec[examples]"`."""

from torchrl.envs import GymEnv, TransformedEnv

from vidrec import CSVLogger, VideoRecorder, keep_best

logger = CSVLogger("best", log_dir="videos", video_fps=50)
recorder = VideoRecorder(logger, "cartpole", make_grid=False, skip=1, keep=keep_best(3))
env = TransformedEnv(GymEnv("CartPole-v1", from_pixels=True), recorder)
env.set_seed(0)
for _ in range(20):
    env.rollout(500)
env.close()

print(f"{logger.experiment.log_dir}/videos.csv")

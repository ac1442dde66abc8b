"""Log games of Atari to a W&B run on this machine; needs `pip install "vidrec[examples,wandb]"`."""

from torchrl.envs import GymEnv, TransformedEnv

from vidrec import VideoRecorder, WandbLogger

logger = WandbLogger("mspacman", offline=True, project="atari")  # offline=False uploads it
recorder = VideoRecorder(logger, "eval/game", fps="env")
env = TransformedEnv(GymEnv("ALE/MsPacman-v5", from_pixels=True, frame_skip=4), recorder)
env.set_seed(0)

for step in (1_000, 2_000, 3_000):  # steps of a training that plays a game now and then
    rollout = env.rollout(200)
    logger.log_scalar("eval/return", rollout["next", "reward"].sum().item(), step=step)
    video = recorder.dump(step=step)
    print(f"{video.path}: {video.frames} frames, {video.seconds:.1f} s")

env.close()
logger.experiment.finish()

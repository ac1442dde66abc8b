"""Watch games of Atari in TensorBoard; needs `pip install "vidrec[examples,tensorboard]"`."""

from torchrl.envs import GymEnv, TransformedEnv

from vidrec import TensorboardLogger, VideoRecorder

logger = TensorboardLogger("mspacman", log_dir="tb_logs")
recorder = VideoRecorder(logger, "eval/game", fps="env")
env = TransformedEnv(GymEnv("ALE/MsPacman-v5", from_pixels=True, frame_skip=4), recorder)
env.set_seed(0)

for step in (1_000, 2_000, 3_000):  # steps of a training that plays a game now and then
    rollout = env.rollout(200)
    logger.log_scalar("eval/return", rollout["next", "reward"].sum().item(), step=step)
    recorder.dump(step=step)  # the slider above the video selects one of these steps

env.close()
print(f"tensorboard --logdir {logger.log_dir}")

"""Record four environments side by side, as one video; needs `pip install "vidrec[examples]"`."""

from torchrl.envs import EnvCreator, GymEnv, ParallelEnv, TransformedEnv

from vidrec import CSVLogger, VideoRecorder


def make_env():
    return GymEnv("CartPole-v1", from_pixels=True)


if __name__ == "__main__":
    logger = CSVLogger("grid", log_dir="videos", video_fps=50)
    env = TransformedEnv(ParallelEnv(4, EnvCreator(make_env)), VideoRecorder(logger, "cartpole"))
    env.rollout(100, break_when_any_done=False)
    print(env.transform.dump())
    env.close()

"""Record inside each worker of a ParallelEnv; needs `pip install "vidrec[examples]"`."""

from torchrl.envs import EnvCreator, GymEnv, ParallelEnv, TransformedEnv

from vidrec import CSVLogger, VideoRecorder

logger = CSVLogger("workers", log_dir="videos", video_fps=50)


def make_env():
    recorder = VideoRecorder(logger, "cartpole", skip=1, episode_trigger=lambda episode: episode % 2 == 0)
    return TransformedEnv(GymEnv("CartPole-v1", from_pixels=True), recorder)


if __name__ == "__main__":
    env = ParallelEnv(2, EnvCreator(make_env))
    env.rollout(100, break_when_any_done=False)
    env.close()  # finishes the videos: cartpole_ep0_0.mp4 of the first worker, cartpole_worker1_ep0_0.mp4 of the next

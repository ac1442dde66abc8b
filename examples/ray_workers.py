"""Record in actors of Ray, through one logger; needs `pip install "vidrec[examples,ray]"`."""

import ray
from torchrl.envs import GymEnv, TransformedEnv

from vidrec import CSVLogger, VideoRecorder


@ray.remote(num_cpus=1)
class Worker:
    def __init__(self, logger):
        env = GymEnv("CartPole-v1", from_pixels=True)
        self.env = TransformedEnv(env, VideoRecorder(logger, "cartpole", skip=1))

    def evaluate(self, step):
        self.env.rollout(50)
        return self.env.transform.dump(step=step)


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False)
    logger = CSVLogger("actors", log_dir="videos", video_fps=50, service_backend="ray")
    workers = [Worker.options(name=name).remote(logger.client()) for name in ("left", "right")]
    for video in ray.get([worker.evaluate.remote(0) for worker in workers]):
        print(video)  # cartpole_actor-left_0.mp4 and cartpole_actor-right_0.mp4, in the folder of the logger
    logger.shutdown()
    ray.shutdown()

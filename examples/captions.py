"""Write the step, reward and return of two games below their frames; needs `pip install "vidrec[examples]"`."""

from torchrl.envs import GymEnv, SerialEnv, TransformedEnv

from vidrec import CSVLogger, VideoRecorder


def make_env():
    return GymEnv("ALE/Pong-v5", from_pixels=True, frame_skip=4)


logger = CSVLogger("captions", log_dir="videos", video_format="gif")
recorder = VideoRecorder(logger, "pong", skip=2, fps="env", caption=["env", "step", "reward", "return"])
env = TransformedEnv(SerialEnv(2, make_env), recorder)
env.set_seed(0)
env.rollout(100)
print(recorder.dump())
env.close()

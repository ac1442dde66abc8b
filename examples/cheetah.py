"""Record the cheetah of dm_control; the script of TorchRL's documentation with its import changed, in real time.

Needs `pip install "vidrec[cheetah]"` and OpenGL: a display, or MUJOCO_GL=egl or osmesa.
"""

from torchrl.envs import DMControlEnv, TransformedEnv

from vidrec import CSVLogger, VideoRecorder

logger = CSVLogger(exp_name="cheetah", log_dir="cheetah_videos", video_format="mp4")
base_env = DMControlEnv("cheetah", "run", from_pixels=True)
env = TransformedEnv(base_env, VideoRecorder(logger=logger, tag="run_video", fps="env"))
env.rollout(100)
env.transform.dump()  # -> ./cheetah_videos/cheetah/videos/run_video_0.mp4
env.close()

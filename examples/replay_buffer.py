"""Record what a replay buffer samples, a video for each trajectory; needs `pip install "vidrec[examples]"`."""

from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer
from torchrl.envs import GymEnv

from vidrec import CSVLogger, VideoRecorder

env = GymEnv("CartPole-v1", from_pixels=True)
env.set_seed(0)
rollout = env.rollout(200, break_when_any_done=False)

logger = CSVLogger("samples", log_dir="videos", video_fps=50)
buffer = TensorDictReplayBuffer(
    storage=LazyTensorStorage(200),
    sampler=SliceSampler(slice_len=10),
    batch_size=40,
    transform=VideoRecorder(logger, "slices", in_keys=["pixels"], dump_on_done=True),
)
buffer.extend(rollout)
buffer.sample()  # four slices of ten steps: videos/samples/videos/slices_ep<number>_<step>.mp4

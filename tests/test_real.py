"""Real environments, and the examples: recorded, decoded, and compared with what the environment showed."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torchrl.record
from conftest import missing, product, require, some
from numbered_frames import decode, probe
from processes import run_python
from torchrl.envs import GymEnv, TransformedEnv

from vidrec import CSVLogger, VideoRecorder

EXAMPLES = Path(__file__).parent.parent / "examples"


def psnr(one, other):
    """Peak signal-to-noise ratio in dB of uint8 arrays, https://en.wikipedia.org/wiki/Peak_signal-to-noise_ratio."""
    error = np.mean((np.asarray(one, np.float64) - np.asarray(other, np.float64)) ** 2)
    return 10 * np.log10(255**2 / error)


@pytest.mark.parametrize("steps", some([100, 300], 100))
def test_mspacman_at_the_defaults_is_seen_in_its_colours(steps):
    require("ale_py")
    env = TransformedEnv(GymEnv("ALE/MsPacman-v5", from_pixels=True), VideoRecorder(CSVLogger("run"), "video"))
    env.set_seed(0)
    rollout = env.rollout(steps)
    video = env.transform.dump()
    # of the reset frame and those that follow, every other one, the second first
    observed = torch.cat([rollout["pixels"][:1], rollout["next", "pixels"]])[1::2].numpy()
    decoded = decode(video.path)
    assert decoded.shape == (steps // 2, 420, 320, 3)
    enlarged = observed.repeat(2, axis=1).repeat(2, axis=2)
    assert psnr(enlarged, decoded) > 40
    assert all(psnr(one, other) > 35 for one, other in zip(enlarged, decoded, strict=True))  # no frame out of order
    assert "h264" in probe(video.path)
    assert "yuv420p(tv, bt709" in probe(video.path)
    env.close()


@product(video_format=["mkv", "pt"], name=["ALE/Pong-v5", "CartPole-v1"])
def test_a_gymnasium_env_is_recorded_pixel_by_pixel(name, video_format):
    require("ale_py", "pygame")
    recorder = VideoRecorder(CSVLogger("run", video_format=video_format), "video", skip=1)
    env = TransformedEnv(GymEnv(name, from_pixels=True), recorder)
    rollout = env.rollout(30, break_when_any_done=False)
    video = recorder.dump()
    frames = list(video.iter_frames())
    assert len(frames) == video.frames >= 31
    assert (frames[0] == rollout["pixels"][0]).all()
    if video.frames == 31:  # no episode ended, with a reset frame of its own
        assert (torch.stack(frames[1:]) == rollout["next", "pixels"]).all()
    env.close()


IN_REAL_TIME = """
    import runpy, sys, warnings
    warnings.filterwarnings("error", "this video plays", UserWarning)
    runpy.run_path(sys.argv[1], run_name="__main__")
"""


def run_example(name):
    require("ale_py", "pygame")
    script = EXAMPLES / f"{name}.py"
    assert len(script.read_text().splitlines()) < 40
    run_python(IN_REAL_TIME, script)


@pytest.mark.long
def test_the_tensorboard_example_leaves_a_video_at_each_step():
    require("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_example("tensorboard_run")
    events = EventAccumulator("tb_logs/mspacman").Reload()
    assert [event.step for event in events.Images("eval/game")] == [1000, 2000, 3000]
    assert len(events.Scalars("eval/return")) == 3
    Path("game.apng").write_bytes(events.Images("eval/game")[0].encoded_image_string)
    assert len(decode(Path("game.apng"))) == 100


@pytest.mark.long
def test_the_wandb_example_leaves_a_video_at_each_step(monkeypatch):
    require("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run_example("wandb_run")
    videos = list(Path("wandb").glob("offline-run-*/files/media/videos/eval/game_*.mp4"))
    assert [len(decode(video)) for video in videos] == [100] * 3


@pytest.mark.parametrize("example", some(["atari", "captions", "cheetah", "grid"], "captions"))
def test_the_example_runs_and_leaves_its_video(example):
    if example == "cheetah":
        require("dm_control")
        if "MUJOCO_GL" not in os.environ and "DISPLAY" not in os.environ:
            missing("no OpenGL: set MUJOCO_GL=egl or osmesa")
    run_example(example)
    expected = {
        "atari": ("videos/atari/videos/mspacman_0.mp4", 301),
        "captions": ("videos/captions/videos/pong_0.gif", 50),
        "cheetah": ("cheetah_videos/cheetah/videos/run_video_0.mp4", 50),
        "grid": ("videos/grid/videos/cartpole_0.mp4", None),
    }
    path, frames = expected[example]
    decoded = decode(Path(path))
    assert frames is None or len(decoded) == frames
    assert len(decoded) >= 50
    assert decoded.std(axis=(1, 2, 3)).min() > 1  # frames, not one colour


@pytest.mark.long
def test_the_example_of_drawing_on_demand_has_one_episode_in_ten():
    run_example("render_on_demand")
    videos = sorted(Path("videos/on_demand/videos").glob("*.mp4"))
    assert [path.name.split("_")[1] for path in videos][:2] == ["ep0", "ep10"]
    for path in videos:
        decoded = decode(path)
        assert decoded.shape[1:] == (400, 600, 3)
        assert decoded.std(axis=(1, 2, 3)).min() > 1


def test_torchrls_own_recorder_writes_through_our_logger():
    recorder = torchrl.record.VideoRecorder(CSVLogger("run"), "video", fps=25)

    frame = torch.zeros(64, 64, 3, dtype=torch.uint8)
    for shade in range(0, 250, 10):
        recorder._apply_transform(frame + shade)
    recorder.dump()
    decoded = decode(Path("csv_logs/run/videos/video_0.mp4"))
    assert abs(decoded[:, 0, 0, 0].astype(int) - range(0, 250, 10)).max() <= 2

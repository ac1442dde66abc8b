"""render=: frames that the env draws when they are recorded, and not before."""

import gc
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import cheetah, product, require, some
from numbered_frames import cells_in, decode, numbered, numbers_in, read_number, rows
from tensordict import TensorDict
from torchrl.collectors import MultiAsyncCollector, MultiSyncCollector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import (
    GymEnv,
    ParallelEnv,
    PendulumEnv,
    SerialEnv,
    TransformedEnv,
)
from worlds import DrawnEnv, EpisodesEnv, name_of

from vidrec import CSVLogger, FrameError, SettingError, VideoRecorder, VidrecWarning
from vidrec.captions import Strip

pytestmark = [
    # of simulators, about themselves
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(gym|pygame|pyglet|vmas|pkg_resources|pettingzoo).*"),
    pytest.mark.filterwarnings("ignore::UserWarning:(gym|pygame|pyglet|vmas|pettingzoo).*"),
    pytest.mark.filterwarnings("ignore:Nested TransformedEnvs are automatically unwrapped:UserWarning"),
    pytest.mark.filterwarnings("ignore:PettingZoo in TorchRL is tested using version:UserWarning"),
]

LENGTHS = [[3, 2], [4], [2, 5, 1], [6]]
SIZE = (24, 32)
STEPS = 12

ENVS = {
    "single": lambda kind: kind(LENGTHS[:1], batch_size=()),
    "batched": lambda kind: kind(LENGTHS),
    "batch of two axes": lambda kind: kind(LENGTHS, batch_size=(2, 2)),
    "serial": lambda kind: SerialEnv(4, [lambda at=at: kind([LENGTHS[at]], batch_size=()) for at in range(4)]),
    "serial of batched": lambda kind: SerialEnv(2, [lambda at=at: kind(LENGTHS[2 * at : 2 * at + 2]) for at in (0, 1)]),
}

SELECTED = {
    "all": {},
    "skip": {"skip": 3},
    "each env": {"make_grid": False},
    "each episode": {"make_grid": False, "dump_on_done": True},
    "env_ids": {"env_ids": [0, -1]},
    "env_ids apart": {"env_ids": [0, -1], "make_grid": False},
    "episode_trigger": {"episode_trigger": lambda number: number == 1},
    "step_trigger": {"step_trigger": lambda step: step % 5 == 1, "max_frames": 2},
    "keep": {"keep": lambda episode: episode.length > 2},
    "last": {"last": 2, "make_grid": False},
    "max_frames": {"max_frames": 4},
}


def record(env, folder="run", video_format="mp4", **settings):
    own = {"scale": 1} if video_format == "mp4" else {}
    recorder = VideoRecorder(CSVLogger(folder, video_format=video_format), "video", **{"skip": 1, **own, **settings})
    return TransformedEnv(env, recorder), recorder


def found(folder="run"):
    videos = sorted(Path("csv_logs", folder, "videos").glob("*.mp4"))
    return {path.name: [frame.tobytes() for frame in decode(path)] for path in videos}


def worker(lengths):
    return DrawnEnv([lengths], batch_size=())


WORKERS = [partial(worker, lengths) for lengths in ([3], [4], [6])]


def run(env, recorder):
    env.rollout(STEPS, break_when_any_done=False)
    recorder.dump()
    env.rollout(2)  # begins new episodes in the middle of some
    recorder.dump()
    env.close()


@pytest.mark.filterwarnings("ignore:.* came after max_frames:UserWarning")
@product(env=ENVS, selected=SELECTED)
def test_videos_are_those_of_pixels_in_the_data(env, selected):
    for kind, folder in [(EpisodesEnv, "pixels"), (DrawnEnv, "drawn")]:
        settings = {**SELECTED[selected], **({"render": True} if kind is DrawnEnv else {})}
        run(*record(ENVS[env](kind), folder, **settings))
    assert found("drawn") == found("pixels")
    assert found("drawn")
    columns = ("file", "frames", "env_id", "episode", "return", "length", "ended", "env_step")
    assert [[row[name] for name in columns] for row in rows("csv_logs/drawn")] == [
        [row[name] for name in columns] for row in rows("csv_logs/pixels")
    ]


@pytest.mark.filterwarnings("ignore:.* came after max_frames:UserWarning")
@pytest.mark.parametrize("selected", sorted(SELECTED.keys() - {"keep", "last"}))  # which draw what is not kept
def test_nothing_is_drawn_that_is_not_recorded(selected):
    settings = SELECTED[selected]
    env, recorder = record(ENVS["serial"](DrawnEnv), render=True, **settings)
    env.rollout(STEPS, break_when_any_done=False)
    drawn = [child.drawn for child in env.base_env._envs]
    recorder.dump()
    frames = [0] * 4
    for row in rows():
        shown = [int(row["env_id"])] if row["env_id"] else [0, 3] if "env_ids" in settings else range(4)
        for env_id in shown:
            frames[env_id] += int(row["frames"])
    assert list(map(len, drawn)) == frames
    assert sum(frames)


def test_frames_of_a_parallel_env_are_drawn_in_its_workers_and_only_those_of_env_ids():
    env, recorder = record(
        ParallelEnv(3, WORKERS, mp_start_method="fork"), render=True, env_ids=[0, 2], make_grid=False
    )
    env.rollout(4, break_when_any_done=False)
    drawn = [list(of_worker) for of_worker in env.base_env.drawn]
    recorder.dump()
    videos = {row["env_id"]: numbers_in(Path("csv_logs/run", row["file"])) for row in rows()}
    env.close()
    assert drawn[1] == []
    assert videos == {"0": drawn[0], "2": drawn[2]}
    assert len(drawn[0]) == 6  # it was reset within


def test_a_recorder_in_each_worker_draws_there():
    env = ParallelEnv(2, record_within, mp_start_method="fork")
    env.rollout(4, break_when_any_done=False)
    env.close()
    assert len(list(Path("csv_logs/run/videos").glob("*.mp4"))) == 2
    assert {row["frames"] for row in rows()} == {"6"}


def record_within():
    return record(DrawnEnv([[3]], batch_size=()), render=True)[0]


@pytest.mark.parametrize("kind", [MultiSyncCollector, pytest.param(MultiAsyncCollector, marks=pytest.mark.long)])
def test_recorders_in_collectors_draw(kind):
    collector = kind([record_within] * 2, frames_per_batch=8, total_frames=16, max_frames_per_traj=-1)
    for _ in collector:
        pass
    collector.shutdown()
    assert len(rows()) == 2
    for path in Path("csv_logs/run/videos").glob("*.mp4"):
        numbers = numbers_in(path)
        assert len(numbers) >= 5
        assert numbers[:5] == [*range(4), name_of(0, 1, 0)]  # the three steps of an episode, and the next


def test_cameras_that_draw_into_the_same_memory_show_what_each_draws():
    memory = np.zeros((*SIZE, 3), np.uint8)

    def camera(number):
        def draw(env):
            memory[:] = numbered(number + env.steps[0], SIZE).numpy()
            return memory

        return draw

    env, recorder = record(DrawnEnv(LENGTHS[:1], batch_size=()), render=[camera(10), camera(100)])
    env.rollout(2)
    frames = decode(recorder.dump().path)
    assert [read_number(frame[:, : SIZE[1]]) for frame in frames] == [10, 11, 12]
    assert [read_number(frame[:, SIZE[1] :]) for frame in frames] == [100, 101, 102]


def test_what_is_drawn_has_its_caption():
    env, recorder = record(DrawnEnv(LENGTHS[:1], batch_size=()), render=True, caption="step {step}")
    env.rollout(3)
    strip = Strip.of(SIZE, lines=1)
    for step, frame in enumerate(decode(recorder.dump().path)):
        assert read_number(frame[: strip.factor * SIZE[0]]) == name_of(0, 0, step)
        assert np.abs(frame[strip.top :, :, 1].astype(int) - strip.draw(f"step {step}")).mean() < 2


# real environments


def cartpole(**settings):
    require("gymnasium", "pygame")
    return GymEnv("CartPole-v1", **{"render_mode": "rgb_array", **settings})


def pong(**settings):
    require("gymnasium", "ale_py")
    return GymEnv("ALE/Pong-v5", **{"render_mode": "rgb_array", **settings})


def half_cheetah(**settings):
    require("gymnasium", "mujoco")
    return GymEnv("HalfCheetah-v5", **{"render_mode": "rgb_array", **settings})


def vmas(**settings):
    require("vmas")
    from torchrl.envs.libs.vmas import VmasEnv

    return VmasEnv(scenario="balance", num_envs=3, n_agents=2, max_steps=5, **settings)


def pistonball():
    require("pettingzoo", "pygame")
    from pettingzoo.butterfly import pistonball_v6
    from torchrl.envs import PettingZooWrapper

    return PettingZooWrapper(pistonball_v6.parallel_env(render_mode="rgb_array", n_pistons=4))


def parallel():
    return ParallelEnv(2, cartpole, mp_start_method="fork")


def rollout(env):
    """Return what 12 steps give, and what numpy and torch draw behind them."""
    torch.manual_seed(0)
    np.random.seed(0)
    env.set_seed(0)
    data = env.rollout(STEPS, break_when_any_done=False)
    return data, torch.rand(3), np.random.rand(3)


@pytest.mark.parametrize(
    "make", some([cartpole, pong, half_cheetah, cheetah, vmas, pistonball, parallel], cartpole, cheetah, vmas, parallel)
)
def test_a_rollout_is_the_same_bit_for_bit_with_and_without(make):
    plain, env = make(), record(make(), render=True)[0]
    (data, *drawn), (same, *same_drawn) = rollout(plain), rollout(env)
    env.close()
    plain.close()
    assert set(data.keys(True, True)) == set(same.keys(True, True))
    for key in data.keys(True, True):
        assert data[key].numpy().tobytes() == same[key].numpy().tobytes(), key
    assert all(map(np.array_equal, drawn, same_drawn))
    frames = {int(row["frames"]) for row in rows()}
    assert min(frames) > STEPS  # more where all envs of a batch were reset


# the camera of HalfCheetah moves from frame to frame
@pytest.mark.parametrize("make", some([cartpole, pong, cheetah], cheetah))
def test_the_frames_are_the_pixels_that_the_env_has_with_from_pixels(make):
    for folder, own, settings in [("pixels", {"from_pixels": True}, {}), ("drawn", {}, {"render": True})]:
        env, _ = record(make(**own), folder, **settings)
        env.set_seed(0)
        gc.collect()  # frees the window of dm_control's env, of which the seed has made another one
        torch.manual_seed(0)
        env.rollout(5)
        env.close()
    assert found("drawn") == found("pixels") != {}


@pytest.mark.parametrize("env_ids", some([None, [0, 2]], [0, 2]))
def test_the_last_frame_of_envs_that_reset_themselves_is_missing(env_ids):
    env, recorder = record(cartpole(num_envs=3), render=True, dump_on_done=True, make_grid=False, env_ids=env_ids)
    torch.manual_seed(0)
    env.set_seed(0)
    env.rollout(40, break_when_any_done=False)
    recorder.dump()
    ended = [row for row in rows() if row["ended"] != "unfinished"]
    assert {row["env_id"] for row in ended} == ({"0", "1", "2"} if env_ids is None else {"0", "2"})
    assert all(int(row["frames"]) == int(row["length"]) for row in ended)  # and not one more


def test_each_env_of_vmas_is_drawn_for_itself():
    env, recorder = record(vmas(seed=0), video_format="pt", render=True, make_grid=False, env_ids=[0, 2])
    env.rollout(3)
    recorder.dump()
    world = env.base_env._env
    images = [world.render(mode="rgb_array", env_index=at) for at in (0, 2)]
    env.close()
    paths = [Path("csv_logs/run", row["file"]) for row in rows()]
    assert [path.name for path in paths] == ["video_env0_0.pt", "video_env2_0.pt"]
    for path, image in zip(paths, images, strict=True):
        assert np.array_equal(decode(path)[-1], image)


def test_arguments_and_cameras_are_those_of_the_envs_own_call():
    cameras = [{"height": 48, "width": 64}, {"height": 32, "width": 64, "camera_id": 1}]
    env, recorder = record(cheetah(), video_format="pt", render=cameras)
    env.rollout(2)
    physics = env.base_env._env.physics
    right = np.zeros((48, 64, 3), np.uint8)  # the lower image is padded at the bottom
    right[:32] = physics.render(height=32, width=64, camera_id=1)
    frame = np.concatenate([physics.render(height=48, width=64, camera_id=0), right], axis=1)
    path = recorder.dump().path
    env.close()
    assert np.array_equal(decode(path)[-1], frame)


@pytest.mark.long
def test_torchrls_own_mujoco_envs_draw_their_batch():
    require("mujoco")
    pytest.importorskip("torchrl.envs.custom.mujoco")
    from torchrl.envs.custom.mujoco import HopperEnv

    env, recorder = record(HopperEnv(num_envs=3, backend="mujoco"), render={"height": 48, "width": 64}, make_grid=False)
    env.rollout(3, break_when_any_done=False)
    recorder.dump()
    env.close()
    assert [row["env_id"] for row in rows()] == ["0", "1", "2"]
    assert min(int(row["frames"]) for row in rows()) >= 4  # more where it was reset


# functions


def angle(env, tensordict):
    return numbered(int(tensordict["th"].item() * 100) % 4096, SIZE)


def test_a_function_draws_an_env_whose_state_is_in_its_tensordict():
    env, recorder = record(PendulumEnv(), render=angle)
    data = env.rollout(4)
    angles = torch.cat([data["th"][:1], data["next", "th"]])
    assert numbers_in(recorder.dump().path) == [int(th * 100) % 4096 for th in angles.tolist()]


@pytest.mark.parametrize("batch", [SerialEnv, partial(ParallelEnv, mp_start_method="fork")])
def test_a_function_is_called_for_each_env_where_it_is(batch):
    shift = 5  # a closure travels to the workers
    env, recorder = record(
        batch(2, PendulumEnv), render=lambda env, td: numbered(int(td["th"].item() * 100 + shift) % 4096, SIZE)
    )
    data = env.rollout(3)
    video = recorder.dump()
    env.close()
    angles = torch.cat([data["th"][:, :1], data["next", "th"]], 1)
    assert cells_in(video.path, 2) == [[int(th * 100 + shift) % 4096 for th in step] for step in angles.T.tolist()]


def test_a_function_may_draw_all_envs_in_one_image_or_each_in_several():
    env, recorder = record(DrawnEnv(LENGTHS), render=lambda env: numbered(max(env.steps), SIZE))
    env.rollout(2)
    assert numbers_in(recorder.dump().path) == [0, 1, 2]
    env, recorder = record(DrawnEnv(LENGTHS[:1], batch_size=()), render=lambda env: [env.render(), env.render()])
    env.rollout(2)
    assert recorder.dump().size == (SIZE[0], SIZE[1] * 2)


def test_depth_is_drawn_in_a_range_and_a_colormap():
    require("matplotlib")
    env, recorder = record(
        DrawnEnv(LENGTHS[:1], batch_size=()),
        render=lambda env: np.full(SIZE, 500.0 * env.steps[0]),
        value_range=(0, 1000),
        colormap="viridis",
    )
    env.rollout(2)
    colours = [frame[:, 0, 0].tolist() for frame in recorder.obs]
    assert [max(map(abs, np.subtract(a, b))) <= 2 for a, b in zip(colours, VIRIDIS, strict=True)] == [True] * 3


VIRIDIS = [[68, 1, 84], [33, 145, 140], [253, 231, 37]]


def test_rgba_is_an_image_and_no_stack():
    image = np.zeros((*SIZE, 4), np.uint8)
    image[..., 3] = 255
    env, recorder = record(DrawnEnv(LENGTHS[:1], batch_size=()), render=lambda env: image + np.uint8(0))
    env.rollout(2)
    assert recorder.dump().frames == 3


# what is refused


REFUSED = {
    "render_mode is None": (lambda: cartpole(render_mode=None), True, "render_mode='rgb_array'"),
    "render_mode is ansi": (lambda: GymEnv("FrozenLake-v1", render_mode="ansi"), True, "render_mode is 'ansi'"),
    "no render": (PendulumEnv, True, "PendulumEnv has no render"),
    "unknown argument": (cartpole, {"height": 48}, "takes no 'height'"),
    "no image": (cartpole, lambda env: None, "None was drawn of CartPole-v1"),
    "no images": (cartpole, lambda env: [], "no image was drawn"),
    "a video": (cartpole, lambda env: np.zeros((5, 48, 64), np.uint8), r"shape \(5, 48, 64\)"),
    "one of each expected": (lambda: DrawnEnv(LENGTHS), lambda env: list(env.render()[:3]), "3 frames of DrawnEnv"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_drawn_is_refused_with_what_to_change(case):
    make, render, words = REFUSED[case]
    env, recorder = record(make(), render=render)
    with pytest.raises(FrameError, match=words):
        env.rollout(2)
    env, recorder = record(make(), render=render, on_error="warn")
    with pytest.warns(VidrecWarning, match=words):
        data = env.rollout(2)
    assert data.shape[-1] == 2
    assert recorder.dump().lost == 3


def test_one_image_of_all_is_no_video_of_each():
    for settings in ({"make_grid": False}, {"env_ids": [0]}):
        env, _ = record(DrawnEnv(LENGTHS), render=lambda env: env.render()[0], **settings)
        with pytest.raises(FrameError, match="draws one image of all its envs"):
            env.rollout(2)


def failing(env):
    if env.steps[0] == 2:
        raise RuntimeError("the GPU is gone")
    return env.render()


@pytest.mark.filterwarnings("ignore:.*the GPU is gone:UserWarning")
def test_a_worker_that_cannot_draw_goes_on_to_step():
    env, recorder = record(
        ParallelEnv(3, WORKERS, mp_start_method="fork"), render=failing, on_error="warn", env_ids=[1, 2]
    )
    data = env.rollout(5, break_when_any_done=False)
    failure = recorder.dump()
    env.close()
    assert data.shape == (3, 5)
    assert "worker 1 of ParallelEnv: RuntimeError: the GPU is gone" in str(failure.errors[0])
    assert failure.lost == 1
    assert failure.video.frames == 5


@pytest.mark.parametrize("render", [0, 5, "rgb_array", {1: 2}, [], [True, 3], object()])
def test_render_is_true_arguments_a_function_or_a_list(render):
    with pytest.raises(SettingError, match="render="):
        VideoRecorder(None, "video", render=render)


@pytest.mark.parametrize("settings", [{"in_keys": ["pixels"]}, {"out_keys": ["pixels"]}, {"by_agent": True}])
def test_render_does_not_go_with_what_reads_the_data(settings):
    with pytest.raises(SettingError, match="render= draws the frames"):
        VideoRecorder(None, "video", render=True, **settings)
    VideoRecorder(None, "video", render=False, **settings)


def buffer(recorder):
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(4), batch_size=2)
    buffer.extend(TensorDict({"a": torch.zeros(4)}, [4]))
    buffer.append_transform(recorder)
    return buffer


def test_data_without_an_environment_are_not_drawn():
    with pytest.raises(SettingError, match="there is none around this recorder"):
        buffer(VideoRecorder(None, "video", render=True)).sample()
    drawn = buffer(VideoRecorder(None, "video", render=True, on_error="warn"))
    with pytest.warns(VidrecWarning, match="there is none around this recorder"):
        assert set(drawn.sample().keys()) >= {"a"}


# copies


def test_a_pickled_recorder_draws():
    recorder = pickle.loads(pickle.dumps(VideoRecorder(CSVLogger("run"), "video", skip=1, render=angle)))
    env = TransformedEnv(PendulumEnv(), recorder)
    env.rollout(3)
    assert recorder.dump().frames == 4


def test_a_compiled_step_draws():
    env, recorder = record(PendulumEnv(), render=angle)
    step = torch.compile(env.step, backend="eager")
    td = env.reset()
    angles = [td["th"].item()]
    for _ in range(3):
        td = step(td.set("action", torch.ones(1)))["next"].exclude("reward")
        angles.append(td["th"].item())
    assert numbers_in(recorder.dump().path) == [int(th * 100) % 4096 for th in angles]


def test_a_missing_key_names_render():
    env, _ = record(DrawnEnv(LENGTHS))
    with pytest.raises(KeyError, match="render=True"):
        env.reset()

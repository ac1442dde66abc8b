"""Captions: read back from the decoded video, by comparing with a strip in which the text is drawn."""

import copy
import math
import pickle
import warnings
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
import torch
from conftest import compiles_steps, product, require, since_torchrl, some
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numbered_frames import decode, read_number, rows
from PIL import Image, ImageDraw
from tensordict import NonTensorData, TensorDict, lazy_stack
from test_agents import KEY, AgentsEnv
from test_compile import TensorEnv
from test_placement import LENGTHS, SelfResettingEnv
from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer, Unbounded
from torchrl.data.replay_buffers.samplers import SamplerWithoutReplacement
from torchrl.envs import Compose, GymEnv, SerialEnv, StepCounter, TransformedEnv
from torchrl.envs.transforms import Transform
from worlds import EpisodesEnv, KeepLogger, PixelsEnv, name_of, random_frames

import vidrec
from vidrec import CSVLogger, SettingError, VideoRecorder, VidrecWarning, captions
from vidrec.captions import Strip, caption

NAMES = ["step", "reward", "return"]
EPISODES = (24, 32)
"""The size of the frames of `EpisodesEnv`."""


def recorder(name="run", video_format="mkv", **arguments):
    return VideoRecorder(CSVLogger(name, video_format=video_format), "video", **{"skip": 1, **arguments})


def recorded(env, own, steps, **arguments):
    """Record a rollout; return it and the decoded video of `dump`."""
    env = TransformedEnv(env, own)
    torch.manual_seed(0)
    rollout = env.rollout(steps, **{"break_when_any_done": False, **arguments})
    return rollout, decode(own.dump().path)


def apart(video, size, lines=1, cells=1):
    """Return the frames of a video as they were before they were enlarged, and their strips, [T, cells, H, W, 3]."""
    strip = Strip.of(size, lines, cells)
    columns = math.ceil(math.sqrt(cells))
    height, width = strip.top + strip.height, strip.width
    split = [
        video[:, row * height : (row + 1) * height, column * width : (column + 1) * width]
        for row, column in (divmod(cell, columns) for cell in range(cells))
    ]
    whole = np.stack(split, 1)
    frames = whole[:, :, : size[0] * strip.factor : strip.factor, :: strip.factor]
    assert (whole[:, :, : size[0] * strip.factor] == frames.repeat(strip.factor, 2).repeat(strip.factor, 3)).all()
    return frames, whole[:, :, strip.top :]


def says(video, texts, size=EPISODES, cells=1):
    """Assert that a video has these texts, [T][cells] or [T], below its frames."""
    texts = [[text] if isinstance(text, str) else text for text in texts]
    lines = 1 + texts[0][0].count("\n")
    _, strips = apart(video, size, lines, cells)
    assert len(strips) == len(texts)
    for time, (drawn, expected) in enumerate(zip(strips, texts, strict=True)):
        for cell, text in zip(drawn, expected, strict=True):
            assert np.array_equal(cell[..., 0], Strip.of(size, lines, cells).draw(text)), (time, text)
            assert (cell == cell[..., :1]).all()


def by_pillow(text, height, width, letters):
    """Draw one line of text as a user of Pillow's would."""
    image = Image.new("L", (width, height))
    below = (height - math.ceil(1.25 * letters)) // 2 + letters
    font = captions._font(letters, text.rstrip("…").isascii())
    ImageDraw.Draw(image).text((letters // 3, below), text, 255, font, anchor="ls")
    return np.asarray(image).astype(int)


def blocks(size, side):
    """Return `frame(number, env)` for `PixelsEnv`: noise in blocks, of which an odd number is cut off at the edges."""
    coarse = random_frames(*(math.ceil(length / side) for length in size), 3)

    def frame(number, env_id):
        whole = coarse(number, env_id).repeat_interleave(side, 0).repeat_interleave(side, 1)
        return whole[: size[0], : size[1]].contiguous()

    return frame


def texts_of(steps):
    return [f"step {n}  reward {'+1.00' if n else '+0.00'}  return {n}.00" for n in range(steps + 1)]


SIZES = {  # (height, width) of the frame: by how much it is enlarged, the heights of the strip and of the text
    (84, 84): (4, 26, 14),
    (210, 160): (2, 26, 13),
    (33, 47): (8, 24, 12),
    (480, 640): (1, 38, 20),
    (301, 333): (1, 26, 13),
    (1080, 1920): (1, 88, 45),
}


@pytest.mark.parametrize("size", some(SIZES, (210, 160), (33, 47), (301, 333)))
def test_a_caption_is_below_the_frame_at_any_size(size):
    factor, height, letters = SIZES[size]
    plain, own = recorder("plain"), recorder(caption=NAMES)
    env = TransformedEnv(PixelsEnv(frame=blocks(size, 1 + min(size) // 100)), Compose(plain, own))
    env.rollout(2)
    without, video = decode(plain.dump().path), decode(own.dump().path)
    top = factor * size[0]
    assert video.shape[1] == top + top % 2 + height
    assert np.array_equal(video[:, :top:factor, ::factor], without)
    for shown, text in zip(video[:, -height:, :, 0], texts_of(2), strict=True):
        expected = by_pillow(text, height, factor * size[1], letters)
        assert np.abs(shown - expected).mean() < 1
        assert (shown > 200).sum() > 100


@pytest.mark.parametrize("size", some([(84, 84), (210, 160), (301, 333), (480, 640)], (84, 84), (301, 333)))
def test_an_mp4_of_the_defaults_has_legible_text_and_frames_as_good_as_without(size):
    plain, own = recorder("plain", "mp4"), recorder(video_format="mp4", caption=NAMES)
    env = TransformedEnv(PixelsEnv(frame=blocks(size, 3)), Compose(plain, own))
    pixels = env.rollout(4)["next", "pixels"].numpy().astype(int)
    strip, quality = Strip.of(size, 1), {}
    videos = {each: decode(each.dump().path)[1:].astype(int) for each in (plain, own)}
    for each, video in videos.items():
        factor = video.shape[2] // size[1]
        video = video[:, : factor * size[0], : factor * size[1]]
        means = video.reshape(4, size[0], factor, size[1], factor, 3).mean((2, 4))
        quality[each] = 10 * np.log10(255**2 / np.square(means - pixels).mean())
    assert quality[own] > quality[plain] - 0.3
    texts = texts_of(4)
    for shown, text in zip(videos[own][:, strip.top : strip.top + strip.height, : strip.width], texts[1:], strict=True):
        errors = {other: np.square(shown.mean(-1) - strip.draw(other)).mean() for other in texts}
        assert min(errors, key=errors.get) == text
        assert 10 * np.log10(255**2 / errors[text]) > 25


def test_each_cell_of_a_grid_has_its_own_through_partial_resets():
    own = recorder(caption=["step", "reward", "return", "episode", "env"])
    _, video = recorded(EpisodesEnv([[2], [3], [5]]), own, 6)
    lengths, texts = [2, 3, 5], []
    for time in range(7):
        cells = []
        for env_id, length in enumerate(lengths):
            # the frame of a step that ends an episode; a partial reset adds none to a grid
            episode, step = ((time - 1) // length, (time - 1) % length + 1) if time else (0, 0)
            reward = env_id + 1 if step else 0
            cells.append(
                f"step {step}  reward {reward:+.2f}  return {step * (env_id + 1):.2f}  episode {episode}  env {env_id}"
            )
        texts.append(cells)
    says(video, texts, cells=3)


def test_only_the_chosen_envs_of_a_nested_batch():
    own = recorder(caption="{env} {return}", env_ids=[1, 4])
    _, video = recorded(EpisodesEnv([[9]] * 6, (2, 3)), own, 2)
    says(video, [["1 0.00", "4 0.00"], ["1 2.00", "4 5.00"], ["1 4.00", "4 10.00"]], cells=2)


@pytest.mark.parametrize("where", some(["env", "before", "behind"], "env", "behind"))
def test_the_last_caption_of_each_episode_says_what_the_episode_is(where):
    lengths, bounds = ([[2, 3], [4]], []) if where == "env" else ([[9], [4]], [StepCounter(max_steps=3)])
    own = recorder(make_grid=False, dump_on_done=True, caption="{env} {episode} {step} {return_}")
    first, last = (bounds, []) if where == "before" else ([], bounds)
    env = TransformedEnv(EpisodesEnv(lengths), Compose(*first, own, *last))
    env.rollout(10, break_when_any_done=False)
    own.dump()
    assert len(own.videos) > 6
    for video in own.videos:
        episode = video.episode
        texts = [f"{episode.env_id} {episode.number} {n} {n * (episode.env_id + 1):.2f}" for n in range(video.frames)]
        assert texts[-1].endswith(f" {episode.length} {episode.return_:.2f}")
        says(decode(video.path), texts)


def test_a_plain_dump_of_one_episode_says_what_its_row_says():
    own = recorder(caption="{episode} {step} {return}")
    env = TransformedEnv(EpisodesEnv([[4]], ()), own)
    for number in range(3):
        env.rollout(9)
        video = own.dump()
        assert (video.episode.number, video.episode.length, video.episode.return_) == (number, 4, 4.0)
        says(decode(video.path), [f"{number} {n} {n}.00" for n in range(5)])


def test_an_env_that_is_stepped_on_after_it_is_done_begins_another_episode():
    own = recorder(make_grid=False, dump_on_done=True, caption="{episode} {step}")
    env = TransformedEnv(PixelsEnv(horizon=2), own)
    td = env.reset()
    for _ in range(3):  # done at the second, and from then on at each
        td = env.step(env.rand_action(td))["next"]
    own.dump()
    assert [video.episode.number for video in own.videos] == [0, 1]
    says(decode(own.videos[0].path), ["0 0", "0 1", "0 2"], (48, 64))
    says(decode(own.videos[1].path), ["1 1"], (48, 64))


def test_an_env_that_a_transform_behind_ends_and_that_is_stepped_on_begins_another_episode():
    own = recorder(caption="{episode} {step} {return}")
    env = TransformedEnv(PixelsEnv(), Compose(own, StepCounter(max_steps=2)))
    td = env.reset()
    for _ in range(4):
        td = env.step(env.rand_action(td))["next"]
    video = decode(own.dump().path)
    says(video, ["0 0 0.00", "0 1 1.00", "0 2 2.00", "1 1 1.00", "2 1 1.00"], (48, 64))


def test_an_env_that_waits_for_the_others_stays_as_it_is():
    own = recorder(caption="{episode} {step} {reward} {return}")
    base = SerialEnv(2, [lambda: EpisodesEnv([[2]], ()), lambda: EpisodesEnv([[4]], ())])
    _, video = recorded(base, own, 9, break_when_all_done=True)
    steps = [(0, 0), (1, 1), (2, 2), (2, 3), (2, 4)]
    texts = [[f"0 {n} {min(n, 1):+.2f} {n}.00" for n in both] for both in steps]
    says(video, texts, cells=2)


@since_torchrl("0.13")
@pytest.mark.parametrize("how", ["by TorchRL's transform", "natively"])
def test_an_env_that_resets_itself_is_followed(how):
    own = recorder(make_grid=False, dump_on_done=True, caption=lambda moment: seen.append(moment) or "")
    seen = []
    if how == "natively":
        base = SelfResettingEnv(LENGTHS)
        base._torchrl_native_autoreset = True
    else:
        base = SelfResettingEnv(LENGTHS, auto_reset=True)
    TransformedEnv(base, own).rollout(9, break_when_any_done=False)
    own.dump()
    assert len(own.videos) > 6
    assert sum(video.frames for video in own.videos) == len(seen) > 25
    for moment in seen:
        assert read_number(moment.frame) == name_of(moment.env_id, moment.episode, moment.step)
        assert moment.return_ == moment.step * moment.reward == moment.step * (moment.env_id + 1)


def test_cartpole_shows_its_actions_by_index_and_its_pixels_stay_as_they_are():
    require("pygame")
    own = recorder(caption=["action", "return", "observation"], fps="env")
    base = GymEnv("CartPole-v1", from_pixels=True, pixels_only=False)
    rollout, video = recorded(base, own, 8)
    size = tuple(rollout["pixels"].shape[1:3])
    frames, _ = apart(video, size)
    assert np.array_equal(frames[0, 0], rollout["pixels"][0].numpy())
    assert np.array_equal(frames[1:, 0], rollout["next", "pixels"].numpy())
    first = [rollout["observation"][0], *rollout["next", "observation"]]
    actions = ["-", *rollout["action"].int().argmax(-1).tolist()]
    assert {0, 1} <= set(actions)
    texts = [
        f"action {action}  return {n}.00  observation [{' '.join(f'{value:.3g}' for value in seen.tolist())}]"
        for n, (action, seen) in enumerate(zip(actions, first, strict=True))
    ]
    says(video, texts, size)


@pytest.mark.parametrize("arguments", [{}, {"make_grid": False}, {"make_grid": False, "dump_on_done": True}], ids=str)
def test_a_caption_knows_the_frame_that_it_is_below(arguments):
    seen = []
    own = recorder(caption=lambda moment: seen.append(moment) or "", **arguments)
    env = TransformedEnv(EpisodesEnv([[2, 1], [3], [5, 4]]), own)
    for breaks in (True, False):
        env.rollout(9, break_when_any_done=breaks)
    assert len(seen) >= 3 * (1 + 1 + 9)
    for moment in seen:
        assert read_number(moment.frame) == name_of(moment.env_id, moment.episode, moment.step)
        assert moment.return_ == moment.step * (moment.env_id + 1)


def test_the_policys_pixels_and_those_of_the_recorder_behind_are_untouched():
    seen = []

    class Look(Transform):
        def _call(self, next_tensordict):
            seen.append(next_tensordict["pixels"].clone())
            return next_tensordict

        def _reset(self, tensordict, tensordict_reset):
            return self._call(tensordict_reset)

    before, behind, plain = Look(), Look(), recorder("plain")
    env = TransformedEnv(PixelsEnv((2,)), Compose(before, recorder(caption=NAMES), behind, plain))
    env.rollout(3)
    for was, is_ in zip(seen[::2], seen[1::2], strict=True):
        assert torch.equal(was, is_)
    assert decode(plain.dump().path).shape == (4, 48, 128, 3)


def test_agents_are_side_by_side_above_one_caption_or_have_one_each():
    made = AgentsEnv({KEY: (3, 24, 32, 3)}, (2,), agents=3)
    together = recorder("together", in_keys=[KEY], caption=["return", ("agents", "reward")])
    alone = recorder("alone", in_keys=[KEY], by_agent=True, caption="{env} {agent} {agents[reward]:.1f}")
    env = TransformedEnv(made, Compose(together, alone))
    env.rollout(2)
    video = decode(together.dump().path)
    alone.dump()
    texts = [["return 0.00  agents.reward -"] * 2]
    texts += [[f"return {6 * n}.00  agents.reward [1 2 3]"] * 2 for n in (1, 2)]
    says(video, texts, (24, 96), cells=2)
    assert len(alone.videos) == 6
    for each in alone.videos:
        who = f"{each.env_id} {each.agent}"
        says(decode(each.path), [f"{who} -", *[f"{who} [1.0 2.0 3.0]"] * 2])


def test_several_entries_share_the_caption_of_their_env():
    made = AgentsEnv({"left": (24, 32, 3), "right": (16, 20, 3)}, (2,))
    own = recorder(in_keys=["left", "right"], caption="{env} {step}")
    _, video = recorded(made, own, 2)
    frames, _ = apart(video, (24, 52), cells=2)
    says(video, [[f"0 {n}", f"1 {n}"] for n in range(3)], (24, 52), cells=2)
    for key, cut in (("left", np.s_[:, :, :, :32]), ("right", np.s_[:, :, :16, 32:])):
        assert np.array_equal(frames[cut], torch.stack(made.seen[key]).numpy())


@pytest.mark.parametrize("arguments", [{"make_grid": False}, {}], ids=["a video for each", "grid"])
def test_vmas(arguments):
    require("vmas")
    from torchrl.envs.libs.vmas import VmasEnv

    class Frames(Transform):
        def _call(self, next_tensordict):
            return next_tensordict.set("pixels", torch.full((*next_tensordict.batch_size, 24, 32, 3), 9).byte())

        def _reset(self, tensordict, tensordict_reset):
            return self._call(tensordict_reset)

        def transform_observation_spec(self, observation_spec):
            observation_spec["pixels"] = Unbounded((*observation_spec.shape, 24, 32, 3), dtype=torch.uint8)
            return observation_spec

    base = VmasEnv("navigation", num_envs=2, n_agents=2, seed=0, max_steps=4)
    own = recorder(caption="{env} {episode} {step} {return:.3f} {action:.2f}", **arguments)
    env = TransformedEnv(base, Compose(Frames(), own))
    td = env.rollout(6, break_when_any_done=False)
    own.dump()
    rewards, texts = td["next", "agents", "reward"].double().sum((-1, -2)), []
    for env_id in range(2):
        said, total, step, episode = [f"{env_id} 0 0 0.000 -"], 0.0, 0, 0
        for n in range(6):
            if n == 4:
                total, step, episode = 0.0, 0, 1
                said.append(f"{env_id} 1 0 0.000 -")
            total, step = total + float(rewards[env_id, n]), step + 1
            action = td["agents", "action"][env_id, n].flatten().tolist()
            said.append(f"{env_id} {episode} {step} {total:.3f} [{' '.join(f'{x:.2f}' for x in action)}]")
        texts.append(said)
    videos = [decode(video.path) for video in own.videos]
    if arguments:
        assert len(videos) == 2
        for video, said in zip(videos, texts, strict=True):
            says(video, said)
    else:
        says(videos[0], list(map(list, zip(*texts, strict=True))), cells=2)


# samples of buffers and datasets


def data(lengths, image=("next", "pixels"), ids=True):
    """Episodes one after the other; each step gives the reward episode + 1, and has an action of its own."""
    at = [(episode, step) for episode, length in enumerate(lengths) for step in range(length)]
    last = torch.tensor([step == lengths[episode] - 1 for episode, step in at])[:, None]
    episodes = torch.tensor([episode for episode, _ in at])
    sample = TensorDict(
        {
            "action": torch.arange(float(len(at)))[:, None],
            "next": {"done": last, "terminated": last.clone(), "reward": (episodes + 1.0)[:, None]},
        },
        [len(at)],
    )
    sample[image] = torch.randint(256, (len(at), 24, 32, 3)).byte()
    return sample.set("episode", episodes + 10) if ids else sample


def rows_of(lengths, first=10):
    """What `data` is, row by row: episode, step, reward, return."""
    return [(first + e, n, e + 1.0, (n + 1) * (e + 1.0)) for e, length in enumerate(lengths) for n in range(length)]


SAMPLE = "{episode} {step} {reward} {return} {action:.0f}"


def sampled(own, sample):
    """Draw a sample, of which nothing is shuffled, from a replay buffer."""
    buffer = TensorDictReplayBuffer(
        storage=LazyTensorStorage(100),
        transform=own,
        batch_size=len(sample),
        sampler=SamplerWithoutReplacement(shuffle=False),
    )
    buffer.extend(sample)
    return buffer.sample()


@product(key=["pixels", ("next", "pixels")], ids=[True, False])
def test_a_row_of_a_buffer_has_its_reward_and_the_return_of_its_trajectory(key, ids):
    own = recorder(in_keys=[key], caption=SAMPLE)
    sample = sampled(own, data([3, 17, 2], key, ids))
    video = decode(own.dump().path)
    expected = rows_of([3, 17, 2], 10 if ids else 0)
    says(video, [f"{e} {n} {r:+.2f} {total:.2f} {at}" for at, (e, n, r, total) in enumerate(expected)])
    frames, _ = apart(video, EPISODES)
    assert np.array_equal(frames[:, 0], sample[key].numpy())


def test_the_last_row_of_each_trajectory_says_what_its_video_is():
    own = recorder(in_keys=[("next", "pixels")], dump_on_done=True, caption="{episode} {step} {return}")
    sampled(own, data([3, 17, 2]))
    own.dump()
    assert len(own.videos) == 3
    for video in own.videos:
        last = decode(video.path)[-1:]
        says(last, [f"{video.episode.number} {video.episode.length - 1} {video.episode.return_:.2f}"])


def test_trajectories_of_samples_are_counted_on():
    own = recorder(in_keys=[("next", "pixels")], caption="{episode} {step}", skip=2)
    for _ in range(2):
        sampled(own, data([3, 2], ids=False))
    says(decode(own.dump().path), ["0 1", "1 0", "2 0", "2 2", "3 1"])


def test_a_grid_of_trajectories_has_the_row_of_each_and_nothing_below_padding():
    sample = data([4, 4, 2], ids=False)
    padded = torch.cat([sample, sample[-2:]]).reshape(3, 4)
    padded["mask"] = torch.tensor([[True] * 4, [True] * 4, [True, True, False, False]])
    own = recorder(in_keys=[("next", "pixels")], make_grid=True, caption="{episode} {step} {return}")
    own(padded)
    texts = [[f"{e} {n} {(n + 1) * (e + 1)}.00" if n < 2 or e < 2 else "" for e in range(3)] for n in range(4)]
    says(decode(own.dump().path), texts, cells=3)


def test_slices_of_a_slice_sampler():
    own = recorder(in_keys=[("next", "pixels")], dump_on_done=True, caption=lambda moment: shown.append(moment) or "")
    shown = []
    buffer = TensorDictReplayBuffer(
        storage=LazyTensorStorage(100), sampler=SliceSampler(slice_len=5), batch_size=20, transform=own
    )
    buffer.extend(data([20, 20]))
    sample = buffer.sample()
    assert len(shown) == 20
    for at, moment in enumerate(shown):
        assert moment.reward == moment.episode - 9
        assert moment.return_ == (moment.step + 1) * moment.reward
        assert moment.env_id is None
        assert moment.tensordict.batch_size == ()
        assert torch.equal(moment.tensordict["action"], sample["action"][at])
        assert np.array_equal(moment.frame, sample["next", "pixels"][at].numpy())


def test_frames_without_a_tensordict_are_counted_and_have_no_reward():
    own = VideoRecorder(CSVLogger("run", video_format="mkv"), "video", caption=[*NAMES, "episode", "env", "whatever"])
    for _ in range(2):
        own._apply_transform(torch.zeros(2, 24, 32, 3, dtype=torch.uint8))
    texts = [f"step {n}  reward -  return -  episode -  env -  whatever -" for n in range(4)]
    says(decode(own.dump().path), texts)


def test_a_sample_without_rewards_and_several_cameras():
    own = recorder(caption="{step} {reward}")
    own(TensorDict({"pixels": torch.zeros(3, 2, 24, 32, 3, dtype=torch.uint8)}, [3]))  # two cameras a step
    says(decode(own.dump().path), ["0 -", "0 -", "1 -", "1 -", "2 -", "2 -"])


def test_a_large_batch_is_captioned_in_parts(monkeypatch):
    parts = []
    written = vidrec.recording.recording.Recording.write
    monkeypatch.setattr(
        vidrec.recording.recording.Recording,
        "write",
        lambda self, streams, batches: (parts.append(len(batches[0])), written(self, streams, batches))[1],
    )
    own = recorder(in_keys=[("next", "pixels")], caption="{step}")
    sampled(own, data([50]))
    assert max(parts) <= 16
    says(decode(own.dump().path), [f"{n}" for n in range(50)])


# what may be written


def test_a_function_gets_what_is_known_of_the_frame():
    moments = []

    def text(moment):
        moments.append((moment, moment.tensordict))
        return f"{moment.step}"

    own = recorder(caption=text, make_grid=False)
    rollout, _ = recorded(EpisodesEnv([[2], [9]]), own, 3)
    assert [(m.env_id, m.episode, m.step, m.reward, m.return_) for m, _ in moments if m.env_id == 0] == [
        (0, 0, 0, 0.0, 0.0),
        (0, 0, 1, 1.0, 1.0),
        (0, 0, 2, 1.0, 2.0),
        (0, 1, 0, 0.0, 0.0),
        (0, 1, 1, 1.0, 1.0),
    ]
    (_, begin), *other = [(moment, td) for moment, td in moments if moment.env_id == 1]
    assert set(begin.keys()) == {"done", "terminated", "truncated", "pixels"}
    for n, (moment, td) in enumerate(other):
        assert torch.equal(td["action"], rollout["action"][1, n])
        assert torch.equal(td["next", "reward"], torch.tensor([2.0]))
        assert np.array_equal(moment.frame, rollout["next", "pixels"][1, n].numpy())
    last, _ = moments[-1]
    assert abs(datetime.now(timezone.utc) - last.time) < timedelta(minutes=1)
    with pytest.raises(ValueError, match="read-only"):
        last.frame[:] = 0
    with pytest.raises(AttributeError):
        last.step = 3
    assert len(repr(last)) < 300
    assert isinstance(last, vidrec.Moment)


def test_the_time_is_that_of_videos_csv():
    own = recorder(caption="{time}\n{time:%Y}", skip=1)
    _, video = recorded(EpisodesEnv([[9]], ()), own, 1)
    began = datetime.fromisoformat(rows()[0]["time"])
    shown = apart(video, EPISODES, 2)[1][0, 0, :, :, 0]
    seconds = [began + timedelta(seconds=n) for n in (-1, 0, 1)]
    drawn = [Strip.of(EPISODES, 2).draw(f"{time:%Y-%m-%d %H:%M:%S}\n{time:%Y}") for time in seconds]
    assert any(np.array_equal(shown, each) for each in drawn)


class Entries(Transform):
    """Adds an entry of each kind to each outcome."""

    def _call(self, next_tensordict):
        size = next_tensordict.batch_size
        return next_tensordict.update(
            {
                "one": torch.full((*size, 1), 1.23456),
                "many": torch.arange(9.0).expand(*size, 9),
                "mask": torch.ones(*size, 2, dtype=torch.bool),
                "half": torch.full((*size, 1), 0.5, dtype=torch.bfloat16),
                "matrix": torch.eye(2).expand(*size, 2, 2),
                "words": NonTensorData("pick up\nthe cube", batch_size=size),
                "listed": NonTensorData([1, "two"], batch_size=size),
                "inner": {"deep": torch.full((*size, 1), 7)},
            }
        )

    def _reset(self, tensordict, tensordict_reset):
        return self._call(tensordict_reset)


ENTRIES = {
    "one": "1.23",
    "many": "[0 1 2 3 …]",
    "mask": "[True True]",
    "half": "0.5",
    "matrix": "[1 0 0 1]",
    "words": "pick up the cube",
    "listed": "[1 two]",
    ("inner", "deep"): "7",
    ("next", "inner", "deep"): "7",
}


@pytest.mark.parametrize("key", ENTRIES, ids=str)
@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
def test_an_entry_of_any_kind(key, batch):
    own = recorder(caption=[key], make_grid=False, env_ids=[0])
    env = TransformedEnv(EpisodesEnv([[9]] * max(1, len(batch) * 2), batch), Compose(Entries(), own))
    env.rollout(1)
    name = key if isinstance(key, str) else ".".join(part for part in key if part != "next")
    says(decode(own.dump().path), [f"{name} {ENTRIES[key]}"] * 2)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("{step} r={reward:+.2f} R={return_:.1f}", "1 r=+1.00 R=1.0"),
        ("{{{step:03}}}", "{001}"),
        ("{env_id} {env}", "- -"),
        ("{one:.1f} {many:.1f} {inner[deep]:02}", "1.2 [0.0 1.0 2.0 3.0 …] 07"),
        ("{words:>20}", "pick up the cube"),
        ("step", "step 1"),
        (("step", "episode"), "step 1  episode 0"),
        (["step", ["inner", "deep"]], "step 1  inner.deep 7"),
        (lambda moment: None, "None"),
        (lambda moment: 3.5, "3.5"),
        (lambda moment: "é µ θ → ↑ ± 日本", "é µ θ → ↑ ± 日本"),
    ],
)
def test_what_may_be_given(given, text):
    own = recorder(caption=given)
    env = TransformedEnv(EpisodesEnv([[9]], ()), Compose(Entries(), own))
    env.rollout(1)
    says(decode(own.dump().path)[1:], [text])


def test_small_rewards_and_those_that_are_no_numbers():
    rewards = iter([0.001, -0.0, float("nan"), float("inf"), 12345.678, -3.14159])

    class Some(EpisodesEnv):
        def _step(self, tensordict):
            return super()._step(tensordict).set("reward", torch.tensor([next(rewards)], dtype=torch.float64))

    own = recorder(caption="{reward}")
    _, video = recorded(Some([[9]], ()), own, 6)
    says(video, ["+0.00", "+0.001", "+0.00", "+nan", "+inf", "+12345.68", "-3.14"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "must be a list"),
        ("", "names ''"),
        (3, "must be a list"),
        ({"step"}, "must be a list"),
        ([3], "names 3"),
        ([""], "names ''"),
        ([()], r"names \(\)"),
        ("{step", "broken format string"),
        ("step}", "broken format string"),
        ("{}", "is no name"),
        ("{0}", "is no name"),
        ("{step.real}", "is no name"),
        ("{agents[]}", "is no name"),
        ("{step!r}", "nothing else"),
        ("{step:{reward}}", "nothing else"),
        ("{step:.2q}", "broken format string"),
        ("{reward:d}", "broken format string"),
    ],
)
def test_what_cannot_be_is_refused_when_the_recorder_is_made(given, words):
    with pytest.raises(SettingError, match=words):
        recorder(caption=given)


def test_a_key_that_is_not_there_is_refused_at_the_first_step_with_those_that_are():
    env = TransformedEnv(EpisodesEnv([[9]], ()), recorder(caption=["step", "velocity"]))
    with pytest.raises(SettingError, match=r"'velocity'.* step, reward, .*'action', 'done', 'pixels', 'reward'"):
        env.rollout(1)
    own = recorder(in_keys=[("next", "pixels")], caption=["velocity"])
    with pytest.raises(SettingError, match=r"'velocity'.*'action'"):
        own(data([2]))


def test_a_group_of_entries_is_no_value():
    env = TransformedEnv(EpisodesEnv([[9]], ()), Compose(Entries(), recorder(caption=["inner"])))
    with pytest.raises(SettingError, match=r"'inner'.*\('inner', 'deep'\)"):
        env.rollout(1)


def test_a_key_inside_of_a_tensor_and_agents_of_different_sizes_are_no_values():
    env = TransformedEnv(EpisodesEnv([[9]], ()), recorder(caption=["step", ("pixels", "deep")]))
    with pytest.raises(SettingError, match=r"\('pixels', 'deep'\)"):
        env.rollout(1)

    class Sizes(Transform):
        def _call(self, next_tensordict):
            agents = [TensorDict({"seen": torch.zeros(2, length)}, [2]) for length in (3, 4)]
            return next_tensordict.set("agents", lazy_stack(agents, 1))

        def _reset(self, tensordict, tensordict_reset):
            return self._call(tensordict_reset)

    own = recorder(caption=lambda moment: moment.tensordict["agents"][1]["seen"].shape[0])
    env = TransformedEnv(
        EpisodesEnv([[9], [9]]), Compose(Sizes(), own, recorder("other", caption=[("agents", "seen")]))
    )
    with pytest.raises(SettingError, match=r"\('agents', 'seen'\)"):
        env.rollout(1)
    says(decode(own.dump().path)[:1], [["4", "4"]], cells=2)


def test_a_format_that_the_value_does_not_have_is_refused_with_its_name():
    env = TransformedEnv(EpisodesEnv([[9]], ()), Compose(Entries(), recorder(caption="{one:d}")))
    with pytest.raises(SettingError, match="'one' by 'd'"):
        env.rollout(1)


def test_with_warn_a_caption_that_raises_costs_its_frames_and_no_more():
    def text(moment):
        return str(1 // (moment.step - 2))

    own = recorder(caption=text, on_error="warn")
    env = TransformedEnv(EpisodesEnv([[9]], ()), own)
    with pytest.warns(VidrecWarning, match="ZeroDivisionError|division"):
        env.rollout(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        failure = own.dump()
    assert failure.lost == 1
    says(decode(failure.video.path), ["-1", "-1", "1", "0"])
    env = TransformedEnv(EpisodesEnv([[9]], ()), recorder(caption=text))
    with pytest.raises(ZeroDivisionError):
        env.rollout(4)


# what is too long, and what has no glyph


@pytest.mark.parametrize("word", ["reward +1.00  ", "12", "θ µ"])
def test_a_line_that_is_too_long_ends_with_an_ellipsis_within_the_strip(word):
    strip = Strip.of((84, 84), 1)
    text = word * 100
    drawn = strip.draw(text)
    errors = {n: np.abs(by_pillow(text[:n] + "…", *drawn.shape, strip.size) - drawn).mean() for n in range(80)}
    cut = min(errors, key=errors.get)
    assert 30 < cut < 50
    assert errors[cut] < 1
    assert np.abs(by_pillow(text[:cut], *drawn.shape, strip.size) - drawn).mean() > 2 * errors[cut]
    fits = text[: cut - 1]
    assert np.abs(by_pillow(fits, *drawn.shape, strip.size) - strip.draw(fits)).mean() < 1
    ink = np.flatnonzero(drawn.any(0))
    assert strip.width - 4 * strip.size < ink[-1] < strip.width
    assert np.array_equal(strip.draw("x" * 10**6), strip.draw("x" * 1000))
    assert not np.array_equal(strip.draw("x" * 1000), strip.draw("x" * 20))


def test_lines_that_are_too_many_are_cut_with_an_ellipsis():
    strip = Strip.of((84, 84), 2)
    assert np.array_equal(strip.draw("a\nb\nc\nd"), strip.draw("a\nb…"))
    assert np.array_equal(strip.draw("a\r\nb"), strip.draw("a\nb"))
    assert not np.array_equal(strip.draw("a\nb"), strip.draw("a"))


def test_the_first_text_of_a_function_says_how_many_lines_there_are():
    texts = ["one\ntwo", "one", "one\ntwo\nthree", "a\nb"]
    own = recorder(caption=lambda moment: texts[moment.step])
    _, video = recorded(EpisodesEnv([[9]], ()), own, 3)
    _, strips = apart(video, EPISODES, 2)
    strip = Strip.of(EPISODES, 2)
    for shown, text in zip(strips[:, 0, :, :, 0], ["one\ntwo", "one", "one\ntwo…", "a\nb"], strict=True):
        assert np.array_equal(shown, strip.draw(text))


HOSTILE = [
    "\x00\x01\x1b[31m\x7f",
    "\ud800 lone \udfff",
    "tab\there\vand\fthere",
    "e" + "\u0301" * 500,
    "שלום مرحبا بالعالم " * 20,
    "👩‍👩‍👧‍👦 🏳️‍🌈 😀" * 9,
    "\u202e reversed \u2066 isolated",
    "\u2028\u2029\u0085",
    "\U0010ffff\ue000\ufffe",
    " " * 1000,
    "\n\n\n",
    "",
    "…" * 300,
]


@given(
    text=st.text(st.characters()) | st.text("ab 1…é\n\t", max_size=300),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    lines=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
@example(text="x" * 200, size=(4000, 1), lines=1)
def test_any_text_is_drawn(text, size, lines):
    strip = Strip.of(size, lines)
    drawn = strip.draw(text)
    assert drawn.shape == (strip.height, strip.width)
    assert drawn.dtype == np.uint8


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_is_drawn_too(text):
    for size in ((84, 84), (1080, 1920), (1, 300), (3000, 1)):
        strip = Strip.of(size, 1)
        assert strip.draw(text).shape == (strip.height, strip.width)
    with pytest.MonkeyPatch.context() as patched:  # without a font of the system or matplotlib's
        patched.setattr(captions, "_path", lambda: None)
        for cached in (captions._font, captions._drawn, captions._advance):
            cached.cache_clear()
        strip = Strip.of((84, 84), 1)
        assert strip.draw(text).shape == (strip.height, strip.width)
        assert strip.draw("step 12").max() > 200
    for cached in (captions._font, captions._drawn, captions._advance):
        cached.cache_clear()


def test_what_has_no_glyph_is_seen_as_such_and_letters_of_other_languages_are_not_boxes():
    strip = Strip.of((84, 84), 1)
    assert np.array_equal(strip.draw("a\x00b"), strip.draw("a\N{REPLACEMENT CHARACTER}b"))
    assert np.array_equal(strip.draw("a\ud800b"), strip.draw("a\N{REPLACEMENT CHARACTER}b"))
    assert np.array_equal(strip.draw("a\tb"), strip.draw("a b"))
    box = strip.draw("\N{CJK UNIFIED IDEOGRAPH-65E5}")
    for letter in "éµθ→↑±":
        assert not np.array_equal(strip.draw(letter), box), letter


@pytest.mark.parametrize("cells", [1, 4, 9, 64, 100, 1000])
@pytest.mark.parametrize("size", [(84, 84), (33, 47), (1, 1), (3, 1500), (210, 160), (480, 640)])
def test_enlarging_never_makes_a_side_longer_than_4096(size, cells):
    strip = Strip.of(size, 1, cells)
    columns = math.ceil(math.sqrt(cells))
    rows = math.ceil(cells / columns)
    sides = rows * (strip.top + strip.height), columns * strip.width
    assert strip.factor == 1 or max(sides) <= 4096
    larger = 2 * max(rows * strip.top, columns * strip.width)
    assert strip.factor * min(size) >= 256 or larger + rows * strip.height > 4096
    assert strip.factor * min(size) < 512 or strip.factor == 1
    assert strip.top % 2 == strip.height % 2 == 0


def test_the_encoder_does_not_enlarge_what_a_caption_has_enlarged():
    own = recorder(video_format="mp4", caption=NAMES)
    _, video = recorded(PixelsEnv(frame=random_frames(84, 84, 3)), own, 2)
    assert video.shape[1:3] == (336 + 26, 336)


def test_frames_below_each_other_share_no_colours_with_the_text():
    frames = np.full((1, 301, 301, 3), (255, 0, 0), np.uint8)
    shown = caption(frames, ["text"], 1)[0]
    assert shown.shape[0] % 2 == 0
    assert (shown[:302] == (255, 0, 0)).all()
    assert not shown[302].any()
    assert not frames[..., 1:].any()


def test_unused_cells_of_a_grid_are_black_whatever_was_in_memory_before():
    frames = np.full((3, 24, 32, 3), 255, np.uint8)
    for _ in range(20):
        shown = caption(frames, ["text"] * 3, 1, tile=True)
        assert not shown[0, shown.shape[1] // 2 :, shown.shape[2] // 2 :].any()
        shown[:] = 255


# the rest of the recorder


def test_obs_shows_captions():
    own = recorder(caption="{step}")
    env = TransformedEnv(EpisodesEnv([[9]], ()), own)
    env.rollout(2)
    says(np.stack([frame.permute(1, 2, 0).numpy() for frame in own.obs]), ["0", "1", "2"])
    env.rollout(1)
    says(np.stack([frame.permute(1, 2, 0).numpy() for frame in own.obs]), ["0", "1", "2", "0", "1"])


@since_torchrl("0.13")
def test_to_animation_shows_captions():
    require("matplotlib")
    import matplotlib

    matplotlib.use("agg")
    own = VideoRecorder(None, None, skip=1, caption="{step}")
    TransformedEnv(EpisodesEnv([[9]], ()), own).rollout(2)
    animation = own.to_animation()
    animation._draw_was_started = True  # what saving it would set; it warns of an animation that nobody saw
    says(np.stack([artists[0].get_array() for artists in animation._framedata]), ["0", "1", "2"])


def test_any_other_logger_gets_them_in_its_tensor():
    logger = KeepLogger()
    env = TransformedEnv(EpisodesEnv([[9]], ()), VideoRecorder(logger, "video", skip=1, caption="{step}"))
    env.rollout(2)
    env.transform.dump()
    says(logger.videos[0][0].permute(0, 2, 3, 1).numpy(), ["0", "1", "2"])


def test_skip_last_step_trigger_and_keep_go_with_them():
    cases = [
        ({"skip": 3, "last": 2}, [["0 8", "0 11"]]),
        ({"step_trigger": lambda step: step % 5 == 3, "max_frames": 2}, [["0 4", "0 5"], ["0 9", "0 10"]]),
        ({"keep": lambda episode: episode.number == 1, "last": 1}, []),
    ]
    for at, (arguments, texts) in enumerate(cases):
        own = recorder(f"run{at}", caption="{episode} {step}", **arguments)
        TransformedEnv(EpisodesEnv([[99]], ()), own).rollout(12)
        own.dump()
        assert len(own.videos) == len(texts)
        for video, said in zip(own.videos, texts, strict=True):
            says(decode(video.path), said)


def text_of(moment):
    return f"{moment.episode}\n{moment.step}"


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda own: own.clone(), lambda own: pickle.loads(pickle.dumps(own))],
    ids=["deepcopy", "clone", "pickle"],
)
@pytest.mark.parametrize("given", [text_of, ["episode", "step"]], ids=["function", "names"])
def test_a_copy_writes_captions_of_its_own(copied, given):
    own = recorder(caption=given)
    env = TransformedEnv(EpisodesEnv([[9]], ()), own)
    env.rollout(1)
    other = copied(own)
    TransformedEnv(EpisodesEnv([[9]], ()), other).rollout(1)
    text = "{0}\n{1}" if given is text_of else "episode {0}  step {1}"
    for video in (other.dump(), own.dump()):
        says(decode(video.path), [text.format(0, 0), text.format(0, 1)])


@compiles_steps
def test_captions_in_a_compiled_step_stay_in_one_graph():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    logger = KeepLogger()
    own = VideoRecorder(logger, "video", skip=1, caption=["step", "return", "number", "action"])
    env = TransformedEnv(TensorEnv(), own)
    step = torch.compile(env.step, fullgraph=True, backend="aot_eager")
    td = env.reset()
    for n in range(7):
        td["action"] = torch.full((1,), n / 8)
        td = step(td)["next"].clone()
    own.dump()
    texts = ["step 0  return 0.00  number 0  action -"]
    texts += [f"step {n}  return {n}.00  number {n}  action {(n - 1) / 8:.3g}" for n in range(1, 6)]
    texts += [f"step {n - 5}  return {n - 5}.00  number {n}  action {(n - 1) / 8:.3g}" for n in range(6, 8)]
    says(logger.videos[0][0].permute(0, 2, 3, 1).numpy(), texts)
    assert not torch._dynamo.utils.counters["graph_break"]


def test_a_function_in_a_compiled_step_is_called_outside_of_the_graph():
    torch._dynamo.reset()
    logger = KeepLogger()
    own = VideoRecorder(logger, "video", skip=1, caption=lambda m: f"{m.step} {m.tensordict.get('action') is not None}")
    env = TransformedEnv(TensorEnv(), own)
    step = torch.compile(env.step, backend="aot_eager")
    td = env.reset()
    for _ in range(2):
        td["action"] = torch.zeros(1)
        td = step(td)["next"].clone()
    own.dump()
    says(logger.videos[0][0].permute(0, 2, 3, 1).numpy(), ["0 False", "1 True", "2 True"])


def test_a_recorder_without_captions_imports_nothing_of_them_into_a_step(monkeypatch):
    monkeypatch.setattr(captions, "caption", None)
    monkeypatch.setattr(vidrec.sources.captions, "Data", None)
    monkeypatch.setattr(vidrec.sources.captions, "Progress", None)
    _, video = recorded(EpisodesEnv([[9]], ()), recorder(), 2)
    assert video.shape == (3, *EPISODES, 3)

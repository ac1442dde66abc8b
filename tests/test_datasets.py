"""Replay buffers and datasets: what passes by without an environment."""

import io
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import since_torchrl
from numbered_frames import decode, numbered, numbers_in, read_number, rows
from PIL import Image
from tensordict import NonTensorStack, TensorDict
from torchrl.collectors.utils import split_trajectories
from torchrl.data import (
    LazyMemmapStorage,
    LazyTensorStorage,
    ListStorage,
    ReplayBuffer,
    SliceSampler,
    TensorDictReplayBuffer,
)
from torchrl.data.datasets import OpenXExperienceReplay
from torchrl.data.replay_buffers.samplers import SamplerWithoutReplacement
from torchrl.envs.transforms import Compose, Transform
from torchrl.envs.transforms.transforms import _CallableTransform

from vidrec import CSVLogger, FrameError, VideoRecorder, VidrecWarning, keep_best

IMAGE = ("next", "observation", "image")


def frames(numbers, size=(24, 32)):
    """Numbered frames, uint8 [N, 3, H, W]; the number 0 is black."""
    return torch.stack([numbered(number, size).permute(2, 0, 1) for number in numbers])


def data(lengths, zeros_at_end=False):
    """Episodes one after the other, whose frames are 100 * (episode + 1) + step; each step gives the reward 1."""
    ids = [episode for episode, length in enumerate(lengths) for _ in range(length)]
    steps = [step for length in lengths for step in range(length)]
    last = torch.tensor([step == lengths[episode] - 1 for episode, step in zip(ids, steps, strict=True)])[:, None]
    numbers = [100 * (episode + 1) + step for episode, step in zip(ids, steps, strict=True)]
    if zeros_at_end:
        numbers = [0 if end else number for number, end in zip(numbers, last, strict=True)]
    return TensorDict(
        {
            "episode": torch.tensor(ids, dtype=torch.int32),
            "next": {
                "observation": {"image": frames(numbers)},
                "done": last,
                "truncated": torch.zeros_like(last),
                "terminated": last.clone(),
                "reward": torch.ones(len(ids), 1),
            },
        },
        [len(ids)],
    )


def numbers_of(episode, steps):
    return [100 * (episode + 1) + step for step in steps]


def recorder(**kwargs):
    return VideoRecorder(CSVLogger("run", video_format="mkv"), "pixels", in_keys=[IMAGE], **kwargs)


def found():
    """The names of all videos without the step, and the numbers in their frames."""
    paths = sorted(Path("csv_logs/run/videos").glob("*.mkv"))
    return sorted((path.stem.rpartition("_")[0], numbers_in(path)) for path in paths)


BUFFERS = {
    "list": lambda **kwargs: ReplayBuffer(storage=ListStorage(100), collate_fn=torch.stack, **kwargs),
    "tensor": lambda **kwargs: ReplayBuffer(storage=LazyTensorStorage(100), **kwargs),
    "memmap": lambda **kwargs: TensorDictReplayBuffer(storage=LazyMemmapStorage(100), **kwargs),
}


@pytest.mark.parametrize("kind", BUFFERS)
def test_a_batch_is_laid_out_in_time(kind):
    t = recorder()
    buffer = BUFFERS[kind](transform=t, batch_size=20, sampler=SamplerWithoutReplacement(shuffle=False))
    buffer.extend(data([8, 12]))
    buffer.sample()
    assert numbers_in(t.dump().path) == numbers_of(0, range(8)) + numbers_of(1, range(12))


@pytest.mark.parametrize("kind", BUFFERS)
def test_with_dump_on_done_each_trajectory_has_its_video(kind):
    t = recorder(dump_on_done=True)
    buffer = BUFFERS[kind](transform=t, batch_size=20, sampler=SamplerWithoutReplacement(shuffle=False))
    buffer.extend(data([8, 5, 7]))
    buffer.sample()
    assert found() == [(f"pixels_ep{e}", numbers_of(e, range(n))) for e, n in enumerate([8, 5, 7])]
    assert [(row["episode"], row["length"], row["return"], row["ended"]) for row in rows()] == [
        ("0", "8", "8.0", "terminated"),
        ("1", "5", "5.0", "terminated"),
        ("2", "7", "7.0", "terminated"),
    ]
    assert t.dump().episode.number == 2
    assert t.dump() is None


def test_slices_of_a_slice_sampler_are_cut_where_they_end():
    t = recorder(dump_on_done=True)
    sampler = SliceSampler(slice_len=5, traj_key="episode", strict_length=True)
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(100), transform=t, batch_size=15, sampler=sampler)
    buffer.extend(data([9, 11]))
    torch.manual_seed(0)  # one time in forty a slice goes on where the last one ended: they would be one video
    buffer.sample()
    videos = found()
    assert len(videos) == 3
    for name, numbers in videos:
        episode = numbers[0] // 100 - 1
        assert name == f"pixels_ep{episode}"
        assert numbers == list(range(numbers[0], numbers[0] + 5))


def test_a_change_of_the_trajectorys_id_cuts_where_no_step_is_done():
    td = data([3, 4]).exclude(("next", "done"), ("next", "terminated"), ("next", "truncated"))
    for key in ("episode", ("collector", "traj_ids"), "traj_ids"):
        sample = td.exclude("episode").set(key, td["episode"])
        t = VideoRecorder(
            CSVLogger("run", video_format="mkv"), "-".join(key) if isinstance(key, tuple) else key,
            in_keys=[IMAGE], dump_on_done=True,
        )  # fmt: skip
        t(sample)
        name = t.tag
        assert [numbers for tag, numbers in found() if tag.startswith(f"{name}_ep")] == [
            numbers_of(0, range(3)),
            numbers_of(1, range(4)),
        ]


def test_trajectories_without_an_id_are_counted():
    t = recorder(dump_on_done=True)
    t(data([3, 4]).exclude("episode"))
    t(data([2]).exclude("episode"))
    assert [name for name, _ in found()] == ["pixels_ep0", "pixels_ep1", "pixels_ep2"]


def test_the_rows_of_a_batch_are_trajectories_of_their_own():
    t = recorder(dump_on_done=True)
    td = data([10]).exclude("episode", ("next", "done"), ("next", "terminated"), ("next", "truncated"))
    t(td.reshape(2, 5))
    assert found() == [("pixels_ep0", numbers_of(0, range(5))), ("pixels_ep1", numbers_of(0, range(5, 10)))]
    assert [row["ended"] for row in rows()] == ["unfinished"] * 2


@pytest.mark.parametrize("shape", [(0,), (0, 5), (4, 0)])
def test_an_empty_batch_has_no_frames(shape):
    rec = VideoRecorder(CSVLogger("run"), "video", skip=1)
    empty = TensorDict({"pixels": torch.zeros(*shape, 24, 32, 3, dtype=torch.uint8)}, shape)
    assert rec(empty) is empty
    assert rec.dump() is None
    rec(frames_alone := TensorDict({"pixels": frames([1, 2])}, [2]))
    rec(empty)
    assert rec.dump().frames == len(frames_alone)


def test_skip_keep_and_episode_trigger_are_for_each_trajectory():
    t = recorder(skip=2, keep=keep_best(1), episode_trigger=lambda number: number != 1)
    t(data([5, 9, 7, 6]))
    assert found() == [("pixels_ep2", numbers_of(2, [1, 3, 5]))]
    assert len(rows()) == 1


def test_a_grid_puts_the_trajectories_side_by_side_in_time():
    t = recorder(make_grid=True)
    t(data([6, 6, 6]).reshape(3, 6))
    frames = decode(t.dump().path)
    assert frames.shape == (6, 48, 64, 3)
    for step, frame in enumerate(frames):
        cells = [frame[:24, :32], frame[:24, 32:], frame[24:, :32]]
        assert [read_number(cell) for cell in cells] == [100 * (row + 1) + step for row in range(3)]
        assert not frame[24:, 32:].any()


def test_padded_steps_are_in_no_video_and_black_in_a_grid():
    td = data([3, 5])
    td["collector", "traj_ids"] = td["episode"]
    padded = split_trajectories(td.exclude("episode"))
    assert padded.shape == (2, 5)
    t = recorder()
    t(padded)
    assert numbers_in(t.dump().path) == numbers_of(0, range(3)) + numbers_of(1, range(5))
    t = recorder(dump_on_done=True)
    t(padded)
    assert [numbers for _, numbers in found()[-2:]] == [numbers_of(0, range(3)), numbers_of(1, range(5))]
    t = VideoRecorder(CSVLogger("run", video_format="mkv"), "grid", in_keys=[IMAGE], make_grid=True)
    t(padded)
    frames = decode(t.dump().path)
    assert [read_number(frame[:, :32]) for frame in frames] == [*numbers_of(0, range(3)), 0, 0]
    assert [read_number(frame[:, 32:]) for frame in frames] == numbers_of(1, range(5))


def test_what_is_read_by_index_is_recorded_too():
    t = recorder()
    buffer = ReplayBuffer(storage=LazyTensorStorage(100), transform=t, batch_size=4)
    buffer.extend(data([4, 6]))
    buffer[:]
    assert t.dump().frames == 10


# OpenX, on disk in its own layout


def openx(tmp_path, lengths, transform, zeros_at_end=False, **kwargs):
    data(lengths, zeros_at_end).memmap_(tmp_path / "datasets" / "cmu_stretch")
    return OpenXExperienceReplay(
        "cmu_stretch",
        root=tmp_path / "datasets",
        download=False,
        streaming=False,
        replacement=False,
        shuffle=False,
        transform=transform,
        **kwargs,
    )


def numbers_in_batch(batch):
    return [read_number(frame.permute(1, 2, 0)) for frame in batch[IMAGE]]


@pytest.mark.parametrize("strict_length", [True, False])
def test_the_loop_of_openx_gives_its_batch_in_one_video(tmp_path, strict_length):
    t = recorder()
    dataset = openx(tmp_path, [12, 3, 15], t, batch_size=10, slice_len=5, strict_length=strict_length)
    batch = next(iter(dataset))
    video = t.dump()
    assert numbers_in(video.path) == numbers_in_batch(batch)
    assert 0 < video.frames == len(batch) <= 10


@pytest.mark.parametrize("strict_length", [True, False])
def test_each_trajectory_of_openx_has_its_video_without_the_frames_that_it_lacks(tmp_path, strict_length):
    t = recorder(dump_on_done=True)
    dataset = openx(tmp_path, [12, 3, 5], t, zeros_at_end=True, batch_size=10, slice_len=5, strict_length=strict_length)
    expected, lacking = [], 0
    for _, batch in zip(range(6), dataset, strict=False):
        numbers, last = [], None
        for number, episode in zip(numbers_in_batch(batch), batch["episode"].tolist(), strict=True):
            if last is not None and (episode != last):
                expected.append(numbers)
                numbers = []
            lacking += number == 0
            if number:
                numbers.append(number)
            else:  # the episode ends here
                expected.append(numbers)
                numbers, last = [], None
                continue
            last = episode
        expected.append(numbers)
    assert lacking
    assert sorted(numbers for _, numbers in found()) == sorted(numbers for numbers in expected if numbers)


# what a frame may be


def test_encoded_frames_and_those_of_pillow_are_decoded():
    def png(number):
        file = io.BytesIO()
        Image.fromarray(numbered(number).numpy()).save(file, "PNG")
        return file.getvalue()

    t = VideoRecorder(CSVLogger("run", video_format="mkv"), "pixels")
    t(TensorDict({"pixels": NonTensorStack(*[png(number) for number in (3, 4)])}, [2]))
    t._apply_transform([Image.fromarray(numbered(5).numpy())])
    assert numbers_in(t.dump().path) == [3, 4, 5]
    with pytest.raises(FrameError, match=r"'pixels'\[0\] is 7 bytes that are no frame"):
        t(TensorDict({"pixels": NonTensorStack(b"no PNG!", b"nor one")}, [2]))
    with pytest.raises(FrameError, match="is a dict"):
        t._apply_transform({"bytes": png(1)})


# what is no padding, no id and no flag


def test_masks_of_frames_agents_and_actions_are_no_padding():
    for step, (key, shape) in enumerate(
        ((("observation", "mask"), (8, 24, 32)), (("agents", "mask"), (8, 2)), ("mask", (8, 3)))
    ):
        t = recorder()
        t(data([8]).set(key, torch.zeros(shape, dtype=torch.bool)))
        assert t.dump(step=step).frames == 8


def test_several_cameras_of_a_step_follow_one_another_also_in_trajectories():
    td = data([2, 3]).set("pixels", frames(range(1, 11)).reshape(5, 2, 3, 24, 32))
    t = VideoRecorder(CSVLogger("run", video_format="mkv"), "cameras", in_keys=["pixels"], dump_on_done=True)
    t(td)
    assert found() == [("cameras_ep0", [1, 2, 3, 4]), ("cameras_ep1", [5, 6, 7, 8, 9, 10])]
    t = VideoRecorder(CSVLogger("run"), "both", in_keys=["pixels", IMAGE])
    with pytest.raises(FrameError, match=r"has 10 frames and .* has 5; expected as many"):
        t(td)


def test_done_entries_of_agents_cut_as_well_and_the_root_one_goes_before_them():
    td = data([2, 3])
    agents = td["next", "done"][:, None].expand(-1, 2, -1).clone()
    nested = td.exclude("episode", ("next", "done"), ("next", "terminated"), ("next", "truncated"))
    t = recorder(dump_on_done=True)
    t(nested.set(("next", "agents", "done"), agents))
    assert [numbers for _, numbers in found()] == [numbers_of(0, range(2)), numbers_of(1, range(3))]


def test_ids_that_are_data_are_no_ids():
    td = data([4]).exclude("episode").set("trajectory", torch.rand(4, 5, 2)).set("traj_id", torch.rand(4))
    t = recorder(dump_on_done=True)
    t(td)
    assert [name for name, _ in found()] == ["pixels_ep0"]


def test_a_trailing_axis_of_one_is_no_time():
    t = recorder(dump_on_done=True)
    t(data([4]).unsqueeze(-1))
    assert [numbers for _, numbers in found()] == [numbers_of(0, range(4))]


# samples that are drawn ahead, by several threads


class Drawn(Transform):
    """Keeps the numbers of each sample that is drawn, by whatever thread."""

    def __init__(self):
        super().__init__(in_keys=[], out_keys=[])
        self.samples = []

    def forward(self, tensordict):
        self.samples.append(tensordict["number"].tolist())
        return tensordict


def prefetching(recorder, batch_size=10, steps=600):
    """A buffer of trajectories of 5 steps that draws 3 samples ahead, and what it has drawn."""
    drawn = Drawn()
    buffer = ReplayBuffer(
        storage=LazyTensorStorage(steps),
        sampler=SamplerWithoutReplacement(shuffle=False),
        transform=Compose(drawn, recorder),
        batch_size=batch_size,
        prefetch=3,
    )
    done = torch.zeros(steps, 1, dtype=torch.bool)
    done[4::5] = True
    numbers = torch.arange(steps)
    buffer.extend(TensorDict({"number": numbers, "pixels": frames(numbers), "next": {"done": done}}, [steps]))
    return buffer, drawn.samples


@since_torchrl("0.14")
def test_samples_that_are_drawn_ahead_are_recorded_once_each():
    t = VideoRecorder(CSVLogger("run", video_format="mkv"), "pixels", in_keys=["pixels"])
    buffer, drawn = prefetching(t)
    given = [buffer.sample()["number"].tolist() for _ in range(40)]
    buffer.shutdown()  # waits for those that are drawn ahead
    assert len(drawn) == len(given) + 3
    numbers = numbers_in(t.dump().path)
    samples = [numbers[at : at + 10] for at in range(0, len(numbers), 10)]
    assert sorted(samples) == sorted(drawn) == [list(range(at, at + 10)) for at in range(0, 430, 10)]
    # three threads draw: which three of the samples are left is not said
    assert all(given.count(sample) == 1 and sample in drawn for sample in given)


@since_torchrl("0.14")
def test_trajectories_that_are_drawn_ahead_have_a_video_each():
    t = VideoRecorder(CSVLogger("run", video_format="mkv"), "pixels", in_keys=["pixels"], dump_on_done=True)
    buffer, drawn = prefetching(t)
    for _ in range(17):
        buffer.sample()
    buffer.shutdown()
    assert len(drawn) == 20
    videos = found()
    assert sorted(numbers for _, numbers in videos) == [list(range(at, at + 5)) for at in range(0, 200, 5)]
    assert sorted(name for name, _ in videos) == sorted(f"pixels_ep{episode}" for episode in range(40))
    assert t.dump() is t.videos[39]
    assert t.dump() is None


@since_torchrl("0.14")
def test_grids_that_are_drawn_ahead_follow_one_another_sample_by_sample():
    t = VideoRecorder(CSVLogger("run", video_format="mkv"), "pixels", in_keys=["pixels"], make_grid=True)
    rows = _CallableTransform(lambda td: td.reshape(4, 10))
    buffer, drawn = prefetching(Compose(rows, t), batch_size=40)
    for _ in range(9):
        buffer.sample()
    buffer.shutdown()
    frames = decode(t.dump().path)
    assert len(frames) == 10 * len(drawn) == 120
    first = [read_number(frame[:24, :32]) for frame in frames]
    assert sorted(first[::10]) == sorted(sample[0] for sample in drawn)
    assert all(number == first[at - at % 10] + at % 10 for at, number in enumerate(first))


@since_torchrl("0.14")
def test_skip_and_max_frames_count_what_is_drawn_ahead():
    t = VideoRecorder(CSVLogger("run", video_format="mkv"), "pixels", in_keys=["pixels"], skip=3, max_frames=100)
    buffer, _ = prefetching(t)
    for _ in range(47):
        buffer.sample()
    buffer.shutdown()
    with pytest.warns(VidrecWarning, match=r"66 frames .* came after max_frames=100"):
        video = t.dump()
    assert video.frames == 100
    assert len(set(numbers_in(video.path))) == 100


@since_torchrl("0.14")
def test_an_error_of_a_recorder_is_raised_by_the_sample_that_was_drawn_ahead():
    t = VideoRecorder(CSVLogger("run"), "pixels", in_keys=["number"])
    buffer, _ = prefetching(t)
    with pytest.raises(FrameError, match="'number'"):
        buffer.sample()
    buffer.shutdown()


def test_slices_in_rows_have_a_video_each_also_where_one_goes_on_with_the_trajectory_of_the_last():
    t = recorder(dump_on_done=True)
    buffer = ReplayBuffer(
        storage=LazyTensorStorage(100), batch_size=40, sampler=SliceSampler(slice_len=2, traj_key="episode")
    )
    # the marks of the sampler come too late for a transform; rows end a trajectory as well
    buffer.append_transform(lambda td: td.reshape(-1, 2))
    buffer.append_transform(t)
    buffer.append_transform(lambda td: td.reshape(-1))
    buffer.extend(data([6]))
    torch.manual_seed(0)
    batch = buffer.sample()
    numbers = numbers_in_batch(batch)
    slices = [numbers[at : at + 2] for at in range(0, 40, 2)]
    assert any(one[1] + 1 == two[0] for one, two in pairwise(slices))
    assert sorted(numbers for _, numbers in found()) == sorted(slices)
    assert {row["episode"] for row in rows()} == {"0"}


def test_a_slice_across_the_end_of_a_full_buffer_is_one_video():
    t = recorder(dump_on_done=True)
    sampler = SliceSampler(slice_len=6, traj_key="episode")
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(10), transform=t, batch_size=6, sampler=sampler)
    stored = data([6, 7])
    stored["step_count"] = torch.tensor([*range(6), *range(7)])
    for step in stored.split(1):  # steps 3 to 6 of the second trajectory come to lie at 9, 0, 1 and 2
        buffer.extend(step)
    torch.manual_seed(0)
    numbers = numbers_in_batch(buffer.sample())
    assert set(numbers) > {203, 204}
    assert found() == [("pixels_ep1", numbers)]


@since_torchrl("0.13")
def test_what_a_slice_sampler_pads_is_in_no_video_of_a_trajectory():
    t = recorder(dump_on_done=True)
    sampler = SliceSampler(slice_len=5, traj_key="episode", strict_length=False, pad_output=True)
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(100), transform=t, batch_size=10, sampler=sampler)
    buffer.extend(data([3, 3]))
    batch = buffer.sample()
    t.dump()
    mask = batch["collector", "mask"].flatten().tolist()
    assert not all(mask)
    recorded = [number for _, numbers in found() for number in numbers]
    assert sorted(recorded) == sorted(n for n, valid in zip(numbers_in_batch(batch), mask, strict=True) if valid)

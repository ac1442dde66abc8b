"""Frames on a CUDA device: by a stand-in for the device, and on a GPU where there is one."""

import copy
import gc
import os
import pickle
import signal
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered_frames import cells_in, decode, numbered, numbers_in, probe, read_number
from torch import Tensor
from torchrl.envs import TransformedEnv
from worlds import EpisodesEnv, KeepLogger, PixelsEnv, name_of

from vidrec import CSVLogger, Encoding, FrameError, SettingError, VideoRecorder, VidrecWarning
from vidrec.errors import Once
from vidrec.ffmpeg import encoding, program
from vidrec.ffmpeg.encoding import try_out
from vidrec.ffmpeg.program import has_encoder
from vidrec.frames import Colours, Entries, Look, Reading, transfer
from vidrec.frames.pixels import to_rgb
from vidrec.recording import lifetime

WAITS = {"cpu", "numpy", "item", "tolist", "nonzero", "__bool__", "__array__", "__float__", "__int__", "is_nonzero"}

GARBAGE = 0xAB


class OnDevice(Tensor):
    """A tensor that says it is on a CUDA device, and lets nobody read it in a way for which that would be waited."""

    is_cuda, is_cpu = True, False

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        assert func.__name__ not in WAITS, f"{func.__name__} waits for the device"
        return super().__torch_function__(func, types, args, kwargs or {})

    def __deepcopy__(self, memo):
        return on_device(self)


def on_device(x):
    return x.clone().as_subclass(OnDevice)


class LateCopy(transfer.Copy):
    """A copy that takes effect when it is waited for, of what its source held when it was enqueued."""

    made, waited, alive = [], [], weakref.WeakSet()

    def _begin(self, source):
        assert source.is_contiguous()
        self.source, self.number, self.owner = source.as_subclass(Tensor).clone(), len(self.made), os.getpid()
        self.made.append(self.number)
        self.alive.add(self)
        return torch.full(source.shape, GARBAGE, dtype=source.dtype).as_subclass(Tensor)

    def wait(self):
        self.waited.append(self.number)
        self.host.copy_(self.source)

    def __del__(self):
        if os.getpid() != self.owner:
            os._exit(99)  # as CUDA would, in a forked child


@pytest.fixture(autouse=True)
def _late(monkeypatch):
    monkeypatch.setattr(transfer, "copy_of", LateCopy)
    for each in (LateCopy.made, LateCopy.waited, LateCopy.alive):
        each.clear()


class DeviceEnv(PixelsEnv):
    """Draws into one buffer on the device, over the frames of the step before; `sent` makes them of another kind."""

    def __init__(self, *args, sent=lambda frames: frames, **more):
        super().__init__(*args, **more)
        self.sent, self.buffer = sent, None

    def _frames(self):
        frames = self.sent(super()._frames())
        if self.buffer is None or self.buffer.shape != frames.shape:
            self.buffer = on_device(frames)
        return self.buffer.copy_(frames)


class DeviceEpisodesEnv(EpisodesEnv):
    """The same with episodes; done and reward are in main memory."""

    def _out(self, **more):
        out = super()._out(**more)
        return out.set("pixels", on_device(out["pixels"]))


def small(number, env_id):
    return numbered(number | env_id << 6, (24, 32))


def float_number(number, env_id):
    return numbered(number).float()


def recorded(env, logger=None, **arguments):
    logger = CSVLogger("run") if logger is None else logger
    recorder = VideoRecorder(logger, "video", skip=1, **arguments)
    return TransformedEnv(env, recorder), recorder


def steps(env, count):
    """Reset and step without a rollout, and return of each which copies were waited for in it."""
    waits, tensordict = [], None
    for number in range(count):
        before = len(LateCopy.waited)
        if number:
            env.step(tensordict.set("action", torch.zeros(*env.batch_size, 1)))
        else:
            tensordict = env.reset()
        waits.append(LateCopy.waited[before:])
    return waits


def numbers(video):
    return numbers_in(video.path)


# what goes over


FRAME = torch.arange(5 * 24 * 32 * 4).reshape(5, 24, 32, 4)
UINT8 = (FRAME * 7 % 256).to(torch.uint8)
PARTS = (FRAME % 1001) / 1000
MAP = Colours(colormap=np.arange(768, dtype=np.uint8).reshape(256, 3))

KINDS = {
    "uint8": (UINT8[..., :3].contiguous(), Colours()),
    "uint8 CHW": (UINT8[..., :3].permute(0, 3, 1, 2).contiguous(), Colours()),
    "grey": (UINT8[..., :1].contiguous(), Colours()),
    "RGBA": (UINT8, Colours()),
    "bool": (UINT8[..., :3] > 100, Colours()),
    "int16": (UINT8[..., :3].to(torch.int16), Colours()),
    "int64 beyond": (UINT8[..., :3].to(torch.int64) + 5, Colours()),
    "int8": (UINT8[..., :3].to(torch.int64).clamp(0, 127).to(torch.int8), Colours()),
    "float32": (PARTS[..., :3].contiguous(), Colours()),
    "float32 overshoot": (PARTS[..., :3] * 1.04 - 0.02, Colours()),
    "float64": (PARTS[..., :3].double(), Colours()),
    "float16": (PARTS[..., :3].half(), Colours()),
    "bfloat16 CHW": (PARTS[..., :3].permute(0, 3, 1, 2).bfloat16(), Colours()),
    "depth": (FRAME[..., :1].float() * 1.7, Colours(value_range=(100.0, 9000.0))),
    "depth, inverted": (FRAME[..., :1].int(), Colours(value_range=(9000.0, 100.0))),
    "colour map": (UINT8[..., :1].contiguous(), MAP),
    "depth in colours": (FRAME[..., :1].half(), Colours(value_range=(0.0, 300.0), colormap=MAP.colormap)),
}
LOOKS = {
    "each": Look(None, False),
    "cropped": Look((11, 20), False),
    "grid": Look(None, True),
    "grid, cropped": Look(9, True),
}


def entries(*frames, colours=None, **reading):
    found = Reading(strict=False, colours=Colours() if colours is None else colours, **reading)
    return Entries.read([(f"'entry{i}'", each, found, 1, each.ndim - 4, True) for i, each in enumerate(frames)])


@pytest.mark.filterwarnings("ignore:.*What lies outside is clamped")
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_device_makes_the_frames_that_main_memory_makes(kind, look):
    frames, colours = KINDS[kind]
    here, there = entries(frames, colours=colours), entries(on_device(frames), colours=colours)
    assert there.on_device
    expected = here.convert(LOOKS[look])
    sent = there.send(LOOKS[look])
    assert sent.shape == expected.shape
    assert np.array_equal(np.asarray(sent), expected)


def test_a_device_puts_agents_and_entries_side_by_side_as_main_memory_does():
    agents = torch.stack([UINT8[..., :3], 255 - UINT8[..., :3]], 1)
    low = PARTS[:, :10, :14, :3].contiguous()
    for look in LOOKS.values():
        look = look._replace(center_crop=None)
        expected = entries(agents, low).convert(look)
        assert np.array_equal(np.asarray(entries(on_device(agents), on_device(low)).send(look)), expected)


def test_entries_with_unlike_numbers_of_frames_are_refused_on_a_device_as_well():
    pair = entries(on_device(UINT8[..., :3]), on_device(UINT8[:2, ..., :3]))
    with pytest.raises(FrameError, match=r"'entry0' has 5 frames and 'entry1' has 2; .* need as many"):
        pair.send(Look(None, False))


@pytest.mark.parametrize(
    ("frames", "colours"),
    [
        (PARTS * 200, Colours()),
        (PARTS - 1, Colours()),
        (PARTS.double() * float("nan"), Colours(value_range=(0.0, 1.0))),
        (torch.where(PARTS > 0.5, PARTS, float("nan")), Colours()),
        (torch.where(PARTS > 0.5, PARTS, float("nan")), Colours(value_range=(0.0, 1.0))),
        (FRAME.int(), Colours()),
        (FRAME.int() - 90, Colours()),
    ],
    ids=["beyond", "below", "all NaN", "some NaN", "some NaN in a range", "large", "negative"],
)
def test_values_of_no_frame_are_refused_in_the_same_words_once_they_have_arrived(frames, colours):
    frames = frames[..., :3].contiguous()
    sent = entries(on_device(frames), colours=colours).send(Look(None, False))
    if frames.isnan().all():  # stands for frames that are not known
        assert len(np.asarray(sent)) == 0
        return
    with pytest.raises(FrameError) as here:
        to_rgb(frames, name="'entry0'", colours=colours)
    for _ in range(2):
        with pytest.raises(FrameError) as there:
            np.asarray(sent)
        assert str(there.value) == str(here.value)


def test_frames_of_a_dtype_that_no_kernel_knows_are_not_sent():
    assert not entries(on_device(UINT8[..., :3].to(torch.uint16))).on_device
    assert not Entries.read(
        [("a", on_device(UINT8[..., :3]), Reading(), 1, 0, True), ("b", UINT8[..., :3], Reading(), 1, 0, True)]
    ).on_device


# when it is waited


def test_no_step_waits_for_its_own_frame_and_each_copies_once():
    env, recorder = recorded(DeviceEnv())
    waits = steps(env, 9)
    assert waits == [[], *([number] for number in range(8))]
    assert len(LateCopy.made) == 9
    assert numbers(recorder.dump()) == list(range(9))
    assert LateCopy.waited == list(range(9))


@pytest.mark.parametrize("make_grid", [True, False])
def test_a_few_envs_of_many_are_copied_once_a_step_whatever_they_are_shown_in(make_grid):
    env, recorder = recorded(DeviceEnv((64,), frame=small), env_ids=[3, 7, 8, 40], make_grid=make_grid, scale=1)
    waits = steps(env, 6)
    assert waits == [[], *([number] for number in range(5))]
    assert len(LateCopy.made) == 6
    recorder.dump()
    shown = [[number | env_id << 6 for env_id in (3, 7, 8, 40)] for number in range(6)]
    if make_grid:
        assert cells_in(recorder.videos[0].path, 4) == shown
    else:
        assert [numbers(video) for video in recorder.videos] == [list(one) for one in zip(*shown, strict=True)]


def test_what_is_in_main_memory_at_a_time_is_a_frame_or_two():
    env, recorder = recorded(DeviceEnv((4,), frame=small), make_grid=False)
    peak, tensordict = 0, env.reset()
    for _ in range(50):
        env.step(tensordict.set("action", torch.zeros(4, 1)))
        peak = max(peak, len(LateCopy.alive))
    assert peak == 1  # two within the step
    recorder.dump()
    gc.collect()
    assert not LateCopy.alive


def test_frames_that_nobody_wants_are_not_copied():
    env, recorder = recorded(DeviceEnv())
    recorder.skip = 4
    steps(env, 12)
    assert numbers(recorder.dump()) == [3, 7, 11]
    assert len(LateCopy.made) == 3


# every frame once, in order


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_dump_right_after_a_frame_has_it(every):
    env, recorder = recorded(DeviceEnv())
    shown, tensordict = [], env.reset()
    for number in range(1, 7):
        if number % every == 0:
            shown.append(numbers(recorder.dump()))
        env.step(tensordict.set("action", torch.zeros(1)))
    shown.append(numbers(recorder.dump()))
    assert [number for video in shown for number in video] == list(range(7))
    assert len(shown) == 6 // every + 1


def test_closing_the_environment_right_after_a_frame_keeps_it():
    env, recorder = recorded(DeviceEnv())
    steps(env, 3)
    env.close()
    assert numbers(recorder.videos[0]) == [0, 1, 2]


@pytest.mark.parametrize("make_grid", [True, False])
def test_episodes_have_all_their_frames(make_grid):
    env, recorder = recorded(
        DeviceEpisodesEnv([[3, 2], [3, 5]]), dump_on_done=True, make_grid=make_grid, scale=1, keep=lambda episode: True
    )
    env.rollout(9, break_when_any_done=False)
    recorder.dump()
    if make_grid:
        shown = [cells_in(video.path, 2) for video in recorder.videos]
        assert shown[0] == [[name_of(env_id, 0, step) for env_id in range(2)] for step in range(4)]
        assert sum(map(len, shown)) >= 10
    else:
        shown = {(video.env_id, video.episode.number): numbers(video) for video in recorder.videos}
        lengths = {(0, 0): 3, (0, 1): 2, (0, 2): 3, (1, 0): 3, (1, 1): 5}
        for at, length in lengths.items():
            assert shown[at] == [name_of(*at, step) for step in range(length + 1)]


def test_max_frames_counts_what_is_on_its_way():
    env, recorder = recorded(DeviceEnv(), max_frames=3)
    steps(env, 6)
    assert len(LateCopy.waited) == 3
    with pytest.warns(VidrecWarning, match="3 frames of 'video' came after max_frames=3"):
        video = recorder.dump()
    assert numbers(video) == [0, 1, 2]


def test_a_clip_of_a_trigger_ends_with_its_last_frame():
    env, recorder = recorded(DeviceEnv(), max_frames=3, step_trigger=lambda step: step % 5 == 0)
    env.rollout(10, auto_reset=True)
    assert [numbers(video) for video in recorder.videos] == [[1, 2, 3], [6, 7, 8]]


def test_the_last_frames_of_an_episode_are_the_last():
    env, recorder = recorded(DeviceEnv(), last=3)
    steps(env, 8)
    assert numbers(recorder.dump()) == [5, 6, 7]


@pytest.mark.parametrize("video_format", ["mkv", "pt", "memmap"])
def test_all_formats_hold_what_the_device_held(video_format):
    env, recorder = recorded(DeviceEnv(), CSVLogger("run", video_format=video_format))
    steps(env, 4)
    frames = torch.stack(list(recorder.dump().iter_frames()))
    assert torch.equal(frames, torch.stack([numbered(number) for number in range(4)]))


def test_a_logger_that_takes_tensors_gets_them_a_step_later_as_well():
    env, recorder = recorded(DeviceEnv(), logger := KeepLogger())
    assert steps(env, 4) == [[], [0], [1], [2]]
    recorder.dump()
    assert torch.equal(logger.videos[0][0].permute(0, 2, 3, 1), torch.stack([numbered(n) for n in range(4)]))


def test_the_list_of_frames_is_whole_whenever_it_is_asked_for():
    env, recorder = recorded(DeviceEnv())
    steps(env, 3)
    listed = recorder.obs
    assert len(listed) == 3
    tensordict = env.reset()
    assert len(listed) == 4
    assert LateCopy.waited[-1] == 3  # in the step of the frame
    env.step(tensordict.set("action", torch.zeros(1)))
    del listed[0]
    assert numbers(recorder.dump()) == [1, 2, 3, 4]
    assert steps(env, 3) == [[], [5], [6]]


def test_floats_are_converted_there_and_a_quarter_of_their_bytes_are_copied(monkeypatch):
    sizes = []
    monkeypatch.setattr(transfer, "copy_of", lambda source: sizes.append(source.numel()) or LateCopy(source))
    env, recorder = recorded(DeviceEnv(sent=lambda frames: frames / 255, frame=float_number))
    steps(env, 4)
    assert numbers(recorder.dump()) == [0, 1, 2, 3]
    assert sizes == [48 * 64 * 3 + 3 * 8] * 4


def test_the_middle_of_a_frame_is_cut_out_before_it_is_copied():
    env, recorder = recorded(DeviceEnv(frame=lambda n, _: numbered(n, (96, 128))), center_crop=(48, 64))
    steps(env, 3)
    whole = [numbered(number, (96, 128))[24:72, 32:96] for number in range(3)]
    shown = decode(recorder.dump().path)[:, 2::4, 2::4]
    assert np.abs(shown[:, 12:-12, 12:-12].astype(int) - torch.stack(whole).numpy()[:, 12:-12, 12:-12]).mean() < 20


def test_captions_are_drawn_in_main_memory_below_the_frame_of_their_step(may_wait):
    env, recorder = recorded(DeviceEnv(), caption=lambda moment: frames.append(moment.frame.copy()) or "text")
    frames = []
    steps(env, 3)
    assert [read_number(frame) for frame in frames] == [0, 1, 2]
    (height, width), shown = (48, 64), decode(recorder.dump().path)
    by = shown.shape[2] // width
    assert shown.shape[1] > by * height
    assert [read_number(frame[: by * height]) for frame in shown] == [0, 1, 2]
    assert not LateCopy.made


# what may go wrong


def refusals(env, count):
    """Reset and step, and return what was refused in which step."""
    refused, tensordict = {}, env.reset()
    for number in range(1, count):
        try:
            env.step(tensordict.set("action", torch.zeros(1)))
        except FrameError as error:
            refused[number] = str(error)
    return refused


@pytest.fixture
def noise():
    """Return an env whose frame number 2 has values of no frame, and a recorder of it."""

    def sent(frames):
        return frames / 255 + (2 if env.number == 3 else 0)

    env = DeviceEnv(sent=sent, frame=float_number)
    return env


@pytest.mark.parametrize("last", [False, True])
def test_values_of_no_frame_are_told_when_they_arrive_and_cost_their_frame_alone(noise, last):
    env, recorder = recorded(noise)
    refused = refusals(env, 3 if last else 5)
    if last:
        with pytest.raises(FrameError, match="has values from 2 to 3"):
            recorder.dump()
        assert refused == {}
        assert numbers(recorder.videos[0]) == [0, 1]
    else:
        assert list(refused) == [3]
        assert "'pixels' of shape (48, 64, 3) and dtype torch.float32 has values from 2 to 3" in refused[3]
        assert numbers(recorder.dump()) == [0, 1, 3, 4]


def test_with_on_error_warn_such_a_frame_is_counted_as_lost(noise):
    env, recorder = recorded(noise, on_error="warn")
    with pytest.warns(VidrecWarning, match="recording goes on after an error: 'pixels' of shape"):
        steps(env, 5)
    failure = recorder.dump()
    assert (failure.count, failure.lost) == (1, 1)
    assert numbers(failure.video) == [0, 1, 3, 4]


def test_several_envs_are_told_once_of_a_frame_that_is_refused():
    env = DeviceEnv((3,), sent=lambda frames: frames / 255 + (env.number == 2), frame=float_number)
    env_, recorder = recorded(env, make_grid=False)
    with pytest.raises(FrameError, match="has values from 1 to 2") as refused:
        steps(env_, 4)
    assert not getattr(refused.value, "__notes__", [])
    recorder.dump()
    assert [numbers(video) for video in recorder.videos] == [[0, 2]] * 3


def test_a_warning_that_is_an_error_costs_the_frame_that_it_is_about():
    env = DeviceEnv(sent=lambda frames: frames / 255 * (1.01 if env.number == 2 else 1), frame=float_number)
    env_, recorder = recorded(env)
    tensordict = env_.reset()
    for number in range(1, 4):
        if number == 2:
            with pytest.raises(VidrecWarning, match="What lies outside is clamped"):
                env_.step(tensordict.set("action", torch.zeros(1)))
        else:
            env_.step(tensordict.set("action", torch.zeros(1)))
    assert numbers(recorder.dump()) == [0, 2, 3]


def test_a_video_whose_only_frame_is_refused_is_none():
    env, recorder = recorded(DeviceEnv(sent=lambda frames: frames / 255 + 2, frame=float_number))
    env.reset()
    with pytest.raises(FrameError, match="has values from 2 to 2"):
        recorder.dump()
    assert recorder.dump() is None
    assert recorder.videos == []


def test_a_first_frame_that_is_not_known_begins_nothing():
    env = DeviceEnv(sent=lambda frames: frames / 255 * (float("nan") if env.number == 1 else 1), frame=float_number)
    env_, recorder = recorded(env)
    env_.reset()
    assert recorder.dump() is None
    recorder.logger = CSVLogger("other")
    steps(env_, 3)
    video = recorder.dump()
    assert video.path.parts[-4:-1] == ("csv_logs", "other", "videos")
    assert numbers(video) == [1, 2, 3]


def test_a_frame_that_is_nan_all_over_stands_for_none():
    def sent(frames):
        frames = frames / 255
        frames[0 if env.number in (2, 5) else slice(0, 0)] = float("nan")
        return frames

    for make_grid in (False, True):
        env = DeviceEnv((2,), sent=sent, frame=lambda number, _: numbered(number, (24, 32)).float())
        env_, recorder = recorded(env, make_grid=make_grid, scale=1)
        steps(env_, 6)
        recorder.dump()
        if make_grid:
            shown = cells_in(recorder.videos[0].path, 2)
            assert shown == [[0, 0], [0, 1], [2, 2], [3, 3], [0, 4], [5, 5]]
        else:
            assert [numbers(video) for video in recorder.videos] == [[0, 2, 3, 5], [0, 1, 2, 3, 4, 5]]


def test_a_frame_of_another_size_is_refused_in_its_own_step():
    sizes = [(48, 64)] * 3 + [(24, 32)] + [(48, 64)] * 2
    env, recorder = recorded(DeviceEnv(frame=lambda number, _: numbered(number, sizes[number])))
    refused = refusals(env, 6)
    assert list(refused) == [3]
    assert "frame 3 is (24, 32) (height, width), but this clip began with (48, 64)" in refused[3]
    assert numbers(recorder.dump()) == [0, 1, 2, 4, 5]


def test_an_exception_in_the_middle_of_a_rollout_costs_no_frame(monkeypatch):
    env, recorder = recorded(DeviceEnv())

    class Broken(DeviceEnv):
        def _step(self, tensordict):
            if self.number == 4:
                raise RuntimeError("the simulator is gone")
            return super()._step(tensordict)

    env, recorder = recorded(Broken())
    with pytest.raises(RuntimeError, match="simulator"):
        env.rollout(9)
    assert LateCopy.waited == [0, 1, 2]
    assert numbers(recorder.dump()) == [0, 1, 2, 3]


def test_a_wait_that_is_interrupted_loses_nothing(monkeypatch):
    env, recorder = recorded(DeviceEnv())
    tensordict = env.reset()
    wait, interrupts = LateCopy.wait, iter([True])

    def interrupted(self):
        if next(interrupts, False):
            raise KeyboardInterrupt
        wait(self)

    monkeypatch.setattr(LateCopy, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        env.step(tensordict.set("action", torch.zeros(1)))
    env.step(tensordict.set("action", torch.zeros(1)))
    assert numbers(recorder.dump()) == [0, 2]  # that of the step that was interrupted never came


def test_a_dump_that_a_signal_handler_calls_while_a_step_waits_has_the_frames_up_to_that_step(monkeypatch):
    env, recorder = recorded(DeviceEnv())
    monkeypatch.setattr(signal, "getsignal", signal.getsignal)
    before = signal.signal(signal.SIGUSR1, lambda *_: recorder.dump())
    wait = LateCopy.wait

    def disturbed(self):
        if self.number == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        wait(self)

    monkeypatch.setattr(LateCopy, "wait", disturbed)
    try:
        steps(env, 5)
    finally:
        signal.signal(signal.SIGUSR1, before)
    recorder.dump()
    assert [numbers(video) for video in recorder.videos] == [[3, 4]]
    assert [numbers_in(path) for path in sorted(recorder.videos[0].path.parent.glob("*.mp4"))] == [[0, 1, 2], [3, 4]]


def test_sigterm_while_a_step_waits_costs_no_frame_of_the_steps_before(monkeypatch):
    wait = LateCopy.wait

    def disturbed(self):
        if self.number == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        wait(self)

    monkeypatch.setattr(LateCopy, "wait", disturbed)
    child = os.fork()
    if not child:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            env, _ = recorded(DeviceEnv())
            steps(env, 9)
        except SystemExit:
            lifetime.finish_all()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    (path,) = Path("csv_logs/run/videos").glob("*.mp4")
    assert numbers_in(path) == [0, 1, 2]


def test_the_end_of_the_process_and_a_recorder_that_is_garbage_keep_the_last_frame():
    def leave():
        env, _ = recorded(DeviceEnv(), logger)
        steps(env, 3)

    logger = CSVLogger("run")
    leave()
    gc.collect()
    lifetime.finish_orphans()
    (path,) = Path("csv_logs/run/videos").glob("*.mp4")
    assert numbers_in(path) == [0, 1, 2]
    for frames in (2, 1):
        env, recorder = recorded(DeviceEnv(), logger)
        steps(env, frames)
        lifetime.finish_all()
        assert [numbers(video) for video in recorder.videos] == [list(range(frames))]


def test_a_forked_child_leaves_the_memory_of_the_device_alone():
    env, recorder = recorded(DeviceEnv())
    steps(env, 3)
    child = os.fork()
    if not child:
        try:
            gc.collect()
            own, theirs = recorded(PixelsEnv(), CSVLogger("child"))
            own.rollout(2)
            code = 0 if numbers(theirs.dump()) == [0, 1, 2] and not recorder.count else 1
        except BaseException:
            code = 2
        del env, recorder
        gc.collect()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    env.step(env.rand_action())
    assert numbers(recorder.dump()) == [0, 1, 2, 3]


def test_a_copy_of_a_recorder_has_nothing_on_its_way():
    env, recorder = recorded(DeviceEpisodesEnv([[99]], ()))
    steps(env, 3)
    for other in (recorder.clone(), copy.deepcopy(recorder), pickle.loads(pickle.dumps(recorder))):
        assert other.dump() is None
    assert numbers(recorder.dump()) == [name_of(0, 0, step) for step in range(3)]


# what the recorder says of episodes


class AllOnDeviceEnv(EpisodesEnv):
    """An env with everything on the device."""

    def _out(self, **more):
        out = super()._out(**more)
        return out.apply(on_device)


@pytest.fixture
def may_wait(monkeypatch):
    """Let whoever likes wait for the device, and call it back: TorchRL does, in a reset and in ``env.step``."""

    def set_(allowed):
        monkeypatch.setattr(sys.modules[__name__], "WAITS", set() if allowed else strict)

    strict = WAITS
    set_(True)
    return set_


@pytest.mark.parametrize("lengths", [[[4]], [[4], [3], [6]], [[2], [9], [4]]], ids=str)
def test_a_video_of_one_episode_says_the_same_of_it_whether_it_is_on_a_device_or_not(lengths, may_wait):
    said = []
    for kind in (EpisodesEnv, AllOnDeviceEnv):
        env = kind(lengths, () if len(lengths) == 1 else None)
        env, recorder = recorded(env, CSVLogger(kind.__name__), make_grid=False)
        tensordict = env.reset()
        may_wait(False)
        for _ in range(4):
            made, waited = len(LateCopy.made), len(LateCopy.waited)
            env._step(tensordict)
            assert all(number < made for number in LateCopy.waited[waited:])
            assert len(LateCopy.made) == made + (0 if kind is EpisodesEnv else 2)
        may_wait(True)
        recorder.dump()
        said.append([(video.frames, video.episode) for video in recorder.videos])
    assert said[0] == said[1]
    assert any(episode is not None for _, episode in said[0])


def test_a_reward_that_is_on_its_way_at_a_reset_is_of_the_episode_before(may_wait):
    returns = []
    for kind in (EpisodesEnv, AllOnDeviceEnv):
        env, recorder = recorded(kind([[9, 2]], ()), CSVLogger(kind.__name__))
        steps(env, 4)
        recorder.obs = []
        steps(env, 3)
        returns.append(recorder.dump().episode.return_)
    assert returns == [2.0, 2.0]


def test_an_episode_that_is_reset_on_a_device_begins_its_return_anew(may_wait):
    said = []
    for kind in (EpisodesEnv, AllOnDeviceEnv):
        env, recorder = recorded(kind([[3, 2]], ()), CSVLogger(kind.__name__))
        episodes = []
        for _ in range(2):
            tensordict = env.reset()
            while not tensordict["done"]:
                tensordict = env.step(tensordict.set("action", torch.zeros(1)))["next"]
            episodes.append(recorder.dump().episode)
        said.append([(episode.length, episode.return_, episode.ended) for episode in episodes])
    assert said[0] == said[1] == [(3, 3.0, "terminated"), (2, 2.0, "terminated")]


# an encoder that needs a GPU


@pytest.fixture
def anew(monkeypatch):
    """Tell again what was told before."""
    monkeypatch.setattr(encoding, "_tell_instead", Once())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which may encode")
@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("video_format", ["mp4", "mkv"])
def test_where_no_gpu_encodes_x264_does_and_one_warning_says_so(video_format):
    logger = CSVLogger("run", video_format=video_format)
    env, recorder = recorded(PixelsEnv(), logger, video_codec="h264_nvenc", preset="p7", options={"cq": 25})

    def record():
        env.rollout(2)
        return recorder.dump()

    with pytest.warns(VidrecWarning, match=r"h264_nvenc does not encode frames of \(48, 64\)") as told:
        first = record()
    second = record()
    assert len(told) == 1
    assert "libx264 takes its place" in str(told[0].message)
    assert first.encoding.codec == second.encoding.codec == "libx264"
    assert first.encoding.crf == 20
    assert "h264" in probe(first.path)
    assert [numbers(first), numbers(second)] == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.usefixtures("anew")
def test_such_an_encoder_is_tried_at_the_size_of_the_frames_and_used_if_it_can(monkeypatch):
    tried = []
    monkeypatch.setattr(encoding, "try_out", lambda *what: tried.append(what))
    asked = Encoding.of("mp4", video_codec="h264_nvenc", scale=2)
    assert asked.usable((720, 1280)) is asked
    assert tried[-1] == (asked, (720, 1280))
    args = asked.ffmpeg_args((720, 1280))
    assert args[args.index("-c:v") + 1] == "h264_nvenc"
    assert args[args.index("-cq") + 1] == "20"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"crf": 20}, "'crf' is no option of the encoder h264_nvenc"),
        ({"options": {"nonsense": 1}}, "'nonsense' is no option of the encoder h264_nvenc"),
        ({"pixel_format": "gray"}, "'gray' is no pixel format of the encoder h264_nvenc"),
    ],
)
def test_what_it_does_not_know_is_refused_before_the_rollout(settings, why):
    if not has_encoder("h264_nvenc"):
        pytest.skip("this FFmpeg has no h264_nvenc")
    with pytest.raises(SettingError, match=why):
        Encoding.of("mp4", video_codec="h264_nvenc", **settings)


def test_a_format_that_x264_does_not_go_into_is_refused_before_the_rollout():
    with pytest.raises(SettingError, match="libx264"):
        Encoding.of("webm", video_codec="h264_nvenc")


@pytest.mark.usefixtures("anew")
def test_an_ffmpeg_that_has_no_such_encoder_is_as_good_as_no_gpu(monkeypatch):
    asked = program._help
    monkeypatch.setattr(program, "_help", lambda topic: "" if topic == "encoder=h264_nvenc" else asked(topic))
    try_out.cache_clear()
    wanted = Encoding.of("mp4", video_codec="h264_nvenc")
    with pytest.warns(VidrecWarning, match="has no encoder 'h264_nvenc'"):
        assert wanted.usable((48, 64)).codec == "libx264"


# on a GPU

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class GpuEnv(PixelsEnv):
    """Draws into one buffer on a GPU, which is busy before."""

    def __init__(self, *args, **more):
        self.buffer = None
        super().__init__(*args, **more)

    def _frames(self):
        frames = super()._frames()
        self.buffer = frames.cuda() if self.buffer is None else self.buffer
        torch.cuda._sleep(10**8)
        return self.buffer.copy_(frames, non_blocking=True)


@pytest.fixture
def _on_gpu(monkeypatch):
    monkeypatch.setattr(transfer, "copy_of", transfer.PinnedCopy)


@gpu
@pytest.mark.usefixtures("_on_gpu")
@pytest.mark.filterwarnings("ignore:.*What lies outside is clamped")
def test_a_gpu_makes_the_frames_that_main_memory_makes():
    for kind, (frames, colours) in KINDS.items():
        for name, look in LOOKS.items():
            expected = entries(frames, colours=colours).convert(look)
            sent = np.asarray(entries(frames.cuda(), colours=colours).send(look))
            assert np.array_equal(sent, expected), (kind, name)


@gpu
@pytest.mark.usefixtures("_on_gpu")
@pytest.mark.parametrize("make_grid", [True, False])
def test_frames_on_a_gpu_are_recorded_each_once_and_no_step_waits(make_grid):
    env, recorder = recorded(GpuEnv((64,), frame=small), env_ids=[3, 7, 8, 40], make_grid=make_grid, scale=1)
    tensordict = env.reset()
    for _ in range(9):
        out = env.base_env._step(tensordict)
        torch.cuda.set_sync_debug_mode("error")  # raises at what waits for the stream
        try:
            recorder._step(tensordict, out)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    recorder.dump()
    shown = [[number | env_id << 6 for env_id in (3, 7, 8, 40)] for number in range(10)]
    if make_grid:
        assert cells_in(recorder.videos[0].path, 4) == shown
    else:
        assert [numbers(video) for video in recorder.videos] == [list(one) for one in zip(*shown, strict=True)]


@gpu
@pytest.mark.usefixtures("_on_gpu")
def test_a_child_of_a_process_with_frames_on_their_way_from_a_gpu_ends_in_peace():
    env, recorder = recorded(GpuEnv())
    steps(env, 3)
    child = os.fork()
    if not child:
        del env, recorder
        gc.collect()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert numbers(recorder.dump()) == [0, 1, 2]

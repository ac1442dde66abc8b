import os
import re
import resource
import struct
import zipfile
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import ENCODED, product
from numbered_frames import decode, numbered, numbers_in, probe, read_number
from tensordict import MemoryMappedTensor

from vidrec.clips import TensorClip, open_clip
from vidrec.errors import EncoderError, FrameError
from vidrec.ffmpeg.encoder import Encoder
from vidrec.ffmpeg.encoding import BT709_TAGS, TO_BT709, Encoding
from vidrec.files.names import MARK

TENSORS = ["pt", "memmap"]
EXACT = ["mkv", *TENSORS]
ALL = ENCODED + TENSORS


@pytest.fixture
def clip(tmp_path):
    """Open clips; none leaves a process behind."""
    opened = []

    def clip(video_format, name="eval/a", **settings):
        opened.append(open_clip(tmp_path / name, Encoding.of(video_format, **settings)))
        return opened[-1]

    yield clip
    for left in opened:
        left.delete()


def write(clip, numbers, size=(48, 64)):
    """Write one numbered frame after another out of the same memory."""
    frame = torch.empty(1, *size, 3, dtype=torch.uint8)
    for number in numbers:
        frame[0] = numbered(number, size)
        clip.write(frame)


def noise(frames, height, width):
    return torch.randint(256, (frames, height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def recorded(clip):
    return torch.stack(list(clip.iter_frames())).numpy()


def numbers_of(video):
    if video.path.suffix == ".memmap":
        return [read_number(frame) for frame in video.iter_frames()]
    return numbers_in(video.path)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def boxes(data):
    """Return the boxes of an mp4 file, or of what is in one: kind to contents, in order."""
    found = []
    while data:
        (length,), kind, head = struct.unpack(">I", data[:4]), data[4:8].decode(), 8
        if length == 1:
            (length,), head = struct.unpack(">Q", data[8:16]), 16
        found.append((kind, data[head : length or None]))
        data = data[length:] if length else b""
    return found


def box(path, *kinds):
    """Return the contents of a box by the kinds of the boxes that it is in."""
    data = path.read_bytes()
    for kind in kinds:
        data = dict(boxes(data))[kind]
    return data


@contextmanager
def files_of_at_most(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@product(video_format=ALL, length=[1, 2, 7, 100], size=[(48, 64), (47, 63), (3, 5)])
def test_every_frame_is_in_the_file_once_and_in_order(clip, video_format, length, size):
    clip = clip(video_format)
    write(clip, range(length), size)
    assert (clip.frames, clip.size) == (length, size)
    video = clip.finish()
    assert (video.frames, video.encoding) == (length, clip.encoding)
    assert numbers_of(video) == list(range(length))
    assert {tuple(frame.shape) for frame in video.iter_frames()} == {(*video.size, 3)}
    assert video.size == clip.encoding.file_size(size)


def laid_out(frames, layout):
    """Return the same frames, uint8 [N, H, W, 3], in another layout in memory."""
    count, height, width, _ = frames.shape
    if layout == "HWC":
        return np.ascontiguousarray(frames)
    if layout == "CHW":
        return np.ascontiguousarray(frames.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    if layout == "CHW, a part of a larger frame":
        larger = np.zeros((count, 3, height + 2, width + 5), np.uint8).transpose(0, 2, 3, 1)
        larger[:, 1:-1, 2:-3] = frames
        return larger[:, 1:-1, 2:-3]
    if layout == "HWC, a part of a larger frame":
        larger = np.zeros((count, height + 2, width + 5, 3), np.uint8)
        larger[:, 1:-1, 2:-3] = frames
        return larger[:, 1:-1, 2:-3]
    if layout == "BGR, upside down":
        return np.ascontiguousarray(frames[:, ::-1, :, ::-1])[:, ::-1, :, ::-1]
    if layout == "WHC":
        return np.ascontiguousarray(frames.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    assert layout == "read-only"
    frames = frames.copy()
    frames.flags.writeable = False
    return frames


LAYOUTS = [
    "HWC",
    "CHW",
    "CHW, a part of a larger frame",
    "HWC, a part of a larger frame",
    "BGR, upside down",
    "WHC",
    "read-only",
]


def colourful(frames, height, width):
    """Return smooth frames of which no channel, row or column is like another, uint8 [N, H, W, 3]."""
    n, y, x, c = np.ogrid[:frames, :height, :width, :3]
    return (40 + 20 * n + 60 * y / height + 40 * x / width + 30 * c).astype(np.uint8)


@product(video_format=EXACT, layout=LAYOUTS, size=[(47, 63), (1, 8), (8, 1)])
def test_the_layout_in_memory_changes_no_pixel(clip, video_format, layout, size):
    clip, frames = clip(video_format), noise(6, *size).numpy()
    clip.write(laid_out(frames[:2], layout))
    clip.write(torch.from_numpy(frames[2:3]))
    clip.write(laid_out(frames[3:5], "CHW"))
    clip.write(laid_out(frames[5:], layout))
    assert np.array_equal(torch.stack(list(clip.finish().iter_frames())), frames)


@product(video_format=ENCODED, layout=LAYOUTS)
def test_the_video_is_the_same_from_any_layout_in_memory(clip, video_format, layout):
    frames, decoded = colourful(5, 48, 64), []
    for one in ("HWC", layout):
        decoded.append(decode(write_all(clip(video_format), laid_out(frames, one)).finish().path).astype(int))
    assert np.array_equal(*decoded)


@pytest.mark.parametrize("layout", ["HWC", "CHW"])
@pytest.mark.parametrize("grey", [False, True])
def test_frames_are_written_from_where_they_are(clip, layout, grey, monkeypatch):
    frames = laid_out(noise(3, 48, 64).numpy(), layout)
    if grey:
        frames = np.broadcast_to(np.ascontiguousarray(frames[..., :1]), frames.shape)
    written, writev = [], os.writev
    monkeypatch.setattr("os.writev", lambda fd, buffers: written.append(buffers) or writev(fd, buffers))
    one = write_all(clip("mkv"), frames)
    assert len(written) == 3
    for frame, buffers in zip(frames, written, strict=True):
        assert all(np.shares_memory(np.asarray(buffer), frame) for buffer in buffers)
    assert np.array_equal(decode(one.finish().path), frames)


def test_a_tensor_clip_keeps_no_reference_to_what_was_written():
    for layout in LAYOUTS[:-1]:
        clip, frames = TensorClip(), laid_out(noise(2, 5, 7).numpy(), layout)
        clip.write(frames)
        before = frames.copy()
        frames[:] = 0
        assert np.array_equal(recorded(clip), before)
        assert all(frame.is_contiguous() for frame in clip.obs)


def write_all(clip, frames):
    for frame in frames:
        clip.write(frame[None])
    return clip


@pytest.mark.parametrize("video_format", ALL)
def test_frames_after_finish_go_on_in_the_same_video(clip, tmp_path, video_format):
    clip = clip(video_format)
    for begin, end in ((0, 3), (3, 4), (4, 50), (50, 50)):
        write(clip, range(begin, end))
        video = clip.finish()
        assert numbers_of(video) == list(range(end))
        assert [path for path in files(tmp_path) if path.suffix != ".log"] == [video.path]
        assert video.frames == clip.frames == end


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (7, 9), (1, 8), (8, 1)], ids=str)
@pytest.mark.parametrize("video_format", EXACT)
def test_lossless_formats_keep_every_pixel(clip, video_format, size):
    clip, frames = clip(video_format), noise(7, *size)
    clip.write(frames)
    video = clip.finish()
    if video_format != "memmap":
        assert np.array_equal(decode(video.path), frames)
    assert np.array_equal(torch.stack(list(video.iter_frames())), frames)
    assert np.array_equal(recorded(clip), frames)


def test_a_gif_of_up_to_256_colours_is_at_most_one_level_off(clip):
    clip, frames = clip("gif"), noise(5, 16, 16)
    clip.write(frames)
    assert np.abs(decode(clip.finish().path).astype(int) - frames.numpy()).max() <= 1


def test_a_pt_file_is_the_tensor_that_torchrl_writes(clip):
    clip, frames = clip("pt"), noise(7, 47, 63)
    for part in (frames[:4], frames[4:]):
        clip.write(part)
        path = clip.finish().path
    video = torch.load(path, weights_only=True)
    assert video.dtype == torch.uint8
    assert video.is_contiguous()
    assert torch.equal(video, frames.permute(0, 3, 1, 2)[None])
    assert torch.equal(torch.load(path, mmap=True), video)
    assert zipfile.ZipFile(path).testzip() is None


def test_a_memmap_file_holds_the_bytes_that_torchrl_writes(clip, tmp_path):
    clip, frames = clip("memmap"), noise(7, 47, 63)
    clip.write(frames)
    MemoryMappedTensor.from_tensor(frames.permute(0, 3, 1, 2)[None].contiguous(), filename=tmp_path / "torchrl")
    assert clip.finish().path.read_bytes() == (tmp_path / "torchrl").read_bytes()


def test_a_tensor_clip_is_the_tensor(clip):
    clip = TensorClip()
    write(clip, range(7), (47, 63))
    assert (clip.frames, clip.size) == (7, (47, 63))
    video = clip.finish()
    assert video.dtype == torch.uint8
    assert torch.equal(video, torch.stack([numbered(i, (47, 63)).permute(2, 0, 1) for i in range(7)])[None])
    assert np.array_equal(recorded(clip), video[0].permute(0, 2, 3, 1))
    clip.delete()
    assert (clip.frames, clip.size) == (0, None)


@pytest.mark.parametrize("video_format", ALL)
def test_another_size_is_refused_and_the_clip_as_it_was(clip, video_format):
    clip = clip(video_format)
    write(clip, range(3))
    for size in ((64, 48), (48, 65)):
        with pytest.raises(FrameError, match=rf"frame 3 is \({size[0]}, {size[1]}\).* began with \(48, 64\).*dump"):
            write(clip, [9], size)
        assert (clip.frames, clip.size) == (3, (48, 64))
    write(clip, [3])
    assert numbers_of(clip.finish()) == [0, 1, 2, 3]


@product(
    pairs=False,
    video_format=ENCODED,
    size=[(48, 64), (47, 63), (3, 4), (1, 8), (9, 1), (300, 7)],
    settings=[{}, {"scale": 1}, {"scale": 3}],
)
def test_frames_come_back_in_the_size_that_was_recorded(clip, video_format, size, settings):
    clip = clip(video_format, **settings, crf=None if video_format in ("gif", "apng", "webp") else 1)
    ramp = torch.linspace(16, 240, size[0] * size[1]).reshape(1, *size, 1).expand(-1, -1, -1, 3).byte()
    frames = torch.cat([ramp, 255 - ramp]).contiguous()
    clip.write(frames)
    back = recorded(clip)
    assert back.shape == tuple(frames.shape)
    assert np.abs(back.astype(int) - frames.numpy()).max() < 10
    write(clip, [1], size)
    assert len(recorded(clip)) == clip.frames == 3


@pytest.mark.parametrize("video_format", ALL)
def test_nothing_is_opened_before_the_first_frame(clip, tmp_path, video_format):
    clip = clip(video_format)
    assert (clip.frames, clip.size, list(clip.iter_frames())) == (0, None, [])
    clip.delete()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("video_format", ALL)
def test_unfinished_files_say_so_in_their_names_and_do_not_meet(clip, tmp_path, video_format):
    clips = [clip(video_format) for _ in range(2)]
    for _ in range(2):
        for number, one in enumerate(clips):
            write(one, [number])
            for path in files(tmp_path):
                assert path.parent == tmp_path / "eval"
                assert path.name.startswith("a.part-")
                assert path.suffix in (f".{video_format}", ".log")
        for number, one in enumerate(clips):
            assert set(numbers_of(one.finish())) == {number}
    assert MARK == ".part-"


@product(video_format=ALL, finishes=[0, 1, 2])
def test_a_discarded_clip_leaves_no_file(clip, tmp_path, video_format, finishes):
    clip = clip(video_format)
    for _ in range(finishes):
        write(clip, range(3))
        clip.finish()
    write(clip, range(3))
    clip.delete()
    assert files(tmp_path) == []


@product(video_format=ENCODED, handed_over=[0, 1000, 48 * 64 * 3])
def test_an_interrupt_costs_at_most_the_frame_it_cuts_into(clip, monkeypatch, video_format, handed_over):
    clip = clip(video_format)

    def interrupted(encoder, frame):
        assert os.write(encoder._pipe.fileno(), frame.tobytes()[:handed_over]) == handed_over
        raise KeyboardInterrupt

    write(clip, range(3))
    with monkeypatch.context() as patched:
        patched.setattr(Encoder, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(clip, [3])
    write(clip, range(4, 9))
    video = clip.finish()
    kept = [3] if handed_over == 48 * 64 * 3 else []
    assert numbers_of(video) == [0, 1, 2, *kept, 4, 5, 6, 7, 8]
    assert video.frames == clip.frames == 8 + len(kept)


@pytest.mark.parametrize("size", [(30, 30), (48, 64), (96, 96)], ids=str)
@pytest.mark.parametrize("video_format", TENSORS)
def test_a_full_disk_is_an_error_and_what_was_written_stays(clip, tmp_path, video_format, size):
    clip = clip(video_format)
    frame = size[0] * size[1] * 3
    room = 64 + 9 * frame + min(2000, frame // 2)  # 2000: what ends a pt file
    with files_of_at_most(room):
        for _ in range(2):
            with pytest.raises(EncoderError, match=rf"{tmp_path}.*which holds 9 frames, failed: .*File too large"):
                write(clip, range(clip.frames, 12), size)
        video = clip.finish()
        assert numbers_of(video) == list(range(9))
        assert video_format == "pt" or video.path.stat().st_size == 9 * frame
    write(clip, range(9, 12), size)
    assert numbers_of(clip.finish()) == list(range(12))


@pytest.mark.parametrize("video_format", TENSORS)
def test_a_clip_on_a_full_disk_can_be_discarded(clip, tmp_path, video_format):
    clip = clip(video_format)
    with files_of_at_most(20_000):
        with pytest.raises(EncoderError):
            write(clip, range(12), (30, 30))
        clip.delete()
    assert files(tmp_path) == []


@product(video_format=ENCODED, left=[0, 0.5])
def test_a_part_that_was_damaged_is_not_passed_over(clip, video_format, left):
    clip = clip(video_format)
    write(clip, range(3))
    first = clip.finish().path
    write(clip, range(3, 6))
    clip._finish_part()
    second = clip._parts[-1]
    second.write_bytes(second.read_bytes()[: int(second.stat().st_size * left)])
    with pytest.raises(EncoderError):
        clip.finish()
    assert numbers_in(first) == [0, 1, 2]


@pytest.mark.parametrize(
    ("video_format", "expected"),
    [
        ("mp4", [r"h264", r"yuv420p\(tv, bt709, progressive\)", "192x256", "29.97 fps"]),
        ("webm", [r"vp9", r"yuv420p\(tv, bt709(, progressive)?\)", "192x256", "29.97 fps"]),
        ("mkv", [r"h264", r"gbrp", "48x64", "29.97 fps"]),
        ("gif", ["gif", "48x64"]),
    ],
)
def test_the_file_says_what_it_is(clip, video_format, expected):
    clip = clip(video_format, fps="30000/1001")
    for part in (range(5), range(5, 10)):
        write(clip, part, (64, 48))
        report = probe(clip.finish().path)
        for pattern in expected:
            assert re.search(pattern, report), report


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(2997, 100), Fraction(24), Fraction(1, 2)], ids=str)
def test_the_frame_rate_in_an_mp4_is_exact(clip, fps):
    clip = clip("mp4", fps=fps)
    for part in (range(20), range(20, 30)):
        write(clip, part)
        media = ("moov", "trak", "mdia")
        path = clip.finish().path
        (units,) = struct.unpack(">I", box(path, *media, "mdhd")[12:16])
        entries, frames, duration = struct.unpack(">III", box(path, *media, "minf", "stbl", "stts")[4:16])
        assert Fraction(units, duration) == fps
        # FFmpeg 4.2 ends the last frame after a second, where a copied file has less than one frame a second
        short = clip.encoding.copied and fps < 1
        assert (entries, frames) in [(1, clip.frames), *[(2, clip.frames - 1)] * short]


def test_an_mp4_has_one_moov_at_the_front_or_the_end_and_no_fragments(clip):
    clip = clip("mp4", fps=10)
    for length in (1, 1, 60):
        write(clip, range(length))
        kinds = [kind for kind, _ in boxes(clip.finish().path.read_bytes())]
        assert kinds.count("moov") == 1
        assert "moov" in (kinds[-1], *kinds[:2])
        assert "moof" not in kinds


def test_an_mp4_has_a_key_frame_every_two_seconds(clip):
    clip = clip("mp4", fps=10)
    write(clip, [0] * 100)
    stss = box(clip.finish().path, "moov", "trak", "mdia", "minf", "stbl", "stss")
    assert np.frombuffer(stss[8:], ">u4").tolist() == [1, 21, 41, 61, 81]


@pytest.mark.parametrize("video_format", ["mp4", "webm"])
@pytest.mark.parametrize("settings", [{"scale": 1}, {"scale": 3}], ids=str)
def test_an_odd_frame_is_padded_by_its_own_last_row_and_column(clip, video_format, settings):
    clip = clip(video_format, crf=4, **settings)
    rows, columns = torch.linspace(60, 120, 47)[:, None], torch.linspace(0, 120, 63)[None]
    clip.write((rows + columns).byte()[None, ..., None].repeat(1, 1, 1, 3))
    video = clip.finish()
    assert all(side % 2 == 0 for side in video.size)
    frame = decode(video.path)[0].astype(int)
    assert np.abs(frame[-1] - frame[-2]).max() <= 4
    assert np.abs(frame[:, -1] - frame[:, -2]).max() <= 4
    assert frame[-1, -1].min() > 200


@product(
    size=[(48, 64), (31, 45), (210, 160), (1, 8), (8, 1)], enlarged=[("mp4", 2), ("mp4", 4), ("mp4", 6), ("webm", 2)]
)
def test_enlarging_the_planes_gives_the_video_that_enlarging_the_frames_gives(clip, monkeypatch, size, enlarged):
    (video_format, scale), frames, decoded = enlarged, noise(3, *size), []
    for chain in ("planes", "frames"):
        one = clip(video_format, scale=scale)
        if chain == "frames":
            filters = f"scale=w={size[1] * scale}:h={size[0] * scale}:flags=neighbor,{TO_BT709}"
            chain = f"{filters},format=yuv420p,{BT709_TAGS}"
            monkeypatch.setattr(Encoding, "_filters", lambda encoding, size, chain=chain: chain)
        one.write(frames)
        path = one.finish().path
        assert "yuv420p(tv, bt709" in probe(path)
        decoded.append(decode(path))
    assert decoded[0].shape == (3, size[0] * scale, size[1] * scale, 3)
    assert np.array_equal(*decoded)


@pytest.mark.parametrize("video_format", ENCODED)
def test_colours_are_right_to_the_pixel(clip, video_format):
    clip = clip(video_format, crf=None if video_format in ("gif", "apng", "webp") else 1)
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [200, 30, 120], [128, 128, 128]])
    frame = colours[torch.arange(48 * 64) % 6].reshape(48, 64, 3)
    clip.write(frame[None].byte())
    assert np.abs(recorded(clip)[0].astype(int) - frame.numpy()).max() < 10


def test_a_gif_whose_palette_changes_from_frame_to_frame_shows_the_colours_of_each(clip):
    # FFmpeg's transdiff takes pixels whose place in the palette stays for unchanged ones: 48 would be seen as 16
    clip = clip("gif")
    write(clip, range(4, 50))
    assert numbers_of(clip.finish()) == list(range(4, 50))


def test_another_encoder_in_mkv_keeps_the_resolution_of_colours_and_says_bt709(clip):
    clip = clip("mkv", video_codec="libx264")
    write(clip, range(3))
    video = clip.finish()
    assert numbers_of(video) == [0, 1, 2]
    assert "yuv444p(tv, bt709" in probe(video.path)

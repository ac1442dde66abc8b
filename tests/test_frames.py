import contextlib
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidrec.errors import FrameError, SettingError
from vidrec.frames import arrange, center_crop, check_layout, grid, side_by_side, to_rgb

quick = settings(deadline=None, max_examples=40, database=None)
sides = st.integers(5, 12)


def ramp(*shape, dtype=torch.uint8):
    return torch.arange(math.prod(shape)).remainder(251).to(dtype).reshape(shape)


@pytest.mark.parametrize("layout", ["HW", "HWC", "CHW", "NHW", "WHC", "TNHWC"])
def test_a_layout_names_height_and_width_once(layout):
    assert check_layout(layout) == layout


@pytest.mark.parametrize("layout", ["", "HC", "hwc", "nHW", "HHW", "HWCC", "H W", "HW3", "ÄHW", None, 3])
def test_another_layout_is_refused(layout):
    with pytest.raises(SettingError, match=r"layout=.* must name"):
        check_layout(layout)


@pytest.mark.parametrize(
    ("shape", "known", "expected"),
    [
        # rule 1: the layout was given
        ((3, 3, 3), {"layout": "HWC"}, lambda x: x[None]),
        ((3, 3, 3), {"layout": "CHW"}, lambda x: x.permute(1, 2, 0)[None]),
        ((4, 84, 84), {"layout": "NHW"}, lambda x: x[..., None]),
        ((8, 10, 3), {"layout": "WHC"}, lambda x: x.transpose(0, 1)[None]),
        ((8, 3, 10), {"layout": "HCW"}, lambda x: x.transpose(1, 2)[None]),
        ((8, 5, 10, 3), {"layout": "HNWC"}, lambda x: x.transpose(0, 1)),
        ((2, 8, 5, 10), {"layout": "HNW"}, lambda x: x.transpose(1, 2).reshape(10, 8, 10, 1)),
        ((4, 84, 84), {"layout": "CHW", "batch_dims": 1}, lambda x: x.permute(1, 2, 0)[None]),
        # rule 2: two axes are left
        ((8, 10), {}, lambda x: x[None, ..., None]),
        ((1, 3), {}, lambda x: x[None, ..., None]),
        ((4, 84, 84), {"batch_dims": 1}, lambda x: x[..., None]),
        ((2, 3, 8, 10), {"batch_dims": 2}, lambda x: x.reshape(6, 8, 10, 1)),
        # rule 3: one place for channels
        ((8, 10, 1), {}, lambda x: x[None]),
        ((3, 8, 10), {}, lambda x: x.permute(1, 2, 0)[None]),
        ((4, 84, 84), {"batch_dims": 0}, lambda x: x.permute(1, 2, 0)[None]),
        ((2, 5, 8, 10, 4), {}, lambda x: x.flatten(0, 1)),
        ((3, 4, 1, 8, 10), {"batch_dims": 2}, lambda x: x.flatten(0, 1).permute(0, 2, 3, 1)),
        ((3, 8, 10, 3), {"batch_dims": 1}, lambda x: x),
    ],
)
def test_the_layout_rule_finds_the_frame(shape, known, expected):
    x = ramp(*shape)
    assert torch.equal(arrange(x, **known), expected(x))


@pytest.mark.parametrize(
    ("shape", "known", "message"),
    [
        ((3, 8, 4), {}, "could be both CHW and HWC"),
        ((5, 1, 8, 3), {"batch_dims": 1}, "could be both"),
        ((3, 3, 3), {}, "could be both"),
        ((8, 10, 5), {}, "no axis of 1, 3 or 4 channels"),
        ((2, 8, 10), {}, "no axis of"),
        ((), {}, "is no frame"),
        ((8,), {}, "is no frame"),
        ((8, 10, 3), {"batch_dims": 2}, "after 2 batch axes"),
        ((3, 8), {"batch_dims": 5}, "is no frame"),
        ((8, 10), {"layout": "HWC"}, "fewer axes than layout='HWC'"),
        ((5, 8, 10), {"layout": "CHW"}, "5 channels by layout='CHW'"),
        ((8, 0, 3), {}, "is empty"),
        ((0, 8, 10, 3), {"batch_dims": 1}, "is empty"),
        ((0, 10), {"layout": "HW"}, "is empty"),
    ],
)
def test_what_the_layout_rule_cannot_read_is_refused(shape, known, message):
    with pytest.raises(FrameError, match=message) as caught:
        arrange(torch.zeros(shape, dtype=torch.int16), name="pixels", **known)
    assert f"pixels of shape {shape} and dtype torch.int16" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "frame is a NoneType"),
        ("text", "frame is a str"),
        ({}, "frame is a dict"),
        (np.zeros((8, 10, 3), object), "numpy array of dtype object"),
        (np.full((8, 10), "a"), "numpy array of dtype <U1"),
        (np.zeros((8, 10, 3), np.longdouble), "numpy array of dtype float128"),
        ([], "empty list"),
        ((), "empty list"),
        ([[]], r"frame\[0\] is an empty list"),
        ([torch.zeros(8, 10, 3), None], r"frame\[1\] is a NoneType"),
        ([torch.zeros(8, 10, 3), torch.zeros(8, 11, 3)], r"unlike shape, \(8, 10, 3\) and, at 1, \(8, 11, 3\)"),
        ([torch.zeros(8, 10), torch.zeros(8, 10, 3)], "unlike shape"),
    ],
)
def test_what_is_no_array_or_no_alike_list_is_refused(data, message):
    with pytest.raises(FrameError, match=message):
        arrange(data)


def test_the_frames_of_a_list_follow_one_another():
    hwc, batch = ramp(8, 10, 3), ramp(2, 3, 8, 10)
    joined = torch.cat([hwc[None], batch.permute(0, 2, 3, 1), hwc[None]])
    assert torch.equal(arrange([hwc, (batch.numpy(), hwc)]), joined)


def test_frames_of_unlike_dtype_in_a_list_are_each_read_by_their_own():
    white = [torch.full((8, 10, 3), 255, dtype=torch.uint8), torch.ones(8, 10, 3), torch.ones(8, 10, 3) > 0]
    for pair in itertools.permutations(white, 2):
        with contextlib.suppress(FrameError):  # or are refused
            assert to_rgb(arrange(list(pair))).min() == 255
    dark = [torch.ones(8, 10, 3, dtype=torch.uint8), torch.zeros(8, 10, 3)]
    with contextlib.suppress(FrameError):
        assert to_rgb(arrange(dark)).max() == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x[::-1],
        lambda x: x[:, ::-2],
        lambda x: x[::2],
        lambda x: x.transpose(1, 0, 2),
        lambda x: np.broadcast_to(x[:1], x.shape),
        lambda x: np.lib.stride_tricks.as_strided(x, (10, 12, 3), (0, 3, 1), writeable=True),
        lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
        np.asfortranarray,
    ],
    ids=["flipped", "strided-backwards", "strided", "transposed", "broadcast", "zero-stride", "read-only", "fortran"],
)
def test_numpy_arrays_of_any_strides_are_read_and_left_alone(spoil):
    x = spoil(ramp(10, 12, 3).numpy())
    before = x.copy()
    frames = to_rgb(arrange(x))
    assert np.array_equal(frames[0].numpy(), before)
    assert np.array_equal(x, before)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x[:1].expand(10, -1, -1),
        lambda x: x.flip(0),
        lambda x: x.transpose(0, 1),
        lambda x: x[::2, 1:],
        lambda x: (x / 255).requires_grad_(),
    ],
    ids=["expanded", "flipped", "transposed", "sliced", "with gradient"],
)
def test_tensors_of_any_strides_are_read(spoil):
    x = spoil(ramp(10, 12, 3))
    arranged = arrange(x)
    assert not arranged.requires_grad
    frames = to_rgb(arranged)
    assert np.array_equal(frames[0].numpy(), (x.detach() * 255).round() if x.requires_grad else x)


def test_a_numpy_array_of_foreign_byte_order_is_read_or_refused_by_name():
    x = np.linspace(0, 1, 240).reshape(8, 10, 3)
    with contextlib.suppress(FrameError):
        assert torch.equal(arrange(x.astype(">f4")), arrange(x.astype("<f4")))


def test_a_uint8_rgb_tensor_goes_through_without_a_copy():
    x = ramp(1, 8, 10, 3)
    out = side_by_side([grid(to_rgb(arrange([x])))], names=["pixels"])
    assert out.data_ptr() == x.data_ptr()
    assert torch.equal(out, x)


@pytest.mark.parametrize(
    "view",
    [lambda x: x, lambda x: x.transpose(1, 2, 0), lambda x: x[:, ::2]],
    ids=["contiguous", "transposed", "strided"],
)
def test_a_writable_numpy_array_is_not_copied_to_be_arranged(view):
    x = view(np.zeros((3, 16, 20), np.uint8))
    assert np.shares_memory(arrange(x).numpy(), x)


def test_what_is_already_in_main_memory_is_not_copied():
    x = torch.zeros(2, 8, 6, 3, dtype=torch.uint8)
    planes = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    for frames in (x, planes):
        assert to_rgb(arrange(frames)).data_ptr() == frames.data_ptr()


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (torch.uint8, [0, 7, 255], [0, 7, 255]),
        (torch.bool, [0, 1], [0, 255]),
        (torch.int8, [0, 7, 127], [0, 7, 127]),
        *((dtype, [0, 7, 255], [0, 7, 255]) for dtype in (torch.int16, torch.int32, torch.int64)),
        *((dtype, [0, 7, 255], [0, 7, 255]) for dtype in (torch.uint16, torch.uint32, torch.uint64)),
        *((dtype, [0, 0.2, 0.6, 1], [0, 51, 153, 255]) for dtype in (torch.float16, torch.float32, torch.float64)),
        (torch.bfloat16, [0, 0.5, 1], [0, 128, 255]),
        (torch.float64, [0.5 / 255, 1.5 / 255, 2.5 / 255], [0, 2, 2]),
        (torch.float32, [-0.49 / 255, 1 + 0.49 / 255], [0, 255]),
        (torch.float64, [-0.5 / 255, 1 + 0.5 / 255], [0, 255]),
    ],
    ids=str,
)
def test_each_dtype_becomes_uint8_by_its_own_rule(dtype, values, expected):
    x = torch.tensor(values, dtype=dtype).reshape(1, 1, -1, 1).expand(-1, -1, -1, 3)
    out = to_rgb(x)
    assert out.dtype == torch.uint8
    assert out.shape == x.shape
    assert all(out[0, 0, :, channel].tolist() == expected for channel in range(3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_every_level_survives_as_a_float(dtype):
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(-1, -1, -1, 3)
    assert torch.equal(to_rgb((levels.double() / 255).to(dtype)), levels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.01, 1.01, 255.0])
def test_one_float_that_is_no_colour_refuses_the_frame(dtype, value):
    x = torch.full((2, 8, 10, 3), 0.5, dtype=dtype)
    x[1, 2, 3, 1] = value
    with pytest.raises(FrameError, match=r"pixels of shape \(2, 8, 10, 3\).* dtype torch\.b?float\d\d has values from"):
        to_rgb(x, name="pixels")


@pytest.mark.parametrize("value", [-0.51 / 255, 1 + 0.51 / 255])
def test_more_than_half_a_level_outside_is_no_rounding(value):
    with pytest.raises(FrameError, match=f"values from {value:g} to {value:g}"):
        to_rgb(torch.full((1, 8, 10, 3), value))


def test_complex_numbers_are_refused():
    with pytest.raises(FrameError, match=r"dtype torch\.complex64 is complex"):
        to_rgb(torch.zeros(1, 8, 10, 3, dtype=torch.complex64))


def test_grey_is_repeated_and_rgba_composed_on_black():
    grey = ramp(2, 8, 10, 1)
    assert torch.equal(to_rgb(grey), torch.cat([grey] * 3, -1))
    alpha = torch.tensor([0, 1, 127, 128, 255], dtype=torch.uint8)
    rgba = torch.cat([torch.tensor([255, 100, 1], dtype=torch.uint8).expand(1, 1, 5, 3), alpha.view(1, 1, 5, 1)], -1)
    on_black = (rgba[..., :3].double() * alpha.view(1, 1, 5, 1) / 255).round().byte()
    assert torch.equal(to_rgb(rgba), on_black)
    assert torch.equal(to_rgb(rgba / 255), on_black)


@pytest.mark.parametrize(
    ("size", "crop", "top", "left"),
    [((5, 7), 2, 2, 2), ((8, 10), (4, 10), 2, 0), ((8, 10), (8, 10), 0, 0), ((9, 6), (4, 5), 2, 0), ((7, 9), 4, 2, 2)],
)
def test_a_crop_is_the_middle_rounded_to_even_and_a_view(size, crop, top, left):
    x = ramp(2, *size, 3)
    height, width = (crop, crop) if isinstance(crop, int) else crop
    out = center_crop(x, crop)
    assert torch.equal(out, x[:, top : top + height, left : left + width])
    assert out.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


@pytest.mark.parametrize("crop", [9, (9, 10), (8, 11)])
def test_a_crop_larger_than_the_frame_is_refused(crop):
    with pytest.raises(FrameError, match=r"pixels is \(8, 10\) .* too small for center_crop="):
        center_crop(ramp(1, 8, 10, 3), crop, name="pixels")


def test_batches_of_unlike_length_do_not_share_a_video():
    with pytest.raises(FrameError, match="left has 2 frames and right has 3"):
        side_by_side([ramp(2, 8, 10, 3), ramp(3, 8, 10, 3)], names=["left", "right"])


@quick
@given(sides, sides, st.sampled_from([1, 3, 4]), st.lists(st.integers(1, 3), max_size=2), st.data())
def test_every_order_of_the_axes_gives_the_same_frame(height, width, channels, batch, data):
    x = ramp(*batch, height, width, channels)
    expected = to_rgb(arrange(x))
    assert torch.equal(to_rgb(arrange(x.movedim(-1, -3))), expected)
    order = data.draw(st.permutations(range(3)))
    axes = [*range(len(batch)), *(len(batch) + axis for axis in order)]
    layout = "".join("HWC"[axis] for axis in order)
    for same in (x.permute(axes), x.permute(axes).numpy(), x.permute(axes).contiguous() / 255):
        assert torch.equal(to_rgb(arrange(same, layout=layout)), expected)


@quick
@given(st.integers(1, 17), sides, sides, st.sampled_from([1, 3]))
def test_the_cells_of_a_grid_are_the_frames_and_the_others_black(n, height, width, channels):
    x = ramp(n, height, width, channels) + 1
    out = grid(x)
    columns = math.isqrt(n - 1) + 1
    rows = -(-n // columns)
    assert out.shape == (1, rows * height, columns * width, channels)
    cells = out.view(rows, height, columns, width, channels).transpose(1, 2).flatten(0, 1)
    assert torch.equal(cells[:n], x)
    assert not cells[n:].any()


@quick
@given(st.integers(1, 3), st.lists(st.tuples(sides, sides), min_size=1, max_size=4))
def test_frames_side_by_side_keep_their_pixels_over_black(n, sizes):
    batches = [ramp(n, *size, 3) + 1 for size in sizes]
    out = side_by_side(batches, names=[str(size) for size in sizes])
    assert out.shape == (n, max(height for height, _ in sizes), sum(width for _, width in sizes), 3)
    left = 0
    for x in batches:
        strip = out[:, :, left : left + x.shape[2]]
        assert torch.equal(strip[:, : x.shape[1]], x)
        assert not strip[:, x.shape[1] :].any()
        left += x.shape[2]


@quick
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_integers_are_levels_or_refused(values):
    x = torch.tensor(values).reshape(1, 1, -1, 1)
    if min(values) >= 0 and max(values) <= 255:
        assert to_rgb(x)[0, 0, :, 0].tolist() == values
    else:
        with pytest.raises(FrameError, match="expected 0 to 255"):
            to_rgb(x)

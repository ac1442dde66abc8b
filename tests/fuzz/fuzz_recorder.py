"""A fuzz target: bytes become frames and calls of a recorder, and each video must be the one that a model predicts.

    python tests/fuzz/fuzz_recorder.py -max_total_time=600 tests/fuzz/seeds

needs atheris; `tests/test_fuzz.py` replays the seeds without it.
"""

import csv
import os
import pickle
import re
import sys
import tempfile
import warnings
from math import ceil, inf, nan, prod, sqrt
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

if __name__ == "__main__":
    import atheris

    with atheris.instrument_imports(include=["vidrec"]):
        from vidrec import *  # noqa: F403 - each module is imported when a name of it is

import numpy as np
import torch
from numbered_frames import decode
from tensordict import TensorDict
from torchrl.envs import TransformedEnv, step_mdp
from worlds import PixelsEnv

from vidrec import CSVLogger, MemoryLogger, VideoRecorder, errors
from vidrec.ffmpeg import encoder
from vidrec.files import forks
from vidrec.recording import lifetime

FORMATS = ["memory"] * 12 + ["memmap"] * 6 + ["pt"] * 4 + ["mkv", "mkv", "apng", "mp4", "webm", "gif"]
LOSSLESS = {"memory", "memmap", "pt", "mkv", "apng"}
DTYPES = [torch.uint8] * 4 + [torch.bool, torch.int8, torch.int16, torch.int64, torch.uint16]
DTYPES += [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.complex64]
NUMPY = [np.uint8, np.uint8, np.bool_, np.int8, np.int32, np.uint16, np.uint64, np.float16, np.float32, np.float64]
NUMPY += [">f4", ">u2", np.complex64, "M8[s]"]
LAYOUTS = [None] * 6 + ["HWC", "CHW", "NHW", "WHC", "HW", "TNHWC"]
NAMES = ["a", "eval/video", "a b", "é日", "-y", "%d", "%03d", "a\nb", "\r", "'", '"', "a:b|?*\\", "..", "a/../b", "/a"]
NAMES += ["a/", ".", "", " ", "x" * 300, "é" * 120, "a\0b", "\ud800", "\udc80", "[x]", "{a,b}", "a.part-b", "~", "a//b"]
SETTINGS = [{}] * 6 + [{"fps": fps} for fps in (25, "30000/1001", 0.5, 1000, 0, -1, nan, inf, "fast", None, [1])]
SETTINGS += [{"scale": 2}, {"scale": 2.0}, {"scale": 17}, {"crf": 30}, {"crf": "x"}, {"preset": "a\0"}, {"nope": 1}]
SETTINGS += [{"video_codec": "nope"}, {"video_codec": ["a"]}, {"pixel_format": "rgb24,metadata=print:file=x.txt"}]
OPTIONS = ["tune", "g", "i", "-i", "y", "map", "f", "stats", "stats:v", "passlogfile", "flags", "x264-params", "crf:v"]
VALUES = ["animation", "5", "x.mp4", "-y", "+pass1", "pass=1:stats=x.log", "dump-yuv=x.yuv", "a\0", "\ud800"]
PLAIN = re.compile(r"[a-z0-9](?:[\w -]{0,30}[a-z0-9])?(?:/[a-z0-9]+)?", re.ASCII)
"""Names that must not be refused."""


class Data:
    """Reads choices from bytes, as `atheris.FuzzedDataProvider` does, also without atheris; zeros at the end."""

    def __init__(self, raw):
        self.raw, self.at = raw, 0

    def number(self, low, high):
        self.at += 1
        return low + (self.raw[self.at - 1] if self.at <= len(self.raw) else 0) % (high - low + 1)

    def pick(self, options):
        return options[self.number(0, len(options) - 1)]

    def text(self):
        if self.number(0, 3):
            return self.pick(NAMES)
        length = self.number(0, 20)
        self.at += length
        return self.raw[self.at - length : self.at].decode(errors="surrogateescape")

    def settings(self):
        if self.number(0, 7):
            return self.pick(SETTINGS)
        name, value = self.pick([*OPTIONS, None]), self.pick([*VALUES, None])
        return {"options": {self.text() if name is None else name: self.text() if value is None else value}}

    @property
    def empty(self):
        return self.at >= len(self.raw)


class Sink(MemoryLogger):
    """A logger of tensors whose copies keep them in one list."""

    def log_video(self, name, video, step=None, **settings):
        sunk.append(video[0].permute(0, 2, 3, 1).numpy())


sunk = []


def draw(data):
    """Return a frame or several, as a recorder is given them, and as an array for the model."""
    sides = {"H": data.number(1, 9), "W": data.number(1, 9), "C": data.pick([3, 3, 3, 1, 4, 2])}
    order = data.pick(["HWC", "HWC", "CHW", "HW", "WHC"])
    shape = (*data.pick([(), (), (), (1,), (2,), (3, 2), (0,)]), *(sides[axis] for axis in order))
    levels = np.random.default_rng(data.number(0, 255)).integers(0, 256, shape)
    odd = data.pick([None] * 8 + [nan, inf, 1.5, -0.5, 1.001, -0.001])
    kind, view = data.pick(["tensor", "tensor", "numpy"]), data.pick(["plain", "plain", "sliced", "flipped", "grad"])
    dtype = data.pick(NUMPY if kind == "numpy" else DTYPES)
    floating = dtype.is_floating_point if kind == "tensor" else np.dtype(dtype).kind == "f"
    values = levels / 255 if floating else levels * 3 - 100 if "8" not in str(dtype) else levels
    if floating and odd is not None and values.size:
        values.flat[-1] = odd
    if kind == "tensor":
        values = torch.from_numpy(np.asarray(values)).to(dtype)
        if view == "sliced":
            values = torch.stack([values, values], -1)[..., 0]
        elif view == "flipped":
            values = values.transpose(0, -1).clone().transpose(0, -1)
        elif view == "grad" and (dtype.is_floating_point or dtype.is_complex):
            values.requires_grad_()
        seen = values.detach()
        seen = (seen.float() if floating and dtype != torch.float64 else seen).numpy()
    else:
        values = values.astype(dtype)
        if view == "sliced":
            values = np.repeat(values, 2, -1)[..., ::2]
        elif view == "flipped":
            values = values[::-1, ..., ::-1]
        elif view == "grad":  # a field of records, with strides that are no multiple of the item size
            records = np.zeros(values.shape, [("other", "u1"), ("value", dtype)])
            records["value"] = values
            values = records["value"]
        seen = values
    return values, seen


def read(array, layout, batch_dims=0):
    """Return the frames that the documented rule sees in an array, [N, H, W, C]; None if it refuses them."""
    if array.dtype.kind not in "biufc" or 0 in array.shape:
        return None
    if layout is None:
        left, at = array.ndim - batch_dims, [array.ndim >= 3 and array.shape[i] in (1, 3, 4) for i in (-3, -1)]
        if left < 2 or (left > 2 and at[0] == at[1]):
            return None
        layout = "HW" if left == 2 else "CHW" if at[0] else "HWC"
        if left > 2 and array.shape[-3 if at[0] else -1] == 4:  # RGBA, or a stack of four
            return None
    if len(layout) > array.ndim or ("C" in layout and array.shape[layout.index("C") - len(layout)] not in (1, 3, 4)):
        return None
    array = np.moveaxis(array, [layout.index(axis) - len(layout) for axis in "HW"], [-2, -1])
    rest = layout.replace("H", "").replace("W", "")
    array = np.moveaxis(array, rest.index("C") - len(rest) - 2, -1) if "C" in rest else array[..., None]
    return array.reshape(-1, *array.shape[-3:])


OVERSHOOT = 0.05 * (1 + 2**-8)
"""How far beyond the levels values are clamped, with a warning, as a part of them all."""


def convert(frames, crop):
    """Return frames as uint8 RGB; None if they cannot be."""
    if crop is not None:
        height, width = crop if isinstance(crop, tuple) else (crop, crop)
        if height > frames.shape[1] or width > frames.shape[2]:
            return None
        top, left = round((frames.shape[1] - height) / 2), round((frames.shape[2] - width) / 2)
        frames = frames[:, top : top + height, left : left + width]
    if frames.dtype.kind == "c":
        return None
    if frames.dtype.kind == "f":
        frames = frames.astype(np.float64 if frames.dtype.itemsize == 8 else np.float32)
        if not ((frames >= -OVERSHOOT) & (frames <= 1 + OVERSHOOT)).all():
            return None
        frames = np.rint(frames * 255)
    elif frames.dtype == bool:
        frames = frames * 255
    elif not ((frames >= -255 * OVERSHOOT) & (frames <= 255 * (1 + OVERSHOOT))).all():
        return None
    frames = np.clip(frames, 0, 255).astype(np.uint16)
    if frames.shape[-1] == 4:
        frames = (frames[..., :3] * frames[..., 3:] + 127) // 255
    return np.broadcast_to(frames, (*frames.shape[:-1], 3)).astype(np.uint8)


def tile(frames):
    columns = ceil(sqrt(len(frames)))
    black = [np.zeros_like(frames[0])] * (-len(frames) % columns)
    cells = [*frames, *black]
    return np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])[None]


def justified(error, settings, *names):
    """Check that what was refused is not plain."""
    if isinstance(error, errors.TagError):
        assert not all(PLAIN.fullmatch(name) for name in names), error
    else:
        assert isinstance(error, errors.SettingError), error
        assert settings, error


class Model:
    """What a recorder should have in its clip."""

    def __init__(self, recorder, args, grid, skip):
        self.recorder, self.grid, self.skip, self.count = recorder, grid, skip, 0
        self.layout, self.crop, self.max_frames = args["layout"], args["center_crop"], args["max_frames"]
        self.settings, self.of_clip, self.frames, self.copies = recorder.video_kwargs, {}, [], []
        self.above, self.since = [self], []  # whose dump reaches it; the frames of each video since its last dump

    def copy(self, recorder, args):
        other = Model(recorder, args, self.grid, self.skip)
        other.max_frames, other.settings = self.max_frames, recorder.video_kwargs
        other.above = [*self.above, other]
        self.copies.append(other)
        return other

    def offer(self, frames, grid):
        """Return whether these are taken."""
        which = [True] if grid else [True] * len(frames)
        which = [(self.count + i + 1) % self.skip == 0 for i in range(len(which))]
        room = inf if self.max_frames is None else max(0, self.max_frames - len(self.frames))
        keep = np.flatnonzero(which)[: int(min(room, len(which)))]
        self.count += len(which)
        if not len(keep):
            return True
        new = convert(frames if grid else frames[keep], self.crop)
        if new is None:
            return False
        new = tile(new) if grid and len(new) > 1 else new
        if self.frames and new.shape[1:] != self.frames[0].shape:
            return False
        self.put(new)
        return True

    def put(self, frames):
        if not self.frames and len(frames):
            self.of_clip = dict(self.settings)
        self.frames += list(frames)

    def family(self):
        return [self, *(other for copy in self.copies for other in copy.family())]


def scenario(data, folder):
    """Make a recorder, call it, and check every video."""
    video_format, tag, chosen = data.pick(FORMATS), data.text(), data.settings()
    args = {
        "skip": data.pick([None, None, 1, 2, 3]),
        "center_crop": data.pick([None] * 4 + [2, (3, 2), np.int64(2)]),
        "make_grid": data.pick([None, None, True, False]),
        "max_frames": data.pick([None, None, 1, 3]),
        "layout": data.pick(LAYOUTS),
    }
    env_ids = data.pick([None, None, None, (), (2,)])
    if env_ids is not None:
        args["layout"] = None
    sunk.clear()
    try:
        logger = Sink() if video_format == "memory" else CSVLogger("run", folder / "logs", video_format)
        recorder = VideoRecorder(logger, tag, **args, **chosen)
    except errors.VidrecError as error:
        justified(error, chosen, tag)
        return
    env = td = None
    stepped = False
    if env_ids is not None:
        recorder.make_grid = True
        env = TransformedEnv(PixelsEnv(env_ids), recorder)
    grid = bool(args["make_grid"]) or env_ids is not None
    models = [Model(recorder, args, grid, args["skip"] or (2 if env_ids == () else 1))]
    published = {}  # path: number of frames

    def check_published(dumped):
        """Compare what is new with the clips that models have finished."""
        exact = video_format in LOSSLESS and all(model.of_clip.keys() <= {"fps", "scale"} for model in dumped)
        if video_format == "memory":
            new = list(sunk)
            sunk.clear()
        else:
            index = folder / "logs/run/videos.csv"
            rows = list(csv.DictReader(index.open(newline=""))) if index.exists() else []
            rows = [row for row in rows if row["file"] not in published]
            new = []
            for row in rows:
                published[row["file"]] = True
                path = folder / "logs/run" / row["file"]
                shape = int(row["frames"]), int(row["height"]), int(row["width"]), 3
                if video_format == "memmap":
                    frames = np.fromfile(path, np.uint8).reshape(shape[0], 3, *shape[1:3]).transpose(0, 2, 3, 1)
                else:
                    frames = decode(path)
                assert frames.shape == shape, (frames.shape, shape)
                new.append(frames)
        expected = [np.stack(model.frames) for model in dumped]
        if exact:
            scales = [1 if video_format == "memory" else model.of_clip.get("scale") or 1 for model in dumped]
            expected = [
                frames.repeat(int(scale), 1).repeat(int(scale), 2)
                for frames, scale in zip(expected, scales, strict=True)
            ]
            assert sorted((x.shape, x.tobytes()) for x in new) == sorted((x.shape, x.tobytes()) for x in expected)
        else:
            assert sorted(map(len, new)) == sorted(map(len, expected))
        for model in dumped:
            for above in model.above:
                above.since.append(len(model.frames))
            model.frames = []

    def dump(model, call, *names):
        family = model.family()
        names = (*names, *(member.recorder.tag for member in family))
        full = [member for member in family if member.frames]
        try:
            video = call()
        except errors.VidrecError as error:
            justified(error, {}, *names)
            check_published([member for member in full if not member.recorder._recording.shown.frames])
        else:
            check_published(full)
            if call != model.recorder.close:
                assert (video is not None) == (bool(model.since) and video_format != "memory")
                if video is not None:
                    assert video.path.is_relative_to(folder / "logs/run/videos"), video.path
                    assert video.frames in model.since
                for member in family:
                    member.since = []
        for member in family:
            member.count = member.recorder.count

    def record(model, call, frames, grid):
        before = len(model.frames)
        try:
            call()
        except errors.VidrecError as error:
            refusal = error
        else:
            refusal = None
        if refusal is None or isinstance(refusal, errors.FrameError):
            assert (refusal is None) == (frames is not None and model.offer(frames, grid)), refusal
        else:  # the tag or setting was changed
            assert not before, refusal
            justified(refusal, model.settings, model.recorder.tag)
        if refusal is None:
            assert model.recorder.count == model.count
        assert model.recorder._recording.shown.frames == len(model.frames)
        model.count = model.recorder.count

    def step(model):
        nonlocal td
        frames = np.stack([env.base_env.frame(env.base_env.number, 0).numpy()] * prod(env_ids))

        def call():
            nonlocal td, stepped
            stepped = td is not None
            td = env.rand_action(env.reset() if td is None else step_mdp(env.step(td)))

        record(model, call, frames, True)

    def play(model, recorder, number):
        match number:
            case 0 | 1 | 2 if env is not None and model is models[0]:
                step(model)
            case 0 | 1 | 2 | 3:
                values, seen = draw(data)
                record(model, lambda: recorder._apply_transform(values), read(seen, model.layout), model.grid)
            case 4:
                values, seen = draw(data)
                frames = read(seen, model.layout)
                frames = None if frames is None else np.concatenate([frames, frames])
                record(model, lambda: recorder._apply_transform([values, (values,)]), frames, model.grid)
            case 5:
                values, seen = draw(data)
                if isinstance(values, torch.Tensor) and values.ndim and len(values):  # an empty batch has no frames
                    batch = TensorDict({"pixels": values}, values.shape[:1])
                    record(model, lambda: recorder._call(batch), read(seen, model.layout, 1), model.grid)
            case 6 | 7:
                suffix, at = data.pick([None, None, "best", data.text()]), data.pick([None, None, 0, 7, -1])
                dump(model, lambda: recorder.dump(suffix, at), suffix or "none")
            case 8:
                try:
                    obs = [frame.permute(1, 2, 0).numpy() for frame in recorder.obs]
                except errors.VidrecError as error:
                    obs = []
                    justified(error, model.settings, recorder.tag)
                assert len(obs) == len(model.frames)
                if video_format in LOSSLESS and model.of_clip.keys() <= {"fps", "scale"}:
                    assert all(map(np.array_equal, obs, model.frames))
            case 9 | 10:
                frames = [torch.full((3, 4, 6), i * 20, dtype=torch.uint8) for i in range(data.number(0, 3))]
                try:
                    if number == 9:
                        frames = []
                        recorder.obs.clear()
                    else:
                        recorder.obs = frames
                except errors.VidrecError as error:
                    frames = []
                    justified(error, model.settings, recorder.tag)
                    recorder._recording.delete()
                model.frames, model.count = [], recorder.count
                model.put([frame.permute(1, 2, 0).numpy() for frame in frames])
            case 11 if len(models) < 3:
                pickled = env is None and data.number(0, 1)
                other = pickle.loads(pickle.dumps(recorder)) if pickled else recorder.clone()
                other.skip, other.make_grid = model.skip, model.grid
                models.append(model.copy(other, args))
            case 12:
                if model is models[0] and td is not None and not stepped and model.count == 1:
                    model.frames = []  # of a reset alone there is no video
                if video_format == "memory":  # its frames stay
                    recorder.close()
                else:
                    dump(model, recorder.close)
            case _:
                match data.number(0, 3):
                    case 0:
                        recorder.tag = data.text()
                    case 1:
                        model.skip = recorder.skip = data.number(1, 3)
                    case 2:
                        model.max_frames = recorder.max_frames = data.pick([None, 1, 4])
                    case _:
                        recorder.video_kwargs = model.settings = data.settings()

    for _ in range(12):
        if data.empty:
            break
        model = data.pick(models)
        play(model, model.recorder, data.number(0, 13))
    for model in models:
        model.recorder.tag, model.recorder.video_kwargs = "end", {}
    dump(models[0], models[0].recorder.dump)
    if video_format != "memory":
        videos = {str(path.relative_to(folder / "logs/run")) for path in (folder / "logs/run/videos").rglob("*.*")}
        videos = {name for name in videos if (folder / "logs/run" / name).is_file()}
        assert videos == published.keys(), (videos, published)


def children():
    tasks = Path("/proc/self/task")
    return {pid for task in tasks.glob("*/children") for pid in task.read_text().split()} if tasks.exists() else set()


def run(raw):
    """Play what `raw` says in a folder of its own, in which nothing but videos may be left."""
    before, cwd, was = children(), Path.cwd(), tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="vidrec-fuzz-") as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name).resolve()
        for inner in ("cwd", "tmp"):
            (folder / inner).mkdir()
        os.chdir(folder / "cwd")
        tempfile.tempdir = str(folder / "tmp")
        try:
            scenario(Data(raw), folder)
            left = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
            left = {path for path in left if path.parts[:3] != ("logs", "run", "videos")}
            assert left <= {Path("logs/run/videos.csv")}, left
            assert not [holder for holder in forks.registered.values() if isinstance(holder, encoder.Encoder)]
            assert not lifetime.unfinished()
            assert children() <= before
        finally:
            os.chdir(cwd)
            tempfile.tempdir = was
            for open_ in lifetime.unfinished():
                open_.delete()


if __name__ == "__main__":
    torch.set_num_threads(1)
    atheris.Setup(sys.argv, lambda raw: run(raw))
    atheris.Fuzz()

"""Is it a good logger for videos? `check_logger`, for the tests of whoever writes one."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchrl.record.loggers.common import Logger
from torchrl.record.recorder import VideoRecorder as TorchRLRecorder

from vidrec.clips import Clip, FileClip, Video
from vidrec.errors import SettingError, TagError, VidrecWarning
from vidrec.files.names import MARK
from vidrec.loggers.base import VideoLogger
from vidrec.loggers.tee import loggers_of
from vidrec.recorder import VideoRecorder

SIZE = (48, 64)
FRAMES = 12
FPS = 25
TOLERANCE = 6.0
"""How far the mean of a plain grey frame may be from what it was, of 255."""


def check_logger(make_logger: Callable[[], Any]) -> None:
    """Check that a logger keeps the contract between loggers and recorders.

    It is checked with `vidrec.VideoRecorder` and with TorchRL's, with tensors, and with TorchRL's other methods if it
    is a TorchRL `Logger`. One that derives from `VideoLogger` is also checked for what that class says.

        >>> from vidrec import MemoryLogger
        >>> from vidrec.testing import check_logger
        >>> check_logger(MemoryLogger)

    What a logger publishes and does not return as a `Video`, such as an entry of an event file, is not looked at.

    Args:
        make_logger: returns a new logger each time, as its users would make it; what it writes goes where it puts it.

    Raises:
        AssertionError: the logger does not keep the contract; the message says in what.
        Exception: whatever it raises where it should not.
    """
    _check_recording(make_logger())
    _check_tensors(make_logger())
    _check_torchrl(make_logger())
    if isinstance(logger := make_logger(), VideoLogger):
        _check_streaming(logger)


def _check_recording(logger: Any) -> None:
    published: list[tuple[Video, bytes]] = []
    for first in (0, 100):
        recorder = VideoRecorder(logger, "check/recorded", fps=FPS)
        for frame in _frames(first):
            recorder._apply_transform(frame)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VidrecWarning)  # the second one may get another name
            try:
                video = recorder.dump(step=3)
            except Exception:
                if first == 0:
                    raise
                video = None  # a logger may refuse it, as long as it does not replace the first
                recorder._recording.delete()
        if isinstance(video, Video) and video.url is None:  # and not on its way to a store
            _check_video(video, first)
            published.append((video, video.path.read_bytes()))
    for video, data in published:
        _expect(video.path.read_bytes() == data, f"{video.path} was replaced by another video of the same tag and step")
    _expect(VideoRecorder(logger, "check/recorded").dump() is None, "an empty dump returned something")
    _check_nothing_left(logger, "check/recorded")
    # two at the same time, as by copies of a recorder
    recorders = [VideoRecorder(logger, "check/together", fps=FPS) for _ in range(2)]
    for frames in zip(_frames(0), _frames(100), strict=True):
        for recorder, frame in zip(recorders, frames, strict=True):
            recorder._apply_transform(frame)
    for step, (recorder, first) in enumerate(zip(recorders, (0, 100), strict=True)):
        video = recorder.dump(step=step)
        if isinstance(video, Video) and video.url is None:  # and not on its way to a store
            _check_video(video, first)


def _check_tensors(logger: Any) -> None:
    tensor = torch.stack(list(_frames(0))).unsqueeze(0)
    before = tensor.clone()
    counts = isinstance(logger, Logger | VideoLogger)  # others are never called without a step
    for more in ({"step": 7}, *([{}, {}] if counts else []), {"step": 8, "fps": FPS}):
        video = logger.log_video("check/tensor", tensor, **more)
        _expect(torch.equal(tensor, before), "log_video changed the tensor that it was given")
        if isinstance(video, Video) and video.url is None:  # and not on its way to a store
            _check_video(video, 0)
    _check_nothing_left(logger, "check/tensor")


def _check_torchrl(logger: Any) -> None:
    recorder = TorchRLRecorder(logger, "check/torchrl", fps=FPS, skip=1)
    for frame in _frames(0):
        recorder._apply_transform(frame)
    recorder.dump(step=1)
    if not isinstance(logger, Logger):
        return
    for more in ({}, {"step": 0}, {"step": 1000}):
        logger.log_scalar("check/scalar", 0.5, **more)
    if hasattr(Logger, "log_metrics"):  # not before TorchRL 0.12
        logger.log_metrics({"check/one": 1.0, "check/two": torch.tensor(2.0, device="cpu")}, step=1001)
    logger.log_hparams({"lr": 1e-3, "algorithm": "ppo"})
    with contextlib.suppress(NotImplementedError):  # as some of TorchRL's
        logger.log_histogram("check/histogram", torch.arange(100.0, device="cpu"), step=1002, bins=10)
    _expect(isinstance(repr(logger), str), "repr() of it is no str")


def _check_streaming(logger: VideoLogger) -> None:
    before = _unfinished(logger.open_clip("check/clip", fps=FPS))
    clip = _opened(logger)
    _expect(_unfinished(clip) == before, "open_clip wrote something before its first frame came")
    _fill(clip)
    clip.delete()
    _expect(_unfinished(clip) == before, f"a clip that was deleted left {_unfinished(clip) - before}")

    clip = _opened(logger)
    _fill(clip)
    first = clip.finish()
    published = logger.log_video("check/clip", first, 1)
    if isinstance(first, Video):
        _expect(first.path.is_file(), f"log_video took {first.path} away; it is to be linked, copied or read")
        _expect(not (published and published.path == first.path), f"log_video published {first.path} itself")
    clip.delete()
    if published and published.url is None:
        _expect(published.path.is_file(), f"{published.path} is gone with the clip that it was published from")

    if not isinstance(clip, FileClip):
        return
    _raises(SettingError, "a setting that does not exist", lambda: _opened(logger, no_such_setting=1))
    _raises(SettingError, "fps=0", lambda: _opened(logger, fps=0))
    _raises(TagError, "the tag '../outside'", lambda: logger.open_clip("../outside"))
    _raises(SettingError, "a setting that does not exist", lambda: VideoRecorder(logger, "check", no_such_setting=1))


def _opened(logger: VideoLogger, **settings: Any) -> Clip:
    clip = logger.open_clip("check/clip", **{"fps": FPS, **settings})
    _expect(isinstance(clip, Clip), f"open_clip returned {type(clip).__name__}; expected a vidrec.clips.Clip")
    _expect(clip.frames == 0, "open_clip returned a clip with frames in it")
    return clip


def _fill(clip: Clip) -> None:
    for frame in _frames(0):
        clip.write(frame.permute(1, 2, 0).unsqueeze(0).contiguous())
    _expect(clip.frames == FRAMES, f"a clip counts {clip.frames} frames after {FRAMES} were written")


def _raises(expected: type[Exception], what: str, call: Callable[[], Any]) -> None:
    try:
        call()
    except expected:
        return
    raise AssertionError(f"{what} was taken; expected a {expected.__name__} before anything is recorded")


def _frames(first: int) -> Iterator[Tensor]:
    """Yield plain grey frames, uint8 ``[3, H, W]``, each of another brightness."""
    for i in range(FRAMES):
        yield torch.full((3, *SIZE), first + 10 * i, dtype=torch.uint8, device="cpu")


def _check_video(video: Video, first: int) -> None:
    _expect(video.path.is_file(), f"{video.path} was returned, and is not there")
    _expect(MARK not in video.path.name, f"{video.path} was returned, and has the name of an unfinished file")
    _expect(video.frames == FRAMES, f"{video.path} should have {FRAMES} frames, and has {video.frames}")
    for i, (frame, expected) in enumerate(zip(video.iter_frames(), _frames(first), strict=True)):
        apart = abs(float(frame.float().mean()) - float(expected.float().mean()))
        _expect(apart <= TOLERANCE, f"frame {i} of {video.path} is {apart:.0f} of 255 brighter or darker than recorded")


def _expect(condition: bool, problem: str) -> None:
    if not condition:
        raise AssertionError(problem)


def _unfinished(clip: Clip) -> set[Path]:
    return clip.unfinished() if isinstance(clip, FileClip) else set()


def _check_nothing_left(logger: Any, tag: str) -> None:
    left = {path for each in loggers_of(logger) for path in _unfinished(each.open_clip(tag))}
    _expect(not left, f"unfinished files were left: {left}")

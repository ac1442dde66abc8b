"""Frames whose pixels are a number, and a way to read video files that owes nothing to vidrec."""

import csv
import functools
import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import torch
from torch import Tensor

BITS = (3, 4)
"""Rows and columns of the blocks, black for 0 and white for 1, the lowest bit first."""


def numbered(number: int, size: tuple[int, int] = (48, 64)) -> Tensor:
    """Return a frame, uint8 [H, W, 3], that shows `number`, 0 to 4095."""
    return torch.from_numpy(
        np.repeat((int(number) >> _bit(tuple(size)) & 1).astype(np.uint8)[..., None] * np.uint8(255), 3, -1)
    )


@functools.lru_cache(16)
def _bit(size: tuple[int, int]) -> np.ndarray:
    """Return which bit each pixel shows."""
    rows, columns = ((2 * np.arange(side) + 1) * blocks // (2 * side) for side, blocks in zip(size, BITS, strict=True))
    return rows[:, None] * BITS[1] + columns


def read_numbers(frames: np.ndarray) -> list[int]:
    """Return what each of frames of any size [T, H, W, 3] shows, lossy or not, by the middle of each block."""
    rows, columns = (
        (2 * np.arange(blocks) + 1) * side // (2 * blocks) for side, blocks in zip(frames.shape[1:3], BITS, strict=True)
    )
    bits = frames[:, rows[:, None], columns, 1] > 127
    return (bits.reshape(-1, BITS[0] * BITS[1]) @ (1 << np.arange(BITS[0] * BITS[1]))).tolist()


def read_number(frame: Tensor | np.ndarray) -> int:
    """Return the number that a frame [H, W, 3] shows."""
    return read_numbers(np.asarray(frame)[None])[0]


def decode(path: Path) -> np.ndarray:
    """Return the frames that are in a file, each once, uint8 [T, H, W, 3]."""
    if path.suffix == ".pt":
        return torch.load(path)[0].permute(0, 2, 3, 1).numpy()
    # one process tells the size and the pixels
    output = ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    done = _ffmpeg(*_input(path), *output)
    report = done.stderr.decode()
    assert done.returncode == 0, report
    width, height = map(int, re.search(r", (\d+)x(\d+)[, ]", _video_line(report)).groups())
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)


def numbers_in(path: Path) -> list[int]:
    """Return the number of each frame of a file."""
    return read_numbers(decode(path))


def cells_in(path: Path, env_ids: int, size: tuple[int, int] = (24, 32)) -> list[list[int]]:
    """Return the numbers in the cells of each grid in a video, of frames of (height, width)."""
    columns = int(np.ceil(np.sqrt(env_ids)))
    height, width = size
    frames = decode(path)
    cells = [
        read_numbers(frames[:, row * height : (row + 1) * height, column * width : (column + 1) * width])
        for row, column in (divmod(env_id, columns) for env_id in range(env_ids))
    ]
    return [list(numbers) for numbers in zip(*cells, strict=True)]


def rows(folder: str | Path = "csv_logs/run") -> list[dict[str, str]]:
    """Return the rows of ``videos.csv``, by column."""
    with open(Path(folder, "videos.csv"), newline="") as file:
        return list(csv.DictReader(file))


def probe(path: Path) -> str:
    """Return what FFmpeg reports of the video stream: codec, pixel format and colours, size, rate."""
    return _video_line(_ffmpeg(*_input(path)).stderr.decode())


def _video_line(report: str) -> str:
    """Return the line of the only video stream of the input."""
    of_input = report.partition("Stream mapping:")[0]
    lines = [line.strip() for line in of_input.splitlines() if "Video: " in line]
    assert len(lines) == 1, report
    return lines[0]


def _input(path: Path) -> list[str]:
    if path.suffix != ".webp" or not path.exists():
        return ["-i", f"file:{path}"]
    kind = "webp_anim" if b"ANIM" in path.read_bytes()[:64] else "webp_pipe"  # of one frame
    return ["-f", kind, "-i", f"file:{path}"]


def _ffmpeg(*args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )

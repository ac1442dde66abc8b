"""Frames whose pixels are a number, and a way to read video files that owes nothing to vidrec."""

import csv
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
    rows, columns = (
        (2 * torch.arange(side) + 1) * blocks // (2 * side) for side, blocks in zip(size, BITS, strict=True)
    )
    bit = rows[:, None] * BITS[1] + columns[None, :]
    return ((number >> bit & 1) * 255).to(torch.uint8)[..., None].expand(-1, -1, 3).contiguous()


def read_number(frame: Tensor | np.ndarray) -> int:
    """Return the number that a frame of any size [H, W, 3] shows, lossy or not, by the middle of each block."""
    height, width = frame.shape[:2]
    number = 0
    for bit in range(BITS[0] * BITS[1]):
        row, column = divmod(bit, BITS[1])
        middle = frame[(2 * row + 1) * height // (2 * BITS[0]), (2 * column + 1) * width // (2 * BITS[1])]
        number |= (int(middle[1]) > 127) << bit
    return number


def decode(path: Path) -> np.ndarray:
    """Return the frames that are in a file, each once, uint8 [T, H, W, 3]."""
    if path.suffix == ".pt":
        return torch.load(path)[0].permute(0, 2, 3, 1).numpy()
    width, height = map(int, re.search(r", (\d+)x(\d+)[, ]", probe(path)).groups())
    output = ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    done = _ffmpeg("-loglevel", "error", *_input(path), *output)
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)


def numbers_in(path: Path) -> list[int]:
    """Return the number of each frame of a file."""
    return [read_number(frame) for frame in decode(path)]


def cells_in(path: Path, env_ids: int, size: tuple[int, int] = (24, 32)) -> list[list[int]]:
    """Return the numbers in the cells of each grid in a video, of frames of (height, width)."""
    columns = int(np.ceil(np.sqrt(env_ids)))
    height, width = size
    return [
        [
            read_number(frame[row * height : (row + 1) * height, column * width : (column + 1) * width])
            for row, column in (divmod(env_id, columns) for env_id in range(env_ids))
        ]
        for frame in decode(path)
    ]


def rows(folder: str | Path = "csv_logs/run") -> list[dict[str, str]]:
    """Return the rows of ``videos.csv``, by column."""
    with open(Path(folder, "videos.csv"), newline="") as file:
        return list(csv.DictReader(file))


def probe(path: Path) -> str:
    """Return what FFmpeg reports of the video stream: codec, pixel format and colours, size, rate."""
    report = _ffmpeg(*_input(path)).stderr.decode()
    lines = [line.strip() for line in report.splitlines() if "Video: " in line]
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

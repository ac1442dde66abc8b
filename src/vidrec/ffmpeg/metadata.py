"""What a video file says of itself: a comment of JSON, with the columns of ``videos.csv`` that say what it shows.

FFmpeg writes the comment when a file begins, with room for what is known only when the video is finished. That
overwrites it in place, byte for byte: nothing in the file moves, and at any moment it can be played.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from vidrec import __version__
from vidrec.ffmpeg.boxes import KINDS, comments

ROOM = 512
"""How many bytes the comment of a recorded file has, spaces at its end included."""

COLUMNS = ("step", "env_id", "agent", "episode", "return", "tag", "length", "ended", "env_step", "time")
"""What is told, as far as there is room, the most important first. The key ``vidrec`` is the version that wrote it."""

MARK = b'{"vidrec": '
"""How the comment begins."""

MAX_OF_SEVERAL = 2**16
"""How many bytes the comment of a file has that is made of others; Linux takes twice that as one argument."""

MAX_BYTES = 2**20
"""No comment of a file that vidrec made is longer."""


def args(video_format: str, known: Mapping[str, Any]) -> list[str]:
    """Return FFmpeg's arguments for a file of a format, with what is known by now; none if it keeps no comment."""
    return ["-metadata", f"comment={text(known)}"] if f".{video_format}" in KINDS else []


def text(known: Mapping[str, Any]) -> str:
    """Return the comment of a recorded file, in ASCII, with spaces behind it; what has no room is left out.

    >>> text({"step": 1000, "tag": "eval", "return": None}).rstrip()
    '{"vidrec": "0.1.0", "step": 1000, "tag": "eval"}'
    """
    told: dict[str, Any] = {"vidrec": __version__}
    room = ROOM - len(_json(told))
    for name in COLUMNS:
        if (value := known.get(name)) is not None and (needs := len(_json({name: value}))) <= room:
            told[name], room = value, room - needs  # two braces take as much as a comma and a space
    return _json(told).ljust(ROOM)


def args_of_several(video_format: str, videos: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return FFmpeg's arguments for a file that is made of others, of which this is known, their ``file`` included.

    It says what is the same in all, and what each says under ``videos``, as far as there is room.
    """
    first, *others = videos
    same = {name: first[name] for name in COLUMNS if name in first and all(first[name] == o.get(name) for o in others)}
    told: dict[str, Any] = {"vidrec": __version__, **same, "videos": []}
    room = MAX_OF_SEVERAL - len(_json(told))
    for video in videos:
        room -= len(_json(video)) + 2
        if room >= 0:
            told["videos"].append(video)
    return ["-metadata", f"comment={_json(told)}"] if f".{video_format}" in KINDS else []


def _json(told: Mapping[str, Any]) -> str:
    return json.dumps(_finite(told), default=str)


def _finite(value: Any) -> Any:
    """Return a value with text for each number that is NaN or infinite, which JSON lacks."""
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def overwrite(path: Path, known: Mapping[str, Any]) -> None:
    """Have a recorded file say what is known now; nothing happens to a file that has no room for it."""
    with suppress(OSError), path.open("r+b") as file:
        begin, end = _comment(file, path)
        if end - begin == ROOM:
            os.pwrite(file.fileno(), text(known).encode(), begin)


def read(path: Path) -> dict[str, Any]:
    """Return what a file says of itself, by column; nothing if vidrec did not make it, or it cannot be read."""
    with suppress(OSError, ValueError, RecursionError), path.open("rb") as file:
        begin, end = _comment(file, path)
        file.seek(begin)
        told = json.loads(file.read(end - begin) or b"{}")
        if isinstance(told, dict):
            return told
    return {}


def row(path: Path) -> dict[str, str]:
    """Return the same as a row of ``videos.csv`` has it: each value as text."""
    return {name: str(value) for name, value in read(path).items() if name in COLUMNS}


def _comment(file: BinaryIO, path: Path) -> tuple[int, int]:
    """Return where the comment begins and ends; nowhere, if it is none of ours."""
    for begin, end in comments(file, path.suffix):
        file.seek(begin)
        if end - begin <= MAX_BYTES and file.read(len(MARK)) == MARK:
            return begin, end
    return 0, 0

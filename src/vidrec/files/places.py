"""Where a logger writes: a folder of this machine, or a URL, such as ``s3://bucket/runs``, that its writer understands.

A folder is made absolute when the logger is made, as the working directory may change.
"""

import os
import re
from os import PathLike
from pathlib import Path

from vidrec.errors import SettingError, shown

Place = str | PathLike[str]

_URL = re.compile(r"[A-Za-z][\w+.:-]*://")
_URL_AS_PATH = re.compile(r"[A-Za-z][\w+.:-]+:/(?!/)")
"""What a `Path` makes of a URL."""


def place(*parts: Place) -> str:
    """Return where an experiment is, of a log_dir and its name: absolute, with ``~`` expanded; a URL as it is.

    They are joined as TorchRL joins them.

    >>> place("s3://bucket/runs", "first")
    's3://bucket/runs/first'
    >>> place("runs", "/data/first")
    '/data/first'

    Raises:
        SettingError: it is no path.
    """
    *_, last = texts = [_text(part) for part in parts]
    joined = last if is_url(last) else os.path.join(*texts)
    return joined if is_url(joined) else str(Path(joined).absolute())


def local_place(writer: str, path: Place) -> str:
    """Return the same for who writes files; raise `SettingError` for a URL."""
    where = place(path)
    if is_url(where):
        raise SettingError(f"{writer} writes files, and {where!r} is no path of this machine; expected a local one")
    return where


def is_url(where: str) -> bool:
    """Return whether it is a URL and no folder of this machine."""
    return _URL.match(where) is not None


def _text(value: Place) -> str:
    try:
        text = os.fsdecode(value)
    except TypeError:
        raise SettingError(f"{shown(value)} is no path; expected a str or Path") from None
    if not isinstance(value, str) and _URL_AS_PATH.match(text):
        raise SettingError(f"{value!r} was a URL, of which a Path keeps one slash only; expected a str")
    return os.path.expanduser(text)

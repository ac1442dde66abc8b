"""Manifest, the small file beside a clip that is being recorded: what is needed to repair it after a crash."""

import json
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidrec.files import forks
from vidrec.files.names import lock, remove

SUFFIX = ".log"


class Manifest:
    """A file that tells about a clip, for as long as it is not published.

    Its first line is JSON; behind it stands what FFmpeg says. It is locked while this process or the clip's FFmpeg
    runs, and so tells a clip that is being recorded from one that was left behind.

    Args:
        path: the file, which must not exist, in an existing folder.
        about: what to tell, as JSON.

    Raises:
        OSError: it could not be written.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self._close = weakref.finalize(self, os.close, self.descriptor)
        self._close.atexit = False  # clips are finished at exit; the descriptor ends with the process
        try:
            lock(self.descriptor)
            line = json.dumps(about).encode() + b"\n"
            if os.write(self.descriptor, line) < len(line):
                raise OSError("no space left for the file beside a clip")
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Delete it: the clip is published, or thrown away."""
        remove(self.path)  # while it is locked, so that nobody takes it for one that was left behind
        self.close()

    def close(self) -> None:
        """Let go of the file and its lock."""
        with forks.lock:  # a child that is forked in between would have what is closed here already
            self._close()


def read(path: Path) -> dict[str, Any]:
    """Return what a manifest tells; nothing if it is not there, or was cut off."""
    try:
        with path.open(errors="replace") as file:
            about = json.loads(file.readline())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}

"""Clips that a crash left in the folders of loggers, of which is told when the first clip is opened there."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from vidrec.loggers.base import VideoLogger
from vidrec.tools.scan import left_clips

_looked: set[Path] = set()
"""The folders of which this process has told."""


def look(loggers: Sequence[VideoLogger]) -> list[str]:
    """Return what to tell of the folders of loggers; nothing of one that was looked into before."""
    texts = []
    for folder in dict.fromkeys(logger.clips_folder() for logger in loggers):
        if folder is None or folder in _looked:
            continue
        _looked.add(folder)
        try:
            left = [clip for clip in left_clips(folder) if clip.abandoned]
        except OSError:  # whoever writes there says what is wrong
            continue
        if left:
            are = "clip is" if len(left) == 1 else "clips are"
            texts.append(
                f"{len(left)} {are} left unfinished in {folder}, such as {left[0].first.relative_to(folder)}; "
                f"`vidrec repair {shlex.quote(str(folder))}` makes videos of them"
            )
    return texts

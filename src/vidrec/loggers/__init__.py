"""Where finished videos go; and what a logger of one's own needs beside `vidrec.VideoLogger`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidrec.clips import open_clip as open_clip
    from vidrec.files.names import check_name as check_name
    from vidrec.files.names import publish as publish
    from vidrec.loggers.base import SentVideo as SentVideo
    from vidrec.loggers.base import encoding_of as encoding_of
    from vidrec.loggers.base import finished as finished

_HOMES = {
    "SentVideo": "vidrec.loggers.base",
    "check_name": "vidrec.files.names",
    "encoding_of": "vidrec.loggers.base",
    "finished": "vidrec.loggers.base",
    "open_clip": "vidrec.clips",
    "publish": "vidrec.files.names",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vidrec.loggers' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

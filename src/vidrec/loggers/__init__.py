"""Where finished videos go; and what a logger of one's own needs beside `vidrec.VideoLogger`."""

from vidrec.clips import open_clip
from vidrec.files.names import check_name, publish
from vidrec.loggers.base import SentVideo, encoding_of, finished

__all__ = ["SentVideo", "check_name", "encoding_of", "finished", "open_clip", "publish"]

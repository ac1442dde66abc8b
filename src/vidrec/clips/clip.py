"""The former home of the classes in `vidrec.clips`."""

from vidrec.clips import *  # noqa: F403
from vidrec.clips.base import _open as _open

"""Spool, the folder of one process for one object store: where clips grow, and videos wait until the store has them.

It is laid out as the folder of a `CSVLogger`: `vidrec list` and `vidrec repair` read it. It is no temporary folder and
no cache: both may be emptied while videos wait there.
"""

import fcntl
import hashlib
import os
import re
import secrets
import socket
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vidrec.errors import StoreError
from vidrec.files import forks
from vidrec.files.index import NAME, VideoIndex
from vidrec.files.names import MARK, is_at, lock

LOCK = "store.txt"
"""The file with the URL of the store, locked while the process runs."""

VARIABLE = "VIDREC_SPOOL"


def folder_of(url: str) -> Path:
    """Return the folder that has the spools for a URL: in ``$VIDREC_SPOOL``, else in that for the state of programs."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    root = Path(os.environ.get(VARIABLE) or Path(state, "vidrec")).expanduser().absolute()
    readable = re.sub(r"[^\w.-]+", "-", url).strip("-")[:60]
    return root / f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


class Spool:
    """The folder of this process, or one that a process has left, locked by this one.

    Attributes:
        folder: where ``videos``, ``scalars``, ``texts`` and ``videos.csv`` are.
        index: its ``videos.csv``, with a row for each video that waits.
        mark: what tells this spool from all others, a part of its name.
    """

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder, self.index = folder, VideoIndex(folder)
        self.mark = folder.name.rpartition("-")[2]
        self._unlock = weakref.finalize(self, os.close, descriptor)
        self._unlock.atexit = False
        forks.detach_in_child(self)

    @classmethod
    def new(cls, url: str) -> "Spool":
        """Make a spool for a URL.

        Raises:
            StoreError: it cannot be made.
        """
        folder = folder_of(url) / f"{_machine()}-p{secrets.token_hex(8)}"
        try:
            folder.mkdir(parents=True)
            path = folder / f"{LOCK}{MARK}{secrets.token_hex(4)}"
            with forks.lock:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                spool = cls(folder, descriptor)
            lock(descriptor)
            os.write(descriptor, f"{url}\n".encode())
            path.rename(folder / LOCK)  # from now on others look at it
        except OSError as error:
            raise StoreError(
                f"the folder {folder}, where videos wait for {url}, cannot be made: {error}; the environment variable "
                f"{VARIABLE} names another place"
            ) from error
        return spool

    @classmethod
    def left(cls, url: str) -> Iterator["Spool"]:
        """Yield the spools for a URL that processes of this machine have left, locked; none where no lock tells."""
        for path in sorted(folder_of(url).glob(f"{_machine()}-p*/{LOCK}")):
            with suppress(OSError), forks.lock:
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                spool = cls(path.parent, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_at(path, descriptor):
                    yield spool

    def logs(self) -> list[Path]:
        """Return the files of scalars and texts."""
        return sorted(
            path for kind in ("scalars", "texts") for path in (self.folder / kind).rglob("*") if path.is_file()
        )

    def close(self) -> None:
        """Unlock it, and delete it if nothing waits there: what remains is for the next process, or `vidrec repair`."""
        with suppress(OSError, ValueError):
            if not self.index.rows():
                (self.folder / NAME).unlink(missing_ok=True)
            for folder in sorted((path for path in self.folder.rglob("*") if path.is_dir()), reverse=True):
                with suppress(OSError):  # it is not empty
                    folder.rmdir()
            if [path.name for path in self.folder.iterdir()] == [LOCK]:
                (self.folder / LOCK).unlink()
                self.folder.rmdir()
                self.folder.parent.rmdir()  # unless there are others
        self.detach()

    def detach(self) -> None:
        """Let go of the lock, which the parent of a forked child keeps."""
        with forks.lock:
            self._unlock()


def _machine() -> str:
    return re.sub(r"[^\w.]+", "-", socket.gethostname()) or "machine"

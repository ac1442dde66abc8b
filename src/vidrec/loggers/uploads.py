"""What goes up to an object store, in the background: `Uploads`, how long to wait for it, and `Uploader`, who sends."""

import atexit
import json
import math
import multiprocessing
import multiprocessing.util
import threading
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vidrec.errors import SettingError, StoreError, VidrecWarning, gathered, raise_first, warn_or_print
from vidrec.files import forks
from vidrec.files.spool import Spool
from vidrec.files.store import Store

MAX_PAUSE_S = 30.0
"""How long after a failure the next try comes at the latest; the first comes after a second, each after twice that."""

LOOK_S = 5.0
"""How long a recorder waits for a store to say which steps an earlier run has had, in seconds."""

TEXT = ("tag", "file", "codec", "ended", "dtype", "shape", "time")
"""The columns of a row that are no numbers."""


@dataclass(frozen=True)
class Uploads:
    """How a `CSVLogger` waits for the object store that it writes to.

        >>> from vidrec import Uploads
        >>> Uploads(backlog=100, wait_s=600).backlog
        100

    Args:
        backlog: how many finished videos wait on this machine before `log_video` waits for the store.
        wait_s: how long `log_video` with a full backlog, and `flush`, wait for a store that fails, in seconds, before
            they raise `StoreError`. They wait as long as it takes for one that takes videos slowly.
        exit_s: how long the end of the process waits for what is on its way, in seconds.

    Raises:
        SettingError: a value that cannot be.
    """

    backlog: int = 32
    wait_s: float = 60.0
    exit_s: float = 30.0

    def __post_init__(self) -> None:
        if not isinstance(self.backlog, int) or self.backlog < 1:
            raise SettingError(f"backlog={self.backlog!r} must be a positive whole number of videos")
        for name in ("wait_s", "exit_s"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not value >= 0:
                raise SettingError(f"{name}={value!r} must be a number of seconds, 0 or more")


@dataclass(eq=False)
class Waiting:
    """A video that waits in a spool.

    Attributes:
        spool: which.
        row: of its ``videos.csv``; ``file`` says where it is.
        name: the name that it has in the store; None as long as it is not there.
    """

    spool: Spool
    row: Mapping[str, Any]
    name: str | None = None

    @property
    def path(self) -> Path:
        return self.spool.folder / str(self.row["file"])


class Uploader:
    """Sends what one logger of this process has for a store, one after another, in a thread that the first one starts.

    What fails is tried again, after the others, until it succeeds or the process ends. A file is deleted here once the
    store has confirmed it.

    Attributes:
        spool: where videos wait.
        names: the names in the store of all videos, by their paths here: empty as long as they wait, None once removed.
    """

    def __init__(self, url: str, limits: Uploads) -> None:
        self.limits, self.url = limits, url
        Store(url)  # raises now what is wrong with the URL
        self.spool = Spool.new(url)
        self.names: dict[Path, str | None] = {}
        self.store = Store(url, self.spool.mark)
        self._tasks: deque[Callable[[], None]] = deque()
        self._videos = self._done = 0  # how many wait, how many tasks are done
        self._sizes: dict[Path, int] = {}  # of scalars and texts that the store has
        self._looks: dict[str, tuple[threading.Thread, list[str]]] = {}
        self._error: Exception | None = None
        self._told: list[str] = []
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        _end_with_process(self)

    @property
    def busy(self) -> bool:
        """Whether something waits."""
        return bool(self._tasks)

    def add(self, row: Mapping[str, Any]) -> None:
        """Send a video of the spool, and scalars and texts as they are now."""
        with self._changed:
            self._videos += 1
            self.names[self.spool.folder / row["file"]] = ""
        self._start()
        self._put(partial(self._send, Waiting(self.spool, row)), partial(self._send_logs, self.spool))

    def remove(self, path: Path) -> None:
        """Delete a video, in the store or on its way there."""
        self._start()
        self._put(partial(self._remove, path))

    def look(self, folder: str) -> None:
        """Ask the store, in the background and once, which names a folder has."""
        if folder not in self._looks:
            found: list[str] = []

            def look() -> None:
                with suppress(Exception):
                    found.extend(self.store.names(folder))

            self._looks[folder] = threading.Thread(target=look, daemon=True), found
            self._looks[folder][0].start()

    def found(self, folder: str) -> list[str]:
        """Return the names of a folder: those that the store says within `LOOK_S`, and those of this process."""
        self.look(folder)
        thread, found = self._looks[folder]
        thread.join(LOOK_S)
        return [*found, *(path.name for path in self.names if path.parent == self.spool.folder / folder)]

    def wait_for_room(self) -> None:
        """Wait until the backlog has room for another video.

        Raises:
            StoreError: it has none, and the store takes nothing.
        """
        if not self._wait(lambda: self._videos < self.limits.backlog):
            raise StoreError(f"{self._say()} No more than {self.limits.backlog} may wait.") from self._error

    def flush(self) -> None:
        """Wait until the store has all.

        Raises:
            StoreError: it does not take it.
        """
        self._start()
        self._put(partial(self._send_logs, self.spool))
        if not self._wait(lambda: not self._tasks):
            raise StoreError(self._say()) from self._error
        self.tell()

    def tell(self) -> None:
        """Warn of what came up since the last time."""
        with self._changed:
            texts, self._told = self._told, []
        errors: list[Exception] = []
        for text in texts:
            with gathered(errors, VidrecWarning):
                warnings.warn(text, VidrecWarning, stacklevel=5)
        raise_first(errors)

    def end(self, wait_s: float) -> str | None:
        """Wait for what is on its way, and close; return what to say if that takes longer."""
        if self._thread is not None or self.spool.logs():
            self._start()
            self._put(partial(self._send_logs, self.spool))
        if not self.wait(wait_s):
            return self._say()
        self.close()
        return None

    def wait(self, wait_s: float) -> bool:
        """Wait until nothing is on its way, so long at most; return whether."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._tasks, wait_s)

    def close(self) -> None:
        """End the thread, and delete the spool, once the store has all."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for path in self.spool.logs():
            path.unlink()
        self.spool.close()
        _uploaders.discard(self)

    def _say(self) -> str:
        why = "" if self._error is None else f": {_text(self._error)}"
        return (
            f"{self._videos} videos are not yet in {self.url}{why}. They are whole in {self.spool.folder}; the next "
            "logger for this URL on this machine sends what is left there."
        )

    def _wait(self, done: Callable[[], bool]) -> bool:
        """Wait until `done`; return False if the store fails, and nothing went up for `wait_s`."""
        with self._changed:
            while not done():
                before = self._done
                moved = self._changed.wait_for(lambda: done() or self._done != before, self.limits.wait_s)  # noqa: B023
                if not moved and self._error is not None:
                    return False
        return True

    def _put(self, *tasks: Callable[[], None]) -> None:
        with self._changed:
            self._tasks += tasks
            self._changed.notify_all()

    def _start(self) -> None:
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"vidrec to {self.url}", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        self._adopt()
        pause_s = 1.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._tasks or self._closed)
                if not self._tasks:
                    return
            try:
                self._tasks[0]()
            except Exception as error:
                with self._changed:
                    if self._error is None:
                        self._told.append(f"{self.url} takes no videos, which is tried again: {_text(error)}")
                    self._error = error
                    self._tasks.rotate(-1)
                    self._changed.notify_all()
                    self._changed.wait(pause_s)  # or until there is more to do
                pause_s = min(2 * pause_s, MAX_PAUSE_S)
            else:
                with self._changed:
                    self._tasks.popleft()
                    self._error, pause_s = None, 1.0
                    self._done += 1
                    self._changed.notify_all()

    def _adopt(self) -> None:
        """Send what processes that have ended left for this store on this machine."""
        for spool in Spool.left(self.url):
            try:
                rows = [row for row in spool.index.rows() if (spool.folder / row["file"]).exists()]
            except (OSError, ValueError) as error:
                self._told.append(str(error))
                continue
            if rows:
                text = f"{len(rows)} videos, which an earlier process left in {spool.folder}, go to {self.url} now"
                self._told.append(text)
            sends = [partial(self._send, Waiting(spool, row)) for row in rows]
            self._put(*sends, partial(self._retire, spool))

    def _retire(self, spool: Spool) -> None:
        """Let go of the spool of another process once the store has all of it."""
        if any((spool.folder / row["file"]).exists() for row in spool.index.rows()):
            self._tasks.append(partial(self._retire, spool))
            return
        self._send_logs(spool)
        for path in (*spool.logs(), spool.index.path):
            path.unlink(missing_ok=True)
        spool.close()

    def _send(self, video: Waiting) -> None:
        """Send a video and then its row, and delete it here."""
        own, path, file = video.spool is self.spool, video.path, str(video.row["file"])
        if own and self.names[path] is None:
            return
        if path.exists():
            store = self.store if own else Store(self.url, video.spool.mark)
            if video.name is None:
                video.name = store.put_new(path, file, f"{video.spool.mark}/{file}")
            store.put(_json({**video.row, "file": video.name}), f"{video.name}.json")
            if own:
                self.names[path] = video.name
            path.unlink(missing_ok=True)
            if video.name != store.wanted(file):
                text = f"{self.url}/{file} exists and is kept; this video is {self.url}/{video.name}"
                self._told.append(text)
        else:
            self._told.append(f"{path} is not there any more, and not in {self.url}; who deleted it?")
        with suppress(OSError, ValueError):
            video.spool.index.remove(file)
        self._videos -= own

    def _remove(self, path: Path) -> None:
        if name := self.names[path]:
            self.store.remove(f"{name}.json")  # first: what has a row is there
            self.store.remove(name)
        elif name is not None:  # it still waits
            path.unlink(missing_ok=True)
            with suppress(OSError):
                self.spool.index.remove(str(path.relative_to(self.spool.folder)))
            self._videos -= 1
        self.names[path] = None

    def _send_logs(self, spool: Spool) -> None:
        """Send scalars and texts that have changed, under names that only this process has."""
        for path in spool.logs():
            data = path.read_bytes()
            if len(data) != self._sizes.get(path):
                name = path.relative_to(spool.folder).with_stem(f"{path.stem}_{spool.mark}")
                self.store.put(data, name.as_posix())
                self._sizes[path] = len(data)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _json(row: Mapping[str, Any]) -> bytes:
    """Return a row as JSON, with numbers for numbers; of ``videos.csv``, where all is text, as well."""
    return json.dumps({column: _value(column, value) for column, value in row.items()}).encode()


def _value(column: str, value: Any) -> Any:
    if value is None or value == "":
        return None
    if column in TEXT:
        return str(value)
    number = float(value)
    if not math.isfinite(number):
        return str(number)
    return int(value) if str(value).lstrip("-").isdecimal() else number


_uploaders: set[Uploader] = set()
"""Those of this process."""


def waiting() -> bool:
    """Return whether anything of this process is on its way to a store."""
    return any(uploader.busy for uploader in _uploaders)


def settle() -> None:
    """Wait until nothing is on its way, no longer than the end of the process does."""
    for uploader in list(_uploaders):
        uploader.wait(uploader.limits.exit_s)


def _end_with_process(uploader: Uploader) -> None:
    """Let the end of the process wait for an uploader, after all that is recorded is finished."""
    _uploaders.add(uploader)
    atexit.unregister(_end_all)
    atexit.register(_end_all)
    if multiprocessing.parent_process() is not None:  # it may end without the functions of atexit
        multiprocessing.util.Finalize(None, _end_all, exitpriority=10)


class _Process:
    """What is known of this process is not true of a forked child."""

    def detach(self) -> None:
        """Leave the parent's uploaders to the parent."""
        _uploaders.clear()


_process = _Process()
forks.detach_in_child(_process)


def _end_all() -> None:
    if _uploaders:
        _resolve_in_place()
    for uploader in list(_uploaders):
        left = uploader.end(uploader.limits.exit_s)
        for text in [*uploader._told, *([left] if left else [])]:
            warn_or_print(text)


class InPlace(ThreadPoolExecutor):
    """An executor without threads, for the end of the interpreter, which gives those of others no more work."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _resolve_in_place() -> None:
    """Let the event loop of fsspec look up names of hosts itself: it may open connections to the end."""
    from fsspec import asyn

    if (loop := asyn.loop[0]) is not None:
        loop.call_soon_threadsafe(loop.set_default_executor, InPlace())

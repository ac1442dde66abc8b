"""Names of files: which are safe, which say that a file is not finished, and how a finished video gets its own."""

import contextlib
import fcntl
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import BinaryIO, TypeVar

from vidrec.errors import EncoderError, TagError

MARK = ".part-"
"""What the name of an unfinished file holds and that of a finished one does not."""

MAX_NAME_BYTES = 200
"""How long the name of a file or folder may be, in UTF-8; file systems take 255, and some of that is added to it."""


AnyPath = TypeVar("AnyPath", bound=PurePath)


def check_name(name: str) -> str:
    """Return a tag or name that stays in its folder, and is a file's or folder's name everywhere, else raise."""
    if not isinstance(name, str) or not name.strip("./"):
        raise TagError(f"{name!r} is no name; expected a str such as 'eval/video'")
    if name.startswith("/") or name.endswith("/") or ".." in name.split("/"):
        raise TagError(f"{name!r} leads out of the logger's folder; expected a relative name without '..'")
    if not name.isprintable() or MARK in name:
        raise TagError(f"{name!r} holds {MARK!r} or a character that is not printable, such as a line break")
    if any(len(part.encode()) > MAX_NAME_BYTES for part in name.split("/")):
        raise TagError(f"{name[:40]!r}... is too long; expected at most {MAX_NAME_BYTES} bytes between two '/'")
    return name


def make_folder(folder: Path) -> None:
    """Make the folder of a clip, or raise `EncoderError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EncoderError(f"the folder {folder} for a clip could not be made: {error}") from error


def temporary_stem(name: str) -> Path:
    """Return the folder for temporary files and the beginning of a name, for a video that has no folder here."""
    return Path(tempfile.gettempdir(), "vidrec-" + name.replace("/", "-"))


def publish(source: Path, target: Path) -> Path:
    """Give a file the name `target`, or the next one that is free, by a link or a copy, and return which; it stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        return next(name for name in numbered(target) if _link(source, name))
    except OSError:  # another file system, or one without hard links
        with source.open("rb") as old:
            return write(target, lambda new: shutil.copyfileobj(old, new))


def write(target: Path, fill: Callable[[BinaryIO], object]) -> Path:
    """Make a file that `fill` writes, named `target`, or the next name that is free, and return which.

    It grows under an unfinished name, and is locked until it has its own: `vidrec repair` leaves it alone.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    near = target.with_name(f"{target.name}{MARK}{secrets.token_hex(4)}")
    with near.open("xb") as new:
        try:
            lock(new.fileno())
            fill(new)
            new.flush()
            return move(near, target)
        finally:
            near.unlink(missing_ok=True)


def move(source: Path, target: Path) -> Path:
    """Rename in a folder to `target`, or to the next name that is free, and return which. Nothing is ever replaced."""
    return next(name for name in numbered(target) if _rename(source, name))


def move_to(source: Path, target: Path, *, overwrite: bool) -> bool:
    """Rename in a folder to `target`, and return whether: not if that exists, unless it is to be replaced."""
    if overwrite:
        source.replace(target)
        return True
    return _rename(source, target)


def numbered(target: AnyPath) -> Iterator[AnyPath]:
    """Yield a path, and those that take its place where it is taken: ``game_1.mp4`` for ``game.mp4``."""
    return itertools.chain([target], (target.with_stem(f"{target.stem}_{n}") for n in itertools.count(1)))


def _link(source: Path, target: Path) -> bool:
    """Give a file another name, unless that exists; return whether."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    return True


def lock(descriptor: int) -> None:
    """Lock an open file until nobody has it open any more, children included; see `in_use`."""
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def exclusively(path: Path) -> Iterator[bool]:
    """Lock a file; yields whether that was possible: False if somebody else has, or it is not there any more."""
    try:
        file = path.open("rb")
    except OSError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks
            pass
        yield is_at(path, file.fileno())


def is_at(path: Path, descriptor: int) -> bool:
    """Return whether an open file is still the one at this path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def in_use(path: Path) -> bool:
    """Return whether a process has locked this file, as far as that is known."""
    return _locked(path) is True


def unlocked(path: Path) -> bool:
    """Return whether it is certain that no process has locked this file: also if it is not there."""
    return _locked(path) is False


def _locked(path: Path) -> bool | None:
    """Return whether a process has locked this file; None if that is not known, as on a file system without locks."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return False


def remove(path: Path) -> None:
    """Delete a file that nobody wants; where that cannot be, it stays, under a name that says what it is."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _rename(source: Path, target: Path) -> bool:
    """Rename, unless `target` exists; return whether. It is there whole or not at all."""
    try:
        if not _link(source, target):
            return False
    except OSError:  # a file system without hard links: the same, but for the moment between these two lines
        if target.exists():
            return False
        source.rename(target)
    else:
        source.unlink()
    return True

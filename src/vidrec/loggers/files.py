"""Names of files: which are safe, and how a finished video gets its own without replacing anything."""

import itertools
import os
import secrets
import shutil
import warnings
from pathlib import Path

from vidrec.clip import MARK
from vidrec.errors import TagError, VidrecWarning


def check_name(name: str) -> str:
    """Return a tag or name that stays in its folder, else raise `TagError`."""
    if not isinstance(name, str) or not name.strip("./") or "\0" in name:
        raise TagError(f"{name!r} is no name; expected a str such as 'eval/video'")
    if name.startswith("/") or name.endswith("/") or ".." in name.split("/"):
        raise TagError(f"{name!r} leads out of the logger's folder; expected a relative name without '..'")
    return name


def move(source: Path, target: Path) -> Path:
    """Rename to `target`, or to the next name that is free, and return which. Nothing is ever replaced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.stat().st_dev != target.parent.stat().st_dev:
        near = target.with_name(f"{target.name}{MARK}{secrets.token_hex(4)}")
        copy(source, near)
        source.unlink()
        source = near
    names = itertools.chain([target], (target.with_stem(f"{target.stem}_{n}") for n in itertools.count(1)))
    return next(name for name in names if _rename(source, name))


def share(source: Path) -> Path:
    """Return another name for the finished file `source`, in its folder, so that two loggers can each have it."""
    other = source.with_stem(f"{source.stem}-{secrets.token_hex(2)}")
    try:
        os.link(source, other)
    except OSError:  # a file system without hard links
        copy(source, other)
    return other


def copy(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    try:
        shutil.copyfile(source, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def drop(path: Path) -> None:
    """Delete a file that is published elsewhere; one that cannot be deleted is worth a warning, and no more."""
    try:
        path.unlink()
    except OSError as error:
        warnings.warn(f"{path} was published, but could not be deleted: {error}", VidrecWarning, stacklevel=4)


def _rename(source: Path, target: Path) -> bool:
    """Rename, unless `target` exists; return whether. It is there whole or not at all."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links: the same, but for the moment between these two lines
        if target.exists():
            return False
        source.rename(target)
    else:
        source.unlink()
    return True

"""An object store, such as ``s3://bucket/runs``, through fsspec: what goes up is whole, confirmed and replaces nothing.

Credentials, endpoints and timeouts are those of fsspec's own configuration.
"""

import base64
import errno
import hashlib
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from vidrec.errors import ExtraError, SettingError, StoreError
from vidrec.files.names import numbered

PIECE_BYTES = 8 * 2**20
"""A larger file goes up in pieces of this size, at most two in memory at a time."""

CONDITIONAL: dict[str, Callable[[str], dict[str, Any]]] = {
    "s3": lambda token: {"chunksize": PIECE_BYTES, "max_concurrency": 2, "Metadata": {"vidrec": token}},
    "gs": lambda token: {"chunksize": PIECE_BYTES, "metadata": {"vidrec": token}},
}
"""The stores that take an object only if its name is free, if asked to, and how a file with a token goes up there."""

_in_memory = threading.Lock()
"""Held from the look at a name of ``memory://``, which no other process sees, until it is taken."""


class Store:
    """The objects below a URL, for one process: what fsspec has open does not survive a fork.

    Args:
        url: where; names of objects are relative to it.
        mark: what no other process has, for names where the store lets the last of two with the same name win.

    Raises:
        ExtraError: the package for stores of this kind is not installed.
        SettingError: it is the URL of no object store.
    """

    def __init__(self, url: str, mark: str = "") -> None:
        import fsspec

        self.url, self.mark = url.rstrip("/"), mark
        scheme = url.partition("://")[0]
        if "::" in url or scheme in ("file", "local"):
            raise SettingError(f"{url!r} is the URL of no object store; expected one such as 's3://bucket/runs'")
        try:
            self._files, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False, skip_instance_cache=True)
        except ImportError as error:
            hint = ': pip install "vidrec[s3]"' if scheme == "s3" else ""
            raise ExtraError(f"{url!r} needs a package that is not installed{hint} ({error})") from error
        except ValueError as error:
            raise SettingError(f"{url!r} is the URL of no object store: {error}") from error
        self._root = str(root).rstrip("/")
        protocol = self._files.protocol
        self._kinds = {protocol} if isinstance(protocol, str) else set(protocol)

    def put_new(self, source: Path, name: str, token: str) -> str:
        """Send a file under this name, or the next one that is free; return which, once the store has it whole.

        Args:
            source: the file, of any size.
            name: relative to the URL, with ``/``.
            token: what no other file has, by which one is known that has arrived without an answer.

        Raises:
            OSError: the store does not take it, or has something else under its name.
        """
        for candidate in map(str, numbered(PurePosixPath(self.wanted(name)))):
            try:
                self._create(source, self._at(candidate), token)
            except FileExistsError:
                if not self._has(source, candidate, token):
                    continue
            self._confirm(source, candidate)
            return candidate
        raise AssertionError("there is always another name")

    def wanted(self, name: str) -> str:
        """Return the name under which a file goes up if that is free: with the mark, where two could take one name."""
        path = PurePosixPath(name)
        return name if self._keeps_first or not self.mark else str(path.with_stem(f"{path.stem}_{self.mark}"))

    def _create(self, source: Path, target: str, token: str) -> None:
        """Send a file under a name that is free, else raise `FileExistsError`."""
        if "memory" in self._kinds:
            with _in_memory:
                self._files.put_file(str(source), target, mode="create")
        elif not self._keeps_first:
            if self._files.exists(target):
                raise FileExistsError(target)
            self._files.put_file(str(source), target)
        else:
            how = next(CONDITIONAL[kind](token) for kind in CONDITIONAL if kind in self._kinds)
            try:
                self._files.put_file(str(source), target, mode="create", **how)
            except OSError as error:
                if error.errno == errno.EINVAL:  # of older versions of s3fs
                    raise FileExistsError(target) from error
                raise

    def _has(self, source: Path, name: str, token: str) -> bool:
        """Return whether an object is what an earlier try sent whose answer was lost."""
        if "memory" in self._kinds:
            return False
        if not self._keeps_first:
            return self._same(source, name)
        if "s3" in self._kinds:
            about = self._files.metadata(self._at(name))
        else:
            about = self._files.info(self._at(name)).get("metadata") or {}
        return bool(about.get("vidrec") == token) and self._same(source, name)

    @cached_property
    def _keeps_first(self) -> bool:
        """Whether of two that take the same name at the same moment the second one is refused; it is tried out."""
        if "memory" in self._kinds:
            return True
        if not self._kinds & CONDITIONAL.keys():
            return False
        target = self._at(f".vidrec-{secrets.token_hex(8)}")
        self._files.pipe_file(target, b"", mode="create")
        try:
            self._files.pipe_file(target, b"", mode="create")
        except OSError as error:
            if not isinstance(error, FileExistsError) and error.errno != errno.EINVAL:
                raise
            return True
        finally:
            with suppress(OSError):  # who may write need not be allowed to delete
                self._files.rm_file(target)
        return False

    def put(self, data: bytes, name: str) -> None:
        """Replace an object by `data`; returns once the store has it whole.

        Raises:
            OSError: the store does not take it.
        """
        self._files.pipe_file(self._at(name), data)
        self._confirm(data, name)

    def remove(self, name: str) -> None:
        """Delete an object, if it is there."""
        with suppress(FileNotFoundError):
            self._files.rm_file(self._at(name))

    def names(self, folder: str) -> list[str]:
        """Return the names of the objects in a folder, without it; none if there is none."""
        try:
            return [str(path).rpartition("/")[2] for path in self._files.ls(self._at(folder), detail=False)]
        except FileNotFoundError:
            return []

    def find(self) -> dict[str, dict[str, Any]]:
        """Return what the store says of each object at the URL and below, by its name."""
        found = self._files.find(self._root, detail=True)
        return {str(path).removeprefix(f"{self._root}/"): about for path, about in found.items()}

    def read(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of those objects that are there, by name; read at the same time where the store can."""
        paths = {self._at(name): name for name in names}
        found = self._files.cat(list(paths), on_error="return") if paths else {}
        for data in found.values():
            if isinstance(data, Exception) and not isinstance(data, FileNotFoundError):
                raise data
        return {paths[path]: data for path, data in found.items() if isinstance(data, bytes)}

    def _confirm(self, source: Path | bytes, name: str) -> None:
        """Raise `StoreError` unless the store has these bytes."""
        if not self._same(source, name):
            raise StoreError(f"{self.url}/{name} is not what was sent there")

    def _same(self, source: Path | bytes, name: str) -> bool:
        """Return whether an object has these bytes: by its size and the MD5 that the store states, else it is read."""
        info = self._files.info(self._at(name))
        with _opened(source) as file:
            if info["size"] != file.seek(0, 2):
                return False
            file.seek(0)
            if not _md5s(file).isdisjoint({str(info.get("ETag")).strip('"'), info.get("md5Hash")}):
                return True
            file.seek(0)
            with self._files.open(self._at(name), "rb", block_size=PIECE_BYTES) as there:
                return all(piece == there.read(PIECE_BYTES) for piece in _pieces(file))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"


def _opened(source: Path | bytes) -> BinaryIO:
    return BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece


def _md5s(file: BinaryIO) -> set[str]:
    """Return what stores state of these bytes: their MD5, in hex or base64; of pieces that of their MD5s."""
    whole, pieces = hashlib.md5(usedforsecurity=False), []
    for piece in _pieces(file):
        whole.update(piece)
        pieces.append(hashlib.md5(piece, usedforsecurity=False).digest())
    of_pieces = hashlib.md5(b"".join(pieces), usedforsecurity=False).hexdigest()
    return {whole.hexdigest(), base64.b64encode(whole.digest()).decode(), f"{of_pieces}-{len(pieces)}"}

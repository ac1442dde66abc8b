"""The parts of an mp4, WebM or Matroska file, found without FFmpeg: its comments, and where it was torn."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

Header = Callable[[BinaryIO, int, int], tuple[bytes, int, int]]
"""Returns the kind of the part that begins at a byte, and where its content begins and ends."""

MP4 = ((b"moov", 0), (b"udta", 0), (b"meta", 4), (b"ilst", 0), (b"\xa9cmt", 0), (b"data", 8))
MATROSKA = (
    (b"\x18\x53\x80\x67", 0),  # Segment
    (b"\x12\x54\xc3\x67", 0),  # Tags
    (b"\x73\x73", 0),  # Tag
    (b"\x67\xc8", 0),  # SimpleTag
    (b"\x44\x87", 0),  # TagString
)
"""Where a comment is, from the outside: the kind of each part, and the bytes in it before what it holds."""


def comments(file: BinaryIO, suffix: str) -> Iterator[tuple[int, int]]:
    """Yield where the comments of a file of this suffix begin and end, and in Matroska other texts of that kind."""
    if suffix in KINDS:
        header, parts = KINDS[suffix]
        yield from _found(file, header, parts, 0, os.fstat(file.fileno()).st_size)


def torn_at(path: Path) -> int | None:
    """Return where the head of a fragment begins that an mp4 has not whole; None if there is none.

    FFmpeg reads nothing of such a file, and all of what is before.
    """
    with path.open("rb") as file:
        at, size = 0, os.fstat(file.fileno()).st_size
        while at < size:
            kind, _, after = _box(file, at, 2**64)
            if kind == b"moof" and after > size:
                return at
            at = after
    return None


def _found(
    file: BinaryIO, header: Header, parts: Sequence[tuple[bytes, int]], begin: int, end: int
) -> Iterator[tuple[int, int]]:
    """Yield where the innermost of these parts begin and end, of those between two bytes of a file."""
    if not parts:
        yield begin, end
        return
    (wanted, before), *inner = parts
    while begin < end:
        kind, content, after = header(file, begin, end)
        if kind == wanted:
            yield from _found(file, header, inner, content + before, after)
        begin = after


def _box(file: BinaryIO, at: int, end: int) -> tuple[bytes, int, int]:
    """See `Header`; of an mp4."""
    head = _bytes(file, at, 16)
    size, kind, content = int.from_bytes(head[:4], "big"), head[4:8], at + 8
    if size == 1:
        size, content = int.from_bytes(head[8:], "big"), at + 16
    return kind, content, min(end, at + size) if size >= content - at else end


def _element(file: BinaryIO, at: int, end: int) -> tuple[bytes, int, int]:
    """See `Header`; of Matroska and WebM."""
    head = _bytes(file, at, 12)
    named = _vint_bytes(head[:1])
    sized = _vint_bytes(head[named : named + 1])
    content = at + named + sized
    bits = 7 * sized
    size = int.from_bytes(head[named : named + sized], "big") & (1 << bits) - 1
    unknown = size == (1 << bits) - 1  # of one that grows, or grew until a crash
    return head[:named], content, end if unknown else min(end, content + size)


def _vint_bytes(first: bytes) -> int:
    """Return how long a number is, by the zeros at the beginning of its first byte."""
    return 9 - first[0].bit_length() if first else 1


def _bytes(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


KINDS: Mapping[str, tuple[Header, Sequence[tuple[bytes, int]]]] = {
    ".mp4": (_box, MP4),
    ".webm": (_element, MATROSKA),
    ".mkv": (_element, MATROSKA),
}
"""The files that keep comments: how they are read, and where these are."""

"""Captions: frames ``[N, H, W, 3]`` with a line of text, or several, in a strip below.

Small frames are enlarged by a power of two first, as their encoder would do it: so that the text is sharp, and no
colour is lost where it is stored at half the resolution. All of a caption goes by the size of the frame, the number of
lines and that of cells, so that the frames of a clip have one size.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vidrec.ffmpeg.encoding import ENLARGE_TO, MAX_SIDE

TEXT_PART = 24
"""The height of the text is this part of the shorter side of the frame, enlarged."""

MIN_TEXT = 12
"""But at least so many pixels, which is legible."""

LINE = 1.25
"""The height of a line, in heights of the text."""

NARROWEST = 5
"""How many letters there are at the most on the height of a letter, so that no text is measured in vain."""

FONTS = ("DejaVuSans.ttf", "Arial Unicode.ttf", "LiberationSans-Regular.ttf")
"""Those of the system that know more than Latin letters, the best first."""

PARTS = re.compile(r"\d| *[^\d ]+ *| +")
"""What is drawn at a time. Digits have all the same width, and no other distance to each other than to letters."""

ELLIPSIS = "…"
UNKNOWN = "\N{REPLACEMENT CHARACTER}"

Gray = NDArray[np.uint8]


@dataclass(frozen=True)
class Strip:
    """Where the text of a frame is.

    Attributes:
        factor: by which the frame is enlarged.
        top: the first row of the strip; even, so that the frame and the text share no colours.
        height: of the strip, in pixels, even.
        width: as above.
        size: the height of the text.
        lines: how many there are.
    """

    factor: int
    top: int
    height: int
    width: int
    size: int
    lines: int

    @property
    def gap(self) -> int:
        """How many pixels are between the text and the edges of the strip."""
        return self.size // 3

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, size: tuple[int, int], lines: int, cells: int = 1) -> "Strip":
        """Return that of frames of this (height, width), of which so many are in a grid.

        They are enlarged until the shorter side has `ENLARGE_TO` pixels, but not so that a side of the grid has more
        than `MAX_SIDE`.
        """
        columns = math.ceil(math.sqrt(cells))
        rows = math.ceil(cells / columns)
        best = cls._enlarged(size, lines, 1)
        while best.factor * min(size) < ENLARGE_TO:
            larger = cls._enlarged(size, lines, 2 * best.factor)
            if max(rows * (larger.top + larger.height), columns * larger.width) > MAX_SIDE:
                break
            best = larger
        return best

    @classmethod
    def _enlarged(cls, size: tuple[int, int], lines: int, factor: int) -> "Strip":
        height, width = (factor * side for side in size)
        text = max(MIN_TEXT, round(min(height, width) / TEXT_PART))
        strip = lines * math.ceil(LINE * text) + 2 * (text // 3)
        return cls(factor, height + height % 2, strip + strip % 2, width, text, lines)

    def draw(self, text: str) -> Gray:
        """Return the strip with a text, ``[height, width]``; lines that are too long or too many end with "…".

        >>> Strip.of((84, 84), lines=1).draw("step 12").shape
        (26, 336)
        """
        strip = np.zeros((self.height, self.width), np.uint8)
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n", self.lines)
        if len(lines) > self.lines:
            lines[self.lines - 1 :] = [lines[self.lines - 1] + ELLIPSIS]
        top = (self.height - math.ceil(LINE * self.size) * self.lines) // 2
        for line in lines:
            parts = self._fit(_clean(line[: NARROWEST * self.width // self.size + 1]))
            if parts:
                drawn = np.concatenate([_drawn(part, self.size) for part in parts], 1)
                at = strip[top : top + len(drawn), self.gap : self.gap + drawn.shape[1]]
                at[:] = drawn[:, : at.shape[1]]
            top += math.ceil(LINE * self.size)
        return strip

    def _fit(self, line: str) -> list[str]:
        """Return the parts of a line as far as there is room."""
        left, room = 0, self.width - 2 * self.gap
        parts = _parts(line)
        for at, part in enumerate(parts):
            left += _advance(part, self.size)
            if left > room:
                return self._cut(parts[: at + 1])
        return parts

    def _cut(self, parts: list[str]) -> list[str]:
        """Return the parts, of which the last does not fit, cut off and with "…"."""
        room = self.width - 2 * self.gap - _advance(ELLIPSIS, self.size)
        while len(parts) > 1 and sum(_advance(part, self.size) for part in parts[:-1]) > room:
            parts = parts[:-1]
        *whole, last = parts
        room -= sum(_advance(part, self.size) for part in whole)
        low, high = 0, len(last)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if _length(last[:middle], self.size) <= room else (low, middle - 1)
        return [*whole, *filter(None, [last[:low]]), ELLIPSIS]


def caption(frames: NDArray[np.uint8], texts: Sequence[str], lines: int, *, tile: bool = False) -> NDArray[np.uint8]:
    """Return frames uint8 ``[N, H, W, 3]`` with a text of so many lines below each, enlarged if they are small.

    Args:
        frames: as they are; they are copied.
        texts: one for each.
        lines: as many as each has room for.
        tile: whether they become one frame, as by `vidrec.frames.grid`; N is 1 then.

    >>> caption(np.zeros((2, 84, 84, 3), np.uint8), ["step 1", "step 2"], 1).shape
    (2, 362, 336, 3)
    """
    n, height, width, _ = frames.shape
    strip = Strip.of((height, width), lines, n if tile else 1)
    by, top, whole = strip.factor, strip.top, strip.top + strip.height
    columns = math.ceil(math.sqrt(n)) if tile else 1
    canvas = np.empty((math.ceil(n / columns), whole, columns, strip.width, 3), np.uint8)
    for at, (frame, text) in enumerate(zip(frames, texts, strict=True)):
        cell = canvas[at // columns, :, at % columns]
        if by == 1:
            cell[:height] = frame
        else:
            cell[: by * height].reshape(height, by, strip.width, 3)[:] = frame.repeat(by, 1)[:, None]
        if top > by * height:  # black would bleed into the colours of the last row
            cell[top - 1] = cell[top - 2]
        drawn = strip.draw(text)
        for channel in range(3):  # a third of the time of all at once
            cell[top:, :, channel] = drawn
    if n % columns:
        canvas[-1, :, n % columns :] = 0
    return canvas.reshape(1, -1, columns * strip.width, 3) if tile else canvas[:, :, 0]


@lru_cache(maxsize=512)
def _drawn(part: str, size: int) -> Gray:
    """Return a part of a line, white on black, as high as a line and as wide as it is to the next part."""
    image = Image.new("L", (_advance(part, size), math.ceil(LINE * size)))
    ImageDraw.Draw(image).text((0, size), part, fill=255, font=_font(size, part.isascii()), anchor="ls")
    return np.asarray(image)


@lru_cache(maxsize=2048)
def _advance(part: str, size: int) -> int:
    return _length(part, size)


def _length(part: str, size: int) -> int:
    return math.ceil(_font(size, part.isascii()).getlength(part))


def _parts(line: str) -> list[str]:
    """Return what a line is drawn of: words and digits; all of it if it is not ASCII, and may be read in any order.

    Each was probably drawn before: of numbers, all that changes from frame to frame is their digits.
    """
    return PARTS.findall(line) if line.isascii() else [line]


def _clean(line: str) -> str:
    """Return a line without what has no glyph: controls, halves of surrogate pairs."""
    if line.isprintable():
        return line
    kinds = {"Cc": UNKNOWN, "Cs": UNKNOWN, "Co": UNKNOWN, "Cn": UNKNOWN, "Cf": "", "Zs": " ", "Zl": " ", "Zp": " "}
    return "".join(kinds.get(unicodedata.category(char), char) for char in line.replace("\t", " "))


@lru_cache(maxsize=64)
def _font(size: int, plain: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font of a text; the plain way of laying it out is the same everywhere, but knows ASCII alone."""
    engine = ImageFont.Layout.BASIC if plain else None
    path = _path()
    if path is None:
        return ImageFont.load_default(size)
    return ImageFont.truetype(path, size, layout_engine=engine)


@lru_cache(maxsize=1)
def _path() -> str | None:
    """Return the file of the font: of the system, or that which matplotlib brings; None is Pillow's own."""
    for name in (FONTS[0], _of_matplotlib(), *FONTS[1:]):
        with suppress(OSError):
            return str(ImageFont.truetype(name, MIN_TEXT).path)
    return None


def _of_matplotlib() -> str:
    """Return where the font is that matplotlib brings, if it is installed."""
    try:
        found = find_spec("matplotlib")
    except ValueError:  # a module without a spec, which a test has put into sys.modules
        found = None
    folders = (None if found is None else found.submodule_search_locations) or [""]
    return str(Path(folders[0], "mpl-data/fonts/ttf", FONTS[0]))

"""A finished video in a notebook: the HTML that Jupyter, Colab and VS Code show for it."""

import base64
import os
import sys
import tempfile
from html import escape
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from vidrec.clips.video import Video
from vidrec.clips.write import write
from vidrec.errors import SettingError

MAX_EMBEDDED_BYTES = 32_000_000
"""The largest file that is put into a notebook; one that is larger is linked."""

MAX_PREVIEW_BYTES = 128_000_000
"""How many bytes of frames, 3 * H * W each, are shown of a file that browsers do not play."""


def html(video: Video) -> str:
    """Return a video as HTML: the file itself and a line about it; a line that says why, if it cannot be shown."""
    try:
        size = video.path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return f"<p>{_name(video)} is not there any more: it was deleted or moved.</p>"
    except OSError as error:
        return f"<p>{_name(video)} cannot be read: {_text(error)}.</p>"
    try:
        shown, note = _shown(video, size)
    except Exception as error:  # a notebook would show a traceback instead of the video
        shown, note = "", f"It cannot be shown: {_text(error)}"
    lines = "<br>".join(filter(None, [_about(video, size), note]))
    return f'<figure style="margin: 0">{shown}<figcaption>{lines}</figcaption></figure>'


def show(video: Video) -> None:
    """Show a video in the notebook that this runs in.

    Raises:
        SettingError: it runs in no notebook.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if getattr(shell, "kernel", None) is None:
        raise SettingError(f"show() needs a notebook (Jupyter, Colab, VS Code), and this is none; open {video.path}")
    from IPython.display import display

    display(video)


def _shown(video: Video, size: int) -> tuple[str, str]:
    """Return the element that shows a video, and what is to be said of it."""
    kind = video.encoding.format.media_type
    if not kind:
        return _preview(video)
    if size > MAX_EMBEDDED_BYTES:
        source = quote(os.fsencode(os.path.relpath(video.path)))
        reason = f"more than {_bytes(MAX_EMBEDDED_BYTES)} are not put into a notebook"
        return _element(video, source), f'Linked, because {reason}: <a href="{source}">{_name(video)}</a>'
    return _element(video, _data(kind, video.path)), ""


def _preview(video: Video) -> tuple[str, str]:
    """Return the same of a file that browsers do not play: its first frames as an mp4."""
    most = max(1, MAX_PREVIEW_BYTES // (3 * video.height * video.width))
    with tempfile.TemporaryDirectory(prefix="vidrec-") as folder:
        path = Path(folder, "preview.mp4")
        frames = write(path, islice(video.iter_frames(), most), video.fps).frames
        element = _element(video, _data("video/mp4", path))
    which = "" if frames == video.frames else f", of the first {frames:,} frames"
    return element, f"Shown as an mp4{which}: browsers do not play {video.encoding.video_format}."


def _element(video: Video, source: str) -> str:
    height, width = video.size
    label = f"{_name(video)}: a video of {video.frames} frames, {width} x {height} pixels"
    about = f'src="{source}" title="{label}" style="max-width: 100%"'
    if video.encoding.format.media_type.startswith("image/"):
        return f'<img alt="{label}" {about}>'
    return f'<video controls loop muted playsinline aria-label="{label}" {about}></video>'


def _about(video: Video, size: int) -> str:
    place = os.path.relpath(video.path)
    about = [f"<code>{_text(video.path if place.startswith('..') else place)}</code>"]
    frames = f"{video.frames} {'frame' if video.frames == 1 else 'frames'}"
    about += [f"{video.width} x {video.height}", frames]
    about += [f"{float(video.fps):g} fps", f"{video.seconds:.2f} s", _bytes(size)]
    if (episode := video.episode) is not None:
        about += [f"return {episode.return_:g}", f"length {episode.length}"]
    return " \N{MIDDLE DOT} ".join(about)


def _data(kind: str, path: Path) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _name(video: Video) -> str:
    return _text(video.path.name)


def _text(value: object) -> str:
    """Return a value as HTML; what of a path is no UTF-8, escaped."""
    return escape(str(value).encode(errors="backslashreplace").decode())


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"

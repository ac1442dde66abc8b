"""The exceptions and warnings of vidrec.

Each is also the built-in one in brackets:

    VidrecError
    ├── FrameError    (ValueError)  a picture that cannot be recorded; the clip is as it was before
    ├── SettingError  (ValueError)  an argument or encoder setting that is unknown or cannot be
    ├── TagError      (ValueError)  a tag, suffix or name that would leave the logger's folder
    └── EncoderError  (OSError)     FFmpeg failed or hangs; carries FFmpeg's own words and the file it leaves

    VidrecWarning (UserWarning)     what was recorded is safe, but not quite as asked
"""


class VidrecError(Exception):
    """The root of every exception that vidrec raises on purpose."""


class FrameError(VidrecError, ValueError):
    """A picture cannot be recorded; the message names its key, shape and dtype."""


class SettingError(VidrecError, ValueError):
    """An argument or an encoder setting is unknown, or its value cannot be."""


class TagError(VidrecError, ValueError):
    """A tag, suffix or name would write outside of the logger's folder."""


class EncoderError(VidrecError, OSError):
    """FFmpeg failed, died or hangs; the message holds its own words and the file it leaves."""


class VidrecWarning(UserWarning):
    """What was recorded is safe, but not quite as asked: another name, frames beyond a bound."""

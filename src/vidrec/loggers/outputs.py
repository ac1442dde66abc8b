"""Fan-out: a clip for each different encoding that several loggers want, and its video for each of them."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vidrec.clips import Clip, FileClip, TensorClip, Video
from vidrec.errors import ExtraError, SettingError, TagError, VidrecWarning, raise_first
from vidrec.loggers.base import VideoLogger


@dataclass(eq=False, slots=True)
class Output:
    """A clip, and the loggers that wait for its video.

    Attributes:
        loggers: those that want their video encoded as this clip is.
        clip: None if a logger could not open it.
        error: why the clip cannot go on; raised when the video is to be published, after the others have theirs.
    """

    loggers: list[VideoLogger]
    clip: Clip | None = None
    error: Exception | None = None

    def publish(
        self, name: str, video: Any, step: int | None, settings: Mapping[str, Any]
    ) -> tuple[list[tuple[VideoLogger, Any]], list[tuple[VideoLogger, Exception]]]:
        """Give each logger its video; return what those that took it returned, and what they and others raised."""
        published: list[tuple[VideoLogger, Any]] = []
        errors: list[tuple[VideoLogger, Exception]] = []
        for logger in list(self.loggers):
            try:
                published.append((logger, logger.log_video(name, video, step, **settings)))
            except VidrecWarning as warning:  # it is published, and the user wants warnings to be errors
                published.append((logger, None))
                errors.append((logger, warning))
            except Exception as error:
                errors.append((logger, error))
                continue
            self.loggers = [other for other in self.loggers if other is not logger]
        return published, errors

    def finished(self) -> Any:
        """Return the video, or raise why the clip cannot go on."""
        if self.error is not None:
            raise self.error
        assert self.clip is not None
        return self.clip.finish()

    def delete_published(self, video: Any, taken: Sequence[Video]) -> list[Exception]:
        """Delete the file of a video that every logger has; warn if that cannot be, and return warnings as errors."""
        errors: list[Exception] = []
        if isinstance(video, Video) and all(video.path != other.path for other in taken):
            try:
                video.path.unlink(missing_ok=True)
            except OSError as error:
                try:
                    text = f"{video.path} was published, but could not be deleted: {error}"
                    warnings.warn(text, VidrecWarning, stacklevel=5)
                except VidrecWarning as warning:
                    errors.append(warning)
        if self.clip is not None:
            self.clip.published()
        return errors

    def delete(self) -> None:
        """Delete what was written."""
        if self.clip is not None:
            self.clip.delete()

    def detach(self) -> None:
        """Let go of the clip, whose files stay."""
        if self.clip is not None:
            self.clip.detach()


def open_outputs(loggers: Sequence[VideoLogger], tag: str, settings: Mapping[str, Any]) -> list[Output]:
    """Return a clip for each different encoding that `loggers` want, with those that want it.

    Raises:
        ExtraError, SettingError, TagError: a logger does not know a setting, or cannot use the tag.
        Exception: what the first logger raised, if none could open a clip.
    """
    outputs: list[Output] = []
    by_key: dict[object, Output] = {}
    for logger in loggers:
        try:
            clip = logger.open_clip(tag, **settings)
        except (ExtraError, SettingError, TagError):
            raise
        except Exception as error:
            outputs.append(Output([logger], error=error))
            continue
        key = _sharing_key(clip)
        if key in by_key:
            by_key[key].loggers.append(logger)
        else:
            outputs.append(by_key.setdefault(key, Output([logger], clip)))
    raise_if_all_failed(outputs)
    return outputs


def _sharing_key(clip: Clip) -> object:
    """Return the key by which loggers share one clip."""
    if isinstance(clip, FileClip):
        return type(clip), clip.encoding
    return TensorClip if type(clip) is TensorClip else clip


def raise_if_all_failed(outputs: Sequence[Output]) -> None:
    """Raise what the first output met with if no clip can go on."""
    errors = [output.error for output in outputs if output.error is not None]
    if len(errors) == len(outputs):
        raise_first(errors)

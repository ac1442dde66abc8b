"""Stream, what is recorded of one env, or of all in one frame, clip after clip."""

from dataclasses import dataclass, field
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from vidrec.clips import Clip, TailClip
from vidrec.episode import Episode, RunningEpisode, Steps
from vidrec.errors import FrameError
from vidrec.frames import Arriving
from vidrec.loggers.base import VideoLogger
from vidrec.loggers.outputs import Output, open_outputs, raise_if_all_failed


@dataclass(eq=False, slots=True)
class Stream:
    """What is recorded of one env, or of all in one frame.

    Attributes:
        env_id: which env of a batch has its videos to itself; None if there is but one video.
        agent: which agent of it has.
        outputs: the clips that are being recorded, one for each different encoding that its loggers want.
        count: frames offered since the last video, kept or not.
        resets: how many of these were frames of resets.
        beyond: frames that came after `max_frames`.
        episode: that runs, None where episodes do not matter.
        began: the env step at which `step_trigger` began the clip.
        steps: those of the environment, None without one.
        env_step: how many these were at the first frame since the last video.
        time: when that was recorded; None if there is none yet.
        failed: how many frames came of a clip that has failed, with ``on_error="warn"``; the others are lost until the
            next video.
        fresh: whether its next frame is the first of a clip.
        arriving: frames that are on their way from a device, and are written when they are there; None if there are
            none.
        listed: whether the user has the list of its frames, which shows each at once.
    """

    env_id: int | None = None
    agent: int | None = None
    outputs: list[Output] = field(default_factory=list)
    count: int = 0
    resets: int = 0
    beyond: int = 0
    episode: RunningEpisode | None = None
    began: int | None = None
    steps: Steps | None = None
    env_step: int | None = None
    time: datetime | None = None
    failed: int = 0
    fresh: bool = True
    arriving: Arriving | None = None
    listed: bool = False
    _plain: NDArray[np.uint8] | bool = True

    @property
    def label(self) -> str | None:
        """The part of the names of its videos that tells it from others, such as ``"env0_agent1"``; None if alone."""
        named = [("env", self.env_id), ("agent", self.agent)]
        return "_".join(f"{name}{at}" for name, at in named if at is not None) or None

    def at(self, agents: int) -> int:
        """Return which frame of a batch is its, where each env has so many."""
        return (self.env_id or 0) * agents + (self.agent or 0)

    @property
    def clip(self) -> Clip | None:
        """The first clip that can be written to."""
        return next((output.clip for output in self.outputs if output.clip and not output.error), None)

    @property
    def frames(self) -> int:
        """How many frames its clips have, or will have when those on their way are there."""
        there = 0 if (clip := self.clip) is None else clip.shown
        return there if self.arriving is None else there + len(self.arriving)

    @property
    def offered(self) -> int:
        """How many frames its clips have, or would have."""
        return max(self.frames, self.failed)

    @property
    def episode_so_far(self) -> Episode | None:
        """The episode that it shows, as far as it is known."""
        return None if self.episode is None else self.episode.end()

    @property
    def in_memory(self) -> bool:
        """Whether its video is a tensor, and no file."""
        return self.clip is not None and self.clip.in_memory

    @property
    def is_only_reset(self) -> bool:
        """Whether its environment was reset, for whatever reason, and not stepped."""
        return self.count == self.resets == 1 and (self.episode is None or self.episode.number == 0)

    def open(
        self,
        loggers: list[VideoLogger],
        name: str,
        settings: dict[str, object],
        beside: int,
        tag: str | None,
        last: int | None = None,
    ) -> None:
        """Open a clip for each different encoding that `loggers` want; `beside` clips are recorded at a time.

        `tag` is that of the recorder; `last` is how many frames each clip has in the end, None for all.
        """
        before = self.clip  # an empty one, for another logger or tag
        self.outputs = open_outputs(loggers, name, settings)
        for output in self.outputs:
            if output.clip is not None:
                clip = output.clip = output.clip if last is None else TailClip(output.clip, last)
                clip.tag, clip.env_id, clip.agent, clip.episode = tag, self.env_id, self.agent, self.episode_so_far
                clip.env_step, clip.time, clip.beside = self.env_step, self.time, beside
        if before is not None and self.clip is not None:
            self.clip.take_obs_of(before)

    def write(self, frames: NDArray[np.uint8]) -> None:
        """Write frames ``[N, H, W, 3]`` to each clip; one that fails does not keep the others from theirs."""
        if self._plain is not False:
            self._look(frames)
        if len(self.outputs) == 1 and (clip := self.outputs[0].clip) is not None:
            clip.write(frames)
            return
        for output in self.outputs:
            if output.clip is not None and output.error is None:
                try:
                    output.clip.write(frames)
                except FrameError:  # all clips have the same size
                    raise
                except Exception as error:
                    output.error = error
        raise_if_all_failed(self.outputs)

    def expect(self, frames: Arriving) -> bool:
        """Keep frames that are on their way for `write_arrived`; return False if they are to be written now.

        Those of another size are, to be refused in their own step, and those of a list that the user has.
        """
        clip = self.clip
        if self.listed or (clip is not None and clip.size not in (None, frames.shape[1:3])):
            return False
        self.arriving = frames
        return True

    def write_arrived(self) -> None:
        """Write the frames that were on their way; an exception that interrupts the wait leaves them for later."""
        if self.arriving is None:
            return
        try:
            frames = np.asarray(self.arriving)
        except Exception:
            self.arriving = None
            raise
        self.arriving = None
        if len(frames):
            self.write(frames)
        self.fresh = not self.frames

    def _look(self, frames: NDArray[np.uint8]) -> None:
        """Look whether all frames so far have one colour; most have another one in their first row already."""
        colour = frames[0, 0, 0].copy() if self._plain is True else self._plain
        self._plain = colour if (frames[:, 0] == colour).all() and (frames == colour).all() else False

    @property
    def colour(self) -> str | None:
        """The colour that all its frames have; None if they have several, or there are none."""
        if isinstance(self._plain, bool):
            return None
        red, green, blue = self._plain.tolist()
        return f"of one colour, ({red}, {green}, {blue})" if red or green or blue else "black"

    def take(self) -> list[Output]:
        """Return the outputs, for publishing, and begin anew."""
        outputs, self.outputs, self.began, self.fresh = self.outputs, [], None, True
        self.env_step = self.time = self.arriving = None
        self.listed = False
        self.begin()
        return outputs

    def start(self) -> None:
        """Note when the first frame is recorded."""
        if self.time is None:
            self.time = datetime.now(timezone.utc)
            self.env_step = None if self.steps is None else self.steps.count

    def begin(self) -> None:
        """Count anew."""
        self._plain = True
        self.count = self.resets = self.beyond = self.failed = 0

    def fail(self, frames: int) -> None:
        """Let go of clips that cannot go on, after so many frames; those that follow are lost until the next video."""
        began = self.began
        self.detach()
        self.began, self.failed = began, frames

    def delete(self) -> None:
        """Delete what was recorded since the last video, and begin anew."""
        for output in self.take():
            output.delete()

    def detach(self) -> None:
        """Let go of the clips, whose files stay, and begin anew."""
        for output in self.take():
            output.detach()

"""Episode, what is known of one, and Steps: values that everyone may use."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Episode:
    """An episode of an env, when it has ended or its video is finished.

    Attributes:
        env_id: which one of a batched env, counted through its batch; None for a single env, or a grid of envs.
        number: counts the episodes of the env from 0, recorded or not.
        length: how many steps it took.
        return_: the sum of its rewards, over the steps and all that an env's reward holds; of a grid, the mean of its
            envs.
        terminated: whether it ended by itself.
        truncated: whether it was cut off, such as by a bound on its steps, and did not also end by itself.
        numbered: whether the name of its video has its number. It has none for a grid, for a single env with
            ``make_grid=True``, which is the default, as in TorchRL, and for a video of `dump`.
    """

    env_id: int | None
    number: int
    length: int
    return_: float
    terminated: bool
    truncated: bool
    numbered: bool = True

    @property
    def unfinished(self) -> bool:
        """Whether it had not ended: its video was finished before, by a reset, `dump` or ``env.close()``."""
        return not self.terminated and not self.truncated

    @property
    def ended(self) -> str:
        """``"terminated"``, ``"truncated"``, or ``"unfinished"``: its video was finished before it ended."""
        return "terminated" if self.terminated else "truncated" if self.truncated else "unfinished"


@dataclass(eq=False, slots=True)
class Steps:
    """How many steps an environment has made. Its source counts, and whoever begins a video asks how many by then."""

    count: int = 0


@dataclass(eq=False, slots=True)
class RunningEpisode:
    """An episode while it runs. Its source counts, and whoever finishes a video asks what it is by then."""

    env_id: int | None
    number: int
    numbered: bool = True
    length: int = 0
    return_: float = 0.0
    terminated: bool = False
    truncated: bool = False

    def end(self, *, terminated: bool = False, truncated: bool = False) -> Episode:
        """Return the episode as it is now; unfinished if no flag is true, its own included."""
        terminated = terminated or self.terminated
        cut = (truncated or self.truncated) and not terminated
        return Episode(self.env_id, self.number, self.length, self.return_, terminated, cut, self.numbered)

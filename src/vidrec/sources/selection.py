"""Which envs, episodes and steps a recorder is asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral

from vidrec.episode import Episode
from vidrec.errors import SettingError


@dataclass(frozen=True)
class Selection:
    """Which envs, episodes and steps a recorder is asked for; see `vidrec.VideoRecorder`."""

    env_ids: tuple[int, ...] | slice | None = None
    episode_trigger: Callable[[int], bool] | None = None
    step_trigger: Callable[[int], bool] | None = None
    keep: Callable[[Episode], bool] | None = None

    @classmethod
    def of(
        cls,
        env_ids: Sequence[int] | slice | None,
        episode_trigger: Callable[[int], bool] | None,
        step_trigger: Callable[[int], bool] | None,
        keep: Callable[[Episode], bool] | None,
    ) -> "Selection":
        """Return what the user's arguments select.

        Raises:
            SettingError: one of them cannot be.
        """
        for name, value in [("episode_trigger", episode_trigger), ("step_trigger", step_trigger), ("keep", keep)]:
            if value is not None and not callable(value):
                raise SettingError(f"{name}={value!r} must be a function, or None")
        if not isinstance(env_ids, slice | None):
            given = env_ids.tolist() if hasattr(env_ids, "tolist") else env_ids
            numbers = list(given) if isinstance(given, Sequence) else [given]
            if not numbers or not all(isinstance(i, Integral) and not isinstance(i, bool) for i in numbers):
                raise SettingError(f"env_ids={numbers!r} must be the numbers of envs, such as [0, 3], or a slice")
            env_ids = tuple(map(int, numbers))
        return cls(env_ids, episode_trigger, step_trigger, keep)

    def by_episode(self, dump_on_done: bool) -> bool:
        """Return whether each episode has a video of its own."""
        return bool(dump_on_done) or self.episode_trigger is not None or self.keep is not None

    def check(self, dump_on_done: bool, max_frames: int | None) -> None:
        """Raise `SettingError` for what does not go together."""
        if self.step_trigger is not None and max_frames is None:
            raise SettingError("step_trigger begins a clip, and needs max_frames to end it")
        if self.step_trigger is not None and self.by_episode(dump_on_done):
            raise SettingError("step_trigger does not go with dump_on_done, episode_trigger or keep")

    def of_envs(self, count: int) -> list[int]:
        """Return which of so many envs are recorded, in order."""
        ids = range(count)
        if isinstance(self.env_ids, slice):
            chosen = list(ids[self.env_ids])
        elif self.env_ids is not None:
            if not all(-count <= env_id < count for env_id in self.env_ids):
                raise SettingError(f"env_ids={list(self.env_ids)} are not all there: the environment has {count}")
            chosen = sorted({ids[env_id] for env_id in self.env_ids})
        else:
            chosen = list(ids)
        if not chosen:
            raise SettingError(f"env_ids={self.env_ids} are none of the {count} of the environment")
        return chosen

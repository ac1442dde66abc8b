"""VideoRecorder, the transform: the only file that knows TorchRL's transform protocol."""

from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from tensordict import NonTensorData, NonTensorStack, TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.data.tensor_specs import TensorSpec
from torchrl.envs import EnvBase
from torchrl.envs.transforms import Compose, Transform
from torchrl.record import recorder as torchrl_recorder
from torchrl.record.recorder import PixelRenderTransform, TensorDictRecorder

from vidrec.clips import TensorClip
from vidrec.clips.video import Video
from vidrec.episode import Episode
from vidrec.errors import SettingError, raise_first, words
from vidrec.frames.entries import Entries, Look
from vidrec.frames.frames import Flags, arrange, check_layout, contiguous, to_rgb
from vidrec.recording.failure import Failure
from vidrec.recording.recording import Recording, Track
from vidrec.sources.envs import Choice, Envs
from vidrec.sources.samples import Samples

__all__ = ["PixelRenderTransform", "TensorDictRecorder", "VideoRecorder"]


def _of_recording(name: str, doc: str) -> Any:
    """Return a property that is the attribute `name` of the recorder's recording."""

    def get(self: "VideoRecorder") -> Any:
        return getattr(self._recording, name)

    def set_(self: "VideoRecorder", value: Any) -> None:
        setattr(self._recording, name, value)

    return property(get, set_, doc=doc)


class VideoRecorder(torchrl_recorder.VideoRecorder):
    """Records the frames that pass by as a video, while they pass.

    A drop-in for `torchrl.record.VideoRecorder`. With a vidrec logger each frame goes straight to FFmpeg, which
    encodes it beside the training; `dump` waits for the last ones and publishes the file. Any other logger gets what
    TorchRL's recorder would give it, a uint8 tensor ``[1, T, 3, H, W]``, kept in memory until then.

    The data passes through unchanged. A rollout of T steps offers T + 1 frames, the one of the reset first; frames
    number `skip`, 2 * `skip`, ... of each video are kept. A reset of some sub-envs offers a frame of each of these,
    and none to a grid. ``docs/videos.md`` shows which frame is in which video.

    The recorder owns its clip. `dump`, ``env.close()`` and the end of the interpreter finish it. A copy (`clone`,
    `deepcopy`, pickle) records for itself, and `dump` of the original finishes what its copies in the same process
    recorded.

        >>> from torchrl.envs import GymEnv, TransformedEnv
        >>> from vidrec import CSVLogger, VideoRecorder
        >>> logger = CSVLogger("pong", log_dir="videos")
        >>> env = TransformedEnv(GymEnv("ALE/Pong-v5", from_pixels=True), VideoRecorder(logger, "rollout"))
        >>> rollout = env.rollout(99)
        >>> env.transform.dump().frames  # 100 frames, every other one
        50

    Args:
        logger: where the videos go: a vidrec logger, any TorchRL logger or service, any object with ``log_video(name,
            video, step, **kwargs)``; or None, for `to_animation` only.
        tag: the name of the videos; may hold ``/``.
        in_keys: the entries with the frames. Several are shown side by side in this order, the lower ones padded with
            black at the bottom. None is ``["pixels"]``.
        skip: keep one frame of `skip`. None is 2 under a single parent env, and 1 under a batched one or without a
            parent. Under an env it counts steps; without a parent, frames along the batch, or grids of them.
        center_crop: keep only the middle of each frame: a side in pixels, or (height, width).
        make_grid: whether a batch of frames is tiled into one, of ``ceil(sqrt(N))`` columns, the unused cells black;
            otherwise each env of a batched env has videos of its own, named ``<tag>_env<env>``, and the frames of
            a dataset follow one another. None is True with a parent env, False without.
        out_keys: entries under which the frames are given on, unchanged. None is `in_keys`.
        fps: frames per second of the video. None leaves it to the logger.
        max_frames: how many frames a clip has at the most. What comes beyond is counted, and reported by `dump`.
        dump_on_done: finish the video of an episode when it ends, by whatever transform: that of a env, or that of a
            grid when a step leaves all "done" entries true. In a dataset, that of each trajectory.
        layout: names the axes of a frame where its shape does not say, such as ``"CHW"`` or ``"NHW"``. None goes by
            the rule in `vidrec.frames.frames`.
        env_ids: which envs of a batched env to record, their numbers or a slice; None is all.
        episode_trigger: of the number of an episode, whether to record it; implies `dump_on_done`.
        step_trigger: of the number of an env step, whether a clip of `max_frames` begins there.
        keep: of an `Episode` that has ended, whether its video is kept; implies `dump_on_done`. See `keep_best`.
        on_error: ``"raise"``, or ``"warn"``: what goes wrong while recording or publishing does not stop the program.
            The first error of each kind in a video is a `VidrecWarning`, and `dump` returns a `Failure`.
        **kwargs: passed on to ``logger.log_video``: for vidrec's loggers the settings of `vidrec.Encoding`.

    Raises:
        SettingError: an argument or setting that is unknown or cannot be. Settings are checked here, not at `dump`.
        FrameError: while recording, a frame that is refused; the clip is as it was.
        EncoderError: while recording or dumping, FFmpeg failed.
    """

    _recording: Recording

    def __init__(
        self,
        logger: Any,
        tag: str | None,
        in_keys: Sequence[NestedKey] | None = None,
        skip: int | None = None,
        center_crop: int | tuple[int, int] | None = None,
        make_grid: bool | None = None,
        out_keys: Sequence[NestedKey] | None = None,
        fps: Any = None,
        max_frames: int | None = None,
        dump_on_done: bool = False,
        *,
        layout: str | None = None,
        env_ids: Sequence[int] | slice | None = None,
        episode_trigger: Callable[[int], bool] | None = None,
        step_trigger: Callable[[int], bool] | None = None,
        keep: Callable[[Episode], bool] | None = None,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> None:
        sides = center_crop if isinstance(center_crop, tuple) and len(center_crop) == 2 else (center_crop or None,)
        for name, value in [("skip", skip), ("max_frames", max_frames), *(("center_crop", side) for side in sides)]:
            if value is not None and not (isinstance(value, Integral) and value > 0):
                raise SettingError(f"{name}={value!r} must be a positive whole number, or None")
        if on_error not in ("raise", "warn"):
            raise SettingError(f"on_error={on_error!r} must be 'raise' or 'warn'")
        self.__dict__["_recording"] = Recording()
        # center_crop is ours: TorchRL's asks for torchvision
        super().__init__(logger, tag, in_keys, skip, None, make_grid, out_keys, fps, max_frames, dump_on_done, **kwargs)
        if len(self.in_keys) != len(self.out_keys):
            raise SettingError(f"{len(self.in_keys)} in_keys need as many out_keys, not {len(self.out_keys)}")
        self.center_crop = center_crop
        self.layout = None if layout is None else check_layout(layout)
        self._choice = Choice(env_ids, episode_trigger, step_trigger, dump_on_done, keep, max_frames)
        self._recording.keep, self._recording.on_error = keep, on_error
        self._samples = Samples(self._recording, self._choice)
        self._known_envs: Envs | None = None
        self._stepped: TensorDictBase | None = None
        self._recording.check()

    # TorchRL's attributes, kept in the recording, where the end of the process and copies find them

    logger = _of_recording("logger", "Where the videos go.")
    tag = _of_recording("tag", "The name of the videos.")
    video_kwargs = _of_recording("settings", "What ``logger.log_video`` is called with beside name, video and step.")
    max_frames = _of_recording("max_frames", "How many frames a clip has at the most; None does not bound it.")
    iter = _of_recording("iter", "The step of the next video if `dump` is not told one.")
    count = _of_recording("count", "How many frames came since the last dump, kept or not.")

    @property
    def obs(self) -> Sequence[Tensor]:
        """The frames kept since the last dump, uint8 ``[3, H, W]`` each.

        A list with loggers that take tensors. Otherwise they are read back from the file when they are asked for, as
        the video shows them; ``len(obs)`` reads nothing.
        """
        clip = self._recording.clip(self._recording.shown)
        return clip.obs if isinstance(clip, TensorClip) else _Recorded(self._recording)

    @obs.setter
    def obs(self, value: Sequence[Tensor]) -> None:
        frames = [contiguous(to_rgb(arrange(frame, layout="CHW"))) for frame in value]
        self._recording.clear()
        for frame in frames:
            self._recording.add(self._recording.tracks[None], frame)

    def dump(self, suffix: str | None = None, step: int | None = None) -> Video | Failure | None:
        """Finish the video and publish it through the logger; on return it is whole and has its name.

        Does nothing if nothing was recorded, and begins to count for `skip` anew. Finishes what copies of this recorder
        in this process recorded as well, each a video of its own.

        Args:
            suffix: the name is ``<tag>_<suffix>``; None is ``<tag>``.
            step: the step to log it at. None counts up from 0, with each video.

        Returns:
            The video, this recorder's own before those of copies; None if there is none, or if for its logger it is no
            file, but a tensor or an entry of TensorBoard. With ``on_error="warn"``, a `Failure` if something went wrong
            since the last dump.

        Raises:
            EncoderError: FFmpeg failed.
            TagError: a suffix that cannot be in a name.
            Exception: whatever the logger raised; the video is kept, and `dump` can be called again. Recorders behind
                this one in the same `Compose`, which would not get their turn, are dumped before.
        """
        try:
            return self._recording.dump(suffix, step)
        except Exception as error:
            for recorder in self._behind():
                dump = recorder._recording.dump if isinstance(recorder, VideoRecorder) else recorder.dump
                try:
                    dump(suffix=suffix, step=step)
                except Exception as another:
                    error.add_note(f"and the recorder {recorder.tag!r} behind it failed: {words(another)}")
            raise

    def close(self) -> None:
        """Dump what is still open; called by ``env.close()``."""
        self.dump()

    def to_animation(self, **kwargs: Any) -> Any:
        """Show what was recorded since the last dump, as TorchRL's method does, and leave no figure open."""
        animation = super().to_animation(**kwargs)
        import matplotlib.pyplot as plt

        plt.close(plt.gcf())
        return animation

    def clone(self) -> Self:
        """Return a recorder with the same settings and no parent that has recorded nothing."""
        other: Self = super().clone()
        other.__dict__["_recording"] = self._recording.copy()
        other._samples = Samples(other._recording, other._choice)
        other._known_envs = other._stepped = None
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_known_envs": None, "_stepped": None}

    # the transform

    def _call(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        # of replay buffers, datasets, and whoever calls it; in an environment `_reset` and `_step` do not come by here
        self._record_sample(self._entries(next_tensordict), next_tensordict)
        return self._pass_on(next_tensordict)

    def _apply_transform(self, observation: Tensor) -> Tensor:
        self._record_sample(iter([("frame", observation, None)]), None)
        return observation

    def _reset(self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase) -> TensorDictBase:
        # episodes are finished in three places: `_step`, as in TorchRL; `_post_step_mdp_hooks`, for what transforms
        # behind this one end in rollouts and collectors; and here, for the same in a loop of env.step() without hooks
        env_ids = self._envs(tensordict_reset.batch_size)
        if env_ids is None:  # called by hand
            return self._call(tensordict_reset)
        which = env_ids.resets(tensordict)
        stepped, self._stepped = self._stepped, None
        with self._recording.guarded():
            if stepped is not None:
                env_ids.end(stepped)
        with self._recording.guarded():
            env_ids.reset(which)
        with self._recording.guarded():
            self._record(tensordict_reset, env_ids, which)
        return self._pass_on(tensordict_reset)

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        env_ids = self._envs(next_tensordict.batch_size)
        if env_ids is None:
            return self._call(next_tensordict)
        with self._recording.guarded():
            env_ids.step(next_tensordict)
            self._stepped = next_tensordict if env_ids.by_episode else None
            if env_ids.wanted.any():
                which = ~env_ids.done(next_tensordict) if env_ids.native_autoreset and env_ids.by_episode else None
                self._record(next_tensordict, env_ids, which)
        self._pass_on(next_tensordict)
        with self._recording.guarded():
            env_ids.end(next_tensordict)
        return next_tensordict

    def _reset_on_native_autoreset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        # called behind each step of an environment that resets itself
        env_ids = self._envs(tensordict_reset.batch_size)
        if env_ids is not None and env_ids.by_episode:
            reset = env_ids.resets(tensordict)
            if reset is not None and reset.any():
                return self._reset(tensordict, tensordict_reset)
        return tensordict_reset

    def _post_step_mdp_hooks(
        self, tensordict: TensorDictBase, tensordict_: TensorDictBase
    ) -> tuple[TensorDictBase, TensorDictBase]:
        if (env_ids := self._envs(tensordict.batch_size)) is not None:
            with self._recording.guarded():
                env_ids.end(tensordict.get("next"))
        return tensordict, tensordict_

    def transform_observation_spec(self, observation_spec: TensorSpec) -> TensorSpec:
        """Add the entries of `out_keys` that are not in `in_keys`."""
        for in_key, out_key in zip(self.in_keys, self.out_keys, strict=True):
            if out_key != in_key:
                observation_spec[out_key] = observation_spec[in_key].clone()
        return observation_spec

    def _pass_on(self, tensordict: TensorDictBase) -> TensorDictBase:
        for in_key, out_key in zip(self.in_keys, self.out_keys, strict=True):
            if out_key != in_key and (value := tensordict.get(in_key, None)) is not None:
                tensordict.set(out_key, value)
        return tensordict

    @torch.compiler.disable
    def _record(self, tensordict: TensorDictBase, env_ids: Envs, which: Flags | None = None) -> None:
        """Keep the frames that are wanted; read none that are not.

        `which` says of which envs there are new ones; None is of all.
        """
        tracks = env_ids.due(which, self.skip)
        if tracks:
            with self._recording.guarded(len(tracks)):
                self._record_due(tensordict, env_ids, tracks)

    def _record_due(self, tensordict: TensorDictBase, env_ids: Envs, tracks: list[Track]) -> None:
        entries = Entries.read(self._entries(tensordict), self.layout)
        if not entries:
            return
        entries = entries.choose(lambda frames, name: env_ids.pick(frames, tracks, name))
        unknown = entries.unknown(env_ids.may_be_zeros(tensordict, tracks))
        if all(map(np.all, unknown)):
            return
        if env_ids.by_env and any(map(np.any, unknown)):
            known = np.flatnonzero(~np.any(unknown, axis=0))
            tracks, entries = [tracks[at] for at in known], entries.take(known)
            if not tracks:
                return
        frames = entries.convert(self._look, None if env_ids.by_env else unknown)
        errors: list[Exception] = []
        for track, own in zip(tracks, frames.unsqueeze(1) if env_ids.by_env else [frames], strict=True):
            room = self._recording.admit(track, len(own))
            try:
                if room:
                    self._recording.add(track, own[:room])
                env_ids.added(track)
            except Exception as error:
                errors.append(error)
        raise_first(errors)

    @torch.compiler.disable
    def _record_sample(self, found: Iterator[tuple[str, Any, int | None]], sample: TensorDictBase | None) -> None:
        """Keep frames that come without an environment."""
        with self._recording.guarded(1):
            if entries := Entries.read(found, self.layout):
                self._samples.record(entries, sample, self._look, self.skip)

    @property
    def _look(self) -> Look:
        return Look(self.center_crop, self.make_grid)

    def _envs(self, batch_size: torch.Size) -> Envs | None:
        """Return the envs of the environment that this recorder is in now, whose data is of `batch_size`."""
        env = self._env()
        if env is None:
            return None
        now = (id(env), batch_size, self.make_grid, self.dump_on_done)
        if self._known_envs is None or self._known_envs.of != now:
            if self._known_envs is not None:
                self._known_envs.leave()
            self._choice.dump_on_done = self.dump_on_done
            self._known_envs = Envs(env, batch_size, self._recording, self._choice, self.make_grid)
            self._known_envs.of = now
        return self._known_envs

    def _env(self) -> EnvBase | None:
        """Return the environment whose transform this is; unlike `parent`, which is made of those before it."""
        transform: Any = self
        while (container := transform.__dict__["_container"]) is not None:
            transform = container()
            if transform is None or isinstance(transform, EnvBase):
                return transform
        return None

    def _entries(self, tensordict: TensorDictBase) -> Iterator[tuple[str, Any, int | None]]:
        for key in self.in_keys:
            value = tensordict.get(key, None)
            if value is None:
                if self.missing_tolerance:
                    continue
                raise KeyError(f"{self}: {key!r} not found in tensordict {tensordict}")
            if isinstance(value, NonTensorStack):
                yield repr(key), value.tolist(), None
            elif isinstance(value, NonTensorData):
                yield repr(key), value.data, None
            else:
                holder = tensordict if isinstance(key, str) else tensordict.get(key[:-1])
                yield repr(key), value, holder.batch_dims

    def _behind(self) -> Iterator[torchrl_recorder.VideoRecorder]:
        """The recorders that a `Compose` dumps after this one."""
        transform: Transform = self
        while (container := transform.__dict__["_container"]) and isinstance(container(), Compose):
            members = list(container().transforms)
            for behind in members[1 + next(i for i, member in enumerate(members) if member is transform) :]:
                yield from (module for module in behind.modules() if isinstance(module, torchrl_recorder.VideoRecorder))
            transform = container()


class _Recorded(Sequence[Tensor]):
    """The frames in the clip of a recording, read back from its file whenever they are asked for."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def __len__(self) -> int:
        return self._recording.shown.frames

    def __iter__(self) -> Iterator[Tensor]:
        return (frame.permute(2, 0, 1) for frame in self._recording.iter_frames())

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]

    def clear(self) -> None:
        self._recording.clear()

"""VideoRecorder, the transform: the only file that knows TorchRL's transform protocol."""

import copy
import operator
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from numbers import Integral
from typing import Any

import numpy as np
import torch
from tensordict import NonTensorStack, TensorDict, TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torchrl.data.tensor_specs import TensorSpec
from torchrl.envs import EnvBase
from torchrl.envs.transforms import Compose, Transform
from torchrl.record import recorder as torchrl_recorder
from torchrl.record.recorder import PixelRenderTransform, TensorDictRecorder

from vidrec.clips import Video
from vidrec.clips.notebook import show
from vidrec.compat import require
from vidrec.episode import Episode, Steps
from vidrec.errors import SettingError, add_note, message, raise_first
from vidrec.frames import Entries, Found, Look, readings
from vidrec.graph import Call
from vidrec.recording import lifetime
from vidrec.recording.failure import Failure
from vidrec.recording.origin import base_env
from vidrec.recording.recording import Recording, frames_of
from vidrec.recording.stream import Stream
from vidrec.sources.captions import Caption, EnvCaptions, Moment
from vidrec.sources.envs import Ended, EnvSource
from vidrec.sources.probes import is_probe
from vidrec.sources.rendering import Renderer
from vidrec.sources.samples import Samples
from vidrec.sources.selection import Selection
from vidrec.sources.specs import Read, agents_of, missing, resolved
from vidrec.sources.speed import real_time_fps, warn_of_speed

__all__ = ["PixelRenderTransform", "TensorDictRecorder", "VideoRecorder"]


DESTINATION = operator.attrgetter("destination")

NO_ENV = "fps='env' needs an environment, and there is none around this recorder; give fps=<number>"

NOT_IN_DATA = "render= draws the environment, and there is none around this recorder; in_keys= names what data hold"

NO_AGENTS = "by_agent=True needs an environment, and there is none around this recorder; agents are side by side here"

FRESH: Mapping[str, Any] = {
    **dict.fromkeys(["_owner", "_samples", "_source", "_source_of", "_graph_call"]),
    "_readings": [],
    "_graph_keys": (),
    "_graph_own": 0,
}
"""What a recorder and a copy begin with: a copy records for itself."""

_recorders: "weakref.WeakKeyDictionary[EnvBase, dict[str, weakref.ref[VideoRecorder]]]" = weakref.WeakKeyDictionary()
"""For each base env, the recorder that was in it first, of those that are copies of one."""


def _of_recording(name: str, doc: str, owner: Callable[[Recording], Any] = lambda recording: recording) -> Any:
    """Return a property that is the attribute `name` of the recorder's recording, or of what that owns."""

    def get(self: "VideoRecorder") -> Any:
        return getattr(owner(self._recording), name)

    def set_(self: "VideoRecorder", value: Any) -> None:
        setattr(owner(self._recording), name, value)

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
        skip: keep one frame of `skip`. None is 2 under a single parent env, and 1 under a batched one (2 before TorchRL
            0.14) or without a parent. Under an env it counts steps; without a parent, frames along the batch, or grids
            of them.
        center_crop: keep only the middle of each frame: a side in pixels, or (height, width).
        make_grid: whether a batch of frames is tiled into one, of ``ceil(sqrt(N))`` columns, the unused cells black;
            otherwise each env of a batched env has videos of its own, named ``<tag>_env<env>``, and the frames of
            a dataset follow one another. None is True with a parent env, and False without, or with `by_agent`,
            `episode_trigger` or `keep`.
        out_keys: entries under which the frames are given on, unchanged. None is `in_keys`.
        fps: frames per second of the video. None leaves it to the logger. ``"env"`` is real time: the steps that the
            environment makes in a second, see ``docs/videos.md``, divided by `skip`. It is read when the recorder
            enters an environment, at the first reset; a `skip` that is assigned later counts at the next entering.
        max_frames: how many frames a clip has at the most. What comes beyond is counted, and reported by `dump`.
        dump_on_done: finish the video of an episode when it ends, by whatever transform: that of an env, or that of a
            grid when a step leaves all "done" entries true. In a dataset, that of each trajectory.
        render: draws the frames, when they are recorded and not before, instead of reading them from `in_keys`. True
            calls what the environment has, ``render()`` of one that was made with ``render_mode="rgb_array"``, or
            ``physics.render()`` of dm_control; a dict gives it arguments. A function is called with the environment,
            or with it and its tensordict, and returns an image; of a batched environment that has no others inside, an
            image of each env. Images of a list of these are side by side. Workers draw themselves.
        env_ids: which envs of a batched env to record, their numbers or a slice; None is all.
        by_agent: whether each agent of an env, or each frame on an axis that `layout` names, has videos of its own,
            named ``<tag>_env<env>_agent<agent>``; otherwise they are side by side.
        episode_trigger: of the number of an episode, whether to record it; implies `dump_on_done`.
        step_trigger: of the number of an env step, whether a clip of `max_frames` begins there.
        keep: of an `Episode` that has ended or is cut off, whether its video is kept; implies `dump_on_done`. See
            `keep_best`.
        last: how many frames each video has, the last ones of those that `skip` keeps; they stay in memory, 3 * H * W
            bytes each, and are encoded when the video is finished. None is all. Does not go with `max_frames` or
            `step_trigger`.
        layout: names the axes of a frame where its shape does not say, such as ``"CHW"`` or ``"NHW"``. None goes by
            the rule in `vidrec.frames.layout`. This and the next three may be a dict, with a value for each of
            `in_keys`.
        stack: how many frames an entry holds, of this moment and before, the newest last, along an axis of their own
            or joined along the channels. The newest is shown; ``(4, 0)`` shows the oldest of four, ``(4, "all")`` all
            of them side by side. None is no stack, unless the environment says so: `CatFrames` before the recorder, or
            Gymnasium's `FrameStackObservation`.
        value_range: the values that are black and white, (low, high); those between are mapped linearly, the others
            clamped. ``"auto"`` takes the bounds in the spec of the environment. None is 0 to 255 for integers and 0 to
            1 for floats.
        colormap: the name of a colour map of matplotlib's, for frames of one channel. Needs ``vidrec[colormap]``.
        caption: what is written in a strip below each frame, in a grid below each env: a list of ``"step"``,
            ``"reward"``, ``"return"``, ``"action"``, ``"episode"``, ``"env"``, ``"agent"``, ``"time"`` and keys of the
            tensordict; a format string of them, such as ``"{step} r={reward:+.2f}"``; or a function of a `Moment` that
            returns the text. Small frames are enlarged before, so that the text is legible. None writes nothing.
        step: returns the step of a video that `dump` is given none for, such as ``lambda: collected_frames``: when an
            episode ends, for a clip of `step_trigger`, when the env is closed, at the end of the program, and for
            ``dump()``. None counts the videos, and with a `CSVLogger` goes on after those of an earlier run.
        on_error: ``"raise"``, or ``"warn"``: what goes wrong while recording or publishing does not stop the program.
            The first error of each kind in a video is a `VidrecWarning`, and `dump` returns a `Failure`.
        **kwargs: passed on to ``logger.log_video``: for vidrec's loggers the settings of `vidrec.Encoding`.

    Raises:
        SettingError: an argument or setting that is unknown or cannot be. Settings are checked here, not at `dump`;
            ``fps="env"`` at the first reset, or the first sample of what is no environment.
        FrameError: while recording, a frame that is refused; the clip is as it was. The values of a frame on a GPU are
            looked at one recorded frame later, or by `dump`, see ``docs/cuda.md``.
        EncoderError: while recording or dumping, FFmpeg failed.
    """

    _recording: Recording
    _source: EnvSource | None
    _source_of: Any
    _readings: list[Read]

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
        render: Any = None,
        env_ids: Sequence[int] | slice | None = None,
        by_agent: bool = False,
        episode_trigger: Callable[[int], bool] | None = None,
        step_trigger: Callable[[int], bool] | None = None,
        keep: Callable[[Episode], bool] | None = None,
        last: int | None = None,
        layout: str | Mapping[NestedKey, str] | None = None,
        stack: Any = None,
        value_range: Any = None,
        colormap: str | Mapping[NestedKey, str] | None = None,
        caption: str | Sequence[NestedKey] | Callable[[Moment], Any] | None = None,
        step: Callable[[], int] | None = None,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> None:
        sides = center_crop if isinstance(center_crop, tuple) and len(center_crop) == 2 else (center_crop or None,)
        whole = [("skip", skip), ("max_frames", max_frames), ("last", last)]
        for name, value in [*whole, *(("center_crop", side) for side in sides)]:
            number = isinstance(value, Integral) and not isinstance(value, bool) and value > 0
            if value is not None and not number:
                raise SettingError(f"{name}={value!r} must be a positive whole number, or None")
        if last is not None and (max_frames is not None or step_trigger is not None):
            raise SettingError("last keeps the end of a video; it does not go with max_frames or step_trigger")
        if on_error not in ("raise", "warn"):
            raise SettingError(f"on_error={on_error!r} must be 'raise' or 'warn'")
        if step is not None and not callable(step):
            raise SettingError(f"step={step!r} must be a function that returns a whole number, or None")
        if make_grid is None and (by_agent or keep is not None or episode_trigger is not None):
            make_grid = False
        if by_agent and make_grid:
            raise SettingError("by_agent=True gives each agent videos of its own, and does not go with make_grid=True")
        renderer = Renderer.of(render)
        if renderer is not None:
            if by_agent or in_keys is not None or out_keys is not None:
                raise SettingError(
                    "render= draws the frames of a video; it does not go with in_keys, out_keys or by_agent"
                )
            in_keys = []
        groups = [key[:-1] if isinstance(key, tuple) else () for key in in_keys or ()]
        if by_agent and len(set(groups)) > 1:
            raise SettingError(
                f"by_agent=True needs in_keys of one group of agents, not {list(in_keys or ())}; give each group a "
                "recorder with a tag of its own"
            )
        self._keep(Recording())
        in_real_time = isinstance(fps, str) and fps == "env"
        # center_crop is ours: TorchRL's asks for torchvision
        super().__init__(logger, tag, in_keys, skip, None, make_grid, out_keys, None if in_real_time else fps, **kwargs)
        self._in_real_time = in_real_time
        self.max_frames, self.dump_on_done = max_frames, dump_on_done
        if len(self.in_keys) != len(self.out_keys):
            raise SettingError(f"{len(self.in_keys)} in_keys need as many out_keys, not {len(self.out_keys)}")
        self.center_crop = center_crop
        self._renames = list(self.in_keys) != list(self.out_keys)
        self._by_agent = bool(by_agent)
        self._renderer = renderer
        self._given = readings(
            self.in_keys if renderer is None else [renderer.key], layout, stack, value_range, colormap
        )
        if renderer is not None:  # an image of four channels is no stack
            self._given = {key: replace(reading, strict=False) for key, reading in self._given.items()}
        self._caption = None if caption is None else Caption.of(caption)
        self._selection = Selection.of(env_ids, episode_trigger, step_trigger, keep)
        self._selection.check(dump_on_done, max_frames)
        self._recording.last, self._recording.on_error = last, on_error
        destination = self._recording.destination
        destination.keep, destination.step = keep, step
        destination.rates()  # raises now what the first frame would

    def _keep(self, recording: Recording) -> None:
        """Record into `recording`, whose videos are finished when no recorder has it any more."""
        self.__dict__.update(FRESH, _recording=recording, _owner=lifetime.owner(recording))

    # TorchRL's attributes, kept in the recording, where the end of the process and copies find them

    logger = _of_recording("logger", "Where the videos go.", DESTINATION)
    tag = _of_recording("tag", "The name of the videos.", DESTINATION)
    video_kwargs = _of_recording(
        "settings", "What ``logger.log_video`` is called with beside name, video and step.", DESTINATION
    )
    max_frames = _of_recording("max_frames", "How many frames a clip has at the most; None does not bound it.")
    iter = _of_recording("iter", "The step of the next video if `dump` is not told one.")
    count = _of_recording("count", "How many frames came since the last dump, kept or not.")

    @property
    def obs(self) -> list[Tensor]:
        """The frames kept since the last dump as a list, uint8 ``[3, H, W]`` each; `dump` makes its video of it.

        With a vidrec logger the frames so far are read back from the file when it is asked for, as the video shows
        them; from then on the list grows with the video until the next dump, in memory, as TorchRL's always does.
        `count` and the `Video` that `dump` returns cost nothing.

        Where envs, agents or episodes have videos of their own, these are the frames of the first that has some. A list
        that is assigned takes their place; an empty one drops the frames of all.
        """
        return self._recording.obs()

    @obs.setter
    def obs(self, value: Sequence[Tensor]) -> None:
        frames = frames_of(value)
        if frames:
            self._recording.replace(self._recording.shown, frames)
        elif self._recording.waiting:
            self._recording.drop(self.skip)

    @property
    def videos(self) -> list[Video]:
        """The videos that were published since the last `dump` and by it, oldest first.

        Those that episodes and triggers finished, those of copies in this process, and what ``env.close()`` dumped are
        among them; what `keep_best` and `keep_last` displaced is not. The list begins anew with the first video that is
        published after a `dump` has returned.
        """
        return self._recording.videos

    def dump(self, suffix: str | None = None, step: int | None = None) -> Video | Failure | None:
        """Finish the video and publish it through the logger; on return it is whole and has its name.

        Does nothing if nothing was recorded, and begins to count for `skip` anew. Finishes what copies of this recorder
        in this process recorded as well, each a video of its own.

        Args:
            suffix: the name is ``<tag>_<suffix>``; None is ``<tag>``.
            step: the step to log it at. None asks the recorder's `step`, or counts up with each video.

        Returns:
            The last of `videos`: what was published since the last dump and by this one. None if there is none, or if
            for its logger it is no file, but a tensor or an entry of TensorBoard. Of a logger in another process that
            has not answered after 0.2 s, a video whose `path` waits for the answer. With ``on_error="warn"``, a
            `Failure` if something went wrong since the last dump.

        Raises:
            EncoderError: FFmpeg failed.
            TagError: a suffix that cannot be in a name.
            Exception: whatever the logger raised, or has answered since the last dump; the video is kept, and `dump`
                can be called again. Recorders behind this one in the same `Compose`, which would not get their turn,
                are dumped before.
        """
        self._settle()
        try:
            return self._recording.dump(suffix, step)
        except Exception as error:
            for recorder in self._behind():
                dump = recorder.dump
                if isinstance(recorder, VideoRecorder):
                    recorder._settle()
                    dump = recorder._recording.dump
                try:
                    dump(suffix=suffix, step=step)
                except Exception as another:
                    add_note(error, f"and the recorder {recorder.tag!r} behind it failed: {message(another)}")
            raise

    def close(self) -> None:
        """Dump what is still open; called by ``env.close()``.

        A `dump` that follows and is given a suffix or step renames what was dumped here. Frames in memory, for a logger
        that takes tensors or none, stay for it. An env that was reset once and not stepped has no video, and neither
        has one that TorchRL makes, steps once and closes to read its specs (`EnvCreator`, `ParallelEnv`).
        """
        if is_probe():
            self._recording.delete()
        else:
            self._settle()
            self._recording.dump(closing=True)

    def _settle(self) -> None:
        """Let what is recorded here and by copies in this process say which episodes it shows; a dump follows."""
        refs = [ref for known in list(_recorders.values()) for ref in list(known.values())]
        for recorder in (self, *filter(None, (ref() for ref in refs))):
            if self._recording.id in recorder._recording.lineage and recorder._source is not None:
                recorder._source.settle()

    def show(self) -> None:
        """Show the last of `videos` in a notebook. `dump` comes first: it finishes what is being recorded.

        Raises:
            SettingError: no video was published, or this runs in no notebook; the message says where the video is.
        """
        if not self.videos:
            raise SettingError("there is no published video to show; call dump() first, which finishes the video")
        show(self.videos[-1])

    def to_animation(self, **kwargs: Any) -> Any:
        """Show what was recorded since the last dump, as TorchRL's method does, and leave no figure open."""
        require(torchrl_recorder.VideoRecorder, "to_animation")
        animation = super().to_animation(**kwargs)
        import matplotlib.pyplot as plt

        plt.close(plt.gcf())
        return animation

    def clone(self) -> "VideoRecorder":
        """Return a recorder with the same settings and no parent that has recorded nothing."""
        other: VideoRecorder = super().clone()
        other._given = copy.deepcopy(self._given)
        other._keep(self._recording.copy())
        return other

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in super().__getstate__().items() if name not in FRESH}
        return {**state, "_recording": self._recording.copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._keep(self._recording)

    def _check_batched_worker_compat(self) -> None:
        """Do nothing: TorchRL warns of recorders in workers that nobody dumps, and those of vidrec are."""

    # the transform

    def _call(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        # of replay buffers, datasets, and whoever calls it; in an environment `_reset` and `_step` do not come by here
        self._record_sample(next_tensordict)
        return self._pass_on(next_tensordict)

    def _apply_transform(self, observation: Tensor) -> Tensor:
        self._record_sample(observation)
        return observation

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        if is_dynamo_compiling():
            return self._step_in_graph(tensordict, next_tensordict)
        source = self._source_in(next_tensordict)
        if source is None:  # called by hand
            return self._call(next_tensordict)
        try:
            if source.captions is not None:
                source.captions.progress.step(next_tensordict, tensordict)
            streams = source.step(next_tensordict, self.skip)
        except Exception as error:
            if not self._recording.tolerates(error):
                raise
            streams = []
        if streams:
            self._record(next_tensordict, source, streams, tensordict)
        if self._renames:
            self._pass_on(next_tensordict)
        if source.ends:
            self._finish(source, next_tensordict)
        return next_tensordict

    def _step_in_graph(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        """Leave a call in the graph that takes the same step with the same entries."""
        if self._caption is not None and self._caption.keys is None:  # its function may ask for any
            return self._step_outside_graph(tensordict, next_tensordict)
        found = [(at, next_tensordict.get(key, None)) for at, key in enumerate(self._graph_keys)]
        if self._caption is not None:
            found = [
                (at, tensordict.get(self._graph_keys[at], None) if value is None and at >= self._graph_own else value)
                for at, value in found
            ]
        found = [(at, value) for at, value in found if value is not None]  # a transform behind may add what is missing
        if not found or not all(isinstance(value, Tensor) for _, value in found):
            return self._step_outside_graph(tensordict, next_tensordict)
        self._graph_call([value for _, value in found], [at for at, _ in found])
        return self._pass_on(next_tensordict)

    def _step_of_graph(self, values: Sequence[Tensor], which: Sequence[int]) -> None:
        _, batch_size, *_ = self._source_of
        keys = [self._graph_keys[at] for at in which]
        tensordict = TensorDict(dict(zip(keys, values, strict=True)), batch_size)
        self._step(tensordict, tensordict)

    @torch.compiler.disable
    def _step_outside_graph(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        return self._step(tensordict, next_tensordict)

    @torch.compiler.disable
    def _reset(self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase) -> TensorDictBase:
        # episodes are finished in three places: `_step`, as in TorchRL; `_post_step_mdp_hooks`, for what transforms
        # behind this one end in rollouts and collectors; and here, for the same in a loop of env.step() without hooks
        source = self._source_in(tensordict_reset)
        if source is None:  # called by hand
            return self._call(tensordict_reset)
        which = source.resets(tensordict)
        stepped, source.stepped = source.stepped, None
        if stepped is not None:
            self._finish(source, stepped)
        self._finish_all(source.cut(which))
        try:
            if source.captions is not None:
                source.captions.progress.reset(tensordict)
            source.begin(which, tensordict_reset)
        except Exception as error:
            if not self._recording.tolerates(error):
                raise
        if streams := source.offer(which, self.skip):
            self._record(tensordict_reset, source, streams)
            self._finish_all(source.full(self.max_frames))
        return self._pass_on(tensordict_reset)

    def _reset_on_native_autoreset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        # called behind each step of an environment that resets itself
        source = self._source_in(tensordict_reset)
        if source is not None and source.by_episode:
            reset = source.resets(tensordict)
            if reset is not None and reset.any():
                return self._reset(tensordict, tensordict_reset)
        return tensordict_reset

    def _post_step_mdp_hooks(
        self, tensordict: TensorDictBase, tensordict_: TensorDictBase
    ) -> tuple[TensorDictBase, TensorDictBase]:
        source = self._source_in(tensordict)
        if source is not None and source.by_episode:
            self._finish(source, tensordict.get("next"))
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

    def _record(
        self,
        tensordict: TensorDictBase,
        source: EnvSource,
        streams: list[Stream],
        root: TensorDictBase | None = None,
    ) -> None:
        """Read or draw the frames that streams want, and write them; `root` has the action of a step."""
        try:
            blank, captions = None, source.captions
            if self._renderer is not None:
                streams, reading = self._recording.wanting(streams), self._readings[0][2]
                env = self._source_of[0]()
                streams, entries, blank = self._renderer.read(env, source, streams, reading, tensordict)
                if not entries:
                    return
                late = False
            else:
                entries = Entries.read(self._entries(tensordict, source.batch_dims, still=True))
                if not entries:
                    return
                if source.picks:
                    entries = source.pick(entries, streams)
                late = entries[0].frames.is_cuda and captions is None and not source.resets_itself and entries.on_device
                if source.resets_itself or (entries.floating and not late):
                    zeros = source.may_be_zeros(tensordict, streams) if source.resets_itself else None
                    if (unknown := entries.unknown(zeros)) is not None:
                        if all(map(np.all, unknown)):
                            return
                        if source.by_env:
                            at = np.flatnonzero(~np.any(unknown, axis=0))
                            streams, entries = [streams[i] for i in at], entries.take(at)
                        else:
                            blank = unknown
            look = Look(self.center_crop, captions is None and not source.by_env)
            frames = entries.send(look) if late else entries.convert(look, blank)
            if captions is not None:
                step = (tensordict, None) if root is None else (root, tensordict)
                frames = captions.draw_envs(np.asarray(frames), source.envs_of(streams), *step, tile=not source.by_env)
        except Exception as error:
            if not self._recording.tolerates(error, len(streams)):
                raise
            return
        if lifetime.orphans and any(stream.fresh for stream in streams):
            lifetime.finish_orphans()
        self._recording.write(streams, frames[:, None] if source.by_env else frames[None])

    def _finish(self, source: EnvSource, tensordict: TensorDictBase) -> None:
        """Finish the videos of what ends with the outcome of a step; those that are finished, stay."""
        try:
            ended = source.ended(tensordict, self._recording.max_frames)
        except Exception as error:
            if not self._recording.tolerates(error):
                raise
            return
        if ended:
            self._finish_all(ended)

    def _finish_all(self, ended: Sequence[Ended]) -> None:
        if ended and is_probe():
            self._recording.delete()
            return
        errors: list[Exception] = []
        for stream, episode in ended:
            try:
                self._recording.finish(stream, episode, stream.began)
            except Exception as error:
                errors.append(error)
        raise_first(errors)

    @torch.compiler.disable
    def _record_sample(self, sample: TensorDictBase | Tensor) -> None:
        """Keep frames that come without an environment; there are none in an empty batch."""
        if isinstance(sample, TensorDictBase) and not all(sample.batch_size):
            return
        if self._samples is None:
            for is_asked, text in [(self._in_real_time, NO_ENV), (self._by_agent, NO_AGENTS)]:
                if is_asked and not self._recording.tolerates(error := SettingError(text)):
                    raise error
            self.__dict__["_samples"] = Samples(self._recording, self._selection, self._caption)
            self._readings = resolved(self._given, self)
        try:
            if self._renderer is not None:
                raise SettingError(NOT_IN_DATA)
            of = sample if isinstance(sample, TensorDictBase) else None
            alone: Found = ("frame", sample, self._readings[0][2], None, 0, False)
            found = [alone] if of is None else self._entries(of, of.batch_dims, still=False)
            if entries := Entries.read(found):
                look = Look(self.center_crop, self.make_grid)
                self._samples.record(entries, of, look, self.skip, self.dump_on_done)
        except Exception as error:
            if not self._recording.tolerates(error, 1):
                raise

    def _source_in(self, tensordict: TensorDictBase) -> EnvSource | None:
        """Return what is recorded of the environment that this recorder is in now; None if it is in none."""
        container = self.__dict__["_container"]  # unlike `parent`, which is made of the transforms before this one
        env: Any = None if container is None else container()
        known = self._source_of
        before = None if known is None else known[0]()
        while env is None or (env is not before and not isinstance(env, EnvBase)):
            container = None if env is None else env.__dict__["_container"]
            if container is None:
                return None
            env = container()
        settings = (tensordict.batch_size, self._make_grid, self.dump_on_done)
        if known is None or env is not before or known[1:] != settings:
            self._enter(env, tensordict.batch_size)
        return self._source

    def _enter(self, env: EnvBase, batch_size: torch.Size) -> None:
        """Begin to record an environment."""
        original, before = self._original(env), self._source
        same = self._source_of is not None and self._source_of[0]() is env
        fps = self._real_time_fps(env) if self._in_real_time and original is None else None
        self._source_of = (weakref.ref(env), batch_size, self.make_grid, self.dump_on_done)
        captions = None
        if self._caption is not None:  # an env that has a video for each episode counts those that it waits in
            waits = self.make_grid or not self._selection.by_episode(self.dump_on_done)
            captions = EnvCaptions(self._caption, env, batch_size, waits=bool(waits))
        drawn_by = () if self._renderer is None else (*env.state_keys, *env.observation_keys)
        self._graph_keys = (*self.in_keys, *drawn_by, *env.done_keys, *env.reward_keys)
        self._graph_own = len(self._graph_keys)
        if captions is not None:
            self._graph_keys += tuple(key for key in captions.keys if key not in self._graph_keys)
        self._graph_call = Call(self._step_of_graph)
        if original is not None:
            self.__dict__.update(_recording=original._recording, _owner=original._owner, _source=original._source)
            self._readings = original._readings
            return
        if before is not None:
            self._finish_all(before.leave())
        self._readings = resolved(self._given, self)
        if self._in_real_time:
            self.video_kwargs.pop("fps", None)
            self.video_kwargs |= {} if fps is None else {"fps": fps}
        base = base_env(env)
        _recorders.setdefault(base, {})[self._recording.id] = weakref.ref(self)
        self._recording.env = weakref.ref(base)
        self._source = EnvSource(
            env,
            batch_size,
            agents=agents_of(self._readings[0], self, batch_size) if self._by_agent and not self.make_grid else None,
            make_grid=self.make_grid,
            dump_on_done=self.dump_on_done,
            selection=self._selection,
            stream=self._recording.stream,
            steps=before.steps if before is not None and same else Steps(),
            captions=captions,
        )
        if fps is None:
            warn_of_speed(env, self, self.skip, self._recording.destination.rates)

    def _real_time_fps(self, env: EnvBase) -> int | Fraction | None:
        """Return the fps of a video in real time; None if it cannot be had, which is tolerated."""
        try:
            fps = real_time_fps(env, self, self.skip)
            self._recording.destination.rates(fps=fps)
        except SettingError as error:
            if not self._recording.tolerates(error):
                raise
            return None
        return fps

    def _original(self, env: EnvBase) -> "VideoRecorder | None":
        """Return the recorder that this one is a copy of, if it records the same base env for another transformed one.

        Transforms that step their own parent do so through copies of the transforms before them. What such a copy sees
        belongs to the streams of the original.
        """
        known = _recorders.get(base_env(env), {})
        for ancestor in reversed(self._recording.lineage[:-1]):
            original = known[ancestor]() if ancestor in known else None
            if original is not None and original._source_of[0]() is not env:
                return original
        return None

    def _entries(self, tensordict: TensorDictBase, dims: int, *, still: bool) -> list[Found]:
        """Return the entries with frames; `still`: all axes behind the first `dims` belong to one moment."""
        found: list[Found] = []
        for key, name, reading, read in self._readings:
            try:
                value = read(tensordict)
            except RuntimeError:  # frames of several sizes, agent by agent
                if isinstance(key, str):
                    raise
                apart = enumerate(tensordict.get(key[:-1]).unbind(dims))
                found += [(f"{name} of agent {at}", agent.get(key[-1]), reading, dims, 0, still) for at, agent in apart]
                continue
            if isinstance(value, Tensor):
                agents = 0 if isinstance(key, str) else tensordict.get(key[:-1]).batch_dims - dims
                found.append((name, value, reading, dims, agents, still))
            elif value is not None:
                data = value.tolist() if isinstance(value, NonTensorStack) else getattr(value, "data", value)
                found.append((name, data, reading, None, 0, still))
            elif not self.missing_tolerance:
                raise KeyError(missing(key, tensordict))
        return found

    def _behind(self) -> Iterator[torchrl_recorder.VideoRecorder]:
        """The recorders that a `Compose` dumps after this one."""
        transform: Transform = self
        while (container := transform.__dict__["_container"]) and isinstance(container(), Compose):
            members = list(container().transforms)
            for behind in members[1 + next(i for i, member in enumerate(members) if member is transform) :]:
                yield from (module for module in behind.modules() if isinstance(module, torchrl_recorder.VideoRecorder))
            transform = container()

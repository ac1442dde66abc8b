"""Frames that an environment draws when they are wanted, and not before.

What draws is found by attributes, and no simulator is imported. From TorchRL's environment inwards, the first counts
that has

    envs           a vector of Gymnasium's: each of them for itself
    render()       Gymnasium, PettingZoo, VMAS, TorchRL's own, and all others that have it
    physics        dm_control: physics.render(), by camera 0 as in DMControlEnv

A `render` that takes them is told ``mode="rgb_array"``, the ``env_index`` (VMAS) and the ``tensordict`` (environments
that keep their state in it).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import AsyncEnvPool, EnvBase, ParallelEnv, SerialEnv, TransformedEnv

from vidrec.errors import FrameError, SettingError, shown
from vidrec.frames import Entries, Reading
from vidrec.recording.stream import Stream
from vidrec.sources.envs import EnvSource
from vidrec.sources.flags import Flags
from vidrec.sources.simulator import has, layers_of, name_of, own
from vidrec.sources.workers import WorkerError, ask, can_be_asked

Images = list[NDArray[Any]]
"""What is drawn of one env: images that are side by side in its frame. They are copies: what draws may draw again."""

NO_IMAGE = (None, "human", "ansi")
"""Render modes of Gymnasium in which `render` returns no image."""

ONE_OF_ALL = (
    "{} draws one image of all its envs; expected one of each of {}. Record it with make_grid=True and without "
    "env_ids, or give render= a function that draws them one by one"
)

CAMERA = {"camera_id": 0}
"""The camera of dm_control, unless the user names one."""


@dataclass(frozen=True)
class Camera:
    """How an environment is drawn: by its own call with these arguments, or by a function of it.

    Attributes:
        arguments: for the environment's own call.
        function: of the environment, or of it and its tensordict; None is the environment's own call.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[..., Any] | None = None

    @property
    def takes_tensordict(self) -> bool:
        """Whether the function is one of the environment and its tensordict."""
        return self.function is not None and len(_required(self.function)) == 2


@dataclass(frozen=True)
class Renderer:
    """Draws the frames that streams want.

    Attributes:
        cameras: their images are side by side in a frame.
    """

    cameras: tuple[Camera, ...]
    key = "render"
    """Stands for an entry of the data."""

    @classmethod
    def of(cls, render: Any) -> "Renderer | None":
        """Return what ``render=`` says; None for None and False.

        Raises:
            SettingError: it is not True, the arguments of the environment's own call, a function, or a list of these.
        """
        if render is None or render is False:
            return None
        cameras = []
        for each in render if isinstance(render, list | tuple) else [render]:
            if each is True:
                cameras.append(Camera())
            elif isinstance(each, Mapping) and all(isinstance(name, str) for name in each):
                cameras.append(Camera(dict(each)))
            elif callable(each):
                cameras.append(Camera(function=each))
        if not cameras or (isinstance(render, list | tuple) and len(cameras) < len(render)):
            raise SettingError(
                f"render={shown(render)} must be True, arguments of the env's own call such as "
                '{"height": 480, "width": 640}, a function of the env that returns its frame, or a list of these'
            )
        return cls(tuple(cameras))

    def read(
        self, env: EnvBase, source: EnvSource, streams: list[Stream], reading: Reading, tensordict: TensorDictBase
    ) -> tuple[list[Stream], Entries, list[Flags] | None]:
        """Return the streams of which a frame can be drawn, their frames, and which of a grid are not known.

        An env that has reset itself, within the step that ended its episode, no longer has the last frame.

        Raises:
            FrameError: see `draw`.
        """
        gone = source.may_be_zeros(tensordict, streams)
        if source.by_env:
            streams, gone = [stream for stream, is_gone in zip(streams, gone, strict=True) if not is_gone], gone[~gone]
        ids = source.shown_in(streams)
        if not streams or gone.all():
            return [], Entries(), None
        drawn = draw(env, ids[~gone].tolist(), self.cameras, tensordict)
        at_once = len(drawn) == 1 and not source.by_env and source.shows_all
        if len(drawn) < len(ids) - gone.sum() and not at_once:
            raise FrameError(ONE_OF_ALL.format(name_of(env), len(ids)))
        if len({len(images) for images in drawn}) > 1:
            raise FrameError(f"not as many images were drawn of each env of {name_of(env)}; expected as many")
        if blank := not at_once and bool(gone.any()):
            images = iter(drawn)
            drawn = [list(map(np.zeros_like, drawn[0])) if is_gone else next(images) for is_gone in gone]
        names = [self.key] if len(drawn[0]) == 1 else [f"{self.key} {at}" for at in range(len(drawn[0]))]
        found = [(name, [images[at] for images in drawn], reading, None, 0, True) for at, name in enumerate(names)]
        entries = Entries.read(found)
        for entry, (image, *_) in zip(entries, zip(*drawn, strict=True), strict=True):
            if len(entry.frames) != len(drawn):
                raise FrameError(
                    f"an image of shape {tuple(image.shape)} was drawn of {name_of(env)}; expected [H, W, 3]"
                )
        return streams, entries, [gone] * len(found) if blank else None


def draw(
    env: EnvBase, ids: Sequence[int], cameras: Sequence[Camera], tensordict: TensorDictBase | None
) -> list[Images]:
    """Return what is drawn of each of these envs, number `ids` of the batch; one item if all envs are in one image.

    Only these are drawn, those in workers at the same time.

    Args:
        env: an environment that has been reset.
        ids: in order.
        cameras: the images of all are side by side.
        tensordict: what came of its step or reset; None if it is not at hand.

    Raises:
        FrameError: nothing draws the environment, it draws no image, or a worker raised.
        Exception: what its own rendering raises.
    """
    while isinstance(env, TransformedEnv):
        env = env.base_env
    if not isinstance(env, SerialEnv | ParallelEnv | AsyncEnvPool):
        drawn = [_draw_alone(env, ids, camera, tensordict) for camera in cameras]
        if len({len(images) for images in drawn}) > 1:
            raise FrameError(f"one camera draws all envs of {name_of(env)} in one image, and another does not")
        return [list(chain(*images)) for images in zip(*drawn, strict=True)]
    each = env.batch_size[1:].numel()
    ids_of: dict[int, list[int]] = {}
    for id_ in ids:
        ids_of.setdefault(id_ // each, []).append(id_ % each)
    if isinstance(env, ParallelEnv):
        told = tensordict if any(camera.takes_tensordict for camera in cameras) else None
        questions = {
            at: partial(draw, ids=own_ids, cameras=cameras, tensordict=None if told is None else told[at])
            for at, own_ids in ids_of.items()
        }
        if not can_be_asked(env):
            raise FrameError(f"the workers of {type(env).__name__} have ended, and draw nothing")
        try:
            of_children = ask(env, questions)
        except WorkerError as error:
            raise FrameError(f"no frame was drawn by {error}") from None
    else:
        children = env.__dict__.get("_envs") or env.__dict__.get("envs")  # the second of a pool of threads
        if not children:
            raise FrameError(
                f"the envs of {type(env).__name__} are in processes that cannot be asked for a frame; put the recorder "
                "into the function that makes each env"
            )
        of_children = [
            draw(children[at], own_ids, cameras, None if tensordict is None else tensordict[at])
            for at, own_ids in ids_of.items()
        ]
    return list(chain(*of_children))


def _draw_alone(env: EnvBase, ids: Sequence[int], camera: Camera, tensordict: TensorDictBase | None) -> list[Images]:
    """Return what one camera draws of envs of an environment that consists of no others of TorchRL's."""
    count = env.batch_size.numel()
    if camera.function is not None:
        drawn = camera.function(env, tensordict) if camera.takes_tensordict else camera.function(env)
        return _parted(drawn, ids, count, env)
    for layer in layers_of(env):
        vector = own(layer, "envs")
        if isinstance(vector, list | tuple) and len(vector) == count > 1:
            return [_images(_call_of(vector[id_], camera, env)(), env) for id_ in ids]
    call = _call_of(env, camera, env)
    names = _parameters(call)
    if "env_index" in names and "env_index" not in camera.arguments:
        return [_images(call(env_index=id_), env) for id_ in ids]
    if "tensordict" in names:
        return [_images(call(tensordict=_of_env(tensordict, id_, env)), env) for id_ in ids]
    return _parted(call(), ids, count, env)


def _call_of(simulator: Any, camera: Camera, env: EnvBase) -> Callable[..., Any]:
    """Return what draws an environment of a simulator, with the arguments that do not differ from env to env.

    Raises:
        FrameError: nothing does, not with these arguments, or it was made to draw no image.
    """
    for layer in layers_of(simulator):
        render, told = own(layer, "render"), dict[str, Any]()
        if render is None:
            render, told = own(own(layer, "physics"), "render"), dict(CAMERA)
        if render is not None:
            break
    else:
        raise FrameError(
            f"{name_of(env)} has no render() that could draw a frame; give render= a function of the env that returns "
            "one, or of the env and its tensordict"
        )
    mode = own(layer, "render_mode")
    if has(layer, "render_mode") and mode in NO_IMAGE:
        raise FrameError(
            f"{name_of(env)} draws no image: its render_mode is {mode!r}; make it with render_mode='rgb_array', as in "
            f"GymEnv({name_of(env)!r}, render_mode='rgb_array')"
        )
    names = _parameters(render)
    if unknown := [name for name in camera.arguments if name not in names and "kwargs" not in names]:
        raise FrameError(
            f"render() of {name_of(env)} takes no {unknown[0]!r}, but {', '.join(names) or 'nothing'}; what it draws "
            "may be told where the env is made, such as GymEnv(..., width=640, height=480)"
        )
    if "mode" in names:
        told["mode"] = "rgb_array"
    call = partial(render, **{**told, **camera.arguments})
    return partial(_newest, call) if str(mode).endswith("_list") else call


def _newest(render: Callable[[], Any]) -> Any:
    """Return the last one of the images that an environment has drawn by itself since the last call."""
    return render()[-1]


def _parted(drawn: Any, ids: Sequence[int], count: int, env: EnvBase) -> list[Images]:
    """Return what was drawn of all envs at once, env by env; one item if they are in one image."""
    if count == 1:
        return [_images(drawn, env)]
    if isinstance(drawn, list | tuple) or getattr(drawn, "ndim", 0) == 4:
        if len(drawn) != count:
            raise FrameError(f"{len(drawn)} frames of {name_of(env)} were drawn; expected one of each of {count} envs")
        return [_images(drawn[id_], env) for id_ in ids]
    if len(ids) < count:
        raise FrameError(ONE_OF_ALL.format(name_of(env), count))
    return [_images(drawn, env)]


def _images(drawn: Any, env: EnvBase) -> Images:
    """Return what was drawn of one env as images; several are side by side."""
    images = list(drawn.values()) if isinstance(drawn, Mapping) else drawn
    if not isinstance(images, list | tuple):
        images = list(images) if getattr(images, "ndim", 0) == 4 else [images]
    for image in images:
        if not hasattr(image, "__array__") and not hasattr(image, "__array_interface__"):
            raise FrameError(f"{shown(image)} was drawn of {name_of(env)}; expected an image, an array [H, W, 3]")
    if not images:
        raise FrameError(f"no image was drawn of {name_of(env)}; expected one, an array [H, W, 3]")
    return [np.array(image.detach().cpu().numpy() if isinstance(image, Tensor) else image) for image in images]


def _of_env(tensordict: TensorDictBase | None, id_: int, env: EnvBase) -> TensorDictBase:
    """Return what a tensordict holds of one env."""
    if tensordict is None:
        raise FrameError(
            f"render() of {name_of(env)} takes its tensordict, which a worker does not have; give render= a function "
            "of both, such as lambda env, tensordict: env.render(tensordict)"
        )
    return tensordict[tuple(int(at) for at in np.unravel_index(id_, env.batch_size))] if env.batch_size else tensordict


def _parameters(function: Callable[..., Any]) -> list[str]:
    """Return the names that a function takes; ``"kwargs"`` stands for any."""
    return ["kwargs" if each.kind is each.VAR_KEYWORD else each.name for each in _signature(function)]


def _required(function: Callable[..., Any]) -> list[str]:
    """Return the names that a function must be given by position."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each.name for each in _signature(function) if each.kind in positional and each.default is each.empty]


def _signature(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a function; of one that is written in C, and does not tell, any by name."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return [inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)]

"""What an environment says of an entry: whether it is a stack of frames, its bounds, how many agents it has."""

import textwrap
from collections.abc import Mapping

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey, unravel_key
from torchrl.data.tensor_specs import Bounded, TensorSpec
from torchrl.envs import EnvBase
from torchrl.envs.transforms import CatFrames, Transform

from vidrec.errors import SettingError
from vidrec.frames import Reading, Stack, agents_in
from vidrec.sources.chain import parts_before
from vidrec.sources.flags import Reader, reader

STACKS = {"FrameStackObservation": "stack_size", "FrameStack": "num_stack"}
"""Gymnasium's wrappers that stack frames, the newest last, and where they have the number."""


ALL_VALUES = {torch.uint8: (0.0, 255.0), torch.bool: (0.0, 1.0)}
"""The bounds of dtypes that a spec need not bound."""


def stack_of(transform: Transform, key: NestedKey) -> Stack | None:
    """Return the stack that an entry is, by the transforms before this one and the environment below; None if none."""
    key, touched = unravel_key(key), False
    for before in parts_before(transform):
        if isinstance(before, EnvBase):
            return _stack_of_gym(before, key)
        outs = [unravel_key(out) for out in before.out_keys or ()]
        if key not in outs:
            continue
        if isinstance(before, CatFrames):
            return Stack(int(before.N), axis=None if touched else before.dim) if before.N > 1 else None
        ins = [unravel_key(in_) for in_ in before.in_keys or ()]
        if len(ins) == len(outs):
            key, touched = ins[outs.index(key)], True
        elif key not in ins:  # it is made here
            return None
    return None


def bounds_of(spec: TensorSpec | None) -> tuple[float, float] | None:
    """Return the lowest and the highest value that a spec allows; None if it does not bound them."""
    if isinstance(spec, Bounded):
        low, high = float(spec.space.low.min()), float(spec.space.high.max())
        if spec.dtype.is_floating_point:
            bounded = abs(low) < torch.finfo(spec.dtype).max > abs(high)
        else:  # an integer of 32 bits that may be any is not bounded
            bounded = spec.dtype.itemsize < 4 or high - low < 2 ** (8 * spec.dtype.itemsize - 1) - 1
        return (low, high) if bounded and low < high else None
    return None if spec is None else ALL_VALUES.get(spec.dtype)


Read = tuple[NestedKey, str, Reading, Reader]
"""An entry with frames: its key, its name, how its frames are read, and what gets it out of a tensordict."""


def resolved(given: Mapping[NestedKey, Reading], transform: Transform) -> list[Read]:
    """Return each entry; its frames are read as the user says, and else as the environment or buffer says."""
    auto = any(reading.auto for reading in given.values())
    spec = transform.parent.full_observation_spec if auto and transform.parent is not None else None
    found = []
    for key, reading in given.items():
        hint = None if reading.layout or reading.stack else stack_of(transform, key)
        bounds = None if spec is None else bounds_of(spec.get(key, None))
        found.append((key, repr(key), reading.resolved(hint, bounds), reader(key)))
    return found


def agents_of(entry: Read, transform: Transform, batch_size: torch.Size) -> int | None:
    """Return how many agents each env has, by the spec of an entry; None if it has none.

    Raises:
        SettingError: the environment has no spec of it.
    """
    key, name, reading, _ = entry
    specs = None if transform.parent is None else transform.parent.full_observation_spec
    spec = None if specs is None else specs.get(key, None)
    if specs is None or spec is None:
        raise SettingError(
            f"by_agent=True counts the agents by the spec of {name}, and the env has none; give it one, in the "
            "observation_spec of the env or in transform_observation_spec of the transform that makes the entry"
        )
    dims = 0 if isinstance(key, str) else len(specs[key[:-1]].shape) - len(batch_size)
    return agents_in(spec.shape, reading, len(batch_size), dims)


def missing(key: NestedKey, tensordict: TensorDictBase) -> str:
    """Return what to do about an entry that is not there."""
    there = textwrap.shorten(", ".join(sorted(map(repr, tensordict.keys(True, True)))), 200) or "none"
    return (
        f"there is no entry {key!r} to record; there are {there}. Pixels come with from_pixels=True of GymEnv, "
        "DMControlEnv and others, or from PixelRenderTransform before the recorder; with render=True the recorder has "
        "them drawn, and the data need none. Both need an env that can render (render_mode='rgb_array'). in_keys= "
        "names an entry that holds frames"
    )


def _stack_of_gym(env: EnvBase, key: NestedKey) -> Stack | None:
    """Return the stack that a wrapper of Gymnasium's makes of the observation that is under this key."""
    gym_env = env.__dict__.get("_env")
    spec = env.observation_spec.get(key, None)
    while gym_env is not None and spec is not None:
        if (name := STACKS.get(type(gym_env).__name__)) is not None:
            space = gym_env.observation_space
            space = (getattr(space, "spaces", None) or {}).get(key, space)
            shape = tuple(getattr(space, "shape", None) or ())
            if shape and tuple(spec.shape[-len(shape) :]) == shape:
                return Stack(int(getattr(gym_env, name, shape[0])))
        gym_env = gym_env.__dict__.get("env")
    return None

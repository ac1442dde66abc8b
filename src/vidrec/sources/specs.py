"""What an environment says of an entry: whether it is a stack of frames, and the bounds of its values."""

from collections.abc import Iterator
from typing import Any

import torch
from tensordict.utils import NestedKey, unravel_key
from torchrl.data.tensor_specs import Bounded, TensorSpec
from torchrl.envs import EnvBase, SerialEnv, TransformedEnv
from torchrl.envs.transforms import CatFrames, Compose, Transform

from vidrec.frames import Stack

STACKS = {"FrameStackObservation": "stack_size", "FrameStack": "num_stack"}
"""Gymnasium's wrappers that stack frames, the newest last, and where they have the number."""


ALL_VALUES = {torch.uint8: (0.0, 255.0), torch.bool: (0.0, 1.0)}
"""The bounds of dtypes that a spec need not bound."""


def stack_of(transform: Transform, key: NestedKey) -> Stack | None:
    """Return the stack that an entry is, by the transforms before this one and the environment below; None if none."""
    key, touched = unravel_key(key), False
    for before in _before(transform):
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


def _before(transform: Transform) -> Iterator[Any]:
    """Yield the transforms before this one, the nearest first, and the environment below."""
    while (container := transform.__dict__["_container"]) is not None and (outer := container()) is not None:
        if isinstance(outer, EnvBase):
            yield from _below(outer.base_env)
            return
        if isinstance(outer, Compose):
            members = list(outer.transforms)
            at = next(i for i, member in enumerate(members) if member is transform)
            for member in reversed(members[:at]):
                yield from _parts(member)
        transform = outer


def _below(env: EnvBase) -> Iterator[Any]:
    while isinstance(env, TransformedEnv):
        yield from _parts(env.transform)
        env = env.base_env
    if isinstance(env, SerialEnv) and env.__dict__.get("_envs"):
        yield from _below(env._envs[0])
    else:
        yield env


def _parts(transform: Transform) -> Iterator[Transform]:
    if isinstance(transform, Compose):
        for member in reversed(list(transform.transforms)):
            yield from _parts(member)
    else:
        yield transform


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

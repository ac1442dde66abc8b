"""What an environment says of an entry: whether it is a stack of frames, and the bounds of its values."""

import torch
from tensordict.utils import NestedKey, unravel_key
from torchrl.data.tensor_specs import Bounded, TensorSpec
from torchrl.envs import EnvBase
from torchrl.envs.transforms import CatFrames, Transform

from vidrec.frames import Stack
from vidrec.sources.chain import parts_before

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

"""What is before a recorder: transforms, and the environment below."""

from collections.abc import Iterator
from typing import Any

from torchrl.envs import EnvBase, SerialEnv, TransformedEnv
from torchrl.envs.transforms import Compose, Transform


def parts_before(transform: Transform) -> Iterator[Any]:
    """Yield the transforms before this one, the nearest first, and the environment below."""
    while (container := transform.__dict__["_container"]) is not None and (outer := container()) is not None:
        if isinstance(outer, EnvBase):
            yield from parts_below(outer.base_env)
            return
        if isinstance(outer, Compose):
            members = list(outer.transforms)
            at = next(i for i, member in enumerate(members) if member is transform)
            for member in reversed(members[:at]):
                yield from _parts(member)
        transform = outer


def parts_below(env: EnvBase) -> Iterator[Any]:
    """Yield the transforms of an environment, the last first, and the one below them; of a `SerialEnv`, its first's."""
    while isinstance(env, TransformedEnv):
        yield from _parts(env.transform)
        env = env.base_env
    if isinstance(env, SerialEnv) and env.__dict__.get("_envs"):
        yield from parts_below(env._envs[0])
    else:
        yield env


def _parts(transform: Transform) -> Iterator[Transform]:
    if isinstance(transform, Compose):
        for member in reversed(list(transform.transforms)):
            yield from _parts(member)
    else:
        yield transform

"""The environments of simulators, below those of TorchRL: their attributes are read, and no simulator is imported."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torchrl.envs import EnvBase, TransformedEnv

T = TypeVar("T")

INNER = ("_env", "env", "envs", "aec_env", "par_env")
"""Where an environment of a simulator has the one that it wraps; of several the first counts."""


def layers_of(env: Any) -> Iterator[Any]:
    """Yield an environment, what it wraps, and so on."""
    seen: set[int] = set()
    while hasattr(env, "__dict__") and id(env) not in seen:
        yield env
        seen.add(id(env))
        env = next((vars(env)[name] for name in INNER if vars(env).get(name) is not None), None)
        if isinstance(env, list | tuple):
            env = env[0] if env else None


def name_of(env: EnvBase) -> str:
    """Return what to call an environment: the id that Gymnasium knows it by, or the name of its class."""
    while isinstance(env, TransformedEnv):
        env = env.base_env
    for layer in layers_of(env):
        if isinstance(name := own(own(layer, "spec"), "id"), str):
            return name
    return type(env).__name__


def has(owner: Any, name: str) -> bool:
    """Return whether an object or its class has an attribute.

    One that would be forwarded does not count: to whom, and at what cost, is not known.
    """
    return hasattr(type(owner), name) or name in getattr(owner, "__dict__", ())


def own(owner: Any, name: str) -> Any:
    """Return an attribute that an object or its class has; None if it has none, or cannot tell."""
    return attempt(lambda: getattr(owner, name)) if has(owner, name) else None


def attempt(function: Callable[[], T]) -> T | None:
    """Return what `function` returns; None if it raises."""
    try:
        return function()
    except Exception:
        return None

"""The envs that TorchRL makes, steps once and closes to read their specs (`EnvCreator`, `ParallelEnv`)."""

import sys

from torchrl.envs import EnvCreator


def is_probe() -> bool:
    """Return whether TorchRL runs or closes such an env now, which nobody wants a video of."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "__del__":  # of another env, found by the garbage collector
        if frame.f_globals.get("__name__") == EnvCreator.__module__:
            # its names for the env; before one is there, the program's own function runs
            return not {"shadow_env", "env", "transient"}.isdisjoint(frame.f_locals)
        frame = frame.f_back  # type: ignore[assignment]
    return False

"""What differs between the versions of TorchRL, from 0.11 on. No other file asks which one is installed."""

import inspect
from typing import Any

import torchrl
from torchrl.record.loggers.wandb import WandbLogger

from vidrec.errors import SettingError

__all__ = ["LoggerClient", "log_to_wandb", "require", "wandb_arguments"]

try:
    from torchrl.record.loggers._service import _LoggerClient as LoggerClient
except ModuleNotFoundError:  # before 0.14

    class LoggerClient:  # type: ignore[no-redef]
        """The client of a logger in another process; this TorchRL has none, and no object is one."""


def require(cls: type, name: str) -> None:
    """Raise `SettingError` if this TorchRL's class has no method of this name."""
    if not hasattr(cls, name):
        raise SettingError(f"TorchRL {torchrl.__version__} has no {cls.__name__}.{name}; a newer one has")


def wandb_arguments(*, base_url: str | None, log_env_packages: bool) -> dict[str, Any]:
    """Return those of these arguments that this TorchRL's `WandbLogger` takes.

    Raises:
        SettingError: there is a `base_url`, which it does not take.
    """
    takes = inspect.signature(WandbLogger.__init__).parameters
    if base_url is not None and "base_url" not in takes:
        raise SettingError(
            f"the WandbLogger of TorchRL {torchrl.__version__} takes no base_url={base_url!r}; set the environment "
            "variable WANDB_BASE_URL"
        )
    arguments = {"base_url": base_url, "log_env_packages": log_env_packages}
    return {name: value for name, value in arguments.items() if name in takes}


def log_to_wandb(logger: WandbLogger, payload: dict[str, Any], step: int | None, **keywords: Any) -> None:
    """Log to the run as this TorchRL does: beside a step of the name's own, or, before 0.12, at W&B's global step."""
    if hasattr(logger, "_log_payload"):
        logger._log_payload(payload, step=step, **keywords)
    else:
        keywords.pop("override_global_step", None)
        logger.experiment.log(payload, step=step, **keywords)

"""What differs between the versions of TorchRL, from 0.11 on. No other file asks which one is installed."""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import update_wrapper
from types import FunctionType
from typing import Any

import torchrl
from torchrl.record.loggers import utils
from torchrl.record.loggers.wandb import WandbLogger

from vidrec.errors import SettingError

__all__ = ["LoggerClient", "get_logger_of", "log_to_wandb", "require", "wandb_arguments"]

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


def get_logger_of(*loggers: type) -> Callable[..., Any]:
    """Return TorchRL's `get_logger` with these classes instead of those of the same names that they derive from."""
    function: Any = utils.get_logger
    ours = {logger.__name__: logger for logger in loggers}
    if ours.keys() <= vars(utils).keys():
        same = FunctionType(function.__code__, {**vars(utils), **ours}, argdefs=function.__defaults__)
        same.__kwdefaults__ = function.__kwdefaults__
        return update_wrapper(same, function)

    # before 0.14, which imports them in the function
    def get_logger(*args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            for logger in loggers:
                stack.enter_context(_in_its_place(logger))
            return function(*args, **kwargs)

    return update_wrapper(get_logger, function)


@contextmanager
def _in_its_place(logger: type) -> Iterator[None]:
    theirs = next(base for base in logger.__mro__[1:] if base.__name__ == logger.__name__)
    module = sys.modules[theirs.__module__]
    setattr(module, logger.__name__, logger)
    try:
        yield
    finally:
        setattr(module, logger.__name__, theirs)

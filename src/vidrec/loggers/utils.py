"""`get_logger` and `generate_exp_name`, which TorchRL's scripts make their loggers with."""

from collections.abc import Callable
from functools import update_wrapper
from types import FunctionType
from typing import Any

from torchrl.record.loggers import utils
from torchrl.record.loggers.utils import generate_exp_name as generate_exp_name

from vidrec.loggers.csv import CSVLogger
from vidrec.loggers.tensorboard import TensorboardLogger
from vidrec.loggers.wandb import WandbLogger


def _with_our_loggers(function: Any) -> Callable[..., Any]:
    """Return TorchRL's function, whichever release it is of, with vidrec's classes under the names of TorchRL's."""
    ours = {logger.__name__: logger for logger in (CSVLogger, TensorboardLogger, WandbLogger)}
    same = FunctionType(function.__code__, {**vars(utils), **ours}, argdefs=function.__defaults__)
    same.__kwdefaults__ = function.__kwdefaults__
    return update_wrapper(same, function)


get_logger = _with_our_loggers(utils.get_logger)
"""Return the logger that TorchRL's function of this name returns, of vidrec's class where it has one.

Args:
    logger_type: ``"tensorboard"``, ``"csv"`` or ``"wandb"``, which are vidrec's; ``"mlflow"`` or ``"trackio"``, which
        are TorchRL's; or ``""`` or None, for which None is returned.
    logger_name: the folder for the logs, `log_dir`.
    experiment_name: the name of the experiment.
    **kwargs: ``wandb_kwargs``, ``mlflow_kwargs`` or ``trackio_kwargs``, a dict for the logger; and what TorchRL's
        function takes besides: ``state_dict``, ``service_backend``.
"""

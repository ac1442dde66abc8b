"""`get_logger` and `generate_exp_name`, which TorchRL's scripts make their loggers with."""

from torchrl.record.loggers import utils

from vidrec.compat import get_logger_of
from vidrec.loggers.csv import CSVLogger
from vidrec.loggers.tensorboard import TensorboardLogger
from vidrec.loggers.wandb import WandbLogger


def generate_exp_name(model_name: str, experiment_name: str) -> str:
    """Return a name for an experiment as TorchRL's function does: these two, a random part, the date and the time."""
    name: str = utils.generate_exp_name(model_name, experiment_name)
    return name


get_logger = get_logger_of(CSVLogger, TensorboardLogger, WandbLogger)
"""Return the logger that TorchRL's function of this name returns, of vidrec's class where it has one.

Args:
    logger_type (str or None): ``"tensorboard"``, ``"csv"`` or ``"wandb"``, which are vidrec's; ``"mlflow"`` or
        ``"trackio"``, which are TorchRL's; or ``""`` or None, for which None is returned.
    logger_name (str): the folder for the logs, `log_dir`.
    experiment_name (str): the name of the experiment.
    **kwargs (dict): ``wandb_kwargs``, ``mlflow_kwargs`` or ``trackio_kwargs``, a dict for the logger; and what
        TorchRL's function takes besides: ``state_dict``, ``service_backend``.
"""

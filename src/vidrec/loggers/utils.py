"""`get_logger` and `generate_exp_name`, which TorchRL's scripts make their loggers with."""

from torchrl.record.loggers.utils import generate_exp_name as generate_exp_name

from vidrec.compat import get_logger_of
from vidrec.loggers.csv import CSVLogger
from vidrec.loggers.tensorboard import TensorboardLogger
from vidrec.loggers.wandb import WandbLogger

get_logger = get_logger_of(CSVLogger, TensorboardLogger, WandbLogger)
"""Return the logger that TorchRL's function of this name returns, of vidrec's class where it has one.

Args:
    logger_type: ``"tensorboard"``, ``"csv"`` or ``"wandb"``, which are vidrec's; ``"mlflow"`` or ``"trackio"``, which
        are TorchRL's; or ``""`` or None, for which None is returned.
    logger_name: the folder for the logs, `log_dir`.
    experiment_name: the name of the experiment.
    **kwargs: ``wandb_kwargs``, ``mlflow_kwargs`` or ``trackio_kwargs``, a dict for the logger; and what TorchRL's
        function takes besides: ``state_dict``, ``service_backend``.
"""

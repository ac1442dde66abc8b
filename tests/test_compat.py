"""What an older TorchRL lacks is a clear error, and only where it is asked for."""

import pytest

from vidrec import SettingError, compat


class OlderLogger:
    """TorchRL's `WandbLogger` as it was in 0.11."""

    def __init__(self, exp_name, offline=False, save_dir=None, id=None, project=None, *, video_fps=32, **kwargs):
        self.experiment, self.logged = self, []

    def log(self, payload, step=None, commit=None):
        self.logged.append((payload, step, commit))


def test_wandb_gets_the_arguments_that_torchrl_takes(monkeypatch):
    monkeypatch.setattr(compat, "WandbLogger", OlderLogger)
    for log_env_packages in (True, False):
        assert compat.wandb_arguments(base_url=None, log_env_packages=log_env_packages) == {}
    with pytest.raises(SettingError, match="takes no base_url='http://here'; set the environment variable WANDB_BASE_"):
        compat.wandb_arguments(base_url="http://here", log_env_packages=True)


def test_wandb_logs_at_the_step_of_the_run_where_torchrl_does():
    logger = OlderLogger("run")
    compat.log_to_wandb(logger, {"video": 1}, 7, commit=True, override_global_step=True)
    compat.log_to_wandb(logger, {"video": 2}, None)
    assert logger.logged == [({"video": 1}, 7, True), ({"video": 2}, None, None)]


def test_a_method_that_torchrl_does_not_have_is_a_clear_error():
    compat.require(OlderLogger, "log")
    with pytest.raises(SettingError, match=r"TorchRL [\d.]+ has no OlderLogger.to_animation; a newer one has"):
        compat.require(OlderLogger, "to_animation")

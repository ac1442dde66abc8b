"""BenchMARL, which makes its loggers with TorchRL's `get_logger`, records its evaluation through vidrec."""

from pathlib import Path

import pytest
from numbered_frames import decode, rows

import vidrec

pytest.importorskip("benchmarl", reason="BenchMARL pins an old TorchRL: make test-versions installs it")


@pytest.mark.filterwarnings("ignore")
def test_an_experiment_of_benchmarl_has_a_video_of_its_evaluation(monkeypatch):
    import benchmarl.experiment.logger
    from benchmarl.algorithms import MappoConfig
    from benchmarl.environments import VmasTask
    from benchmarl.experiment import Experiment, ExperimentConfig
    from benchmarl.models.mlp import MlpConfig

    monkeypatch.setattr(benchmarl.experiment.logger, "get_logger", vidrec.get_logger)
    config = ExperimentConfig.get_from_yaml()
    config.sampling_device = config.train_device = config.buffer_device = "cpu"
    config.max_n_iters, config.max_n_frames = 1, None
    config.on_policy_collected_frames_per_batch, config.on_policy_n_envs_per_worker = 40, 2
    config.on_policy_n_minibatch_iters, config.on_policy_minibatch_size = 1, 20
    config.evaluation_interval, config.evaluation_episodes = 40, 2
    config.loggers, config.save_folder = ["csv"], "."
    task = VmasTask.BALANCE.get_from_yaml()
    task.config["max_steps"] = 10
    model = MlpConfig.get_from_yaml()
    experiment = Experiment(
        task=task, algorithm_config=MappoConfig.get_from_yaml(), model_config=model, critic_model_config=model,
        seed=0, config=config,
    )  # fmt: skip
    experiment.run()
    [index] = Path().rglob("videos.csv")
    [row] = rows(index.parent)
    assert row["tag"] == "eval_video"
    # BenchMARL itself leaves out the last frame of an episode of 10 steps
    assert len(decode(index.parent / row["file"])) == int(row["frames"]) == 9

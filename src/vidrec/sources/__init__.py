"""Which frame goes where: envs and their episodes, samples of buffers and datasets, what is selected and kept."""

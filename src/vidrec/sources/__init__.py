"""Which frame goes where: envs and their episodes, samples of buffers and datasets, rendering, captions, speed."""

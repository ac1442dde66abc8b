"""What the fuzz target found before: each seed again, without atheris."""

from pathlib import Path

import pytest
from fuzz import fuzz_recorder

SEEDS = sorted((Path(__file__).parent / "fuzz/seeds").iterdir())


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_a_seed_ends_in_the_predicted_videos_or_a_reasoned_refusal(seed):
    fuzz_recorder.run(seed.read_bytes())

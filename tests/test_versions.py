"""The lowest versions that `make test-versions` runs with are those that pyproject.toml promises."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def test_what_is_tested_as_the_oldest_is_what_is_allowed():
    tomllib = pytest.importorskip("tomllib", reason="not in Python 3.10")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    allowed = {}
    for line in [
        *project["dependencies"],
        *(each for extra in ("tensorboard", "wandb", "cli", "examples") for each in extras[extra]),
    ]:
        requirement = Requirement(line)
        lowest = [each.version for each in requirement.specifier if each.operator == ">="]
        if lowest and requirement.name != "torch":  # the one of the tests is newer, see there
            allowed[requirement.name] = lowest[0]
    lines = [line for line in (ROOT / "tests/oldest.txt").read_text().splitlines() if "==" in line]
    pinned = dict(line.split("==") for line in lines)
    assert {name: Version(pinned[name]) for name in allowed} == {
        name: Version(version) for name, version in allowed.items()
    }

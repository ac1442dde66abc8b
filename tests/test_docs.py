"""What the documentation says is run."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from conftest import require

import vidrec

ROOT = Path(__file__).parent.parent


MODULES = sorted(module.name for module in pkgutil.walk_packages(vidrec.__path__, "vidrec."))


@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith("__main__")])
def test_the_examples_in_the_docstrings_hold(module):
    require("ale_py")
    assert not doctest.testmod(importlib.import_module(module)).failed


def test_each_difference_names_a_test_that_exists():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/differences.md").read_text()))
    defined = {
        name
        for path in (ROOT / "tests").glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert len(named) > 20
    assert named <= defined

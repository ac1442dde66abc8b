"""What the tests share: their own working directory, and the rule for what may be missing."""

import importlib.util
import os
from pathlib import Path

import pytest

from vidrec import recording

# at home a test that lacks something skips and says what; with VIDREC_REQUIRE_ALL=1, as in CI, it fails
REQUIRE_ALL = bool(os.environ.get("VIDREC_REQUIRE_ALL"))


def missing(what: str) -> None:
    (pytest.fail if REQUIRE_ALL else pytest.skip)(what)


def require(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            missing(f"{module} is not installed")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    yield
    # a test that leaves a clip open would have it published into the folder of another
    for left in list(recording._open):
        left.discard()

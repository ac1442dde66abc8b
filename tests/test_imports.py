"""What `import vidrec` brings along, and what it does without."""

import pytest
from conftest import require
from processes import TORCH, run_python, without

from vidrec import ExtraError
from vidrec.errors import need

EXTRAS = ("matplotlib", "mlflow", "starlette", "tensorboard", "trackio", "uvicorn", "wandb")

CHECK = f"""
import sys
import vidrec
assert vidrec.TensorboardLogger and vidrec.WandbLogger and vidrec.VideoRecorder
imported = [name for name in {EXTRAS} if sys.modules.get(name)]
assert not imported, f"imported: {{imported}}"
"""


def test_importing_vidrec_imports_no_extra_that_is_installed():
    require("tensorboard", "wandb")
    script = "vidrec.Video._repr_html_\nassert 'IPython' not in sys.modules\n"
    run_python(CHECK + script, has=())


@pytest.mark.parametrize("extra", ["tensorboard", "wandb"])
def test_that_test_fails_for_an_extra_that_is_imported(extra):
    require(extra)
    done = run_python(f"import {extra}\n" + CHECK, check=False)
    assert done.returncode == 1
    assert f"AssertionError: imported: ['{extra}']" in done.stderr


def test_an_extra_that_is_not_installed_is_neither_found_nor_imported():
    done = run_python(
        without("wandb")
        + """
import importlib.util
print(importlib.util.find_spec("wandb"))
import wandb
""",
        check=False,
    )
    assert done.stdout == "None\n"
    assert "ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize("has", [TORCH, pytest.param((), marks=pytest.mark.long)], ids=["forked", "anew"])
def test_a_recorder_works_where_no_extra_is_installed(has):
    script = """
import torch
from vidrec import CSVLogger, MemoryLogger, TeeLogger, VideoRecorder
logger = MemoryLogger()
recorder = VideoRecorder(TeeLogger(CSVLogger("run"), logger), "video")
recorder._apply_transform(torch.zeros(48, 64, 3, dtype=torch.uint8))
print(recorder.dump().frames, len(logger.videos))
"""
    assert run_python(without(*EXTRAS) + CHECK + script, has=has).stdout == "1 1\n"


def test_a_folder_of_the_name_of_a_package_is_not_that_package(tmp_path, monkeypatch):
    (tmp_path / "no_such_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ExtraError, match=r'pip install "vidrec\[no_such_package\]"'):
        need("no_such_package", "a test")

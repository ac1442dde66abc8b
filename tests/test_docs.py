"""What the documentation says is run."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from conftest import require, some
from processes import run_python

import vidrec

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page):
    """Return the blocks of code on a page, each with its language and the number of its first line."""
    lines = page.read_text().splitlines()
    fences = [number for number, line in enumerate(lines) if line.lstrip().startswith("```")]
    assert len(fences) % 2 == 0, page
    return [
        (lines[begin].strip().removeprefix("```"), begin + 2, lines[begin + 1 : end])
        for begin, end in zip(fences[::2], fences[1::2], strict=True)
    ]


SNIPPETS = {
    f"{page.name}:{first}": (page, first, lines)
    for page in PAGES
    for language, first, lines in blocks(page)
    if language == "python"
}

FIRST = {
    page: name for name, (page, _, lines) in reversed(SNIPPETS.items()) if "__main__" not in "".join(lines)
}.values()
"""The first snippet of each page; one that asks for `__main__` starts processes that import torch anew."""

MODULES = sorted(module.name for module in pkgutil.walk_packages(vidrec.__path__, "vidrec."))


@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith("__main__")])
def test_the_examples_in_the_docstrings_hold(module):
    require("ale_py")
    assert not doctest.testmod(importlib.import_module(module)).failed


@pytest.mark.parametrize("snippet", some(SNIPPETS, *FIRST))
def test_a_snippet_runs_as_it_stands(snippet, tmp_path):
    require("ale_py")
    page, first, lines = SNIPPETS[snippet]
    script = tmp_path / f"{page.stem}.py"  # with the lines of the page: a traceback shows where on the page it is
    script.write_text("\n" * (first - 1) + "\n".join(lines) + "\n")
    done = run_python(script, check=False)
    assert done.returncode == 0, f"{page.relative_to(ROOT)}, line {first}: {done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_python_stands_outside_of_the_snippets(page):
    marked = {first + at for language, first, lines in blocks(page) if language != "" for at in range(len(lines))}
    python = re.compile(r"( {4,})?(import \w|from \S+ import|\w+ = \w+\(|@\w+|def \w+\()")
    lines = page.read_text().splitlines()
    assert [
        f"{page.name}:{n}: {line}" for n, line in enumerate(lines, 1) if python.match(line) and n not in marked
    ] == []


def test_each_difference_names_a_test_that_exists():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/differences.md").read_text()))
    defined = {
        name
        for path in (ROOT / "tests").glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert len(named) > 20
    assert named <= defined

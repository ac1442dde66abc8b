"""The pages of the documentation: their links lead somewhere, and their lines are wrapped alike."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
PROSE = [page for page in PAGES if page.name != "quality.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_leads_to_a_file_and_a_heading_that_exist(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings], link


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_lines_are_wrapped_at_120_but_for_tables(page):
    long = [line for line in page.read_text().splitlines() if len(line) > 120 and not line.startswith("|")]
    assert not long


def test_the_address_of_the_project_stands_in_one_place():
    files = [*PAGES, *sorted((ROOT / "src").rglob("*.py")), ROOT / "mkdocs.yml"]
    assert not [file for file in files if "github.com/OWNER" in file.read_text()]
    assert "github.com/OWNER" in (ROOT / "pyproject.toml").read_text()

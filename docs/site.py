"""What `mkdocs.yml` adds to the site: the README and other pages of the root, and the examples as one page."""

import ast
import json
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/RESULTS.md": "results.md",
}
"""Files outside of the documentation, and what they are called in the site."""

LINKS = {**PAGES, "examples": "examples.md"}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in the folder of the documentation."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text().replace("](docs/", "](").replace("](../docs/", "](")
        for link, target in LINKS.items():
            text = text.replace(f"]({link})", f"]({target})")
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "examples.md", content=_examples()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links out of the folder of the documentation lead to the pages of the site."""
    for link, target in LINKS.items():
        markdown = markdown.replace(f"](../{link})", f"]({target})")
    return markdown


def _examples() -> str:
    page = ["# Examples"]
    for path in sorted((ROOT / "examples").glob("*.py")):
        page += [f"## {path.name}", *_script(path.read_text())]
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        page += [f"## {path.name}", *_notebook(path.read_text())]
    return "\n\n".join(page)


def _script(source: str) -> list[str]:
    docstring = ast.get_docstring(ast.parse(source)) or ""
    return [docstring, _code(source.split('"""', 2)[2])]


def _notebook(source: str) -> list[str]:
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(source)["cells"]]
    return [_code(text) if kind == "code" else text.removeprefix("# ") for kind, text in cells]


def _code(source: str) -> str:
    return f"```python\n{source.strip()}\n```"

"""What `mkdocs.yml` adds to the site: the README and other pages of the root, and the examples as one page."""

import ast
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent

PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files of the root, and what they are called in the site."""

LINKS = {**PAGES, "examples": "examples.md"}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in the folder of the documentation."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text().replace("](docs/", "](")
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
        source = path.read_text()
        docstring = ast.get_docstring(ast.parse(source)) or ""
        code = source.split('"""', 2)[2].strip()
        page += [f"## {path.name}", docstring, f"```python\n{code}\n```"]
    return "\n\n".join(page)

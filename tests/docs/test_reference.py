"""The generated pages of the documentation are those that the code gives now."""

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def pages():
    """The pages by name."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


def test_committed_pages_are_current(pages):
    """docs/reference and docs/README.md are what `make docs` writes, with nothing left over."""
    there = {f"reference/{one.name}" for one in (DOCS / "reference").glob("*.md")} | {"README.md"}
    assert there == set(pages)
    for name, text in pages.items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, f"{name}: run `make docs`"


def test_everything_is_described(pages):
    """Every setting and component has a description, and no cell of a table is empty."""
    from saecore.plugins.host import Host

    for one in Host().providers:
        if one.distribution == "saecore":
            page = pages[f"reference/{one.kind.replace('_', '-')}.md"]
            assert f"\n## {one.name}\n" in page
    for name, text in pages.items():
        for row in re.findall(r"^\| `.*$", text, flags=re.MULTILINE):
            assert "|  |" not in row, f"{name}: {row}"


def test_links_lead_somewhere():
    """Every relative link between the pages and in the README has a target."""
    for file in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8")):
            assert (file.parent / target).exists(), f"{file.name}: {target}"

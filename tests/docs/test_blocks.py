"""Every TOML block of the documentation is an experiment that loads, or a part of one."""

import tomllib
from pathlib import Path

import pytest

from saecore import load_experiment
from saecore.config import structure_experiment
from saecore.config.layers import Layers, merge
from tests.docs.blocks import Block, blocks, plain, same
from tests.helpers import MINIMAL

ROOT = Path(__file__).parent.parent.parent
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOUND = [
    pytest.param(block, id=f"{file.relative_to(ROOT)}:{block.line}")
    for file in FILES
    for block in blocks(file)
    if block.language == "toml" and not block.file
]


@pytest.mark.parametrize("block", FOUND)
def test_toml_blocks(block, tmp_path):
    """A complete experiment loads as it stands; a part of one is valid over a minimal one."""
    tables = tomllib.loads(block.text)
    if {"model", "dataset", "sae", "training"} <= set(tables):
        file = tmp_path / "experiment.toml"
        file.write_text(block.text)
        load_experiment(file)
        return
    layers = Layers("minimal")
    merge(layers, tomllib.loads(MINIMAL), "minimal")
    if "hooks" in tables.get("model", {}):
        del layers.tables["model"]["hook"]  # several instead of one
    tables.pop("extends", None)
    if "architecture" in tables.get("sae", {}) and "expansion_factor" not in tables["sae"]:
        tables["sae"].setdefault("d_sae", 64)  # another architecture replaces the table whole
    merge(layers, tables, "block")
    structure_experiment(layers.tables, "block")


def test_blocks_are_found(tmp_path):
    """Blocks come with language, file and line; one that is not closed is an error."""
    file = tmp_path / "a.md"
    file.write_text("text\n```toml\na = 1\n```\n```python b/c.py\nx = 1\n```\n")
    assert blocks(file) == [Block("toml", "a = 1\n", 2), Block("python b/c.py", "x = 1\n", 5)]
    assert blocks(file)[1].file == "b/c.py"
    file.write_text("```toml\n")
    with pytest.raises(AssertionError, match="not closed"):
        blocks(file)


def test_comparison_of_outputs():
    """Numbers, ids and widths may change; words may not; `…` stands for any lines."""
    assert plain("loss  12.5  L0 -3e-4") == plain("loss 7 L0 1")
    assert same(["a 1", "x", "y", "b"], ["a 2", "…", "b"])
    assert same(["a", "b"], ["a", "…", "b"])
    assert same(["a (x, y)"], ["a (…)"])
    assert not same(["a (x, y)", "b"], ["a (…)"])
    assert not same(["a", "b"], ["a"])
    assert not same(["loss 1"], ["gain 1"])
    assert same(["at runs/x/20260101-000000-ab12/sae"], ["at runs/x/20270203-010101-ffff/sae"])

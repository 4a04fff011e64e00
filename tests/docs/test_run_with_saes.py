"""The page on running a model with SAEs: its Python runs, with an SAE of random weights."""

import re
from pathlib import Path

import pytest

from saecore_plugins.models.tiny_lm import DIRECTORY
from tests.splicing.models import random_sae

PAGE = (Path(__file__).parents[2] / "docs/how-to/run-with-saes.md").read_text("utf-8")


@pytest.mark.slow
def test_python(tmp_path, monkeypatch):
    """The blocks run in order, shapes are those in their comments, and steering changes logits."""
    monkeypatch.chdir(tmp_path)
    table = {"architecture": "topk", "k": 16}
    random_sae(table, d_in=256, d_sae=512, hook_name="blocks.2.hook_resid_post").save_model(
        "my-sae"
    )
    names = {"DIRECTORY": DIRECTORY}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(block, "run-with-saes.md", "exec"), names)
    length = names["tokens"].shape[1]
    assert names["features"].shape == names["scores"].shape == (1, length, 512)
    assert names["attribution"].error.shape == (1, length)
    assert not names["steered"].equal(names["logits"])
    assert names["text"].shape == (1, length + 5)

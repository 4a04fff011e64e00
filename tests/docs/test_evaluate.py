"""docs/how-to/evaluate-an-sae.md is carried out: its commands run, and print what it says."""

import json
import shlex

import attrs
import pytest

from saecore import Shape
from saecore.cli import main
from saecore.core.sae_config import Metadata
from saecore.plugins.structure import structure_choice
from saecore.randomness import generator
from tests.docs.blocks import blocks, commands, same
from tests.strangers import ROOT

PAGE = ROOT / "docs" / "how-to" / "evaluate-an-sae.md"
TOPICS = {"json": "json.loads(text)", "regex": "re.compile(pattern)", "path": "Path(name).stem"}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """Text, labeled text and two SAEs, in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text").mkdir()
    for i in range(8):
        lines = [f"def function_{i}_{j}(x):\n    return x + {j * i}\n" for j in range(120)]
        (tmp_path / "text" / f"{i}.py").write_text("\n".join(lines))
    rows = [{"text": f"{name} = {text}", "topic": topic}
            for name in "abcdefghijklmnop" for topic, text in TOPICS.items()]  # fmt: skip
    (tmp_path / "labeled.jsonl").write_text("\n".join(map(json.dumps, rows)))
    where = {"model_name": "tiny_lm", "hook_name": "blocks.1.hook_resid_post", "context_size": 32}
    for seed, name in enumerate(("sae", "other")):
        table = {"architecture": "topk", "k": 8}
        sae = structure_choice("architecture", table).build(Shape(256, 256, 128))
        sae.initialize(generator(seed, "page"), 1.0)
        sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata(where))
        sae.save_model(tmp_path / name)


def test_the_page_is_true(capsys):
    """Someone who types what the page says sees what the page says, but for numbers."""
    ran = 0
    for block in blocks(PAGE):
        if block.language == "python":
            exec(compile(block.text, PAGE.name, "exec"), {})
            assert "l0" in capsys.readouterr().out
        for command, written in commands(block) if block.language == "console" else ():
            with pytest.raises(SystemExit):
                main(shlex.split(command)[1:])
            said = capsys.readouterr()
            ran += 1
            got = (said.out + said.err).splitlines()
            assert same(got, written), f"{PAGE.name}:{block.line}: $ {command}\n{said.out}"
    assert ran == 4

"""docs/how-to/convert.md is carried out: its commands run, and print what it says."""

import shutil
from pathlib import Path

import pytest

from saecore.cli import main
from saecore.releases.convert import convert
from saecore.releases.load import Loaded
from tests.docs.blocks import blocks, commands, same
from tests.releases.saes import kind
from tests.strangers import ROOT

PAGE = ROOT / "docs" / "how-to" / "convert.md"


def printed(command, capsys):
    """What a command of the page prints; `find` is the only one that is not saecore's."""
    if not command.startswith("saecore "):
        assert command.startswith("find for_sparsify ")
        found = Path("for_sparsify").rglob("*")
        return sorted(one.as_posix() for one in found if one.is_file())
    with pytest.raises(SystemExit):
        main(command.split()[1:])
    said = capsys.readouterr()
    return (said.out + said.err).splitlines()


def test_the_page_is_true(tmp_path, monkeypatch, capsys):
    """Someone who types what the page says sees what the page says, but for numbers."""
    monkeypatch.chdir(tmp_path)
    kind("topk").save_model("sae")
    for layer in ("layers.3", "layers.4"):
        convert(Loaded(kind("topk"), {}, None), "sparsify", tmp_path / "one")
        shutil.copytree(tmp_path / "one" / "layers.3", tmp_path / "layers" / layer)
        shutil.rmtree(tmp_path / "one")
    ran = 0
    for block in blocks(PAGE):
        if block.language == "python":
            exec(compile(block.text, PAGE.name, "exec"), {})
            continue
        for command, written in commands(block):
            got = printed(command, capsys)
            ran += 1
            assert same(got, written), f"{PAGE.name}:{block.line}: $ {command}\n{got}"
    assert ran == 9

"""The page about published SAEs: its commands and its Python run, against a local hub."""

import contextlib
import io
from pathlib import Path

from click.testing import CliRunner

from saecore.cli import cli
from tests.docs.blocks import blocks, commands, same
from tests.releases.sample import saved

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "load-a-published-sae.md"
SAE_ID = "blocks.8.hook_resid_pre"


def test_the_page(hub, tmp_path, monkeypatch):
    """Commands print what the page shows, but for numbers; Python runs as it stands."""
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "made" / SAE_ID)
    commit = hub.put("jbloom/GPT2-Small-SAEs-Reformatted", tmp_path / "made")
    names, printed = {}, io.StringIO()
    for block in blocks(PAGE):
        if block.language == "python":
            with contextlib.redirect_stdout(printed):
                exec(compile(block.text, PAGE.name, "exec"), names)
        for command, shown in commands(block) if block.language == "console" else ():
            result = CliRunner().invoke(
                cli, command.split()[1:], standalone_mode=False, catch_exceptions=False
            )
            got = result.output.splitlines()
            assert same(got, shown), f"{PAGE.name}:{block.line}: {result.output}"
    said = printed.getvalue()
    assert f"6 20 {SAE_ID}\n" in said
    assert 'did you mean "blocks.8.hook_resid_pre"' in said
    assert "60.0 gpt2-small/8-res-jb\n" in said
    assert f"jbloom/GPT2-Small-SAEs-Reformatted {commit}\n" in said

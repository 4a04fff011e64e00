"""`saecore releases` and `saecore pull`: what they find, print and refuse."""

import json
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from saecore import SAE
from saecore.cli import cli
from saecore.errors import ReleaseError
from tests.releases.sample import saved

REPOSITORY = "jbloom/GPT2-Small-SAEs-Reformatted"


def run(*args):
    """What a command prints; errors that users see are raised."""
    result = CliRunner().invoke(cli, list(args), standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


def found(*args):
    """The rows that a search gives as JSON."""
    return json.loads(run("releases", *args, "--json"))


def test_search():
    """Options are laid over each other; a release is listed with the number of SAEs that fit."""
    assert sum(row["saes"] for row in found()) == 13857
    assert {row["release"] for row in found("gpt2*jb*")} == {
        "gpt2-small-res-jb", "gpt2-small-res-jb-feature-splitting"
    }  # fmt: skip
    (row,) = found("gemma-scope-2b-pt-res", "--layer", "12", "--width", "16k", "--l0", "20-100")[:1]
    assert (row["release"], row["saes"], row["layers"]) == ("gemma-scope-2b-pt-res", 3, [12])
    assert all(20 <= one <= 100 for one in row["l0"])
    assert {row["format"] for row in found("--format", "qwen_scope")} == {"qwen_scope"}
    assert {row["model"] for row in found("--model", "PYTHIA")} == {"pythia-70m-deduped"}
    assert {tuple(row["hooks"]) for row in found("--hook", "attn_out")} == {("attn_out",)}
    (sae,) = found("show", "gpt2-small-res-jb", "--layer", "8")
    assert (sae["sae_id"], sae["l0"], sae["width"]) == ("blocks.8.hook_resid_pre", 60, 24576)
    assert sae["repository"] == REPOSITORY


def test_tables():
    """What people read: columns, widths in k, the next command."""
    said = run("releases", "gemma-scope-2b-pt-mlp")
    assert "gemma-scope-2b-pt-mlp-canonical" in said
    assert "16k-65k" in said
    assert "2 releases with 312 SAEs; saecore releases show RELEASE lists them" in said
    said = run("releases", "show", "gpt2-small-res-jb", "--layer", "8")
    assert "blocks.8.hook_resid_pre  24,576  60" in said
    assert "saecore pull gpt2-small-res-jb blocks.8.hook_resid_pre" in said
    assert run("releases", "nothing-of-this-name") == "no match in the catalogue\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("show", "gpt2-small-resjb"), 'did you mean "gpt2-small-res-jb"'),
        (
            ("--format", "gemma"),
            'no SAE in a catalogue has this format; did you mean "gemma_scope"',
        ),
        (("--width", "16kk"), "expected a number or a range, such as 16k or 16k-65k"),
        (("--layer", "a"), "expected a number or a range, such as 12 or 10-14"),
        (("show",), "expected one PATTERN, or show RELEASE"),
        (("a", "b"), "expected one PATTERN, or show RELEASE"),
    ],
)
def test_refused(args, message):
    """One line that says what was expected."""
    with pytest.raises(Exception, match=message):
        run("releases", *args)


def test_releases_without_torch():
    """A search imports neither torch nor the hub's client."""
    code = (
        "import sys\nfrom saecore.cli import cli\n"
        "cli(['releases', 'gpt2'], standalone_mode=False)\n"
        "assert not {'torch', 'huggingface_hub', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_pull(hub, tmp_path, monkeypatch):
    """A pulled SAE is described and written where it shall be; nothing is overwritten."""
    monkeypatch.chdir(tmp_path)
    sae = saved(tmp_path / "made" / "blocks.8.hook_resid_pre")
    commit = hub.put(REPOSITORY, tmp_path / "made")
    said = run("pull", "gpt2-small-res-jb", "blocks.8.hook_resid_pre", "--to", "mine")
    assert "standard, 6 to 20, float32" in said
    assert "reads      blocks.8.hook_resid_pre of gpt2-small" in said
    assert "published  L0 60, explained variance 0.9" in said
    assert f"{REPOSITORY}/blocks.8.hook_resid_pre at {commit[:12]} (saelens)" in said
    assert "SAE.load_from_disk('mine')" in said
    again = SAE.load_from_disk("mine")
    assert torch.equal(again.W_dec, sae.W_dec)
    assert again.cfg.metadata.source["commit"] == commit
    with pytest.raises(ReleaseError, match="mine: already exists"):
        run("pull", "gpt2-small-res-jb", "blocks.8.hook_resid_pre", "--to", "mine")
    said = run("pull", REPOSITORY, "blocks.8.hook_resid_pre")
    assert f"SAE.from_pretrained('{REPOSITORY}', 'blocks.8.hook_resid_pre')" in said

"""Recorded metrics of an SAE: they stay with it, and `saecore verify-release` checks them."""

import attrs
import pytest
import torch
from click.testing import CliRunner

from saecore import SAE
from saecore.cli import cli
from saecore.cli.verify_release import Comparison, verify
from saecore.config import structure_experiment
from saecore.config.from_metadata import model_of
from saecore.core.sae_config import Metadata, Shape
from saecore.errors import ConfigError, ReleaseError
from saecore.plugins.structure import structure_choice
from saecore.randomness import generator
from saecore.runs.build import build_sae
from tests.conftest import DATA
from tests.releases.cases import cases

BY_PLUGIN = {case.plugin: case for case in reversed(cases(DATA / "oracle"))}
HOOK = "blocks.1.hook_resid_post"


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A small text; token files go to a temporary directory."""
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path / "cache"))
    lines = [f"def f{j}(x): return x + {j * 7 % 23}  # {j % 11} of them" for j in range(600)]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    return str(tmp_path / "text.txt")


def made(**metadata):
    """An SAE of the embedded model with random weights and 5 latents per token."""
    table = {"architecture": "topk", "k": 5, "rescale_acts_by_decoder_norm": False}
    sae = structure_choice("architecture", table).build(Shape(256, 256, 32))
    sae.initialize(generator(0, "init"), 0.3)
    known = {"model_name": "tiny_lm", "hook_name": HOOK, "context_size": 64}
    sae = sae.to_inference()
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata({**known, **metadata}))
    return sae


@pytest.mark.parametrize("plugin", sorted(BY_PLUGIN))
def test_recorded_figures_stay(plugin, tmp_path):
    """In every format, metrics from the catalogue are in the metadata, and survive saving and
    loading.
    """
    from saecore.releases.load import load

    case = BY_PLUGIN[plugin]
    facts = attrs.evolve(case.facts, l0=12.5, variance_explained=0.75)
    sae = load(case.files(), case.path, facts=facts, source=plugin).sae
    sae.save_model(tmp_path)
    for loaded in (sae, SAE.load_from_disk(tmp_path)):
        metadata = loaded.cfg.metadata
        assert (metadata.l0, metadata.variance_explained) == (12.5, 0.75)


def test_command(text, tmp_path):
    """If metrics are as recorded, the exit code is 0 and ratios are 1; else it is 1."""
    measured = {
        metric.name: metric.measured
        for metric in verify(made(), dataset=text, tokens=512).comparisons
    }
    assert measured["L0"] == 5.0

    def run_command(**figures):
        made(**figures).save_model(tmp_path / "sae")
        words = ["verify-release", str(tmp_path / "sae"), "--dataset", text, "--tokens", "512"]
        result = CliRunner().invoke(cli, words)
        return result.exit_code, result.output

    code, output = run_command(l0=5, variance_explained=measured["explained variance"])
    assert code == 0
    assert output.count("1.000") == 2
    assert f"reads  {HOOK} of tiny_lm (tiny_lm, raw)" in output
    assert "contexts of 64; 512 held-out tokens" in output
    code, output = run_command(l0=50)
    assert code == 1
    assert "off by more than 10%" in output
    code, output = run_command()
    assert code == 0
    assert "nothing is recorded that could be compared" in output


def test_tolerance():
    """A metric is off if it differs by more than a share of the recorded value."""
    assert not Comparison("L0", 100, 109.0).off(0.1)
    assert Comparison("L0", 100, 111.0).off(0.1)
    assert Comparison("explained variance", 0.8, -0.8).off(0.1)
    assert Comparison("L0", 0.0, 1.0).off(0.1)
    assert Comparison("L0", 0.0, 1.0).ratio is None


def test_metadata_that_do_not_suffice(text):
    """Errors name what is missing, and the option that supplies it."""
    with pytest.raises(ConfigError, match="its name is not in the SAE's metadata; give it"):
        verify(made())
    with pytest.raises(ConfigError, match=r"give it \(--model\)"):
        verify(made(model_name=None), dataset=text)
    with pytest.raises(ReleaseError, match="name no hook"):
        verify(made(hook_name=None), dataset=text)
    with pytest.raises(ConfigError, match=r"mlp\.hook_post .* has size 1024, .*takes 256"):
        verify(made(hook_name="blocks.1.mlp.hook_post"), dataset=text)


def test_models_behind_names():
    """TransformerLens' names become the hub's; SAEs of processed weights get processed weights."""

    def table(**metadata):
        chosen = model_of(made(**metadata))
        return chosen.name, chosen.config.name, getattr(chosen.config, "processed", False)

    centered = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    assert table(model_name="gpt2-small", **centered) == ("transformer_lens", "gpt2", True)
    assert table(model_name="gpt2-small") == ("huggingface", "gpt2", False)
    assert table(model_name="qwen3-0.6b") == ("huggingface", "Qwen/Qwen3-0.6B", False)
    plain = {"model_from_pretrained_kwargs": {"fold_ln": False}}
    assert table(model_name="gemma-2-2b", **plain) == ("huggingface", "google/gemma-2-2b", False)


def test_starting_from_a_published_sae(hub, tmp_path):
    """init_from takes RELEASE:SAE_ID; if it cannot be loaded, the error names the key."""
    sae = made()
    sae.save_model(tmp_path / "made" / "layer_1")
    hub.put("someone/saes", tmp_path / "made")
    tables = {
        "model": {"type": "tiny_lm", "hook": HOOK},
        "dataset": {"type": "python_corpus"},
        "sae": {"architecture": "topk", "d_sae": 32, "k": 5, "init_from": "someone/saes:layer_1",
                "rescale_acts_by_decoder_norm": False},
        "training": {"tokens": 10_000},
    }  # fmt: skip
    begun = build_sae(structure_experiment(tables), 256, 256, torch.device("cpu"))
    assert torch.equal(begun.W_dec, sae.W_dec)
    tables["sae"]["init_from"] = "someone/saes:layer_2"
    with pytest.raises(ConfigError, match=r"sae\.init_from: someone/saes/layer_2: no known format"):
        build_sae(structure_experiment(tables), 256, 256, torch.device("cpu"))

"""Figures that were recorded of an SAE: they stay with it, and are compared with measured ones."""

import attrs
import pytest
import torch
from click.testing import CliRunner

from saecore import SAE
from saecore.assembly import make_sae
from saecore.cli import cli
from saecore.config import structure_experiment
from saecore.config.structure import structure_choice
from saecore.errors import ConfigError, ReleaseError
from saecore.language_model.recorded import model_of
from saecore.plugins import current_host
from saecore.randomness import generator
from saecore.releases.measure import Comparison, measure
from saecore.sae_config import Metadata, Shape
from tests.conftest import DATA
from tests.releases.cases import cases

BY_PLUGIN = {one.plugin: one for one in reversed(cases(DATA / "oracle"))}
HOOK = "blocks.1.hook_resid_post"


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A small text, and token files in a directory of the test's own."""
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path / "cache"))
    lines = [f"def f{j}(x): return x + {j * 7 % 23}  # {j % 11} of them" for j in range(600)]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    return str(tmp_path / "text.txt")


def made(**metadata):
    """An SAE of the embedded model with random weights, 5 latents a token."""
    table = {"architecture": "topk", "k": 5, "rescale_acts_by_decoder_norm": False}
    sae = structure_choice("architecture", table, current_host()).build(Shape(256, 256, 32))
    sae.initialize(generator(0, "init"), 0.3)
    known = {"model_name": "tiny_lm", "hook_name": HOOK, "context_size": 64}
    sae = sae.to_inference()
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata({**known, **metadata}))
    return sae


@pytest.mark.parametrize("plugin", sorted(BY_PLUGIN))
def test_recorded_figures_stay(plugin, tmp_path):
    """Whatever the format, what a catalogue records is in the metadata, and still there when the
    SAE has been saved and loaded again.
    """
    from saecore.releases.load import load

    case = BY_PLUGIN[plugin]
    facts = attrs.evolve(case.facts, l0=12.5, variance_explained=0.75)
    sae = load(case.files(), case.path, facts=facts, source=plugin).sae
    sae.save_model(tmp_path)
    for one in (sae, SAE.load_from_disk(tmp_path)):
        assert (one.cfg.metadata.l0, one.cfg.metadata.variance_explained) == (12.5, 0.75)


def test_command(text, tmp_path):
    """Figures that are as recorded: exit code 0 and ratios of 1; others: exit code 1, marked."""
    found = {
        one.name: one.measured for one in measure(made(), dataset=text, tokens=512).comparisons
    }
    assert found["L0"] == 5.0

    def said(**figures):
        made(**figures).save_model(tmp_path / "sae")
        words = ["verify-release", str(tmp_path / "sae"), "--dataset", text, "--tokens", "512"]
        result = CliRunner().invoke(cli, words)
        return result.exit_code, result.output

    code, output = said(l0=5, variance_explained=found["explained variance"])
    assert code == 0
    assert output.count("1.000") == 2
    assert f"reads  {HOOK} of tiny_lm (tiny_lm, raw)" in output
    assert "contexts of 64; 512 held-out tokens" in output
    code, output = said(l0=50)
    assert code == 1
    assert "off by more than 10%" in output
    code, output = said()
    assert code == 0
    assert "nothing is recorded that could be compared" in output


def test_tolerance():
    """A figure is off where it differs by more than a share of the recorded one."""
    assert not Comparison("L0", 100, 109.0).off(0.1)
    assert Comparison("L0", 100, 111.0).off(0.1)
    assert Comparison("explained variance", 0.8, -0.8).off(0.1)
    assert Comparison("L0", 0.0, 1.0).off(0.1)
    assert Comparison("L0", 0.0, 1.0).ratio is None


def test_metadata_that_do_not_suffice(text):
    """What is missing is said, with the option that gives it."""
    with pytest.raises(ConfigError, match="its name is not in the SAE's metadata; give it"):
        measure(made())
    with pytest.raises(ConfigError, match=r"give it \(--model\)"):
        measure(made(model_name=None), dataset=text)
    with pytest.raises(ReleaseError, match="name no hook"):
        measure(made(hook_name=None), dataset=text)
    with pytest.raises(ConfigError, match=r"of size 256, .*mlp\.hook_post"):
        measure(made(hook_name="blocks.1.mlp.hook_post"), dataset=text)


def test_models_behind_names():
    """Names of TransformerLens become those of the hub; processed weights are asked for where the
    SAE was trained on them.
    """

    def table(**metadata):
        chosen = model_of(made(**metadata))
        return chosen.name, chosen.config.name, getattr(chosen.config, "processed", False)

    centred = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    assert table(model_name="gpt2-small", **centred) == ("transformer_lens", "gpt2", True)
    assert table(model_name="gpt2-small") == ("huggingface", "gpt2", False)
    assert table(model_name="qwen3-0.6b") == ("huggingface", "Qwen/Qwen3-0.6B", False)
    plain = {"model_from_pretrained_kwargs": {"fold_ln": False}}
    assert table(model_name="gemma-2-2b", **plain) == ("huggingface", "google/gemma-2-2b", False)


def test_starting_from_a_published_sae(hub, tmp_path):
    """init_from takes a release and an SAE's name; what cannot be had is an error of that key."""
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
    begun = make_sae(structure_experiment(tables), 256, 256, torch.device("cpu"), "x.toml")
    assert torch.equal(begun.W_dec, sae.W_dec)
    tables["sae"]["init_from"] = "someone/saes:layer_2"
    with pytest.raises(ConfigError, match=r"sae\.init_from: someone/saes/layer_2: no known format"):
        make_sae(structure_experiment(tables), 256, 256, torch.device("cpu"), "x.toml")

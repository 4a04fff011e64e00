"""A checkpoint inside a run is an SAE like any other: every command and loader takes its name."""

import json
import shutil

import pytest
import torch
from click.testing import CliRunner

import saecore
from saecore.cli import cli
from saecore.config import structure_experiment
from saecore.errors import CheckpointError
from saecore.releases.resolve import resolve
from saecore.runs.run import run
from tests.faults.small import minimal, names, tables, whole, write_text

KINDS = ("architecture", "normalizer", "optimizer")
"""What takes part in exporting an SAE."""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Token files in a directory of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAECORE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Small text files."""
    return write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def finished(text, tmp_path_factory):
    """A finished run of twelve steps, with checkpoints after steps 8 and 12."""
    base = tables(text, tmp_path_factory.mktemp("run"))
    base["evaluation"] = {"tokens": 256}
    return run(structure_experiment(base)).directory


def same(sae, saved):
    """Assert equal bits and an equal configuration, but for the name of the model's class."""
    for name, tensor in saved.state_dict().items():
        assert torch.equal(sae.state_dict()[name], tensor), name
    assert sae.cfg.architecture_config == saved.cfg.architecture_config
    assert sae.cfg.normalize_activations == saved.cfg.normalize_activations
    assert sae.cfg.reshape_activations == saved.cfg.reshape_activations
    ours, theirs = dict(sae.cfg.metadata), dict(saved.cfg.metadata)
    theirs.pop("model_class_name", None)
    assert ours == theirs


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in KINDS for name in names(kind) if name != "temporal"]
    + [("ema", "ema")],
)
def test_the_last_checkpoint_is_the_saved_sae(text, tmp_path, kind, name):
    """Whatever is installed: normalization folded in, weights averaged, metadata the same."""
    if name == "adam8bit":
        pytest.importorskip("bitsandbytes")
    base = tables(text, tmp_path)
    base["evaluation"] = {"tokens": 0}
    if kind == "ema":
        base["training"]["ema"] = 0.9
    elif kind == "architecture":
        base["sae"] = {"d_sae": 96, **minimal(kind, name), "normalizer": base["sae"]["normalizer"]}
        if name == "clt":
            del base["model"]["hook"]
            base["model"].update(
                hooks=["blocks.0.hook_resid_mid", "blocks.1.hook_resid_mid"],
                target_hooks=["blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out"],
            )
    elif kind == "normalizer":
        base["sae"][kind] = minimal(kind, name)
    else:
        base["training"][kind] = minimal(kind, name)
    directory = whole(base)
    saved = saecore.SAE.load_from_disk(directory)
    same(saecore.SAE.load_from_disk(directory / "checkpoints/step-00000012"), saved)


def test_every_name_of_it(finished):
    """A path, RUN:PATH and a run with an sae_id; loaded by both loaders and in any precision."""
    step = finished / "checkpoints/step-00000008"
    expected = saecore.SAE.load_from_disk(step)
    assert not torch.equal(expected.W_dec, saecore.SAE.load_from_disk(finished).W_dec)
    for name in (step, str(step), f"{finished}:checkpoints/step-00000008"):
        assert torch.equal(resolve(name).load().sae.W_dec, expected.W_dec)
    loaded = saecore.SAE.from_pretrained(str(finished), "checkpoints/step-00000008")
    assert torch.equal(loaded.sae.W_dec, expected.W_dec)
    assert loaded.sparsity.shape == (expected.cfg.d_sae,)
    half = saecore.SAE.load_from_disk(step, dtype="bfloat16")
    assert half.W_dec.dtype == torch.bfloat16
    assert loaded.cfg_dict["metadata"]["training_tokens"] < 12 * 256


def test_commands_take_it(finished, tmp_path):
    """`evaluate` measures on the run's own text, `dashboard` and `convert` write their files."""
    step = finished / "checkpoints/step-00000012"
    result = json.loads((finished / "evaluation.json").read_text())["figures"]
    again = saecore.evaluate(step)
    for name, figures in result.items():
        assert json.loads(json.dumps(again.measured.tables()[name])) == figures
    page = tmp_path / "page.html"
    words = ["dashboard", str(step), "--out", str(page), "--tokens", "512", "--features", "0-3"]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.exception is None, done.output
    assert page.stat().st_size > 10_000
    for name, out in ((step, "checkpoint"), (finished, "run")):
        words = ["convert", str(name), str(tmp_path / out), "--to", "saelens"]
        done = CliRunner().invoke(cli, words, standalone_mode=False)
        assert done.exception is None, done.output
    first, second = (saecore.SAE.load_from_disk(tmp_path / out) for out in ("checkpoint", "run"))
    same(first, second)


def test_what_is_not_one(finished, tmp_path):
    """Damage is named; a directory of several checkpoints and an unfinished run name them."""
    with pytest.raises(CheckpointError, match=r"2 checkpoints; name one, such as .*step-00000012"):
        resolve(finished / "checkpoints")
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "sae")
    with pytest.raises(CheckpointError, match=r"name its newest checkpoint, .*step-00000012"):
        resolve(copy)
    file = copy / "checkpoints/step-00000012/model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="has changed since it was written"):
        saecore.SAE.load_from_disk(file.parent)


def test_publish_it(finished, hub, monkeypatch):
    """`push` publishes the checkpoint's SAE, and `pull` reads it back."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    step = finished / "checkpoints/step-00000008"
    words = ["push", str(step), "--repo", "me/half", "--id", "half"]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.exception is None, done.output
    pulled = saecore.SAE.from_pretrained("me/half", "half").sae
    x = torch.randn(5, pulled.cfg.d_in, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pulled(x), saecore.SAE.load_from_disk(step)(x))

"""Calibrated thresholds: the L0 asked for, exactly, and the same weights."""

import json

import pytest
import torch

from saecore import SAE
from saecore.config import structure_experiment
from saecore.errors import ConfigError, NumericsError
from saecore.runs.run import run
from saecore.training.calibration import calibrated
from tests.runs.test_run import cache, tables, text  # noqa: F401 (fixtures)
from tests.saecore_plugins.dead_latents.cases import make


def rows(n=300, seed=0):
    """Activations."""
    return 2 * torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))


def positive(sae, x):
    """Positive pre-activations of the published form `[N, d_sae]`, the others 0, by a loop."""
    form = sae.to_inference()
    b_dec = form.b_dec if form.center is not None else 0 * form.b_dec
    found = [[((row - b_dec) @ form.W_enc[:, i] + form.b_enc[i]).item() for i in range(16)]
             for row in x]  # fmt: skip
    return torch.tensor(found).clamp(min=0)


@pytest.mark.parametrize(
    "name", ["standard", "no_b_dec", "topk", "batchtopk", "matryoshka", "jumprelu", "groupmax"]
)
@pytest.mark.parametrize("l0", [0.5, 3.0, 4.21])
def test_the_l0_is_exact(name, l0):
    """On the given activations the mean L0 is the one asked for, to a latent; what is active are
    the largest pre-activations (above learned thresholds), with their values.
    """
    sae, x = make(name), rows()
    if name == "jumprelu":
        with torch.no_grad():
            sae.threshold.copy_(torch.linspace(0, 1, 16))
    result = calibrated(sae, x.split(70), l0)
    features = result.encode(x)
    assert int((features != 0).sum()) == round(l0 * 300)
    wanted = positive(sae, x)
    theta = sae.threshold.detach() if name == "jumprelu" else torch.zeros(16)
    scores = torch.where(wanted > 0, wanted - theta, -torch.inf).flatten()
    best = scores.topk(round(l0 * 300)).indices
    expected = torch.zeros(300 * 16).index_put((best,), wanted.flatten()[best]).view(300, 16)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert result.architecture == "jumprelu"


def test_weights_and_chunks(monkeypatch):
    """Weights and metadata are those of the published form; chunks of any size give the same."""
    sae, x = make("standard"), rows()
    whole = calibrated(sae, x, 2.0)
    monkeypatch.setattr("saecore.training.calibration.CELLS", 16 * 7)
    parts = calibrated(sae, x, 2.0)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name])
    assert torch.equal(whole.W_dec, sae.W_dec)
    torch.testing.assert_close(whole.decode(whole.encode(x)), whole(x))


def test_all_that_is_positive():
    """The largest L0 there is keeps every positive pre-activation; more is refused."""
    sae, x = make("standard"), rows()
    most = int((sae.encode(x) > 0).sum()) / 300
    assert int((calibrated(sae, x, most).encode(x) != 0).sum()) == round(most * 300)
    with pytest.raises(NumericsError, match=r"300 tokens have [\d.]+ positive pre-activations"):
        calibrated(sae, x, most + 1)


@pytest.mark.parametrize("name", ["gated", "abstopk", "matching_pursuit"])
def test_refused(name):
    """Architectures whose features are not pre-activations above something are refused."""
    with pytest.raises(ConfigError, match=f"calibrate_l0: {name} cannot be converted to JumpReLU"):
        calibrated(make(name), rows(), 2.0)


def test_a_run_publishes_the_calibrated_sae(text, tmp_path):  # noqa: F811
    """With evaluation.calibrate_l0 the saved SAE is a JumpReLU SAE with that L0 on the held-out
    tokens; refused architectures are refused before training.
    """
    base = tables(text, tmp_path)
    base["training"]["tokens"] = 1024
    base["evaluation"] = {"tokens": 512, "calibrate_l0": 5.0}
    base["evaluator"] = ["reconstruction"]
    result = run(structure_experiment(base))
    cfg = json.loads((result.directory / "sae" / "cfg.json").read_text())
    assert cfg["architecture"] == "jumprelu"
    assert cfg["metadata"]["training_architecture"] == "topk"
    assert cfg["metadata"]["l0"] == 5.0
    assert result.evaluation["reconstruction"]["l0"]["value"] == pytest.approx(5.0, abs=0.01)
    assert SAE.load_from_disk(result.directory / "sae").cfg.hook_name == "blocks.1.hook_resid_post"
    base["sae"] = {"architecture": "gated", "d_sae": 64}
    with pytest.raises(ConfigError, match="gated cannot be converted to JumpReLU"):
        run(structure_experiment(base))
    base["evaluation"]["tokens"] = 0
    with pytest.raises(ConfigError, match="calibrate_l0: needs held-out tokens; set"):
        structure_experiment(base)

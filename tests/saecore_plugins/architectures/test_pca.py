"""PCA through the ordinary trainer equals PCA of all the data at once."""

import copy

import pytest
import torch

from saecore import SAE, Shape
from saecore.errors import ConfigError, NumericsError
from saecore.randomness import generator
from saecore.training.trainer import Trainer, TrainerSettings
from tests.helpers import ListSource
from tests.saecore_plugins.architectures.build import choice, make


@pytest.fixture
def data():
    """Batches of correlated activations with a mean."""
    mix = torch.randn(6, 6, generator=generator(0, "mix"))
    return [torch.randn(40, 6, generator=generator(0, "x", i)) @ mix + 3 for i in range(5)]


def trainer(sae, batches, normalizer="none", **settings):
    """The ordinary trainer over given batches."""
    normalizer = choice("normalizer", normalizer).build()
    if normalizer.tokens:
        from saecore.core.step import Batch

        normalizer.estimate(Batch(one, one) for one in batches)
    return Trainer(
        sae,
        ListSource(batches),
        choice("optimizer", "adam").build(sae.parameters(), 1e-2),
        TrainerSettings(steps=len(batches), batch_size=40, lr=1e-2, **settings),
        lr_schedule=choice("schedule", "constant").build(),
        normalizer=normalizer,
        dead_latents=choice("dead_latents", "none").build(),
    )


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("normalizer", ["none", "expected_average_only_in"])
def test_equals_pca_of_everything(data, accumulate, normalizer):
    """After training, components, mean and reconstruction are those of the whole data."""
    one = trainer(make("pca", d_sae=4, k=None), data, normalizer, accumulate=accumulate)
    for _ in data:
        one.step()
    result = one.export()
    x = torch.cat(data).double()
    centered = x - x.mean(0)
    components = torch.linalg.svd(centered, full_matrices=False).Vh[:4].float()
    torch.testing.assert_close(result.b_dec, x.mean(0).float(), rtol=1e-4, atol=1e-4)
    cosines = (result.W_dec * components).sum(-1).abs()
    torch.testing.assert_close(cosines, torch.ones(4), rtol=1e-4, atol=1e-4)
    expected = (centered.float() @ components.T) @ components + x.mean(0).float()
    torch.testing.assert_close(result(x.float()), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(result.encode(x.float()), (x.float() - result.b_dec) @ result.W_enc)


def test_k_largest_projections(data):
    """With k, the k largest projections of each token in absolute value stay."""
    one = trainer(make("pca", k=2), data)
    for _ in data:
        one.step()
    sae, x = one.export(), data[0]
    projections = ((x - sae.b_dec) @ sae.W_enc).detach()
    for row, features in zip(projections, sae.encode(x), strict=True):
        kept = sorted(range(6), key=lambda j: -abs(float(row[j])))[:2]
        expected = [float(row[j]) if j in kept else 0.0 for j in range(6)]
        torch.testing.assert_close(features, torch.tensor(expected))


def test_saved_as_abstopk(data, tmp_path):
    """The published form is an AbsTopK SAE, which computes the same."""
    one = trainer(make("pca", k=2), data)
    for _ in data:
        one.step()
    result = one.export()
    result.save_model(tmp_path)
    again = SAE.load_from_disk(tmp_path)
    assert again.cfg.architecture == "abstopk"
    assert torch.equal(again(data[0]), result(data[0]))
    one.sae.compute_components()
    torch.testing.assert_close(again(data[0]), one.sae(data[0]))


def test_resumes_exactly(data):
    """Saved and loaded in mid-run, the components at the end have the same bits."""
    whole = trainer(make("pca"), data)
    whole.step()
    whole.step()
    state = copy.deepcopy(whole.state_dict())
    resumed = trainer(make("pca", seed=1), data)
    resumed.load_state_dict(state)
    for one in (whole, resumed):
        while one.completed < len(data):
            one.step()
    assert torch.equal(resumed.export().W_dec, whole.export().W_dec)


def test_bad_numbers_never_reach_the_mean(data):
    """A batch with NaN stops the run, or is skipped, and leaves mean and covariance alone."""
    data[1][3, 2] = float("nan")
    one = trainer(make("pca"), data)
    one.step()
    with pytest.raises(NumericsError, match="step 1"):
        one.step()
    skipping = trainer(make("pca"), data, bad_numbers="skip")
    for _ in data:
        skipping.step()
    good = torch.cat([batch for i, batch in enumerate(data) if i != 1])
    torch.testing.assert_close(skipping.export().b_dec, good.mean(0), rtol=1e-4, atol=1e-4)


def test_refusals():
    """More components than coordinates, or active than there are, are configuration errors."""
    pca = choice("architecture", "pca")
    with pytest.raises(ConfigError, match=r"sae\.d_sae: PCA has at most d_in = 6"):
        pca.build(Shape(6, 6, 7))
    with pytest.raises(ConfigError, match=r"sae\.k"):
        choice("architecture", {"architecture": "pca", "k": 5}).build(Shape(6, 6, 4))

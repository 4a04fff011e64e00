"""Whitening: what it makes of activations, and that the folded SAE is the same function."""

import copy
import json

import attrs
import pytest
import torch

from saecore import SAE
from saecore.config import structure_experiment
from saecore.core.step import Batch
from saecore.errors import ConfigError, NumericsError
from saecore.plugins.structure import structure_choice
from saecore.runs.run import run
from tests.runs.test_run import cache, tables, text  # noqa: F401 (fixtures)
from tests.saecore_plugins.dead_latents.cases import ARCHITECTURES, make

FOLDABLE = [name for name in ARCHITECTURES if name != "matching_pursuit"]


def normalizer(tokens=5000):
    """The strategy."""
    table = {"type": "covariance_whitening", "tokens": tokens}
    return structure_choice("normalizer", table).build()


def activations(n=5000, d=6, seed=0):
    """Correlated activations far from 0."""
    source = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=source)
    return torch.randn(n, d, generator=source) @ mixing + 20 * torch.randn(d, generator=source)


def estimated(x):
    """A strategy that has seen `x` in batches of 500."""
    one = normalizer()
    one.estimate(Batch(part, part) for part in x.split(500))
    return one


def test_estimate():
    """Whitened activations have mean 0 and variances λ / (λ + 1e-3) along the eigenvectors of
    their covariance; matrix and inverse are inverse to each other.
    """
    x = activations().double()
    one = estimated(x)
    torch.testing.assert_close(one.mean, x.mean(0))
    white = one.apply(Batch(x, x)).inputs
    torch.testing.assert_close(white.mean(0), torch.zeros(6).double(), atol=1e-10, rtol=0)
    values = torch.linalg.eigvalsh(torch.cov(x.t(), correction=0))
    covariance = torch.cov(white.t(), correction=0)
    torch.testing.assert_close(covariance, torch.diag(values / (values + 1e-3)))
    torch.testing.assert_close(one.matrix @ one.inverse, torch.eye(6).double())


def test_one_direction_without_activations():
    """Activations in a plane give finite matrices, which still are inverse to each other."""
    x = activations()
    x[:, 3] = 2 * x[:, 1]
    one = estimated(x)
    assert one.matrix.isfinite().all()
    torch.testing.assert_close(one.matrix @ one.inverse, torch.eye(6).double())


@pytest.mark.parametrize("name", FOLDABLE)
@pytest.mark.parametrize("inference", [False, True])
def test_folded_is_the_same_function(name, inference):
    """Folded, on raw activations: the features of the unfolded SAE on whitened ones, and its
    reconstruction unwhitened; in the training form and as published.
    """
    x = activations().double()
    one, sae = estimated(x), make(name, torch.float64).eval()
    if name in ("batchtopk", "matryoshka"):
        sae.activation.topk_threshold.fill_(0.5)
        sae.activation.topk_updates.fill_(1e9)
    folded = copy.deepcopy(sae)
    one.fold(folded)
    folded = folded.to_inference().eval() if inference else folded
    some = activations()[:40].double()
    white = (some - one.mean) @ one.matrix
    features = sae.encode(white)
    assert (features != 0).any()
    torch.testing.assert_close(folded.encode(some), features)
    torch.testing.assert_close(folded(some), sae(white) @ one.inverse + one.mean)


def test_saved_and_loaded(tmp_path):
    """The files of a folded SAE that ranks by decoder norms give the same features again."""
    x = activations()
    one, sae = estimated(x), make("topk")
    folded = copy.deepcopy(sae)
    one.fold(folded)
    folded = folded.to_inference().eval()
    folded.save_model(tmp_path)
    assert json.loads((tmp_path / "cfg.json").read_text())["normalize_activations"] == "none"
    loaded = SAE.load_from_disk(tmp_path)
    torch.testing.assert_close(loaded.encode(x[:50]), folded.encode(x[:50]))
    assert torch.equal(loaded(x[:50]), folded(x[:50]))


def test_state_round_trip():
    """A loaded state whitens with the same bits."""
    x = activations()
    one, other = estimated(x), normalizer()
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert torch.equal(one.apply(Batch(x, x)).inputs, other.apply(Batch(x, x)).inputs)


def test_refused():
    """Architectures that cannot hold the whitening are refused before training, by name."""
    one = normalizer()
    for name in FOLDABLE:
        one.check(make(name))
    with pytest.raises(ConfigError, match=r"sae\.normalizer: .*into matching_pursuit"):
        one.check(make("matching_pursuit"))
    sae = make("standard")
    for flag in ("several_hooks", "separate_target"):
        stranger = type("Stranger", (type(sae),), {flag: True})(
            sae.cfg.architecture_config, _shape()
        )
        with pytest.raises(ConfigError, match="cannot be folded"):
            one.check(stranger)


def _shape():
    from saecore.core.sae_config import Shape

    return Shape(6, 6, 16)


def test_the_trainer_asks_before_training():
    """A trainer with an SAE that cannot hold the normalizer's scale is not made."""
    from saecore.training.trainer import Trainer, TrainerSettings

    with pytest.raises(ConfigError, match="cannot be folded"):
        Trainer(
            make("matching_pursuit"),
            None,
            None,
            TrainerSettings(steps=1, batch_size=1, lr=1.0),
            lr_schedule=None,
            normalizer=normalizer(),
            dead_latents=None,
        )


def test_numbers_that_are_not_finite():
    """One line instead of weights of NaN; also where there is no activation at all."""
    x = activations()
    x[7, 2] = float("nan")
    with pytest.raises(NumericsError, match="covariance of 5000 activations is not finite"):
        estimated(x)
    with pytest.raises(NumericsError, match="covariance of 0 activations"):
        normalizer().estimate([])


def test_features_keep_their_scale():
    """The published TopK SAE no longer ranks by decoder norms, which are those of raw rows."""
    sae = make("topk")
    estimated(activations()).fold(sae)
    assert sae.cfg.rescale_acts_by_decoder_norm is False
    assert attrs.asdict(sae.cfg.architecture_config, recurse=False)["k"] == 3


def test_a_run(text, tmp_path):  # noqa: F811
    """A run with whitening saves an SAE that takes raw activations and explains their variance."""
    base = tables(text, tmp_path)
    base["sae"]["normalizer"] = {"type": "covariance_whitening", "tokens": 4096}
    base["evaluation"] = {"tokens": 512}
    base["evaluator"] = ["reconstruction"]
    result = run(structure_experiment(base))
    assert result.sae.cfg.normalize_activations == "none"
    assert result.evaluation["reconstruction"]["explained_variance"]["value"] > 0.1

"""The ground-truth evaluator: perfect for a perfect SAE, counted by hand for others."""

import pytest
import torch

from saecore.core.sae_config import Shape
from saecore.evaluation.batches import HeldOut
from saecore.evaluation.evaluate import run_evaluators
from saecore.plugins.structure import structure_choice
from tests.saecore_plugins.datasets.test_synthetic import make

ROWS = 2000


def figures(sae, source, rows=ROWS):
    """The figures of both evaluators of a synthetic run, by name."""
    metrics = {}
    for name in ("ground_truth", "reconstruction"):
        run = structure_choice("evaluator", name).build()
        result = run_evaluators(sae, HeldOut(stream=source, rows=rows), {name: run})
        metrics[name] = {key: table["value"] for key, table in result.tables()[name].items()}
    return metrics


def perfect(source, latents):
    """A ReLU SAE whose latents are the features `latents`, for orthogonal directions."""
    n = len(source.directions)
    table = {"architecture": "standard", "l1_coefficient": 0.0}
    sae = structure_choice("architecture", table).build(Shape(n, n, len(latents)))
    with torch.no_grad():
        sae.encoder.copy_(source.directions[latents])
        sae.W_dec.copy_(source.directions[latents])
        sae.b_enc.fill_(-1e-4)  # rounding must not fire
    return sae


@pytest.fixture
def source():
    """Six features in orthogonal directions."""
    stream = make(features=6, d_in=6, active=2.0)
    stream.directions = torch.linalg.qr(stream.directions)[0].t().contiguous()
    return stream


def test_a_perfect_sae(source):
    """With the true features in another order, every score is 1 and L0 is the true L0."""
    metrics = figures(perfect(source, [3, 1, 0, 2, 5, 4]), source)
    truth = metrics["ground_truth"]
    for name in ("mcc", "precision", "recall", "f1", "uniqueness"):
        assert truth[name] == pytest.approx(1.0, abs=1e-6), name
    for name in ("shrinkage", "explained_variance"):
        assert truth[name] == pytest.approx(1.0, abs=1e-3), name
    assert truth["l0"] == truth["true_l0"] == pytest.approx(2.0, abs=0.15)
    assert truth["dead_latents"] == 0
    for name in ("l0", "explained_variance"):
        assert metrics["reconstruction"][name] == pytest.approx(truth[name], abs=1e-6)
    assert metrics["reconstruction"]["l2_ratio"] == pytest.approx(truth["shrinkage"], abs=1e-6)


def test_figures_counted_by_hand(source):
    """Figures of a flawed SAE equal a count by hand: doubled feature, dead latent, half norms."""
    latents = [0, 1, 2, 3, 4, 4]
    sae = perfect(source, latents)
    with torch.no_grad():
        sae.W_dec.mul_(0.5)
        sae.b_enc[1] = -100.0
        # The last latent points half-way from feature 4 to feature 5, and fires with feature 4.
        sae.W_dec[5] = 0.5 * (source.directions[4] + source.directions[5])
    truth = figures(sae, source)["ground_truth"]
    source.seek(0)
    a = source.next_features(ROWS)
    fires = a[:, latents] > 0
    fires[:, 1] = False
    goal = a > 0  # latent i belongs to feature i: 5 is all that is left for latent 5
    hits = (fires & goal).sum(0).double()
    precision = hits / fires.sum(0).clamp(min=1)
    recall = hits / goal.sum(0)
    assert truth["mcc"] == pytest.approx((5 + 0.5**0.5) / 6, abs=1e-5)
    assert truth["precision"] == pytest.approx(float(precision.mean()), abs=1e-6)
    assert truth["recall"] == pytest.approx(float(recall.mean()), abs=1e-6)
    f1 = 2 * hits / (fires.sum(0) + goal.sum(0))
    assert truth["f1"] == pytest.approx(float(f1.mean()), abs=1e-6)
    assert truth["l0"] == pytest.approx(float(fires.sum()) / ROWS)
    assert truth["true_l0"] == pytest.approx(float(goal.sum()) / ROWS)
    assert truth["dead_latents"] == 1
    x = a @ source.directions
    x_hat = sae(x).detach()
    nonzero = x.norm(dim=1) > 0
    ratio = (x_hat.norm(dim=1) / x.norm(dim=1))[nonzero].mean()
    assert truth["shrinkage"] == pytest.approx(float(ratio), rel=1e-4)


def test_uniqueness_counts_features_found_twice(source):
    """Two latents with the same feature lower uniqueness and MCC."""
    truth = figures(perfect(source, [0, 0, 1, 2]), source)["ground_truth"]
    assert truth["uniqueness"] == 3 / 4
    assert truth["mcc"] == pytest.approx(3 / 4, abs=1e-6)


def test_figures_do_not_depend_on_the_stream_position(source):
    """The evaluator reads rows from the start, whatever the position of the stream."""
    sae = perfect(source, [0, 1, 2])
    first = figures(sae, source, 300)
    source.seek(12_345)
    assert figures(sae, source, 300) == first

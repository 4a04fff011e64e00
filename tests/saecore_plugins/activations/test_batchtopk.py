"""BatchTopK: the batch's best, and the threshold that takes their place in evaluation."""

import pytest
import torch

from saecore.core.step import Batch
from tests.saecore_plugins.architectures.build import context, inputs, make


def rank(sae, x):
    """Pre-activations times the norms of the decoder rows, by which latents compete."""
    pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    return (pre * sae.W_dec.norm(dim=1)).detach()


@pytest.mark.parametrize("k", [4, 2.5])
def test_selection_against_a_loop(k):
    """The k · N largest cells of the batch are active, where they are positive."""
    sae, x = make("batchtopk", k=k), inputs(10)
    ranked = rank(sae, x)
    cells = sorted(
        ((row, j) for row in range(10) for j in range(20)),
        key=lambda cell: -ranked[cell].item(),
    )
    expected = torch.zeros(10, 20)
    for cell in cells[: int(k * 10)]:
        expected[cell] = max(0.0, ranked[cell].item())
    torch.testing.assert_close(sae.train().encode(x).detach(), expected)


@pytest.mark.parametrize("corrected", [True, False])
def test_threshold_against_a_loop(corrected):
    """The threshold is the average of the smallest positive features, each batch weighted with its
    age; corrected, the weights sum to 1 from the first batch on.
    """
    sae = make("batchtopk", topk_threshold_lr=0.1, threshold_bias_correction=corrected)
    smallest = []
    for step in range(7):
        x = inputs(10, seed=step)
        output = sae.training_step(Batch(x, x), context(sae, x, step=step))
        features = (output.codes.dense() * sae.W_dec.norm(dim=1)).detach()
        smallest.append(min(float(one) for one in features.flatten() if one > 0))
        weights = [0.1 * 0.9**age for age in range(step, -1, -1)]
        average = sum(w * one for w, one in zip(weights, smallest, strict=True))
        expected = average / sum(weights) if corrected else average
        assert float(sae.activation.threshold()) == pytest.approx(expected, rel=1e-6)
    assert sae.activation.topk_threshold.dtype == torch.float64


def test_evaluation_uses_the_threshold():
    """In evaluation mode a token's features depend on the threshold, not on its batch, and equal
    those of the published JumpReLU SAE.
    """
    sae = make("batchtopk")
    for step in range(5):
        x = inputs(10, seed=step)
        sae.training_step(Batch(x, x), context(sae, x, step=step))
    sae.eval()
    x = inputs(10, seed=9)
    ranked, threshold = rank(sae, x), float(sae.activation.threshold())
    features = sae.encode(x)
    torch.testing.assert_close(features, ranked * (ranked > threshold))
    torch.testing.assert_close(sae.encode(x[:1]), features[:1])
    published = sae.to_inference()
    assert published.cfg.architecture == "jumprelu"
    torch.testing.assert_close(published.encode(x), features)
    torch.testing.assert_close(published(x), sae(x))


def test_a_batch_without_features_teaches_nothing():
    """Where nothing is positive the threshold stays."""
    sae, x = make("batchtopk"), inputs(10)
    sae.training_step(Batch(x, x), context(sae, x))
    before = float(sae.activation.threshold())
    with torch.no_grad():
        sae.b_enc.fill_(-100)
    sae.training_step(Batch(x, x), context(sae, x))
    assert float(sae.activation.threshold()) == before > 0

"""Each monitor: what it warns of, what it leaves alone, and the remedy it names."""

import pytest
import torch

from tests.saecore_plugins.dead_latents.cases import make
from tests.saecore_plugins.monitors.cases import monitor, normalizer, view


def test_thresholds():
    """It warns after `steps` steps in which none has moved by 1 % of their mean, not when one has,
    and has nothing to say of SAEs without thresholds.
    """
    still, moving, sae = monitor("thresholds", steps=10), monitor("thresholds", steps=10), None
    sae = make("jumprelu")
    assert still(view(5, sae=sae)) is None
    assert moving(view(5, sae=sae)) is None
    assert still(view(14, sae=sae)) is None
    with torch.no_grad():
        sae.threshold[3] += 0.0005
    assert "sae.jumprelu_bandwidth" in still(view(15, sae=sae))
    with torch.no_grad():
        sae.threshold[3] += 0.01
    assert moving(view(15, sae=sae)) is None
    assert moving(view(24, sae=sae)) is None
    assert "in 10 steps no threshold" in moving(view(25, sae=sae))
    plain = monitor("thresholds", steps=10)
    assert [plain(view(step)) for step in (1, 100, 1000)] == [None] * 3


def figures(coefficient, l0, sparsity=1.0, mse=10.0, name="l1"):
    """Metrics of a step."""
    return {
        f"details/{name}_coefficient": coefficient,
        "metrics/l0": l0,
        f"losses/{name}_loss": sparsity,
        "losses/mse_loss": mse,
        "losses/overall_loss": sparsity + mse,
    }


def test_coefficient_that_dominates():
    """A sparsity loss of over 90 % of the whole; the key of the coefficient is named."""
    one = monitor("coefficient")
    assert one(view(metrics=figures(5.0, 3.0, sparsity=80.0))) is None
    assert "lower sae.l1_coefficient" in one(view(metrics=figures(5.0, 3.0, sparsity=100.0)))
    jump = figures(5.0, 3.0, sparsity=100.0, name="l0")
    assert "lower sae.l0_coefficient" in one(view(metrics=jump, sae=make("jumprelu")))


def test_coefficient_that_moves_nothing():
    """While it grows by half and L0 stays within 1 %: past saturation. L0 that follows is fine, and
    so are warm-ups from 0, coefficients that stay, and SAEs without one.
    """
    one = monitor("coefficient")
    for coefficient, l0 in ((0.0, 90.0), (1.0, 80.0), (1.4, 80.0), (1.6, 60.0), (2.0, 60.0)):
        assert one(view(metrics=figures(coefficient, l0))) is None
    assert "past saturation" in one(view(metrics=figures(2.5, 60.1)))
    assert one(view(metrics=figures(2.5, 60.0))) is None
    assert monitor("coefficient")(view(metrics=figures(1.0, 3.0), sae=make("topk"))) is None


def test_dying_latents():
    """More dead latents in each of five intervals, and over a tenth in all."""
    one = monitor("dying_latents", intervals=5)

    def seen(*counts):
        return [one(view(metrics={"sparsity/dead_features": float(n)})) for n in counts]

    assert seen(1, 2, 3, 4, 4, 5, 6, 7, 8) == [None] * 9
    (warning,) = seen(9)
    assert "9 of 16 latents are dead" in warning
    assert "sae.dead_latents" in warning
    few = monitor("dying_latents", share=0.5)
    metrics = [{"sparsity/dead_features": float(n)} for n in range(1, 9)]
    assert [few(view(metrics=one)) for one in metrics] == [None] * 8


def test_norm_drift():
    """The mean norm over the latest intervals against that over the first."""
    one = monitor("norm_drift", intervals=3)
    sizes = (1.0, 1.1, 0.9, 1.1, 1.1, 1.15, 1.2, 1.2)
    assert [one(view(x=size * torch.ones(4, 6))) for size in sizes] == [None] * 8
    assert "from 1·√d to 1.3·√d" in one(view(x=1.5 * torch.ones(4, 6)))


def test_dominant_positions_and_tokens():
    """One position in 32 with most of the loss is named with the key that leaves it out; a token
    where positions are unknown or even; an even loss is left alone.
    """
    one = monitor("dominant_tokens")
    x, error = torch.ones(320, 6), torch.ones(320, 6)
    positions, tokens = torch.arange(320) % 32, torch.arange(320) // 3
    assert one(view(x=x, error=error, positions=positions, tokens=tokens)) is None
    sink = torch.where((positions == 0)[:, None], 100.0, error)
    warning = one(view(x=x, error=sink, positions=positions, tokens=tokens))
    assert "position 0: 3.1% of the tokens have 100% of the loss" in warning
    assert "dataset.positions" in warning
    rare = torch.where((tokens == 7)[:, None], 100.0, error)
    warning = one(view(x=x, error=rare, positions=positions, tokens=tokens))
    assert "token 7: 0.9% of the tokens" in warning
    assert "dataset.exclude_special_tokens" in warning
    assert one(view(x=x, error=rare)) is None


def test_dominance_takes_more_than_a_large_share():
    """A kind of token that is half of all may have half of the loss and more."""
    tokens = (torch.arange(40) % 2).long()
    error = torch.where((tokens == 0)[:, None], 3.0, torch.ones(40, 6))
    assert monitor("dominant_tokens")(view(error=error, tokens=tokens)) is None


@pytest.mark.parametrize(
    ("name", "size", "key"),
    [
        ("none", 1.0, None),
        ("none", 15.0, None),
        ("none", 25.0, 'sae.normalizer = "expected_average_only_in"'),
        ("none", 0.01, 'sae.normalizer = "expected_average_only_in"'),
        ("expected_average_only_in", 1.5, None),
        ("expected_average_only_in", 3.0, "sae.normalizer.tokens"),
        ("layer_norm", 1.0, None),
    ],
)
def test_activation_scale(name, size, key):
    """Twice √d is far after a normalizer, twenty times without one."""
    x = size * torch.ones(4, 6)
    warning = monitor("activation_scale")(view(x=x, normalizer=normalizer(name)))
    assert (warning is None) == (key is None)
    assert key is None or key in warning

"""One factor per hook."""

import copy

import pytest
import torch

from saecore.core.sae_config import Shape
from saecore.core.step import Batch
from saecore.errors import NumericsError
from saecore.plugins.structure import structure_choice
from saecore.randomness import generator
from saecore.storage import checkpoint
from tests.saecore_plugins.dead_latents.cases import make


def normalizer():
    """The strategy."""
    table = {"type": "expected_average_only_in", "tokens": 100}
    return structure_choice("normalizer", table).build()


def rows(*shape, seed=0):
    """Random activations."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mean_norm(x):
    """By a loop, in float64."""
    return sum(float(row.double().square().sum()) ** 0.5 for row in x) / len(x)


def test_one_hook():
    """Inputs and targets of one hook share a factor, √d / mean norm over all batches."""
    parts = [3 * rows(50, 6), rows(30, 6, seed=1)]
    one = normalizer()
    one.estimate([Batch(part, part) for part in parts])
    assert one.factor == pytest.approx(6**0.5 / mean_norm(torch.cat(parts)), rel=1e-6)
    scaled = one.apply(Batch(parts[0], parts[0]))
    assert scaled.targets is scaled.inputs
    assert torch.equal(scaled.inputs, parts[0] * one.factor)


def test_targets_of_another_hook():
    """Targets have their own factor and dimension, also when a batch is cut for accumulation; the
    folded SAE goes from raw inputs to raw targets.
    """
    x, y = 3 * rows(80, 6), 0.1 * rows(80, 6, seed=1) + 1
    one = normalizer()
    one.estimate([Batch(x, y)])
    scaled = [one.apply(part) for part in Batch(x, y).split(2)]
    inputs = torch.cat([part.inputs for part in scaled])
    targets = torch.cat([part.targets for part in scaled])
    assert mean_norm(inputs) == pytest.approx(6**0.5, rel=1e-5)
    assert mean_norm(targets) == pytest.approx(6**0.5, rel=1e-5)
    sae = make("no_b_dec")
    folded = copy.deepcopy(sae)
    one.fold(folded)
    torch.testing.assert_close(folded.encode(x), sae.encode(inputs))
    torch.testing.assert_close(folded(x) * (targets[0, 0] / y[0, 0]), sae(inputs))


def test_sizes_of_their_own():
    """Targets of another size come to the root of theirs."""
    one = normalizer()
    one.estimate([Batch(rows(50, 6), rows(50, 10, seed=1))])
    targets = one.apply(Batch(rows(50, 6), rows(50, 10, seed=1))).targets
    assert mean_norm(targets) == pytest.approx(10**0.5, rel=1e-5)


def test_several_hooks():
    """Every hook of `[N, hooks, d]` has a factor of its own, in the activations' precision."""
    x = rows(60, 3, 6) * torch.tensor([1.0, 5.0, 0.2])[:, None]
    one = normalizer()
    one.estimate([Batch(x, x)])
    scaled = one.apply(Batch(x, x))
    assert scaled.inputs.dtype == torch.float32
    for hook in range(3):
        assert mean_norm(scaled.inputs[:, hook]) == pytest.approx(6**0.5, rel=1e-5)
        assert float(one.factor[hook]) == pytest.approx(6**0.5 / mean_norm(x[:, hook]), rel=1e-6)


@pytest.mark.parametrize("kind", ["one", "target", "hooks"])
def test_state_survives_a_checkpoint(kind, tmp_path):
    """Written to disk and read again, the factors give the same bits."""
    x = rows(40, 2, 6) if kind == "hooks" else rows(40, 6)
    y = rows(40, 6, seed=2) if kind == "target" else x
    one, other = normalizer(), normalizer()
    one.estimate([Batch(x, y)])
    path = checkpoint.save(tmp_path, 1, {"normalizer": one.state_dict(), "optimizer": {}}, keep=2)
    other.load_state_dict(checkpoint.load(path)["normalizer"])
    for got, expected in zip(
        (other.apply(Batch(x, y)).inputs, other.apply(Batch(x, y)).targets),
        (one.apply(Batch(x, y)).inputs, one.apply(Batch(x, y)).targets),
        strict=True,
    ):
        assert torch.equal(got, expected)


def test_a_dead_hook():
    """A hook whose activations are all zero is an error that says whether inputs or targets."""
    x = rows(10, 6)
    with pytest.raises(NumericsError, match="mean norm of 10 targets is 0"):
        normalizer().estimate([Batch(x, torch.zeros(10, 6))])
    with pytest.raises(NumericsError, match="mean norm of 10 inputs"):
        normalizer().estimate([Batch(torch.stack([x, 0 * x], 1), x)])


@pytest.mark.parametrize("architecture", ["crosscoder", "clt"])
def test_factors_of_several_hooks_fold(architecture):
    """The folded SAE goes from raw activations of every hook to raw ones; unfolding undoes it."""
    table = {"architecture": architecture, "activation": "relu"}
    sae = structure_choice("architecture", table).build(
        Shape(18, 18, 12, dtype=torch.float64, hooks=3)
    )
    sae.initialize(generator(0, "init"), 1.0)
    torch.nn.init.normal_(sae.b_dec, generator=torch.Generator().manual_seed(0))
    x = (rows(60, 3, 6) * torch.tensor([1.0, 5.0, 0.2])[:, None]).double()
    y = x if architecture == "crosscoder" else 3 * rows(60, 3, 6, seed=1).double()
    one = normalizer()
    one.estimate([Batch(x, y)])
    batch = one.apply(Batch(x, y))
    factor = one.factor if one.target_factor is None else one.target_factor
    raw = sae(batch.inputs) / factor[:, None]
    folded = copy.deepcopy(sae)
    one.fold(folded)
    torch.testing.assert_close(folded(x), raw)
    one.unfold(folded)
    torch.testing.assert_close(folded(x), sae(x))

"""The dense form of threshold selections equals the entries, in value and in every gradient."""

import pytest
import torch

from saecore import ops
from saecore.ops import reference
from saecore.ops.codes import Codes
from saecore.ops.dense_codes import DenseCodes

N, D, M = 40, 9, 31
THRESHOLDS = {"zero": 0.0, "positive": 0.4, "negative": -0.3, "each": torch.linspace(-1, 1, M)}


def weights(dtype=torch.float64):
    """x, encoder, b_enc, W_dec, center, all requiring gradients."""
    g = torch.Generator().manual_seed(0)
    sizes = ((N, D), (M, D), (M,), (M, D), (D,))
    return [torch.randn(s, generator=g, dtype=dtype).requires_grad_() for s in sizes]


def both(monkeypatch, function, *arguments):
    """The results with every cell held, and with entries in rows."""
    results = []
    for density in (-1.0, 2.0):
        monkeypatch.setattr(reference, "DENSE", density)
        results.append(function(*arguments))
    return results


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_same_gradients(monkeypatch, threshold, dtype):
    """Elementwise functions with an offset, sums per row, penalties and decoding: as entries."""
    tensors = weights(dtype)
    limit = THRESHOLDS[threshold]
    limit = limit.to(dtype) if isinstance(limit, torch.Tensor) else limit

    def run():
        x, encoder, b_enc, W_dec, center = tensors
        codes = ops.select_above(x, encoder.t(), b_enc, limit, center=center)
        moved = codes.with_values(codes.values * 1.3 - codes.per_latent(b_enc))
        out = ops.decode(moved, W_dec, center).square().sum()
        bent = codes.sum_per_row(torch.tanh(codes.values - 0.3)).square().mean()
        some = codes.where(codes.indices % 3 == 0).sum_per_row().square().mean()
        loss = out + codes.l1(W_dec.norm(dim=1)).mean() + bent + some
        return codes, loss.detach(), torch.autograd.grad(loss, tensors)

    (held, one, ours), (rows, two, theirs) = both(monkeypatch, run)
    assert isinstance(held, DenseCodes)
    assert type(rows) is Codes
    assert torch.equal(held.firing_counts(), rows.firing_counts())
    assert torch.equal(held.dense(), rows.dense())
    assert torch.equal(held.dense(torch.tensor([3, 3, 0])), rows.dense(torch.tensor([3, 3, 0])))
    assert torch.equal(held.entries().values, rows.values)
    assert torch.equal(held.entries().offsets, rows.offsets)
    for a, b in [(one, two), *zip(ours, theirs, strict=True)]:
        assert (a - b).norm() <= (1e-12 if dtype == torch.float64 else 5e-6) * b.norm()


def test_no_derivative_at_zero(monkeypatch):
    """A function without a derivative at 0 is asked for it at entries alone."""
    tensors = weights()

    def run():
        x, encoder, b_enc, W_dec, _ = tensors
        codes = ops.select_above(x, encoder.t(), b_enc, 0.0)
        powers = (codes.values * codes.per_latent(W_dec.norm(dim=1))) ** 0.4
        return torch.autograd.grad(codes.sum_per_row(powers).sum(), [x, encoder, b_enc, W_dec])

    for a, b in zip(*both(monkeypatch, run), strict=True):
        torch.testing.assert_close(a, b)


def test_side_by_side(monkeypatch):
    """Joined dictionaries and their parts are the same in both forms, and when forms are mixed."""
    x, encoder, b_enc, _, _ = weights()

    def run():
        return ops.select_above(x, encoder.t(), b_enc, 0.0)

    held, rows = both(monkeypatch, run)
    wanted = Codes.join([rows, rows]).dense()
    for parts in ([held, held], [held, rows]):
        joined = Codes.join(parts)
        assert torch.equal(joined.dense(), wanted)
        for part in joined.split(2):
            assert torch.equal(part.dense(), rows.dense())


def test_measured_density_decides():
    """Where half of all latents pass every cell is held, where few do entries are; without
    gradients always entries.
    """
    x, encoder, b_enc, _, _ = weights()
    with torch.no_grad():
        assert type(ops.select_above(x, encoder.t(), b_enc, 0.0)) is Codes
    assert isinstance(ops.select_above(x, encoder.t(), b_enc, 0.0), DenseCodes)
    assert type(ops.select_above(x, encoder.t(), b_enc, 7.0)) is Codes

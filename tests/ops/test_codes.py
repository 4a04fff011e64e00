"""Codes are a sparse matrix with the arithmetic that architectures need."""

import torch

from saecore.ops.codes import Codes


def codes_and_dense():
    """A small matrix with an explicit zero and an empty row, and its dense form."""
    values = torch.tensor([1.0, -2.0, 0.0, 3.0], requires_grad=True)
    indices, offsets = torch.tensor([2, 0, 1, 2]), torch.tensor([0, 1, 1, 4])
    dense = torch.tensor([[0.0, 0, 1], [0, 0, 0], [-2, 0, 3]])
    return Codes.from_entries(values, indices, offsets, 3), dense


def test_dense_and_back():
    """Dense form and entries describe the same matrix; from_dense drops explicit zeros."""
    codes, dense = codes_and_dense()
    assert torch.equal(codes.dense(), dense)
    again = Codes.from_dense(dense)
    assert torch.equal(again.dense(), dense)
    assert len(again.values) == 3


def test_some_rows():
    """Rows that are kept, with their entries, in their order; an empty one stays a row."""
    codes, dense = codes_and_dense()
    for kept in ([True, True, False], [False, True, True], [False, False, False]):
        part = codes.take(torch.tensor(kept))
        assert torch.equal(part.dense(), dense[torch.tensor(kept)])
        assert part.n_rows == sum(kept)


def test_some_latents():
    """The dense form of some latents, in the order asked for, repeated ones included."""
    codes, dense = codes_and_dense()
    latents = torch.tensor([2, 1, 2])
    assert torch.equal(codes.dense(latents), dense[:, latents])


def test_explicit_zeros_do_not_fire():
    """What fires is what is not zero; entries with zero only carry gradients."""
    codes, _ = codes_and_dense()
    assert codes.firing().tolist() == [True, True, False, True]
    assert codes.firing_counts().tolist() == [1, 0, 2]


def test_row_sums_and_selection():
    """Sums per row and a subset of entries, both differentiable in the values."""
    codes, dense = codes_and_dense()
    assert torch.equal(codes.sum_per_row(), dense.sum(1))
    kept = codes.where(codes.values > 0)
    assert torch.equal(kept.dense(), dense.clamp(min=0))
    kept.sum_per_row().sum().backward()
    assert codes.values.grad.tolist() == [1, 0, 0, 1]


def test_per_latent_gradient():
    """A gather by latent sums its gradient over entries."""
    codes, _ = codes_and_dense()
    vector = torch.ones(3, requires_grad=True)
    codes.per_latent(vector).sum().backward()
    assert vector.grad.tolist() == [1, 1, 2]


def test_by_latent_keeps_row_order():
    """Entries sorted by latent stay in the order of rows within a latent."""
    codes, _ = codes_and_dense()
    order, starts = codes.pattern.by_latent
    assert codes.indices[order].tolist() == [0, 1, 2, 2]
    assert codes.rows[order].tolist() == [2, 2, 0, 2]
    assert starts.tolist() == [0, 1, 2, 4]


def test_join_and_split():
    """Dictionaries side by side and cut apart again, differentiable; empty parts are parts."""
    first, dense = codes_and_dense()
    other = torch.tensor([[0.0, 5, 0], [6, 0, 7], [0, 0, 0]], requires_grad=True)
    nothing = Codes.from_dense(torch.zeros(3, 3))
    joined = Codes.join([first, nothing, Codes.from_dense(other)])
    together = torch.cat([dense, torch.zeros(3, 3), other], 1)
    assert torch.equal(joined.dense(), together)
    for one, wanted in zip(joined.split(3), (dense, torch.zeros(3, 3), other), strict=True):
        assert torch.equal(one.dense(), wanted)
    weights = torch.arange(27.0).view(3, 9)
    (joined.dense() * weights).sum().backward(retain_graph=True)
    assert first.values.grad.tolist() == [2.0, 18.0, 19.0, 20.0]
    assert torch.equal(other.grad, (other != 0) * weights[:, 6:])
    first.values.grad = None
    (joined.split(3)[0].dense() * weights[:, :3]).sum().backward()
    assert first.values.grad.tolist() == [2.0, 18.0, 19.0, 20.0]


def test_join_sorts_by_row_then_latent():
    """Entries that are in order in each part are in order in the whole."""
    source = torch.Generator().manual_seed(0)
    parts = [Codes.from_dense(torch.randn(5, 4, generator=source).relu()) for _ in range(3)]
    joined = Codes.join(parts)
    cells = (joined.rows * joined.d_sae + joined.indices).tolist()
    assert cells == sorted(cells)
    assert joined.d_sae == 12

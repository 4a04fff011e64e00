"""Matching of rows finds the best pairing."""

from itertools import permutations

import pytest
import torch

from saecore.evaluation.geometry import absolute_cosines, match


def cosine(a, b):
    """|cos| of two vectors, by hand."""
    return abs(float(a @ b / (a @ a).sqrt() / (b @ b).sqrt()))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 4), (5, 5), (3, 5), (5, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_no_permutation_is_better(n, m, seed):
    """The sum of cosines equals the largest over all pairings, counted by brute force; every row
    is used at most once, and the cosines are those of the pairs.
    """
    torch.manual_seed(seed)
    a, b = torch.randn(n, 4), torch.randn(m, 4)
    small, large = (a, b) if n <= m else (b, a)
    best = max(
        sum(cosine(small[i], large[j]) for i, j in enumerate(order))
        for order in permutations(range(len(large)), len(small))
    )
    pairs, cosines = match(a, b)
    assert pairs.shape == (min(n, m), 2)
    assert all(len(set(column.tolist())) == min(n, m) for column in pairs.t())
    for (i, j), value in zip(pairs.tolist(), cosines.tolist(), strict=True):
        assert value == pytest.approx(cosine(a[i], b[j]), abs=1e-6)
    assert float(cosines.sum()) == pytest.approx(best, abs=1e-6)


def test_order_sign_and_length_do_not_matter():
    """A shuffled dictionary with other lengths and signs matches itself perfectly."""
    torch.manual_seed(0)
    a = torch.randn(20, 8)
    order = torch.randperm(20)
    factors = torch.linspace(-2, 3, 20)[:, None]
    pairs, cosines = match(a, (a * factors)[order])
    assert torch.equal(order[pairs[:, 1]], pairs[:, 0])
    torch.testing.assert_close(cosines, torch.ones(20).double(), atol=1e-6, rtol=0)


def test_a_row_of_zeros_is_near_nothing():
    """A decoder row of zeros has cosine 0 with everything, not NaN."""
    a = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert absolute_cosines(a, a).tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert match(a, a)[1].tolist() == [1.0, 0.0]

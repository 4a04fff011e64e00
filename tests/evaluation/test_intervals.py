"""Confidence intervals equal the jackknife's formula, and have the promised coverage."""

import pytest
import torch
from scipy.stats import t as student

from saecore.evaluation.intervals import GROUPS, Jackknife


def ratio(sums):
    """Two metrics of sums: a ratio, and a mean."""
    return {"ratio": float(sums[1] / sums[0]), "mean": float(sums[0] / sums[2])}


def jackknife(rows, context):
    """A jackknife with the columns of `rows [N, 2]` and a count, added in two parts."""
    groups = Jackknife(3, torch.device("cpu"))
    for part in (slice(0, 7), slice(7, None)):
        groups.add(context[part], rows[part], torch.ones(len(rows[part])))
    return groups


def test_equals_leaving_one_out():
    """With one context per group it is the textbook formula: leave each context out in turn."""
    draw = torch.Generator().manual_seed(0)
    context = torch.arange(20).repeat_interleave(5)
    rows = torch.rand(100, 2, generator=draw, dtype=torch.float64) + 0.5
    intervals = jackknife(rows, context).intervals(ratio)
    every = rows.sum(0)
    without = [every - rows[context == i].sum(0) for i in range(20)]
    each = torch.stack([sums[1] / sums[0] for sums in without])
    error = float((19 / 20 * (each - each.mean()).square().sum()).sqrt())
    margin = float(student.ppf(0.975, 19)) * error
    middle = float(every[1] / every[0])
    assert intervals["ratio"] == pytest.approx((middle - margin, middle + margin))


def test_of_a_mean_is_the_standard_error():
    """For a mean of one row per context it is t · s/√n."""
    rows = torch.arange(40, dtype=torch.float64).reshape(20, 2)
    low, high = jackknife(rows, torch.arange(20)).intervals(ratio)["mean"]
    expected = float(rows[:, 0].std()) / 20**0.5 * float(student.ppf(0.975, 19))
    assert (high - low) / 2 == pytest.approx(expected)


def test_coverage_with_tokens_that_depend_on_each_other():
    """Of 400 intervals over contexts whose tokens are equal, about 95 % contain the true mean; more
    contexts than groups take no more memory.
    """
    draw, hits = torch.Generator().manual_seed(1), 0
    for _ in range(400):
        context = torch.arange(64).repeat_interleave(4)
        level = torch.randn(64, generator=draw, dtype=torch.float64)[context]
        groups = jackknife(torch.stack([level + 3, level], 1), context)
        low, high = groups.intervals(ratio)["mean"]
        hits += low < 3 < high
        assert groups.sums.shape == (GROUPS, 3)
    assert 0.92 < hits / 400 < 0.98


def test_one_context_has_no_interval():
    """A single context has no interval, since nothing can be left out."""
    assert jackknife(torch.ones(9, 2), torch.zeros(9, dtype=torch.int64)).intervals(ratio) == {}

"""Group runs that differ only in their seed: means, intervals, dictionary stability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import attrs

from saecore.core.sae import SAE
from saecore.reports.runs import FinishedRun

LARGEST = 4096
"""Largest d_sae for which dictionaries are matched: the Hungarian method is cubic."""
FIGURES = ("l0", "explained_variance", "ce_loss_score", "dead", "tokens_per_second", "peak_memory")
"""Names of the figures of a row."""


@attrs.frozen
class Value:
    """A figure of a row: its mean over seeds, with an interval."""

    mean: float
    half: float | None = None
    """Half the width of the 95 % interval of the mean (Student's t); None for a single seed."""


@attrs.frozen(eq=False, kw_only=True)
class Row:
    """Runs of one configuration, one per seed."""

    label: str
    runs: Sequence[FinishedRun]
    values: dict[str, Value]
    """Figures by name, without those that no run has."""
    stability: Value | None
    """Mean correlation coefficient (MCC), averaged over pairs of seeds: the mean absolute cosine of
    decoder rows matched one to one by the Hungarian method. None for a single seed."""


def rows(runs: Sequence[FinishedRun], stability: bool = True) -> list[Row]:
    """Group runs that differ only in `seed`, in the order of their first run.

    Args:
        runs: the runs to compare.
        stability: match dictionaries between seeds; takes minutes for wide SAEs.
    """
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        settings = sorted((k, repr(v)) for k, v in run.settings.items() if k != "seed")
        groups.setdefault(repr(settings), []).append(run)
    return [_row(group, stability) for group in groups.values()]


def _row(runs: list[FinishedRun], stability: bool) -> Row:
    values = {}
    for name in FIGURES:
        numbers = [value for run in runs if (value := run.value(name)) is not None]
        if numbers:
            values[name] = interval(numbers)
    several = len(runs) > 1
    label = _common_label([run.label for run in runs]) if several else runs[0].label
    return Row(
        label=label,
        runs=runs,
        values=values,
        stability=_stability(runs) if several and stability else None,
    )


def interval(numbers: Sequence[float]) -> Value:
    """Mean of some numbers, with half its 95 % interval by Student's t."""
    mean = sum(numbers) / len(numbers)
    if len(numbers) < 2:
        return Value(mean)
    from scipy.stats import t

    spread = math.sqrt(sum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1))
    quantile = float(t.ppf(0.975, len(numbers) - 1))
    return Value(mean, quantile * spread / math.sqrt(len(numbers)))


def _stability(runs: Sequence[FinishedRun]) -> Value | None:
    from saecore.evaluation.geometry import match

    saes = [SAE.load_from_disk(run.directory / "sae") for run in runs]
    if any(sae.cfg.d_sae > LARGEST for sae in saes):
        return None
    directions = [sae.W_dec.detach() for sae in saes]
    pairs = [float(match(a, b)[1].mean()) for a, b in combinations(directions, 2)]
    return Value(sum(pairs) / len(pairs))  # pairs that share a seed are dependent: no interval


def _common_label(labels: list[str]) -> str:
    """Common prefix of run labels, without a trailing "seed"."""
    first = labels[0]
    length = next(
        (i for i, letters in enumerate(zip(*labels, strict=False)) if len(set(letters)) > 1),
        min(map(len, labels)),
    )
    return first[:length].removesuffix("seed").rstrip("-/") or first

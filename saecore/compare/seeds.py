"""Runs that differ only in their seed: means, intervals, and how stable the dictionary is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import attrs

from saecore.compare.runs import Compared
from saecore.sae import SAE

LARGEST = 4096
"""Latents up to which dictionaries are matched: the Hungarian method is cubic."""
FIGURES = ("l0", "explained_variance", "ce_loss_score", "dead", "tokens_per_second", "peak_memory")
"""What rows show, by the name of the figure."""


@attrs.frozen
class Value:
    """A figure of a row."""

    mean: float
    half: float | None = None
    """Half the width of the 95 % interval of the mean over seeds (Student's t); None for one."""


@attrs.frozen(eq=False)
class Row:
    """Runs of one configuration, one for each seed."""

    label: str
    runs: Sequence[Compared]
    values: dict[str, Value]
    """Figures by name; those that the runs do not have are left out."""
    stability: Value | None
    """Mean over pairs of seeds of the mean correlation coefficient (MCC): decoder rows matched one
    to one by the Hungarian method, the mean of their absolute cosines. None for a single seed."""


def rows(runs: Sequence[Compared], stability: bool = True) -> list[Row]:
    """Put runs that differ only in `seed` together.

    Args:
        runs: what is compared.
        stability: match the dictionaries of different seeds; minutes where they are wide.
    """
    groups: dict[str, list[Compared]] = {}
    for one in runs:
        key = repr(sorted((k, repr(v)) for k, v in one.settings.items() if k != "seed"))
        groups.setdefault(key, []).append(one)
    return [_row(one, stability) for one in groups.values()]


def _row(runs: list[Compared], stability: bool) -> Row:
    values = {}
    for name in FIGURES:
        found = [value for one in runs if (value := one.value(name)) is not None]
        if found:
            values[name] = interval(found)
    several = len(runs) > 1
    label = _common([one.label for one in runs]) if several else runs[0].label
    return Row(label, runs, values, _stability(runs) if several and stability else None)


def interval(numbers: Sequence[float]) -> Value:
    """The mean of some numbers and half its 95 % interval by Student's t."""
    mean = sum(numbers) / len(numbers)
    if len(numbers) < 2:
        return Value(mean)
    from scipy.stats import t

    spread = math.sqrt(sum((one - mean) ** 2 for one in numbers) / (len(numbers) - 1))
    quantile = float(t.ppf(0.975, len(numbers) - 1))
    return Value(mean, quantile * spread / math.sqrt(len(numbers)))


def _stability(runs: Sequence[Compared]) -> Value | None:
    from saecore.metrics import match

    saes = [SAE.load_from_disk(one.directory / "sae") for one in runs]
    if any(one.cfg.d_sae > LARGEST for one in saes):
        return None
    directions = [one.W_dec.detach() for one in saes]
    pairs = [float(match(a, b)[1].mean()) for a, b in combinations(directions, 2)]
    return Value(sum(pairs) / len(pairs))  # pairs of one seed are not independent: no interval


def _common(labels: list[str]) -> str:
    """What names of points have in common, without the seed that is their end."""
    first = labels[0]
    length = next(
        (i for i, some in enumerate(zip(*labels, strict=False)) if len(set(some)) > 1),
        min(map(len, labels)),
    )
    return first[:length].removesuffix("seed").rstrip("-/") or first

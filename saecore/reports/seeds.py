"""Group runs that differ only in their seed: means, intervals, dictionary stability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import attrs

from saecore.core.sae import SAE
from saecore.errors import warn
from saecore.reports.labels import labels
from saecore.reports.runs import FinishedRun, labeled
from saecore.storage.run_directory import RunDirectory

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
    """Runs with different seeds."""
    repeats: Sequence[FinishedRun] = ()
    """Older runs with the seed of one of `runs`, which count for nothing."""
    values: dict[str, Value]
    """Figures by name, without those that no run has."""
    stability: Value | None
    """Mean correlation coefficient (MCC), averaged over pairs of seeds: the mean absolute cosine of
    decoder rows matched one to one by the Hungarian method. None for a single seed."""


def rows(runs: Sequence[FinishedRun], stability: bool = True) -> list[Row]:
    """Group runs that differ only in `seed`, in the order of their first run.

    Of runs with equal settings and seed the newest counts; a warning names the others.

    Args:
        runs: the runs to compare.
        stability: match dictionaries between seeds; takes minutes for wide SAEs.
    """
    counted = _newest(runs)
    repeats = [run for run in runs if run not in counted]
    if repeats:
        warn(repeats_note(repeats))
    groups: dict[str, list[FinishedRun]] = {}
    for run in labeled(counted):
        groups.setdefault(_settings(run), []).append(run)
    several = list(groups.values())
    names = labels(
        [_common_name([run.name for run in group]) for group in several],
        [{k: v for k, v in group[0].settings.items() if k != "seed"} for group in several],
        [group[0].directory.name for group in several],
    )
    return [
        _row(
            name,
            group,
            [run for run in repeats if _settings(run) == settings],
            stability,
        )
        for name, (settings, group) in zip(names, groups.items(), strict=True)
    ]


def repeats_note(repeats: Sequence[FinishedRun]) -> str:
    """Say which runs do not count because a newer one has their settings and seed."""
    shown = ", ".join(str(run.directory) for run in repeats[:3])
    more = ", …" if len(repeats) > 3 else ""
    return f"equal settings and seed count once, as the newest run; not counted: {shown}{more}"


def _settings(run: FinishedRun) -> str:
    """The settings of a run without its seed, as a key."""
    return repr(sorted((k, repr(v)) for k, v in run.settings.items() if k != "seed"))


def _newest(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """The newest run of each configuration and seed, in the order of the first."""
    newest: dict[tuple[str, int], FinishedRun] = {}
    for run in runs:
        key = (_settings(run), run.seed)
        other = newest.setdefault(key, run)
        if RunDirectory(run.directory).age > RunDirectory(other.directory).age:
            newest[key] = run
    return list(newest.values())


def _row(label: str, runs: list[FinishedRun], repeats: list[FinishedRun], stability: bool) -> Row:
    values = {}
    for name in FIGURES:
        numbers = [value for run in runs if (value := run.value(name)) is not None]
        if numbers:
            values[name] = interval(numbers)
    return Row(
        label=label,
        runs=runs,
        repeats=repeats,
        values=values,
        stability=_stability(runs) if len(runs) > 1 and stability else None,
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


def _common_name(names: list[str]) -> str:
    """Common prefix of the names of runs, without a trailing "seed"."""
    first = names[0]
    if len(set(names)) == 1:
        return first
    length = next(
        (i for i, letters in enumerate(zip(*names, strict=False)) if len(set(letters)) > 1),
        min(map(len, names)),
    )
    return first[:length].removesuffix("seed").rstrip("-/") or first

"""What is compared: finished runs, read from their directories."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from saecore.config.dead_latents import DeadLatentsConfig
from saecore.config.explain import flatten
from saecore.errors import DataError

RECORD, RESULT, SWEEP = "experiment.json", "evaluation.json", "sweep.json"
NOT_SETTINGS = ("name", "output", "logger", "training.checkpoint")
"""What says nothing of the result."""


@attrs.frozen(eq=False)
class Compared:
    """A finished run."""

    label: str
    """What it is called here: its name, or name and id where several have it."""
    directory: Path
    settings: Mapping[str, Any]
    """Every setting that decides the result, by TOML key."""
    figures: Mapping[str, float]
    """Held-out figures by name."""
    cost: Mapping[str, Any]
    """Tokens, seconds, tokens_per_second, peak_memory; `stream` where the forward was shared."""
    curve: Sequence[Mapping[str, float]]
    """The lines of metrics.jsonl, by name of the figure."""

    @property
    def architecture(self) -> str:
        """The architecture."""
        return str(self.settings["sae.architecture"])

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.settings.get("seed", 0))

    @property
    def dead(self) -> float | None:
        """Dead latents at the end of training; None in a run too short for any to count as dead."""
        keys = ("after_tokens", "after_steps")
        table = DeadLatentsConfig(
            **{key: self.settings.get(f"sae.dead_latents.{key}") for key in keys}
        )
        size = int(self.settings.get("training.batch_size", 1))
        if self.cost.get("tokens", 0) <= table.dead_after(size):
            return None
        counts = [one["sparsity/dead_features"] for one in self.curve
                  if "sparsity/dead_features" in one]  # fmt: skip
        return counts[-1] if counts else None

    def value(self, figure: str) -> float | None:
        """A figure that the table may show."""
        if figure == "dead":
            return self.dead
        found = self.figures.get(figure, self.cost.get(figure))
        return None if found is None else float(found)


def read_runs(places: Iterable[Path]) -> list[Compared]:
    """Read the finished runs of some places; prints which are left out.

    Args:
        places: directories of runs, of sweeps (the present run of each point), or of several runs.

    Raises:
        DataError: a place does not exist, or nothing there is finished.
    """
    places = list(places)
    directories = list(dict.fromkeys(one for place in places for one in _directories(place)))
    runs, skipped = [], []
    for one in directories:
        if (one / RESULT).exists():
            runs.append(_read(one))
        else:
            skipped.append(str(one))
    if skipped:
        shown = ", ".join(skipped[:3]) + (", …" if len(skipped) > 3 else "")
        print(f"warning: {len(skipped)} runs are not finished: {shown}", file=sys.stderr)
    if not runs:
        asked = ", ".join(map(str, places))
        raise DataError(f"{asked}: no finished run there; give directories of runs or of a sweep")
    names = [one.label for one in runs]
    return [
        attrs.evolve(one, label=f"{one.label}/{one.directory.name}")
        if names.count(one.label) > 1
        else one
        for one in runs
    ]


def differing(runs: Sequence[Compared]) -> dict[str, list[Any]]:
    """The settings in which runs differ: key -> the value of each run, None where it has none."""
    keys = dict.fromkeys(key for one in runs for key in one.settings)
    table = {key: [one.settings.get(key) for one in runs] for key in keys}
    return {key: one for key, one in table.items() if any(value != one[0] for value in one)}


def _directories(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        raise DataError(f"{place}: no such directory (`saecore runs` lists runs)")
    if (place / RECORD).exists():
        yield place.resolve()
    elif (place / SWEEP).exists():
        points = _json(place / SWEEP).get("points", [])
        yield from ((place / one["run"]).resolve() for one in points if "run" in one)
    else:
        found = [*place.glob(f"*/{RECORD}"), *place.glob(f"*/*/{RECORD}")]
        found += place.glob(f"*/*/*/{RECORD}")
        yield from sorted(one.parent.resolve() for one in found)


def _read(directory: Path) -> Compared:
    record, result = _json(directory / RECORD), _json(directory / RESULT)
    try:
        settings = {
            key: value
            for key, value in flatten(record["experiment"])
            if not any(key == one or key.startswith((f"{one}.", f"{one}[")) for one in NOT_SETTINGS)
        }
        figures = {
            name: float(one["value"])
            for group in result["figures"].values()
            for name, one in group.items()
        }
        lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        curve = [_numbers(json.loads(line)) for line in lines]
        name = str(record["experiment"]["name"])
        return Compared(name, directory, settings, figures, dict(result["training"]), curve)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{directory}: not the record of a run: {type(error).__name__}: {error}; `saecore "
            f"verify {directory}` says what is damaged"
        ) from error


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(one) for key, one in line.items() if one is not None}


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{file}: expected a table")
    return value

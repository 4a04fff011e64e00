"""Finished runs, read from their directories."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from saecore.config.messages import flatten
from saecore.core.dead_latents import DeadLatentsConfig
from saecore.errors import CheckpointError, DataError, warn
from saecore.reports.labels import labels
from saecore.storage.run_directory import SWEEP, RunDirectory, find_runs

NOT_SETTINGS = ("name", "output", "logger", "training.checkpoint")
"""Settings that do not affect the result."""


@attrs.frozen(eq=False, kw_only=True)
class FinishedRun:
    """Settings, figures and logged metrics of a finished run."""

    name: str
    """The experiment's name."""
    label: str
    """Its name, with the settings that tell it from other runs of this name."""
    directory: Path
    settings: Mapping[str, Any]
    """Every setting that affects the result, by TOML key."""
    figures: Mapping[str, float]
    """Held-out metrics by name; NaN where evaluation.json has null: the value was not finite."""
    cost: Mapping[str, Any]
    """tokens, seconds, tokens_per_second, peak_memory; `stream` if activations were shared."""
    curve: Sequence[Mapping[str, float]]
    """The lines of metrics.jsonl, as metric name to value."""

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        return str(self.settings["sae.architecture"])

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return int(self.settings.get("seed", 0))

    @property
    def dead(self) -> float | None:
        """Dead latents at the end of training; None if the run is too short for a latent to die."""
        keys = ("after_tokens", "after_steps")
        table = DeadLatentsConfig(
            **{key: self.settings.get(f"sae.dead_latents.{key}") for key in keys}
        )
        size = int(self.settings.get("training.batch_size", 1))
        if self.cost.get("tokens", 0) <= table.dead_after(size):
            return None
        counts = [line["sparsity/dead_features"] for line in self.curve
                  if "sparsity/dead_features" in line]  # fmt: skip
        return counts[-1] if counts else None

    def value(self, figure: str) -> float | None:
        """A figure by name: held-out metric, cost, or "dead"; None if the run lacks it."""
        if figure == "dead":
            return self.dead
        value = self.figures.get(figure, self.cost.get(figure))
        return None if value is None else float(value)


def read_runs(paths: Iterable[Path]) -> list[FinishedRun]:
    """Read finished runs, each once; warn about repeated and about unfinished ones.

    Args:
        paths: directories of runs, of sweeps (the current run of each point), or directories that
            contain runs.

    Raises:
        DataError: a directory does not exist or is damaged, or no run is finished.
    """
    paths = list(paths)
    every = [run for path in paths for run in _run_directories(path)]
    directories = list(dict.fromkeys(every))
    repeated = [str(run.path) for run in directories if every.count(run) > 1]
    if repeated:
        warn(f"given more than once, counted once: {_some(repeated)}")
    runs, skipped = [], []
    for directory in directories:
        if directory.is_finished:
            runs.append(_read(directory))
        else:
            skipped.append(str(directory.path))
    if skipped:
        warn(f"{len(skipped)} runs are not finished: {_some(skipped)}")
    if not runs:
        given_paths = ", ".join(map(str, paths))
        raise DataError(f"{given_paths}: no finished run; give directories of runs or of a sweep")
    return labeled(runs)


def labeled(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Label runs by what tells them apart."""
    names, settings = [run.name for run in runs], [run.settings for run in runs]
    ids = [run.directory.name for run in runs]
    return [
        attrs.evolve(run, label=label)
        for run, label in zip(runs, labels(names, settings, ids), strict=True)
    ]


def differing(runs: Sequence[FinishedRun]) -> dict[str, list[Any]]:
    """The settings in which runs differ: key -> value per run, None if a run lacks the key."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    table = {key: [run.settings.get(key) for run in runs] for key in keys}
    return {
        key: values for key, values in table.items() if any(value != values[0] for value in values)
    }


def _run_directories(path: Path) -> Iterator[RunDirectory]:
    """The run itself, the runs of a sweep, or all runs up to three levels below."""
    if not path.is_dir():
        raise DataError(f"{path}: no such directory (`saecore runs` lists runs)")
    path = path.resolve()
    if RunDirectory(path).is_run:
        yield RunDirectory(path)
    elif (path / SWEEP).exists():
        points = _json(path / SWEEP).get("points", [])
        yield from (RunDirectory((path / p["run"]).resolve()) for p in points if "run" in p)
    else:
        yield from (RunDirectory(run.path.resolve()) for run in find_runs(path, depths=(1, 2, 3)))


def _read(directory: RunDirectory) -> FinishedRun:
    try:
        record, result = directory.read_record(), directory.read_result()
        settings = {
            key: value
            for key, value in flatten(record["experiment"])
            if not any(
                key == table or key.startswith((f"{table}.", f"{table}[")) for table in NOT_SETTINGS
            )
        }
        figures = {
            name: math.nan if figure["value"] is None else float(figure["value"])
            for group in result["figures"].values()
            for name, figure in group.items()
        }
        curve = [_numbers(line) for line in directory.read_metrics()]
        name = str(record["experiment"]["name"])
        return FinishedRun(
            name=name,
            label=name,
            directory=directory.path,
            settings=settings,
            figures=figures,
            cost=dict(result["training"]),
            curve=curve,
        )
    except (CheckpointError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{directory.path}: not a valid run: {type(error).__name__}: {error}; "
            f"`saecore verify {shlex.quote(str(directory.path))}` shows what is damaged"
        ) from error


def _some(names: Sequence[str]) -> str:
    """The first three names."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in line.items() if value is not None}


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{file}: expected a JSON object")
    return value

"""Load experiment files: one experiment, or a sweep of several."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from saecore.config.experiment import Experiment
from saecore.config.layers import Layers, merge, read_layers
from saecore.config.sweep import KEYS, Sweep, sweep_from_layers
from saecore.config.validate import validated
from saecore.errors import ConfigError


@attrs.frozen(eq=False)
class LoadedExperiment:
    """The experiment of a file, with the layers it was made from."""

    experiment: Experiment
    """The experiment."""
    layers: Layers
    """The merged tables and the origin of each value."""


def load(file: Path | str, settings: Sequence[str] = ()) -> LoadedExperiment | Sweep:
    """Read and validate a file that describes an experiment or a sweep.

    Args:
        file: a TOML file, or the experiment.json of a run.
        settings: `key=value` strings, which override the file.

    Raises:
        ConfigError: lists every problem; for a sweep, of every point.
    """
    layers = read_layers(Path(file), settings)
    if any(key in layers.tables for key in KEYS):
        return sweep_from_layers(layers)
    return LoadedExperiment(validated(layers), layers)


def load_experiment(
    file: Path | str,
    settings: Sequence[str] = (),
) -> tuple[Experiment, Layers]:
    """Read and validate a file that describes one experiment.

    Args:
        file: a TOML file, or the experiment.json of a run.
        settings: `key=value` strings, which override the file.

    Returns:
        The experiment and the layers it was made from.

    Raises:
        ConfigError: lists every problem; or the file describes a sweep.
    """
    layers, name = read_layers(Path(file), settings), shlex.quote(str(file))
    for key in KEYS:
        if key in layers.tables:
            raise ConfigError(
                [f"{key}: expected one experiment, but this file describes several: `saecore show "
                 f"{name}` lists them, `saecore run {name}` trains them all"],
                label=layers.label,
            )  # fmt: skip
    return validated(layers), layers


def structure_experiment(
    tables: Mapping[str, Any],
    source: str = "experiment",
) -> Experiment:
    """Validate tables made in Python, as `load_experiment` validates a file.

    Args:
        tables: nested tables, as in TOML.
        source: what error messages call them.

    Raises:
        ConfigError: lists every problem.
    """
    layers = Layers(source)
    merge(layers, tables, source)
    return validated(layers)

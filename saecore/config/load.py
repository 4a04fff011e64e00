"""From a file (or tables) to a checked `Experiment`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saecore.config.experiment import Experiment
from saecore.config.explain import config_error
from saecore.config.layers import Layers, merge, read_layers
from saecore.config.structure import Problems, structure
from saecore.plugins import Host, current_host


def load_experiment(
    file: Path | str, settings: Sequence[str] = (), host: Host | None = None
) -> tuple[Experiment, Layers]:
    """Read and check an experiment file.

    Args:
        file: a TOML file, or the experiment.json of a run.
        settings: `key=value` strings laid over the file.
        host: the plugins to use; default: all that are installed.

    Returns:
        The experiment and the layers it was made of.

    Raises:
        ConfigError: with every problem found.
    """
    layers = read_layers(Path(file), settings)
    return structured(layers, host), layers


def structure_experiment(
    tables: Mapping[str, Any], source: str = "experiment", host: Host | None = None
) -> Experiment:
    """Check tables made in Python, as `load_experiment` checks a file.

    Raises:
        ConfigError: with every problem found.
    """
    layers = Layers(source)
    merge(layers, tables, source)
    return structured(layers, host)


def structured(layers: Layers, host: Host | None) -> Experiment:
    """Check layers.

    Raises:
        ConfigError: with every problem found.
    """
    try:
        experiment: Experiment = structure(layers.tables, Experiment, host or current_host())
    except Problems as error:
        raise config_error(layers, error.items) from None
    return experiment

"""Validate layers: turn merged tables into an `Experiment`, or report every problem."""

from __future__ import annotations

from saecore.config.experiment import Experiment
from saecore.config.layers import Layers
from saecore.config.messages import config_error
from saecore.plugins.problems import Problems
from saecore.plugins.structure import structure


def validated(layers: Layers) -> Experiment:
    """Structure the tables of one experiment.

    Raises:
        ConfigError: lists every problem.
    """
    try:
        experiment: Experiment = structure(layers.tables, Experiment)
    except Problems as error:
        raise config_error(layers, error.items) from None
    return experiment

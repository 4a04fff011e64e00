"""Validate layers: turn merged tables into an `Experiment`, or report every problem."""

from __future__ import annotations

import attrs

from saecore.config.experiment import Experiment
from saecore.config.layers import Layers
from saecore.config.messages import config_error
from saecore.config.unknown_keys import unknown_at_top, with_place
from saecore.plugins.problems import Problems
from saecore.plugins.structure import structure


def validated(layers: Layers) -> Experiment:
    """Structure the tables of one experiment.

    Raises:
        ConfigError: lists every problem.
    """
    fields = attrs.fields_dict(Experiment)
    settings = {key: value for key, value in layers.tables.items() if key in fields}
    problems: list[tuple[str, str]] = [
        (key, unknown_at_top(layers, key)) for key in layers.tables if key not in fields
    ]
    try:
        experiment: Experiment = structure(settings, Experiment)
    except Problems as error:
        problems += [(path, with_place(layers, path, message)) for path, message in error.items]
    if problems:
        raise config_error(layers, problems)
    return experiment

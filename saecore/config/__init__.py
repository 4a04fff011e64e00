"""Experiment files: read and layered (`layers`), structured strictly, errors as lines."""

from saecore.config.experiment import Experiment
from saecore.config.load import load_experiment, structure_experiment

__all__ = ["Experiment", "load_experiment", "structure_experiment"]

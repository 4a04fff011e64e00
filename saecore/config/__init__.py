"""Experiment files: read, merged and validated strictly; all problems are reported at once."""

from saecore.config.experiment import Experiment
from saecore.config.load import load_experiment, structure_experiment

__all__ = ["Experiment", "load_experiment", "structure_experiment"]

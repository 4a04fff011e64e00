"""Train the points of a sweep in one process, as many as possible on shared activations."""

from saecore.sweeps.run import SweepResult, run_sweep

__all__ = ["SweepResult", "run_sweep"]

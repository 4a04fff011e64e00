"""Training the points of a sweep: as many as can on one stream, in one process."""

from saecore.sweep.run import SweepResult, run_sweep

__all__ = ["SweepResult", "run_sweep"]

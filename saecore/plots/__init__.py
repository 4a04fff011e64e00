"""Plots of runs: their curves, how dense their latents are, sparsity against reconstruction."""

from saecore.plots.figures import Plot, plots
from saecore.plots.writing import FORMATS, write_plots

__all__ = ["FORMATS", "Plot", "plots", "write_plots"]

"""Views of a run, made by hand."""

import torch

from saecore.core.monitor import View
from saecore.core.step import Batch
from saecore.plugins.structure import structure_choice
from tests.saecore_plugins.dead_latents.cases import make


def monitor(name, **settings):
    """A monitor."""
    table = {"type": name, **settings}
    return structure_choice("monitor", table).build()


def normalizer(name="none"):
    """A normalizer."""
    return structure_choice("normalizer", name).build()


def view(step=1, metrics=None, sae=None, x=None, error=None, **more):
    """What a monitor sees: activations `x [N, 6]`, and a reconstruction off by `error [N, 6]`."""
    x = torch.ones(40, 6) if x is None else x
    error = torch.ones_like(x) if error is None else error
    scaled_by = more.pop("normalizer", None) or normalizer()
    sae = sae or make("standard")
    return View(
        step=step,
        metrics=metrics or {},
        sae=sae,
        normalizer=scaled_by,
        batch=Batch(x, x, **more),
        targets=x,
        reconstruction=x + error,
    )

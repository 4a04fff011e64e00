"""Small SAEs with random weights, and contexts of single steps, for the tests of architectures."""

import torch

from saecore import Shape
from saecore.core.step import StepContext
from saecore.plugins.structure import structure_choice
from saecore.randomness import generator

SETTINGS = {
    "abstopk": {"k": 4},
    "batchtopk": {"k": 4},
    "gated": {},
    "groupmax": {"k": 4},
    "identity": {},
    "jumprelu": {},
    "matching_pursuit": {"max_iterations": 4},
    "matryoshka_batchtopk": {"k": 4, "matryoshka_widths": [5, 11]},
    "pca": {"k": 3},
    "standard": {},
    "topk": {"k": 4},
}
"""Every architecture that trains, with the settings it needs."""


def choice(kind, table):
    """A component with settings, as an experiment file would choose it."""
    return structure_choice(kind, table)


def make(architecture, d_in=6, d_sae=20, dtype=torch.float32, seed=0, **settings):
    """An SAE of a small size; every parameter is random, thresholds lie between 0 and 0.5."""
    d_sae = min(d_sae, d_in) if architecture in ("identity", "pca") else d_sae
    table = {"architecture": architecture, **SETTINGS[architecture], **settings}
    sae = choice("architecture", table).build(Shape(d_in, d_in, d_sae, dtype=dtype))
    sae.initialize(generator(seed, "init"), 1.0)
    if architecture not in ("identity", "pca"):
        with torch.no_grad():
            for i, (name, one) in enumerate(sae.named_parameters()):
                if name not in ("encoder", "W_dec"):
                    one.copy_(0.3 * torch.randn(one.shape, generator=generator(seed, "more", i)))
            if hasattr(sae, "threshold"):
                sae.threshold.abs_()
    return sae


def inputs(n=32, d_in=6, dtype=torch.float32, seed=0):
    """Random activations `[n, d_in]`."""
    return torch.randn(n, d_in, generator=generator(seed, "x")).to(dtype)


def context(sae, targets, step=0, total=100, dead=None, seed=0):
    """The context of a step; `dead [d_sae]` defaults to none."""
    scheduled = {name: one.at(step, total) for name, one in sae.scheduled().items()}
    if dead is None:
        dead = torch.zeros(sae.cfg.d_sae, dtype=torch.bool)
    return StepContext(
        step=step,
        scheduled=scheduled,
        dead=dead,
        targets=targets,
        generator=lambda name: generator(seed, name, step),
    )

"""Small SAEs of several architectures with some latents dead, and the step they are in."""

import torch

from saecore.core.sae_config import Shape
from saecore.core.step import Batch, StepContext
from saecore.plugins.structure import structure_choice
from saecore.randomness import generator

D, D_SAE, N = 6, 16, 20

ARCHITECTURES = {
    "standard": {"architecture": "standard"},
    "no_b_dec": {"architecture": "standard", "apply_b_dec_to_input": False},
    "topk": {"architecture": "topk", "k": 3},
    "abstopk": {"architecture": "abstopk", "k": 3},
    "groupmax": {"architecture": "groupmax", "k": 4},
    "batchtopk": {"architecture": "batchtopk", "k": 3},
    "gated": {"architecture": "gated"},
    "jumprelu": {"architecture": "jumprelu"},
    "matching_pursuit": {"architecture": "matching_pursuit", "max_iterations": 3},
    "matryoshka": {
        "architecture": "matryoshka_batchtopk",
        "k": 3,
        "matryoshka_widths": [4, 10],
    },
}


def strategy(table):
    """A strategy against dead latents, from its table."""
    return structure_choice("dead_latents", table).build()


def make(name, dtype=torch.float32, d_sae=D_SAE):
    """An SAE whose parameters are all random."""
    one = structure_choice("architecture", ARCHITECTURES[name])
    sae = one.build(Shape(D, D, d_sae, dtype=dtype))
    source = generator(7, name)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=source))
    if name == "jumprelu":
        sae.activation.threshold.data.fill_(0.1)
    return sae


def inputs(dtype=torch.float32, n=N):
    """Activations `[n, D]` of different sizes."""
    x = torch.randn(n, D, generator=generator(1, "x")) * torch.arange(1, n + 1)[:, None] / n
    return Batch(x.to(dtype), x.to(dtype))


def context(batch, dead, sae, step=9):
    """The context of a step in which `dead` (numbers) are dead."""
    mask = torch.zeros(sae.cfg.d_sae, dtype=torch.bool)
    mask[list(dead)] = True
    scheduled = {name: one.at(step, 100) for name, one in sae.scheduled().items()}
    return StepContext(
        step=step,
        scheduled=scheduled,
        dead=mask,
        targets=batch.targets,
        generator=lambda stream: generator(3, stream, step),
    )

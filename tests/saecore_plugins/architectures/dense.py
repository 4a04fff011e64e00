"""Dense autograd for the formulas of architectures: the oracle where nothing was recorded."""

import torch

from saecore import Shape
from saecore.core.step import Batch, StepContext
from saecore.plugins.structure import structure_choice
from saecore.randomness import generator


def build(d_in=6, d_out=None, d_sae=10, hooks=1, seed=0, **table):
    """An SAE in float64 with random weights, biases included."""
    shape = Shape(d_in, d_out or d_in, d_sae, dtype=torch.float64, hooks=hooks)
    sae = structure_choice("architecture", table).build(shape)
    source = generator(seed, "weights")
    sae.initialize(source, 1.0, tied=False)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=source))
    return sae


def step(sae, inputs, targets=None, dead=None, number=0):
    """One training step on raw tensors; returns the output."""
    targets = inputs if targets is None else targets
    scheduled = {name: one.at(number, 10) for name, one in sae.scheduled().items()}
    dead = torch.zeros(sae.cfg.d_sae, dtype=torch.bool) if dead is None else dead
    context = StepContext(
        step=number,
        scheduled=scheduled,
        dead=dead,
        targets=targets,
        generator=lambda stream: generator(0, stream, number),
    )
    return sae.training_step(Batch(inputs, targets), context)


def gradients(sae, loss):
    """Gradients of a loss by parameter name."""
    names, parameters = zip(*sae.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    zeros = [torch.zeros_like(one) for one in parameters]
    return {
        name: zero if one is None else one
        for name, one, zero in zip(names, found, zeros, strict=True)
    }


def assert_same_gradients(sae, ours, dense):
    """Both losses are equal and have equal gradients."""
    torch.testing.assert_close(ours, dense, rtol=1e-10, atol=1e-12)
    left, right = gradients(sae, ours), gradients(sae, dense)
    for name, one in left.items():
        torch.testing.assert_close(one, right[name], rtol=1e-9, atol=1e-11, msg=name)

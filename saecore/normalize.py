"""Normalizations that are part of an SAE's forward pass, because no weights can hold them.

The names and formulas are SAELens'; `cfg.json` says which one an SAE runs.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Restore = Callable[[Tensor], Tensor]
"""From a reconstruction of scaled activations to one of raw activations."""


def constant_norm_rescale(x: Tensor) -> tuple[Tensor, Restore]:
    """Every activation `[..., d]` at norm √d."""
    factor = x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True)
    return x * factor, lambda x_hat: x_hat / factor


def layer_norm(x: Tensor) -> tuple[Tensor, Restore]:
    """Every activation `[..., d]` at mean 0 and (unbiased) standard deviation 1."""
    mean = x.mean(-1, keepdim=True)
    centred = x - mean
    deviation = centred.std(-1, keepdim=True)
    return centred / (deviation + 1e-5), lambda x_hat: x_hat * deviation + mean


RUNTIME: dict[str, Callable[[Tensor], tuple[Tensor, Restore]]] = {
    "constant_norm_rescale": constant_norm_rescale,
    "layer_norm": layer_norm,
}
"""By name: from activations to scaled activations and the way back."""

"""Data-dependent initialization: decoder bias, decoder norm, or a saved SAE."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from saecore.config.training import InitTable
from saecore.core.normalizer import Normalizer
from saecore.core.sae import SAE
from saecore.core.step import Batch
from saecore.errors import ConfigError

SEARCH_TOKENS = 4096
"""Number of tokens on which a search compares norms."""


@attrs.frozen
class Start:
    """Initializes the weights between the normalizer's estimate and the first step."""

    table: InitTable
    """The settings of the initialization."""
    saved: bool = False
    """Whether the weights come from a saved SAE, which reads raw activations."""

    @property
    def tokens(self) -> int:
        """Number of tokens that `__call__` needs; 0 if it reads no activations."""
        return self.table.tokens if self.table.needs_data and not self.saved else 0

    def __call__(self, sae: SAE, normalizer: Normalizer, batches: list[Batch]) -> None:
        """Change the weights in place.

        Args:
            sae: the SAE, with its random or saved weights.
            normalizer: after its estimate.
            batches: normalized activations of `tokens` tokens.

        Raises:
            ConfigError: the SAE has no norm to search for, or its scale cannot be unfolded.
        """
        if self.saved:
            normalizer.unfold(sae)
            return
        targets = torch.cat([batch.targets for batch in batches]) if batches else None
        if targets is not None and self.table.b_dec != "zero":
            center = {"mean": _mean, "geometric_median": geometric_median}[self.table.b_dec]
            with torch.no_grad():
                sae.b_dec.copy_(center(targets.flatten(1)).view_as(sae.b_dec))
        if targets is not None and self.table.type == "search":
            inputs = torch.cat([batch.inputs for batch in batches])[:SEARCH_TOKENS]
            search_norm(sae, inputs, targets[:SEARCH_TOKENS], self.table.decoder_norm)


def _mean(x: Tensor) -> Tensor:
    return x.cpu().double().mean(0)


def geometric_median(x: Tensor, steps: int = 200, tolerance: float = 1e-10) -> Tensor:
    """The point `[d]` with the smallest sum of distances to rows `[N, d]`, float64 on the CPU.

    Weiszfeld's iteration, starting from the mean; a point that reaches a row effectively stays.

    Args:
        x: the rows.
        steps: maximum number of iterations.
        tolerance: stop when the point moves by less than this share of its mean distance.
    """
    x = x.detach().cpu().double()
    point = x.mean(0)
    for _ in range(steps):
        distances = (x - point).norm(dim=1)
        weights = 1 / distances.clamp(min=1e-12)
        moved = (weights[:, None] * x).sum(0) / weights.sum()
        done = float((moved - point).norm()) <= tolerance * float(distances.mean())
        point = moved
        if done:
            break
    return point


@torch.no_grad()
def search_norm(sae: SAE, inputs: Tensor, targets: Tensor, norm: float) -> float:
    """Give encoder and decoder rows the common norm with the smallest reconstruction loss.

    Search 50 norms from norm / 100 to 50 · norm in equal ratios, then 20 between the neighbors of
    the best. The idea is from Llamascopium.

    Args:
        sae: an SAE with tied rows of norm `norm`; changed in place.
        inputs: normalized activations `[N, d_in]`.
        targets: activations to reconstruct `[N, d_out]`.
        norm: the current norm of the rows.

    Returns:
        The best norm.

    Raises:
        ConfigError: encoder and decoder are one matrix of fixed norm.
    """
    encoder = sae._parameters.get("encoder")
    if encoder is None:
        raise ConfigError(
            [f'sae.init.type: {sae.architecture} has no norm to search for; use "tied"'],
        )
    initial_encoder, initial_decoder = encoder.clone(), sae.W_dec.clone()

    def scale(factor: float) -> None:
        encoder.copy_(initial_encoder * factor)
        sae.W_dec.copy_(initial_decoder * factor)

    def loss(factor: float) -> float:
        scale(factor)
        error = sae.reconstruct(sae.select(inputs), inputs) - targets.flatten(1)
        return float(error.square().sum(-1).mean())

    coarse = torch.logspace(-2, torch.tensor(50.0).log10().item(), 50).tolist()
    best = min(range(50), key=[loss(factor) for factor in coarse].__getitem__)
    low, high = coarse[max(0, best - 1)], coarse[min(49, best + 1)]
    fine = [low + (high - low) * i / 21 for i in range(1, 21)]
    chosen = min([coarse[best], *fine], key=loss)
    scale(chosen)
    result: float = norm * chosen
    return result

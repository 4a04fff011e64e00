"""First weights that depend on activations: bias, decoder norm, an SAE to start from."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from saecore.config.init import InitTable
from saecore.errors import ConfigError
from saecore.sae import SAE
from saecore.step import Batch, Normalizer

SEARCH_TOKENS = 4096
"""Tokens on which the norms of a search are compared."""


@attrs.frozen
class Start:
    """What happens to the weights between the normalizer's estimate and the first step."""

    table: InitTable
    """How they begin."""
    saved: bool = False
    """Whether they are those of a saved SAE, which takes raw activations."""

    @property
    def tokens(self) -> int:
        """Tokens of activations that `__call__` wants; 0 where none are looked at."""
        return self.table.tokens if self.table.needs_data and not self.saved else 0

    def __call__(self, sae: SAE, normalizer: Normalizer, batches: list[Batch]) -> None:
        """Change the weights in place.

        Args:
            sae: the SAE, with its random or saved weights.
            normalizer: after its estimate.
            batches: `tokens` scaled activations.

        Raises:
            ConfigError: the SAE has no norm to search for, or cannot be scaled back.
        """
        if self.saved:
            normalizer.unfold(sae)
            return
        targets = torch.cat([one.targets for one in batches]) if batches else None
        if targets is not None and self.table.b_dec != "zero":
            centre = {"mean": _mean, "geometric_median": geometric_median}[self.table.b_dec]
            with torch.no_grad():
                sae.b_dec.copy_(centre(targets.flatten(1)).view_as(sae.b_dec))
        if targets is not None and self.table.type == "search":
            inputs = torch.cat([one.inputs for one in batches])[:SEARCH_TOKENS]
            search_norm(sae, inputs, targets[:SEARCH_TOKENS], self.table.decoder_norm)


def _mean(x: Tensor) -> Tensor:
    return x.cpu().double().mean(0)


def geometric_median(x: Tensor, steps: int = 200, tolerance: float = 1e-10) -> Tensor:
    """The point `[d]` with the least sum of distances to rows `[N, d]`, float64 on the CPU.

    Weiszfeld's iteration from the mean; a point that falls on a row stays there in effect.

    Args:
        x: the rows.
        steps: most iterations.
        tolerance: it ends when the point moves by less than this share of its mean distance.
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

    It is sought among 50 norms from norm / 100 to 50 · norm in equal ratios, then among 20 between
    the best one's neighbours. The idea is Llamascopium's.

    Args:
        sae: with tied rows of norm `norm`; changed in place.
        inputs: scaled activations `[N, d_in]`.
        targets: what is to be reconstructed `[N, d_out]`.
        norm: the norm of the rows.

    Returns:
        The norm found.

    Raises:
        ConfigError: encoder and decoder are one, so that the norm is given.
    """
    encoder = sae._parameters.get("encoder")
    if encoder is None:
        raise ConfigError(
            "experiment",
            [f'sae.init.type: {sae.architecture} has no norm to search for; use "tied"'],
        )
    begun = encoder.clone(), sae.W_dec.clone()

    def scale(factor: float) -> None:
        encoder.copy_(begun[0] * factor)
        sae.W_dec.copy_(begun[1] * factor)

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
    found: float = norm * chosen
    return found

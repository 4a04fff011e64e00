"""AuxK: dead latents learn to reconstruct what the living leave over (arXiv 2406.04093)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.sae import SAE
    from saecore.step import Batch, StepContext, StepOutput


@attrs.frozen
class AuxKConfig:
    """Settings of AuxK."""

    after_tokens: int = attrs.field(default=10_000_000, validator=at_least(1))
    """A latent counts as dead when it has not fired for more than this many tokens."""
    coefficient: float = attrs.field(default=1.0, validator=at_least(0))
    """Weight of the loss."""
    k_aux: int | None = attrs.field(default=None, validator=at_least(1))
    """Dead latents that may be active per token; default: d_in // 2."""


class AuxK:
    """The k_aux best dead latents of each token reconstruct the residual; the residual is fixed.

    loss = coefficient · min(n_dead / k_aux, 1) · mean ‖ê − (x − x̂)‖², with ê the decoded
    pre-activations (not rectified, without bias) of the best dead latents. Source: Gao et al.
    2024, in the form of SAELens 6 (not divided by the residual's variance).
    """

    def __init__(self, config: AuxKConfig) -> None:
        self.after_tokens = config.after_tokens
        self.config = config

    def losses(
        self, sae: SAE, batch: Batch, output: StepOutput, context: StepContext
    ) -> dict[str, Tensor]:
        """The loss `auxiliary_reconstruction_loss`; zero while no latent is dead."""
        from saecore import ops
        from saecore.codes import Codes

        dead = context.dead.nonzero(as_tuple=True)[0]  # [n_dead]
        if not len(dead):
            return {"auxiliary_reconstruction_loss": output.reconstruction.new_zeros(())}
        wanted = self.config.k_aux or max(1, sae.cfg.d_in // 2)
        k_aux = min(wanted, len(dead))
        pre = sae.preactivations(batch.inputs, dead)  # [N, n_dead]
        scale = sae.latent_scale()
        ranked = pre.detach() if scale is None else pre.detach() * scale[dead]
        best = (ranked.abs() if sae.rank_by_abs else ranked).topk(k_aux, dim=1).indices
        codes = Codes.from_top(pre.gather(1, best), best, len(dead))  # over the dead alone
        residual = (context.targets - output.reconstruction).detach()
        error = (ops.decode(codes, sae.W_dec[dead], None) - residual).square().sum(-1).mean()
        weight = self.config.coefficient * min(len(dead) / wanted, 1.0)
        return {"auxiliary_reconstruction_loss": weight * error}


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the strategy."""
    yield Component(
        kind="dead_latents",
        name="auxk",
        config=AuxKConfig,
        build=AuxK,
        summary="dead latents reconstruct the residual (auxiliary loss)",
    )

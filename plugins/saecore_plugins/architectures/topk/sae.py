"""The TopK SAE."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from saecore import ops
from saecore.codes import Codes
from saecore.sae import SAE
from saecore.sae_config import Shape, check_width


class TopK(SAE):
    """f = ReLU(top_k(pre · n)) and x̂ = (f / n) W_dec + b_dec, with pre = (x − b_dec) W_enc + b_enc.

    n are the norms of the decoder rows, or 1 without `rescale_acts_by_decoder_norm`.
    Source: Gao et al. 2024 (arXiv 2406.04093); the norms as in SAELens 6.
    """

    architecture = "topk"
    saved_fields: ClassVar = ("k", "rescale_acts_by_decoder_norm")
    training_fields = frozenset(
        {"decoder_init_norm", "use_sparse_activations", "aux_loss_coefficient"}
    )

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        check_width(config.k, shape.d_sae)

    def latent_scale(self) -> Tensor | None:
        """The norms of the decoder rows, where features are rescaled by them."""
        # No gradient: x̂ = relu(pre) W_dec does not depend on the norms but through the ranking.
        return self.W_dec.detach().norm(dim=1) if self.cfg.rescale_acts_by_decoder_norm else None

    def select(self, x: Tensor) -> Codes:
        """The k best of each row; negative ones among them become explicit zeros."""
        codes = ops.select_topk(
            x,
            self.W_enc,
            self.b_enc,
            self.cfg.k,
            centre=self.centre,
            scale=self.latent_scale(),
        )
        return codes.with_values(codes.values.relu())

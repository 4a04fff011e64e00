"""The TopK SAE."""

from __future__ import annotations

from typing import Any, ClassVar

from saecore.sae import SAE
from saecore.sae_config import Shape
from saecore_plugins.activations.topk.activation import TopK as Activation


class TopK(SAE):
    """f = topk_k((x − b_dec) W_enc + b_enc)⁺, x̂ = f W_dec + b_dec.

    With rescaling, pre-activations compete times n, the norms of the decoder rows, and the features
    are f · n; the reconstruction is the same function of f. Source: Gao et al. 2024; SAELens 6 for
    the rescaling.
    """

    architecture = "topk"
    saved_fields: ClassVar = ("k", "rescale_acts_by_decoder_norm")
    training_fields = frozenset(
        {"decoder_init_norm", "use_sparse_activations", "aux_loss_coefficient"}
    )

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self.activation = Activation(config, shape)

"""The TopK SAE."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from saecore.sae import SAE
from saecore.sae_config import Shape
from saecore_plugins.activations.topk.activation import TopK as Activation


class TopK(SAE):
    """f = topk_k((x − b_dec) W_enc + b_enc)⁺, x̂ = f W_dec + b_dec.

    With rescaling, pre-activations compete times n, the norms of the decoder rows, and the features
    are f · n; the reconstruction is the same function of f. Source: Gao et al. 2024; SAELens 6 for
    the rescaling; OpenMOSS' Language-Model-SAEs for ranking by norms alone.
    """

    architecture = "topk"
    saved_fields: ClassVar = ("k", "rescale_acts_by_decoder_norm")
    file_variants: ClassVar = {"ranked": {"rank_by_decoder_norm": True}}
    training_fields = frozenset(
        {"decoder_init_norm", "use_sparse_activations", "aux_loss_coefficient"}
    )

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self.activation = Activation(config, shape)

    @property
    def file_architecture(self) -> str:
        """SAELens 6 cannot rank by norms without reporting them."""
        return "ranked_topk" if self.cfg.rank_by_decoder_norm else self.architecture

    def ranking_scale(self) -> Tensor | None:
        """The norms, too, where they only rank."""
        if self.cfg.rank_by_decoder_norm:
            return self.decoder_norms().detach()
        return super().ranking_scale()

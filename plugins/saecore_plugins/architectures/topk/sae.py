"""The TopK SAE."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from saecore.core.file_form import FileForm
from saecore.core.sae import SAE
from saecore.core.sae_config import Shape
from saecore_plugins.activations.topk.activation import TopK as Activation


class TopK(SAE):
    """f = topk_k((x − b_dec) W_enc + b_enc)⁺, x̂ = f W_dec + b_dec.

    With rescaling, latents compete by pre-activation times n, the norm of the decoder row, and
    features are f · n; reconstructions do not change. Source: Gao et al. 2024; SAELens 6 for
    the rescaling; OpenMOSS' Language-Model-SAEs for ranking by norms alone.
    """

    architecture = "topk"
    file_form = FileForm(
        saved_fields=("k", "rescale_acts_by_decoder_norm"),
        training_fields=frozenset(
            {"decoder_init_norm", "use_sparse_activations", "aux_loss_coefficient"}
        ),
        # SAELens 6 cannot rank by norms without reporting them.
        variants={"ranked": {"rank_by_decoder_norm": True}},
    )

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self.activation = Activation(config, shape)

    def ranking_scale(self) -> Tensor | None:
        """Also the decoder norms, if they only rank."""
        if self.cfg.rank_by_decoder_norm:
            return self.decoder_norms().detach()
        return super().ranking_scale()

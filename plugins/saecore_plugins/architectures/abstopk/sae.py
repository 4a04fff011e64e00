"""The AbsTopK SAE."""

from __future__ import annotations

from typing import Any

from saecore.core.file_form import FileForm
from saecore.core.sae import SAE
from saecore.core.sae_config import Shape
from saecore_plugins.activations.abstopk.activation import AbsTopK as Activation


class AbsTopK(SAE):
    """f = the k entries of (x − b_dec) W_enc + b_enc largest in absolute value, with their signs.

    x̂ = f W_dec + b_dec. Rescaling as in TopK. Source: SAELens 6.
    """

    architecture = "abstopk"
    file_form = FileForm(
        saved_fields=("k", "rescale_acts_by_decoder_norm"),
        training_fields=frozenset(
            {"decoder_init_norm", "use_sparse_activations", "aux_loss_coefficient"}
        ),
    )

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self.activation = Activation(config, shape)

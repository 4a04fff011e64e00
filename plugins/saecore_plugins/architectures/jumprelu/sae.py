"""The JumpReLU SAE."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from saecore.core.file_form import FileForm
from saecore.core.sae import SAE
from saecore.core.sae_config import Shape
from saecore_plugins.activations.jumprelu.activation import JumpReLU as Activation


class JumpReLU(SAE):
    """f = z · 1[z > θ] with z = (x − b_dec) W_enc + b_enc, x̂ = f W_dec + b_dec.

    The penalty and the straight-through estimators are the activation's. Source: Rajamanoharan et
    al. 2024, with θ itself as the parameter; Anthropic (January 2025) for tanh and the
    pre-activation loss; SAELens 6 for names and defaults.
    """

    architecture = "jumprelu"
    file_form = FileForm(
        saved_fields=(),
        training_fields=frozenset(
            {
                "decoder_init_norm",
                "jumprelu_init_threshold",
                "jumprelu_bandwidth",
                "jumprelu_sparsity_loss_mode",
                "l0_coefficient",
                "l0_warm_up_steps",
                "pre_act_loss_coefficient",
                "jumprelu_tanh_scale",
                "jumprelu_ste_to_input",
                "target_l0",
            }
        ),
        warm_up=("l0_warm_up_steps", "l0_schedule"),
    )

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self.activation = Activation(config, shape)

    @property
    def threshold(self) -> Tensor:
        """θ `[d_sae]`, float32."""
        assert isinstance(self.activation, Activation)
        return self.activation.threshold

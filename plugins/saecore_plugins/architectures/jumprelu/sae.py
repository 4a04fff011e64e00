"""The JumpReLU SAE."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from saecore.sae import SAE
from saecore.sae_config import Shape
from saecore_plugins.activations.jumprelu.activation import JumpReLU as Activation


class JumpReLU(SAE):
    """f = z · 1[z > θ] with z = (x − b_dec) W_enc + b_enc, x̂ = f W_dec + b_dec.

    The penalty and the straight-through estimators are the activation's. Source: Rajamanoharan et
    al. 2024, with θ itself as the parameter; Anthropic (January 2025) for tanh and the
    pre-activation loss; SAELens 6 for names and defaults.
    """

    architecture = "jumprelu"
    saved_fields: ClassVar = ()
    training_fields = frozenset(
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
    )

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self.activation = Activation(config, shape)

    @property
    def threshold(self) -> Tensor:
        """θ `[d_sae]`, float32."""
        assert isinstance(self.activation, Activation)
        return self.activation.threshold

    def training_details(self) -> dict[str, Any]:
        """Warm-up under the reference's name."""
        steps = getattr(self.cfg.l0_schedule.config, "warm_up_steps", 0)
        return {**super().training_details(), "l0_warm_up_steps": steps}

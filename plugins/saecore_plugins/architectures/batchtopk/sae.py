"""The BatchTopK SAE."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import torch

from saecore.sae import SAE
from saecore.sae_config import Shape
from saecore_plugins.activations.batchtopk.activation import BatchTopK as Activation
from saecore_plugins.activations.jumprelu.activation import Threshold
from saecore_plugins.architectures.jumprelu import JumpReLUConfig
from saecore_plugins.architectures.jumprelu.sae import JumpReLU


class BatchTopK(SAE):
    """TopK over all k · N entries of a batch of N tokens; published as JumpReLU.

    In evaluation mode a latent is active above one threshold for all, the running average of the
    smallest active feature. Source: Bussmann et al. 2024; rescaling as in TopK.
    """

    architecture = "batchtopk"
    saved_fields: ClassVar[tuple[str, ...]] = (
        "k",
        "rescale_acts_by_decoder_norm",
        "topk_threshold_lr",
        "threshold_bias_correction",
    )
    training_fields = frozenset(
        {"decoder_init_norm", "use_sparse_activations", "aux_loss_coefficient"}
    )

    file_defaults: ClassVar = {**SAE.file_defaults, "threshold_bias_correction": False}

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self.activation = Activation(config, shape)

    def training_details(self) -> dict[str, Any]:
        """Everything: the published SAE is of another architecture."""
        names = ("k", "rescale_acts_by_decoder_norm", "topk_threshold_lr")
        return {name: getattr(self.cfg.method, name) for name in names}

    def to_inference(self) -> SAE:
        """A JumpReLU SAE with the threshold."""
        folded = super().to_inference()
        assert isinstance(folded.activation, Threshold)
        method = JumpReLUConfig(apply_b_dec_to_input=self.cfg.apply_b_dec_to_input)
        cfg, W_dec = self.cfg, self.W_dec
        result = JumpReLU(method, Shape(cfg.d_in, cfg.d_out, cfg.d_sae, W_dec.dtype, W_dec.device))
        with torch.no_grad():
            for name in ("encoder", "b_enc", "W_dec", "b_dec"):
                getattr(result, name).copy_(getattr(folded, name))
            result.threshold.copy_(folded.activation.threshold)
        result.cfg = attrs.evolve(folded.cfg, architecture="jumprelu", method=method)
        return result

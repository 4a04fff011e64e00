"""The BatchTopK SAE."""

from __future__ import annotations

from typing import Any

import attrs
import torch

from saecore.core.file_form import FileForm
from saecore.core.sae import SAE
from saecore.core.sae_config import Shape
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
    file_form = FileForm(
        saved_fields=(
            "k",
            "rescale_acts_by_decoder_norm",
            "topk_threshold_lr",
            "threshold_bias_correction",
        ),
        training_fields=frozenset(
            {"decoder_init_norm", "use_sparse_activations", "aux_loss_coefficient"}
        ),
        # The published SAE is a JumpReLU SAE, whose cfg.json has no such keys.
        recorded_fields=("k", "rescale_acts_by_decoder_norm", "topk_threshold_lr"),
        defaults={"rescale_acts_by_decoder_norm": False, "threshold_bias_correction": False},
    )

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self.activation = Activation(config, shape)

    def to_inference(self, *, in_place: bool = False) -> SAE:
        """Return a JumpReLU SAE that has the threshold."""
        folded = super().to_inference(in_place=in_place)
        assert isinstance(folded.activation, Threshold)
        config = JumpReLUConfig(apply_b_dec_to_input=self.cfg.apply_b_dec_to_input)
        result = JumpReLU(config, folded.shape(allocate=False))
        for name in ("encoder", "b_enc", "W_dec", "b_dec"):
            setattr(result, name, getattr(folded, name))
        with torch.no_grad():
            result.threshold.copy_(folded.activation.threshold)
        result.cfg = attrs.evolve(folded.cfg, architecture="jumprelu", architecture_config=config)
        return result

"""Helpers for writers of formats: convert an SAE to the form that a format stores."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import attrs
import torch

from saecore.errors import ReleaseError

if TYPE_CHECKING:
    from saecore.core.sae import SAE


def inference_form(sae: SAE) -> SAE:
    """A copy of the SAE in its published form, on the CPU, with the same function.

    Selections over a batch become a threshold, and decoder norms are folded into the weights.
    """
    if sae.latent_scale() is not None:
        sae = widened(sae)
    return sae.to_inference().to("cpu").eval()


def widened(sae: SAE) -> SAE:
    """A copy in at least float32, because folding into narrower weights would round."""
    result = copy.deepcopy(sae)
    if result.W_dec.element_size() < 4:
        result = result.float()
        result.cfg = attrs.evolve(result.cfg, dtype="float32")
    return result


def centered(sae: SAE, subtract: bool) -> SAE:
    """The same function with b_dec subtracted from the input, or not; b_enc compensates.

    Pre-activations (x - b_dec) W_enc + b are x W_enc + (b - b_dec W_enc), up to rounding.

    Args:
        sae: an SAE in its published form.
        subtract: whether the result subtracts b_dec.
    """
    if (sae.center is not None) == subtract:
        return sae
    result = widened(sae)
    with torch.no_grad():
        shift = (result.b_dec.double() @ result.W_enc.double()).to(result.b_dec.dtype)
    result.shift_preactivations(shift if subtract else -shift)
    config = attrs.evolve(sae.cfg.architecture_config, apply_b_dec_to_input=subtract)
    result.cfg = attrs.evolve(result.cfg, architecture_config=config)
    return result


@attrs.frozen
class Expressible:
    """Checks of a writer: raise for what its format cannot express."""

    format: str
    """The format's name, for messages."""
    sae: SAE
    """The SAE to write."""

    def refusal(self, key: str, value: Any, supported: str) -> ReleaseError:
        """The error for a setting that the format cannot express.

        Args:
            key: the setting.
            value: its value.
            supported: what the format can express.
        """
        return ReleaseError(
            f"{key} = {value!r} cannot be expressed in the format {self.format}, which has "
            f"{supported}"
        )

    def check_processing(self, reshape: str = "none", *normalizations: str) -> None:
        """Check how the SAE processes activations outside its weights.

        Args:
            reshape: how the format treats heads, "hook_z" or "none".
            normalizations: normalizations that the format supports.

        Raises:
            ReleaseError: the SAE has another normalization or treats heads differently.
        """
        cfg = self.sae.cfg
        if cfg.normalize_activations not in ("none", *normalizations):
            raise self.refusal(
                "normalize_activations",
                cfg.normalize_activations,
                ", ".join(("none", *normalizations)),
            )
        if cfg.reshape_activations != reshape:
            raise self.refusal("reshape_activations", cfg.reshape_activations, reshape)

    def architecture(self, *known: str) -> str:
        """Check the architecture, and return its name in files.

        Args:
            known: architectures that the format supports.

        Raises:
            ReleaseError: the SAE has another architecture.
        """
        name = self.sae.file_form.architecture_name(self.sae)
        if name not in known:
            raise self.refusal("architecture", name, ", ".join(known))
        return name

"""What writers of formats have in common: bringing an SAE to the form that a format has."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import attrs
import torch

from saecore.errors import ReleaseError

if TYPE_CHECKING:
    from saecore.sae import SAE


def published(sae: SAE) -> SAE:
    """The SAE in its published form, features and reconstructions unchanged, on the CPU.

    A threshold stands for a selection over a batch, decoder norms are in the weights. The SAE that
    is given stays as it is.
    """
    if sae.latent_scale() is not None:
        sae = widened(sae)
    return sae.to_inference().to("cpu").eval()


def widened(sae: SAE) -> SAE:
    """A copy in at least float32: what is folded into narrower weights would be rounded."""
    result = copy.deepcopy(sae)
    if result.W_dec.element_size() < 4:
        result = result.float()
        result.cfg = attrs.evolve(result.cfg, dtype="float32")
    return result


def centred(sae: SAE, wanted: bool) -> SAE:
    """The same function with b_dec subtracted from the input, or not: the bias makes up for it.

    Pre-activations (x - b_dec) W_enc + b are x W_enc + (b - b_dec W_enc). Equal but for rounding.

    Args:
        sae: an SAE in its published form.
        wanted: whether b_dec is subtracted.
    """
    if (sae.centre is not None) == wanted:
        return sae
    result = widened(sae)
    with torch.no_grad():
        shift = (result.b_dec.double() @ result.W_enc.double()).to(result.b_dec.dtype)
    result.shift_preactivations(shift if wanted else -shift)
    method = attrs.evolve(sae.cfg.method, apply_b_dec_to_input=wanted)
    result.cfg = attrs.evolve(result.cfg, method=method)
    return result


@attrs.frozen
class Expressible:
    """Refusals of one writer: what its format has no place for."""

    format: str
    """The format's name, for messages."""
    sae: SAE
    """What is to be written."""

    def refused(self, key: str, value: Any, can: str) -> ReleaseError:
        """The error for a setting that the format cannot express.

        Args:
            key: the setting.
            value: what it is.
            can: what the format can express.
        """
        return ReleaseError(
            f"{key} = {value!r} cannot be expressed in the format {self.format}, which has {can}"
        )

    def plain(self, reshape: str = "none", *normalizations: str) -> None:
        """Refuse what changes activations before or after the weights.

        Args:
            reshape: what the format does with heads, "hook_z" or "none".
            normalizations: those that the format has.

        Raises:
            ReleaseError: the SAE has another normalization, or does otherwise with heads.
        """
        cfg = self.sae.cfg
        if cfg.normalize_activations not in ("none", *normalizations):
            raise self.refused(
                "normalize_activations",
                cfg.normalize_activations,
                ", ".join(("none", *normalizations)),
            )
        if cfg.reshape_activations != reshape:
            raise self.refused("reshape_activations", cfg.reshape_activations, reshape)

    def architecture(self, *known: str) -> str:
        """The architecture's name in files.

        Args:
            known: those that the format has.

        Raises:
            ReleaseError: it is none of them.
        """
        name = self.sae.file_architecture
        if name not in known:
            raise self.refused("architecture", name, ", ".join(known))
        return name

"""The transcoder."""

from __future__ import annotations

from saecore.core.penalized_sae import PenalizedSAE


class Transcoder(PenalizedSAE):
    """f = activation(x W_enc + b_enc), ŷ = f W_dec + b_dec, for the target y of another hook.

    Nothing is subtracted from the input. Source: Dunefsky et al. 2024.
    """

    architecture = "transcoder"
    separate_target = True

"""The standard SAE."""

from __future__ import annotations

from saecore.open_sae import OpenSAE


class Standard(OpenSAE):
    """f = activation((x − b_dec) W_enc + b_enc), x̂ = f W_dec + b_dec, plus λ · mean ‖f · n‖_p.

    n are the norms of the decoder rows, which are free. Source: Bricken et al. 2023 with the
    decoder norms inside the penalty (Anthropic, April 2024), as in SAELens 6.
    """

    architecture = "standard"

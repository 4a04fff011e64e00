"""Calibrate the thresholds of a trained SAE to a target L0."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import torch
from torch import Tensor, nn

from saecore.core.sae import SAE
from saecore.core.sae_config import DTYPES
from saecore.errors import ConfigError, NumericsError
from saecore.plugins.structure import structure_choice

CELLS = 2**24
"""Largest number of pre-activations computed at once."""


def check_threshold_form(sae: SAE) -> None:
    """Refuse an SAE that cannot be converted to JumpReLU.

    Raises:
        ConfigError: its parameters differ from those of JumpReLU, or it ranks by absolute value.
    """
    names = {name for name, _ in sae.named_parameters(recurse=False)}
    plain = names == {"encoder", "b_enc", "W_dec", "b_dec"}
    if not plain or sae.rank_by_abs or sae.encoder.shape[1] != sae.cfg.d_in:
        raise ConfigError(
            [f"evaluation.calibrate_l0: {sae.architecture} cannot be converted to JumpReLU; "
             "remove the key"],
        )  # fmt: skip


@torch.no_grad()
def calibrated(
    sae: SAE, activations: Tensor | Iterable[Tensor], l0: float, *, in_place: bool = False
) -> SAE:
    """Build a JumpReLU SAE with the weights of `sae` and a mean L0 of `l0` on the activations.

    Let z be pre-activations in the inference form (decoder norms folded) and θ the thresholds of a
    JumpReLU SAE, else 0. The new thresholds are max(θ + δ, 0), with one δ for all latents, so
    learned thresholds keep their differences. δ is exact: sort the z > 0 by z − θ, descending; the
    first round(l0 · N) stay active, and δ lies midway between the last of them and the next.

    Args:
        sae: an SAE whose features are selected pre-activations.
        activations: raw activations `[N, d_in]` or batches of them, best from held-out text.
        l0: target mean number of active latents per token.
        in_place: reuse the weights of `sae` instead of copying them; discard `sae` afterwards.

    Raises:
        ConfigError: the SAE cannot be converted to JumpReLU.
        NumericsError: there are fewer positive pre-activations than `l0` needs.
    """
    check_threshold_form(sae)
    form = sae.to_inference(in_place=in_place).eval()
    cfg, W_dec = form.cfg, form.W_dec
    theta = getattr(form.activation, "threshold", None)
    theta = W_dec.new_zeros(cfg.d_sae).float() if theta is None else theta.detach().float()
    x = activations if isinstance(activations, Tensor) else torch.cat(list(activations))
    n = round(l0 * len(x))
    scores = _descending(form, x, theta, n + 1)
    if not 0 < n <= len(scores):
        raise NumericsError(
            f"evaluation.calibrate_l0: got {l0} active latents per token, but the {len(x)} "
            f"tokens have {len(scores) / max(1, len(x)):.4g} positive pre-activations each"
        )
    # If there is no next score, every positive pre-activation stays active.
    below = scores[n] if n < len(scores) else scores[n - 1] - 1
    table = {"architecture": "jumprelu", "apply_b_dec_to_input": form.center is not None}
    jumprelu = structure_choice("architecture", table)
    dtype = DTYPES[cfg.dtype]
    result: SAE = jumprelu.build(attrs.evolve(form.shape(allocate=False), dtype=dtype))
    for name in ("encoder", "b_enc", "W_dec", "b_dec"):
        setattr(result, name, nn.Parameter(getattr(form, name).detach().to(dtype)))
    assert result.activation is not None
    shift = (scores[n - 1].double() + below.double()) / 2
    # Where two neighbors have no number between them, the mean may round to the upper one.
    shift = torch.where(shift.float() < scores[n - 1], shift, below.double())
    thresholds = (theta.double() + shift).clamp(min=0).float()
    result.activation.load_state_dict({"threshold": thresholds})
    result.cfg = attrs.evolve(
        cfg, architecture="jumprelu", architecture_config=jumprelu.config, inference=True
    )
    return result.eval()


def _descending(form: SAE, x: Tensor, theta: Tensor, n: int) -> Tensor:
    """The `n` largest z − θ among all z > 0, or all of them if there are fewer, descending."""
    best = theta.new_zeros(0)
    for part in x.split(max(1, CELLS // form.cfg.d_sae)):
        codes = form.encoding(form._rows(part.to(form.W_dec.device))[0]).above(0.0)
        scores = codes.values.float() - codes.per_latent(theta)
        best = torch.cat([best, scores])
        best = best.topk(min(n, len(best))).values
    return best

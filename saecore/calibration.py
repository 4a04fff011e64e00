"""One threshold for a trained SAE, so that it has a wanted L0 on given activations."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import torch
from torch import Tensor

from saecore.config.structure import structure_choice
from saecore.errors import ConfigError, NumericsError
from saecore.plugins import current_host
from saecore.sae import SAE
from saecore.sae_config import DTYPES, Shape

CELLS = 2**24
"""Most pre-activations looked at in one go."""


def check_threshold_form(sae: SAE) -> None:
    """Refuse an SAE whose features are not pre-activations above something.

    Raises:
        ConfigError: it has another encoder, or ranks by absolute value.
    """
    own = {name for name, _ in sae.named_parameters(recurse=False)}
    if own != {"encoder", "b_enc", "W_dec", "b_dec"} or sae.rank_by_abs:
        raise ConfigError(
            "experiment",
            [f"evaluation.calibrate_l0: {sae.architecture} has no form with thresholds; remove "
             "the key"],
        )  # fmt: skip


@torch.no_grad()
def calibrated(sae: SAE, activations: Tensor | Iterable[Tensor], l0: float) -> SAE:
    """A JumpReLU SAE with the weights of `sae` and a mean L0 of `l0` on these activations.

    With pre-activations z (of the published form, decoder norms folded) and thresholds θ, 0 but
    for a JumpReLU SAE, the new thresholds are max(θ + δ, 0): one δ for all latents, so that those
    with a learned threshold keep their differences. δ is exact: of the z > 0, in descending order
    of z − θ, the first round(l0 · N) stay, and δ lies midway to the next.

    Args:
        sae: any whose features are pre-activations that a rule has selected.
        activations: raw ones `[N, d_in]`, or batches of such; best of held-out text.
        l0: mean number of active latents per token that is wanted.

    Raises:
        ConfigError: the SAE has no form with thresholds.
        NumericsError: there are not so many positive pre-activations.
    """
    check_threshold_form(sae)
    form = sae.to_inference().eval()
    cfg, W_dec = form.cfg, form.W_dec
    theta = getattr(form.activation, "threshold", None)
    theta = W_dec.new_zeros(cfg.d_sae).float() if theta is None else theta.detach().float()
    x = activations if isinstance(activations, Tensor) else torch.cat(list(activations))
    n = round(l0 * len(x))
    scores = _descending(form, x, theta, n + 1)
    if not 0 < n <= len(scores):
        raise NumericsError(
            f"evaluation.calibrate_l0: {l0} active latents per token were asked for; {len(x)} "
            f"tokens have {len(scores) / max(1, len(x)):.4g} positive pre-activations each"
        )
    # Without a next one every positive pre-activation stays: any δ that lets all pass.
    below = scores[n] if n < len(scores) else scores[n - 1] - 1
    table = {"architecture": "jumprelu", "apply_b_dec_to_input": form.centre is not None}
    method = structure_choice("architecture", table, current_host())
    shape = Shape(cfg.d_in, cfg.d_out, cfg.d_sae, DTYPES[cfg.dtype], W_dec.device)
    result: SAE = method.build(shape)
    for name in ("encoder", "b_enc", "W_dec", "b_dec"):
        getattr(result, name).copy_(getattr(form, name))
    assert result.activation is not None
    shift = (scores[n - 1].double() + below.double()) / 2
    # Where two neighbours have no number between them, the mean may round to the upper one.
    shift = torch.where(shift.float() < scores[n - 1], shift, below.double())
    thresholds = (theta.double() + shift).clamp(min=0).float()
    result.activation.load_state_dict({"threshold": thresholds})
    result.cfg = attrs.evolve(cfg, architecture="jumprelu", method=method.config, inference=True)
    return result.eval()


def _descending(form: SAE, x: Tensor, theta: Tensor, n: int) -> Tensor:
    """The `n` largest z − θ of all z > 0 (fewer where there are not so many), descending."""
    best = theta.new_zeros(0)
    for part in x.split(max(1, CELLS // form.cfg.d_sae)):
        codes = form.encoding(form._flat(part.to(form.W_dec.device))[0]).above(0.0)
        scores = codes.values.float() - codes.per_latent(theta)
        best = torch.cat([best, scores])
        best = best.topk(min(n, len(best))).values
    return best

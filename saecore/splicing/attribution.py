"""Attribution: the effect of each feature at each token on a metric of the model's output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.core.sae import SAE
from saecore.ops.codes import Codes
from saecore.splicing.attach import attach, prepare, read_ahead
from saecore.splicing.hook_points import HookPoint
from saecore.splicing.model_adapters import adapter_of
from saecore.splicing.spliced_sae import SplicedSAE

Metric = Callable[[Tensor], Tensor]
"""Maps logits `[B, T, vocab]` to one number, such as a logit difference."""


@attrs.frozen(eq=False, kw_only=True)
class Attribution:
    """Attribution scores of one SAE; rows are the `B · T` tokens."""

    features: Codes
    """The active features f."""
    gradients: Codes
    """d metric / d f for the entries of `features`."""
    scores: Codes
    """f · d metric / d f, an estimate of metric(unchanged) - metric(feature ablated there)."""
    error: Tensor
    """The score of the SAE's reconstruction error at each token `[B, T]`."""

    def dense(self) -> Tensor:
        """The scores `[B, T, d_sae]`."""
        return self.scores.dense().reshape(*self.error.shape, -1)

    def total(self) -> Tensor:
        """Scores summed over all tokens `[d_sae]`."""
        scores = self.scores
        return scores.values.new_zeros(scores.d_sae).index_add(0, scores.indices, scores.values)


class _Attributed(SplicedSAE):
    """An SAE that leaves the activation unchanged but a function of its features and error."""

    features: Codes
    leaf: Tensor
    errors: dict[str, tuple[Tensor, Tensor]]

    def begin(self, tokens: Tensor, past: int = 0) -> None:
        """Start a forward pass."""
        super().begin(tokens, past)
        self.errors = {}

    def _reconstruct(self, activation: Tensor) -> tuple[Tensor, Tensor | None]:
        with torch.no_grad():
            parts = self.sae.decompose(activation)
        self.features = parts.features
        self.leaf = parts.features.values.detach().requires_grad_()
        recons = parts.decode(parts.features.with_values(self.leaf))
        return recons.reshape(*activation.shape[:2], -1), None

    def _written(
        self, target: str, value: Tensor, recons: Tensor, undisturbed: Tensor | None
    ) -> Tensor:
        part = self.site.target(value)
        recons = recons.reshape(part.shape)
        error = (part.detach().to(recons) - recons.detach()).requires_grad_()
        self.errors[target] = (error, error.detach())
        # Zero in value; carries the gradients of features and error.
        zero = (recons - recons.detach()) + (error - error.detach())
        return self.site.write(value, part + zero.to(part), self._used)


def attribute(
    model: Any, saes: Sequence[SAE] | SAE, tokens: Tensor, metric: Metric
) -> dict[str, Attribution]:
    """Gradient × activation of a metric for every active feature, in the unmodified model.

    At each hook the activation is x = Σ f_i W_dec,i + (rest), where the rest includes the SAE's
    error. The score of a feature is f_i · d m / d f_i = f_i · (d m / d x · W_dec,i): to first
    order, what m loses when the feature is ablated and the error term is kept. It is exact if m is
    linear in x. Gradients pass through hooks as through the model itself, so the scores of an SAE
    do not depend on the other SAEs. Source: Marks et al. 2024, Sparse Feature Circuits (arXiv
    2403.19647).

    Args:
        model: as for `splice`; its parameters need no gradients and get none.
        saes: the SAEs.
        tokens: token ids `[B, T]`.
        metric: from logits `[B, T, vocab]` to a scalar.

    Returns:
        The attribution of each SAE, by the hook that it replaces.

    Raises:
        ModelError: the type of the model is unknown, or it has no such hook.
        ValueError: the metric is not a scalar that depends on the logits.
    """
    adapter = adapter_of(model)
    sequence = [saes] if isinstance(saes, SAE) else list(saes)
    spliced = [
        _Attributed(prepared.sae, prepared.site, lambda _: HookPoint())
        for prepared in prepare(adapter, sequence, lambda _: HookPoint())
    ]
    remove = attach(adapter, spliced)
    try:
        with torch.no_grad():
            read_ahead(adapter, spliced, lambda: adapter.logits(tokens))
        with torch.enable_grad():
            value = metric(adapter.logits(tokens))
    finally:
        remove()
    if value.numel() != 1 or not value.requires_grad:
        raise ValueError(
            f"metric: expected one number computed from the logits, got {list(value.shape)}"
            f"{'' if value.requires_grad else ' without gradients'}"
        )
    features = [sae.leaf for sae in spliced]
    errors = [leaf for sae in spliced for leaf, _ in sae.errors.values()]
    gradients = torch.autograd.grad(value, [*features, *errors], materialize_grads=True)
    error_gradients = iter(gradients[len(features) :])
    return {
        sae.name: _attribution(sae, gradient, [next(error_gradients) for _ in sae.errors])
        for sae, gradient in zip(spliced, gradients, strict=False)
    }


def _attribution(sae: _Attributed, gradient: Tensor, error_gradients: list[Tensor]) -> Attribution:
    """The scores of one SAE from d metric / d features and d metric / d errors."""
    scores = [
        (error_gradient * error).flatten(2).sum(-1)
        for error_gradient, (_, error) in zip(error_gradients, sae.errors.values(), strict=True)
    ]
    return Attribution(
        features=sae.features,
        gradients=sae.features.with_values(gradient),
        scores=sae.features.with_values(sae.features.values.detach() * gradient),
        error=torch.stack(scores).sum(0),
    )

"""Attribution: how much each feature at each token adds to a figure of the model's output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.codes import Codes
from saecore.hooked.attach import attach, plan, read_ahead
from saecore.hooked.fronts import front_of
from saecore.hooked.points import Tap
from saecore.hooked.spliced import SplicedSAE
from saecore.sae import SAE

Metric = Callable[[Tensor], Tensor]
"""From logits `[B, T, vocab]` to one number, such as a logit difference."""


@attrs.frozen(eq=False)
class Attribution:
    """What `attribute` finds for one SAE; rows are tokens, `B · T` of them."""

    features: Codes
    """The active features f."""
    gradients: Codes
    """d metric / d f, of the same entries."""
    scores: Codes
    """f · d metric / d f: an estimate of metric(as it is) - metric(feature ablated there)."""
    error: Tensor
    """The same of all that the SAE does not reconstruct at a token `[B, T]`."""

    def dense(self) -> Tensor:
        """The scores `[B, T, d_sae]`."""
        return self.scores.dense().reshape(*self.error.shape, -1)

    def total(self) -> Tensor:
        """Scores summed over all tokens `[d_sae]`."""
        scores = self.scores
        return scores.values.new_zeros(scores.d_sae).index_add(0, scores.indices, scores.values)


class _Attributed(SplicedSAE):
    """An SAE whose output is the activation itself, as a function of features and error."""

    features: Codes
    leaf: Tensor
    errors: dict[str, tuple[Tensor, Tensor]]

    def begin(self, tokens: Tensor, past: int = 0) -> None:
        """A forward pass begins."""
        super().begin(tokens, past)
        self.errors = {}

    def _reconstruct(self, given: Tensor) -> tuple[Tensor, Tensor | None]:
        with torch.no_grad():
            parts = self.sae.decompose(given)
        self.features = parts.features
        self.leaf = parts.features.values.detach().requires_grad_()
        recons = parts.decode(parts.features.with_values(self.leaf))
        return recons.reshape(*given.shape[:2], -1), None

    def _written(
        self, target: str, value: Tensor, recons: Tensor, undisturbed: Tensor | None
    ) -> Tensor:
        part = self.site.target(value)
        recons = recons.reshape(part.shape)
        error = (part.detach().to(recons) - recons.detach()).requires_grad_()
        self.errors[target] = (error, error.detach())
        # Zero, with the gradients of features and error.
        zero = (recons - recons.detach()) + (error - error.detach())
        return self.site.write(value, part + zero.to(part), self._used)


def attribute(
    model: Any, saes: Sequence[SAE] | SAE, tokens: Tensor, metric: Metric
) -> dict[str, Attribution]:
    """Gradient × activation of a metric for every active feature, in the model as it is.

    At each hook the activation is x = Σ f_i W_dec,i + (rest), the rest with what the SAE does not
    reconstruct. A feature's score is f_i · d m / d f_i = f_i · (d m / d x · W_dec,i): the first
    order of what m would lose by its ablation with the error term kept. Exact where m is linear in
    x. Gradients pass through hooks as through the model itself, so several SAEs get the scores that
    each would get alone. Source: Marks et al. 2024, Sparse Feature Circuits (arXiv 2403.19647).

    Args:
        model: as for `splice`; its parameters need no gradients, and get none.
        saes: the SAEs.
        tokens: token ids `[B, T]`.
        metric: from logits `[B, T, vocab]` to a scalar.

    Returns:
        By the hook that each SAE replaces.

    Raises:
        ModelError: the model is of no known kind, or has no such hook.
        ValueError: the metric is not a scalar that depends on the logits.
    """
    front = front_of(model)
    given = [saes] if isinstance(saes, SAE) else list(saes)
    spliced = [
        _Attributed(one.sae, one.site, lambda _: Tap())
        for one in plan(front, given, lambda _: Tap())
    ]
    remove = attach(front, spliced)
    try:
        with torch.no_grad():
            read_ahead(front, spliced, lambda: front.logits(tokens))
        with torch.enable_grad():
            found = metric(front.logits(tokens))
    finally:
        remove()
    if found.numel() != 1 or not found.requires_grad:
        raise ValueError(
            f"metric: expected one number computed from the logits, got {list(found.shape)}"
            f"{'' if found.requires_grad else ' without gradients'}"
        )
    leaves = [one.leaf for one in spliced]
    errors = [[*one.errors.values()] for one in spliced]
    wanted = [*leaves, *(leaf for one in errors for leaf, _ in one)]
    grads = iter(torch.autograd.grad(found, wanted, materialize_grads=True))
    gradients = [next(grads) for _ in leaves]
    return {
        one.name: Attribution(
            one.features,
            one.features.with_values(gradient),
            one.features.with_values(one.features.values.detach() * gradient),
            torch.stack([(next(grads) * value).flatten(2).sum(-1) for _, value in pairs]).sum(0),
        )
        for one, gradient, pairs in zip(spliced, gradients, errors, strict=True)
    }

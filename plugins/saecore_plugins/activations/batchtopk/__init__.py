"""BatchTopK: the k · N largest pre-activations of a batch of N tokens (arXiv 2412.06410)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.plugins import Choice, Component, above, between, choice, hookimpl


@attrs.frozen
class BatchTopKConfig:
    """Settings of BatchTopK."""

    k: float = attrs.field(validator=above(0), kw_only=True)
    """Average number of active latents per token of a batch."""
    k_schedule: Choice = choice("schedule", "constant")
    """How k changes over the run: k times the schedule's value."""
    topk_threshold_lr: float = attrs.field(default=0.01, validator=between(0, 1))
    """Weight of a batch in the running average of the smallest active feature, which becomes the
    threshold of the published SAE."""
    threshold_bias_correction: bool = True
    """Correct the average for its start at 0; SAELens does not."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="activation",
        name="batchtopk",
        config=BatchTopKConfig,
        build="saecore_plugins.activations.batchtopk.activation:BatchTopK",
        summary="the k · N largest pre-activations of a batch of N tokens",
    )

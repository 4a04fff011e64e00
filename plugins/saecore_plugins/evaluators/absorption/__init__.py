"""First-letter absorption: latents of single words that take over the word's first letter."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.plugins import Component, at_least, between, hookimpl


@attrs.frozen(kw_only=True)
class AbsorptionConfig:
    """The spelling task, and what counts as absorption."""

    words: int = attrs.field(default=4000, validator=at_least(100))
    """Maximum number of words, chosen at random among tokens of three or more letters."""
    examples: int = attrs.field(default=8, validator=at_least(1))
    """Solved examples in each prompt."""
    spells: float = attrs.field(default=0.5, validator=between(0, 1))
    """Minimum share of first letters that the model must spell correctly."""
    max_k: int = attrs.field(default=10, validator=at_least(1))
    """Maximum number of latents into which the feature of a letter may be split."""
    f1_jump: float = attrs.field(default=0.03, validator=between(0, 1))
    """Gain in F1 above which one more latent counts as part of the split feature."""
    batch_size: int = attrs.field(default=16, validator=at_least(1))
    """Prompts per forward pass."""
    seed: int = attrs.field(default=0, validator=at_least(0))
    """Seed of the choice of words and examples."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="evaluator",
        name="absorption",
        config=AbsorptionConfig,
        build="saecore_plugins.evaluators.absorption.evaluator:build",
        summary="first letters that latents of single words have taken over",
    )

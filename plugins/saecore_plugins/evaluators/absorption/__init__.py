"""First-letter absorption: latents that stand for one word and hide what it begins with."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.validators import at_least, between
from saecore.hookspecs import hookimpl


@attrs.frozen
class AbsorptionConfig:
    """The spelling task, and what counts as absorption."""

    words: int = attrs.field(default=4000, validator=at_least(100))
    """Most words, chosen at random among tokens of three letters and more."""
    examples: int = attrs.field(default=8, validator=at_least(1))
    """Words whose first letter a prompt says, before the word that is asked for."""
    spells: float = attrs.field(default=0.5, validator=between(0, 1))
    """Share of first letters that the model must name; below, nothing is measured."""
    max_k: int = attrs.field(default=10, validator=at_least(1))
    """Most latents into which the feature of a letter may be split."""
    f1_jump: float = attrs.field(default=0.03, validator=between(0, 1))
    """Gain in F1 from which one more latent counts as a part of the split feature."""
    batch_size: int = attrs.field(default=16, validator=at_least(1))
    """Prompts per forward."""
    seed: int = attrs.field(default=0, validator=at_least(0))
    """Seed of the words, examples and of what is trained on."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the evaluator."""
    yield Component(
        kind="evaluator",
        name="absorption",
        config=AbsorptionConfig,
        build="saecore_plugins.evaluators.absorption.evaluator:build",
        summary="first letters that the latents of single words have taken over",
    )

"""The embedded language model: GPT-2's design, 4 layers, d_model 256, trained on Python source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    import torch

    from saecore.huggingface import HuggingFaceBackend

DIRECTORY = Path(__file__).parent.parent / "tiny_lm"
"""Weights, tokenizer, card and the script that made them."""


@attrs.frozen
class TinyLMConfig:
    """The embedded model has no settings."""


def build(config: TinyLMConfig, device: torch.device, dtype: torch.dtype) -> HuggingFaceBackend:
    """Load the embedded model."""
    from saecore.huggingface import HuggingFaceBackend
    from saecore_plugins.models.loading import load

    found = load(str(DIRECTORY), None, device, dtype)
    identity = {**found.identity, "name": "tiny_lm"}
    return HuggingFaceBackend(found.model, found.tokenizer, "tiny_lm", identity)


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the backend."""
    yield Component(
        kind="model",
        name="tiny_lm",
        config=TinyLMConfig,
        build=build,
        summary="the embedded 4-layer GPT-2 (d_model 256, context 256); needs no download",
    )

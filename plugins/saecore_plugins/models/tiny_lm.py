"""The embedded language model: GPT-2's design, 4 layers, d_model 256, trained on Python source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from saecore.plugins import Component, NoSettings, hookimpl

if TYPE_CHECKING:
    import torch

    from saecore.models.huggingface import HuggingFaceBackend

DIRECTORY = Path(__file__).parent.parent / "tiny_lm"
"""Weights, tokenizer, model card and the script that made them."""


def build(config: NoSettings, device: torch.device, dtype: torch.dtype) -> HuggingFaceBackend:
    """Load the embedded model."""
    from saecore.models.huggingface import HuggingFaceBackend
    from saecore_plugins.models.loading import load

    loaded = load(str(DIRECTORY), None, device, dtype)
    identity = {**loaded.identity, "name": "tiny_lm"}
    return HuggingFaceBackend(loaded.model, loaded.tokenizer, "tiny_lm", identity)


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="model",
        name="tiny_lm",
        build=build,
        summary="the embedded 4-layer GPT-2 (d_model 256, context 256); needs no download",
    )

"""Causal language models and encoders in Hugging Face format, from a directory or the hub."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import attrs

from saecore.components import Component
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    import torch

    from saecore.huggingface import HuggingFaceBackend


@attrs.frozen
class HuggingFaceConfig:
    """Which model."""

    name: str
    """Name on the hub, or a local directory."""
    revision: str | None = None
    """Branch, tag or commit on the hub; default: the main branch."""
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = None
    """How attention is computed; default: what transformers takes for this model."""
    quantization: Literal["8bit", "4bit"] | None = None
    """Quantize the weights while loading, with bitsandbytes; default: not at all."""


def build(
    config: HuggingFaceConfig, device: torch.device, dtype: torch.dtype
) -> HuggingFaceBackend:
    """Load model and tokenizer.

    Raises:
        ModelError: there is no such model, or it cannot be loaded.
    """
    from saecore.huggingface import HuggingFaceBackend
    from saecore_plugins.models.loading import load

    found = load(config.name, config.revision, device, dtype, config.attention, config.quantization)
    return HuggingFaceBackend(found.model, found.tokenizer, config.name, found.identity)


def wrap(model: Any) -> HuggingFaceBackend | None:
    """Take a transformers model as it is, with the tokenizer from where it was loaded.

    Raises:
        ModelError: it does not say where that is, or there is no tokenizer.
    """
    import transformers

    if not isinstance(model, transformers.PreTrainedModel):
        return None
    from saecore.huggingface import HuggingFaceBackend
    from saecore_plugins.models.loading import tokenizer_of

    name = model.name_or_path
    return HuggingFaceBackend(model, tokenizer_of(model), name, {"name": name})


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the backend."""
    yield Component(
        kind="model",
        name="huggingface",
        config=HuggingFaceConfig,
        build=build,
        wrap=wrap,
        summary="a language model or an encoder from a directory or the Hugging Face hub",
    )

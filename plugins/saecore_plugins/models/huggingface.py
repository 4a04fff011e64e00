"""Causal language models and encoders in Hugging Face format, from a directory or the hub."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import attrs

from saecore.plugins import Component, hookimpl

if TYPE_CHECKING:
    import torch

    from saecore.models.huggingface import HuggingFaceBackend


@attrs.frozen
class HuggingFaceConfig:
    """Which model."""

    name: str
    """Name on the hub, or a local directory."""
    revision: str | None = None
    """Branch, tag or commit on the hub; default: the main branch."""
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = None
    """Implementation of attention; default: that chosen by transformers for this model."""
    quantization: Literal["8bit", "4bit"] | None = None
    """Quantize the weights while loading, with bitsandbytes; default: no quantization."""


def build(
    config: HuggingFaceConfig, device: torch.device, dtype: torch.dtype
) -> HuggingFaceBackend:
    """Load the model and its tokenizer.

    Raises:
        ModelError: there is no such model, or it cannot be loaded.
    """
    from saecore.models.huggingface import HuggingFaceBackend
    from saecore_plugins.models.loading import load

    loaded = load(
        config.name, config.revision, device, dtype, config.attention, config.quantization
    )
    return HuggingFaceBackend(loaded.model, loaded.tokenizer, config.name, loaded.identity)


def from_loaded(model: Any) -> HuggingFaceBackend | None:
    """Use a loaded transformers model unchanged, with the tokenizer from its own files.

    Raises:
        ModelError: the model does not say where it was loaded from, or there is no tokenizer.
    """
    import transformers

    if not isinstance(model, transformers.PreTrainedModel):
        return None
    from saecore.models.huggingface import HuggingFaceBackend
    from saecore_plugins.models.loading import tokenizer_of

    name = model.name_or_path
    return HuggingFaceBackend(model, tokenizer_of(model), name, {"name": name})


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="model",
        name="huggingface",
        config=HuggingFaceConfig,
        build=build,
        from_loaded=from_loaded,
        summary="a language model or an encoder from a directory or the Hugging Face hub",
    )

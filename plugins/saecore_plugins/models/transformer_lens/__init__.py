"""Language models through TransformerLens 4's bridge, with raw or processed activations."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from saecore.plugins import Component, hookimpl

if TYPE_CHECKING:
    import torch

    from saecore_plugins.models.transformer_lens.backend import BridgeBackend


@attrs.frozen
class TransformerLensConfig:
    """Which model, and in which convention."""

    name: str
    """Name on the hub, or a local directory."""
    revision: str | None = None
    """Branch, tag or commit on the hub; default: the main branch."""
    processed: bool = False
    """Fold LayerNorm and center weights, as TransformerLens did before version 4."""


def build(config: TransformerLensConfig, device: torch.device, dtype: torch.dtype) -> BridgeBackend:
    """Load model and tokenizer, and wrap them in the bridge.

    Raises:
        ModelError: there is no such model, or TransformerLens does not support its type.
    """
    from saecore.models.read_state import set_read_state
    from saecore_plugins.models.loading import load
    from saecore_plugins.models.transformer_lens.backend import BridgeBackend, build_bridge

    loaded = load(config.name, config.revision, device, dtype)
    bridge = build_bridge(loaded.model, loaded.tokenizer, config.name, dtype, config.processed)
    set_read_state(bridge)
    return BridgeBackend(bridge, loaded.tokenizer, config.name, loaded.identity)


def from_loaded(model: Any) -> BridgeBackend | None:
    """Use a loaded bridge unchanged, raw or in compatibility mode, with its tokenizer."""
    if "transformer_lens" not in sys.modules:
        return None
    from transformer_lens.model_bridge import TransformerBridge

    if not isinstance(model, TransformerBridge):
        return None
    from saecore_plugins.models.transformer_lens.backend import BridgeBackend

    name = model.cfg.model_name
    return BridgeBackend(model, model.tokenizer, name, {"name": name})


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="model",
        name="transformer_lens",
        config=TransformerLensConfig,
        build=build,
        from_loaded=from_loaded,
        summary="a language model through TransformerLens' bridge, raw or processed",
    )

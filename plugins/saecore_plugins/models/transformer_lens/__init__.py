"""Language models through TransformerLens 4's bridge: its hooks, raw or processed activations."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from saecore.components import Component
from saecore.hookspecs import hookimpl

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
    """Fold LayerNorm and centre weights, as TransformerLens did before version 4."""


def build(config: TransformerLensConfig, device: torch.device, dtype: torch.dtype) -> BridgeBackend:
    """Load model and tokenizer and put the bridge around them.

    Raises:
        ModelError: there is no such model, or TransformerLens does not know its kind.
    """
    from saecore_plugins.models.loading import load
    from saecore_plugins.models.transformer_lens.backend import BridgeBackend, bridged

    found = load(config.name, config.revision, device, dtype)
    bridge = bridged(found.model, found.tokenizer, config.name, dtype, config.processed)
    return BridgeBackend(bridge, found.tokenizer, config.name, found.identity)


def wrap(model: Any) -> BridgeBackend | None:
    """Take a bridge as it is, raw or in compatibility mode, with its tokenizer."""
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
    """Offer the backend."""
    yield Component(
        kind="model",
        name="transformer_lens",
        config=TransformerLensConfig,
        build=build,
        wrap=wrap,
        summary="a language model through TransformerLens' bridge, raw or processed",
    )

"""Warn about an SAE for raw activations in a processed model, or the reverse."""

from __future__ import annotations

import warnings
from weakref import WeakKeyDictionary, WeakSet

from torch import nn

from saecore.core.sae import SAE

_warned: WeakKeyDictionary[nn.Module, WeakSet[SAE]] = WeakKeyDictionary()
REMEDY = {
    "raw": "load the model without processing",
    "processed": "load the model with HookedSAETransformer.from_pretrained(name, processed=True)",
}
"""What to do, by the convention that the SAE was trained on."""


def warn_of_mismatch(sae: SAE, hook: str, model: nn.Module, name: str, convention: str) -> None:
    """Warn once per SAE and model if the SAE's metadata names the other convention.

    Args:
        sae: the SAE; there is no warning if its metadata has no `activation_convention`.
        hook: the hook that it reads.
        model: the model.
        name: the model's name.
        convention: convention of the model's activations, raw or processed.
    """
    trained = sae.cfg.metadata.get("activation_convention")
    if trained not in REMEDY or trained == convention:
        return
    seen = _warned.setdefault(model, WeakSet())
    if sae in seen:
        return
    seen.add(sae)
    warnings.warn(
        f"the SAE at {hook} was trained on {trained} activations, but those of {name} are "
        f"{convention}, so its features are meaningless; {REMEDY[trained]}",
        UserWarning,
        stacklevel=4,
    )

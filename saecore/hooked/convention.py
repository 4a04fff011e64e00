"""Raw and processed activations: an SAE of one kind reads nonsense in a model of the other."""

from __future__ import annotations

import warnings
from weakref import WeakKeyDictionary, WeakSet

from torch import nn

from saecore.sae import SAE

_warned: WeakKeyDictionary[nn.Module, WeakSet[SAE]] = WeakKeyDictionary()
REMEDY = {
    "raw": "load the model without processing",
    "processed": "load the model with HookedSAETransformer.from_pretrained(name, processed=True)",
}
"""What to do about an SAE of that kind."""


def warn_of_mismatch(sae: SAE, hook: str, model: nn.Module, name: str, convention: str) -> None:
    """Warn, once for an SAE and a model, when the SAE's metadata names the other convention.

    Args:
        sae: the SAE; without `activation_convention` in its metadata nothing is said.
        hook: where it works.
        model: the model.
        name: the model's name.
        convention: that of the model's activations.
    """
    trained = sae.cfg.metadata.get("activation_convention")
    if trained not in REMEDY or trained == convention:
        return
    seen = _warned.setdefault(model, WeakSet())
    if sae in seen:
        return
    seen.add(sae)
    warnings.warn(
        f"the SAE at {hook} was trained on {trained} activations, and those of {name} are "
        f"{convention}: its features mean nothing there; {REMEDY[trained]}",
        UserWarning,
        stacklevel=4,
    )

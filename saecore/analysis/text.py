"""Resolve an SAE argument together with its model and training text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np

from saecore.errors import ConfigError, labeled_errors

if TYPE_CHECKING:
    from saecore.activations.contexts import Contexts
    from saecore.config.layers import Layers
    from saecore.core.model import ModelBackend
    from saecore.core.sae import SAE

TABLES = ("model", "dataset")
"""Tables that settings may override."""


@attrs.frozen(eq=False, kw_only=True)
class ModelText:
    """A language model and contexts for it."""

    backend: ModelBackend
    """The model."""
    contexts: Contexts
    """The contexts, in an order that `seed` fixes."""
    seed: int
    """Seed of the order."""
    batch_size: int = 32
    """Contexts per forward pass."""


@attrs.frozen(eq=False)
class SAEWithText:
    """An SAE, and what is known of its model and training text."""

    sae: SAE
    """The SAE in its inference form."""
    name: str
    """NAME/ID of a run, or the name it was requested by."""
    layers: Layers
    """[model] and [dataset], as far as they are known."""

    def text(self) -> ModelText:
        """Load the model and tokenize the training side of the text, in the order of the run.

        Raises:
            SaecoreError: model or text are unknown or missing, or do not fit each other.
        """
        with labeled_errors(self.layers.label):
            return self._text()

    def _text(self) -> ModelText:
        from saecore.activations.build import read_tokens
        from saecore.activations.contexts import ArrayContexts
        from saecore.core.sae_config import DTYPES
        from saecore.evaluation.settings import structure_settings
        from saecore.models.device import pick_device

        settings = structure_settings(self.layers)
        model, dataset = settings.model, settings.dataset
        if dataset is not None and dataset.loader.component.provides:
            name = dataset.loader.name
            raise ConfigError([f"dataset: {name} gives activations, not text; give --dataset"])
        if model is None or dataset is None:
            missing = "model" if model is None else "dataset"
            raise ConfigError([f"{missing}: the SAE does not say it; give --{missing}"])
        backend = model.backend.build(pick_device(model.device), DTYPES[model.dtype])
        train = read_tokens(dataset, backend, 0).train
        contexts = ArrayContexts(train) if isinstance(train, np.ndarray) else train
        return ModelText(backend=backend, contexts=contexts, seed=dataset.seed)


def open_sae_with_text(
    sae: str | Path,
    model: str | None = None,
    dataset: str | None = None,
    settings: Sequence[str] = (),
) -> SAEWithText:
    """Open an SAE from a run, a path or RELEASE:SAE_ID, with its model and text.

    Args:
        sae: a run's directory, a saved SAE, or RELEASE:SAE_ID.
        model: name or path of the language model; default: the SAE's own.
        dataset: name or path of the text; default: the training text.
        settings: `key=value` strings that override keys of [model] and [dataset].

    Raises:
        SaecoreError: the SAE does not exist or cannot be read, or a setting is of another table.
    """
    from saecore.evaluation.settings import override
    from saecore.evaluation.target import resolve_target, update_metadata

    target = resolve_target(sae)
    layers = override(target, model, dataset, settings)
    names = {setting.partition("=")[0].partition(".")[0].strip() for setting in settings}
    unknown = sorted(names - {*TABLES})
    if unknown:
        raise ConfigError(
            [f"--set {name}: expected a key of {' or '.join(TABLES)}" for name in unknown],
            label=layers.label,
        )
    keys = {"hook": "hook_name", "hooks": "hook_names", "head": "hook_head_index"}
    table = layers.tables.get("model", {})
    update_metadata(
        target.sae, {keys[key]: table[key] for key in keys if table.get(key) is not None}
    )
    name = target.name
    if target.run is not None:
        directory = target.run.resolve()
        name = f"{directory.parent.name}/{directory.name}"
    return SAEWithText(target.sae, name, layers)

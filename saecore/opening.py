"""What a command is given, with the text that it was trained on: for looking, not for measuring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from saecore.errors import ConfigError
from saecore.plugins import current_host

if TYPE_CHECKING:
    from saecore.backend import ModelBackend
    from saecore.config.layers import Layers
    from saecore.data.contexts import Contexts
    from saecore.sae import SAE

TABLES = ("model", "dataset")


@attrs.frozen(eq=False)
class Text:
    """A language model and contexts for it."""

    backend: ModelBackend
    """The model."""
    contexts: Contexts
    """The contexts, in an order of their own."""
    seed: int
    """The seed of that order."""
    batch_size: int = 32
    """Contexts per forward pass."""


@attrs.frozen(eq=False)
class Opened:
    """An SAE, and what is known of the model and text that it belongs to."""

    sae: SAE
    """The SAE in its published form."""
    name: str
    """What it is called: the run, or what was given."""
    layers: Layers
    """[model] and [dataset], as far as they are known."""

    def text(self) -> Text:
        """Load the model and tokenise the text: the side that is trained on, in the run's order.

        Raises:
            SaecoreError: they are not named, missing, or do not fit each other.
        """
        from saecore.data.contexts import ArrayContexts
        from saecore.held_out import structured
        from saecore.reading import pick_device, read_tokens
        from saecore.sae_config import DTYPES

        source = self.layers.source
        chosen = structured(self.layers, current_host(), {})
        model, dataset = chosen.model, chosen.dataset
        if dataset is not None and dataset.plugin.component.gives:
            name = dataset.plugin.name
            raise ConfigError(
                source, [f"dataset: {name} gives activations, not text; give --dataset"]
            )
        if model is None or dataset is None:
            missing = "model" if model is None else "dataset"
            raise ConfigError(source, [f"{missing}: the SAE does not say it; give --{missing}"])
        backend = model.plugin.build(pick_device(model.device, source), DTYPES[model.dtype])
        train = read_tokens(dataset, backend, source, 0).train
        contexts = ArrayContexts(train) if isinstance(train, np.ndarray) else train
        return Text(backend, contexts, dataset.seed)


def opened(
    given: str | Path,
    model: str | None = None,
    dataset: str | None = None,
    settings: Sequence[str] = (),
) -> Opened:
    """Read the SAE that somebody names on a command line.

    Args:
        given: a run's directory, a saved SAE, or RELEASE:SAE_ID.
        model: name or path of the language model; default: the SAE's own.
        dataset: name or path of the text; default: what it was trained on.
        settings: `key=value` strings laid over [model] and [dataset].

    Raises:
        SaecoreError: there is no such thing, it cannot be read, or a setting is of something else.
    """
    from saecore.held_out import choose
    from saecore.subject import subject_of

    host = current_host()
    subject = subject_of(given, host)
    layers = choose(subject, model, dataset, settings, host)
    wrong = {one.partition("=")[0].partition(".")[0].strip() for one in settings} - {*TABLES}
    if wrong:
        raise ConfigError(
            layers.source,
            [f"--set {one}: expected a key of {' or '.join(TABLES)}" for one in sorted(wrong)],
        )
    name = (
        f"{subject.run.resolve().parent.name}/{subject.run.resolve().name}" if subject.run else ""
    )
    return Opened(_placed(subject.sae, layers.tables), name or subject.name, layers)


def _placed(sae: SAE, tables: dict[str, Any]) -> SAE:
    """The SAE with the hooks of [model] in its metadata, which say where it reads."""
    from saecore.sae_config import Metadata

    table, found = tables.get("model", {}), dict(sae.cfg.metadata)
    for key, name in (("hook", "hook_name"), ("hooks", "hook_names"), ("head", "hook_head_index")):
        if table.get(key) is not None:
            found[name] = table[key]
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata(found))
    return sae

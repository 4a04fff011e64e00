"""What a command is given: a run, or an SAE that was saved or published, with model and text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from saecore.config.experiment import DatasetTable, ModelTable
from saecore.config.explain import config_error
from saecore.config.layers import Layers, add_setting, merge
from saecore.config.structure import Problems, structure
from saecore.errors import ConfigError, DataError
from saecore.plugins import current_host
from saecore.resume import RECORD, read_record

if TYPE_CHECKING:
    from saecore.backend import ModelBackend
    from saecore.data.contexts import Contexts
    from saecore.data.tokens import TokenRows
    from saecore.sae import SAE


@attrs.frozen
class Tables:
    """The part of an experiment that says where activations come from."""

    model: ModelTable
    """The language model."""
    dataset: DatasetTable
    """The text."""


@attrs.frozen(eq=False)
class Opened:
    """An SAE, and what is known of the model and text that it belongs to."""

    sae: SAE
    """The SAE in its published form."""
    name: str
    """What it is called: the run, or what was given."""
    run: Path | None
    """The run's directory, if it is of one."""
    layers: Layers
    """[model] and [dataset]; of an SAE without a run, as far as its metadata knows them."""

    def tables(self) -> Tables:
        """The checked tables.

        Raises:
            ConfigError: with every problem found.
        """
        try:
            tables: Tables = structure(self.layers.tables, Tables, current_host())
        except Problems as error:
            raise config_error(self.layers, error.items) from None
        return tables


def open_sae(given: str, settings: Sequence[str] = ()) -> Opened:
    """Read what somebody names on a command line.

    Args:
        given: a run's directory (or its `sae` directory), a saved SAE, or RELEASE:SAE_ID.
        settings: `key=value` strings laid over [model] and [dataset], those of the run or those
            that the SAE's metadata names.

    Raises:
        SaecoreError: there is no such thing, or it cannot be read.
    """
    from saecore.releases.convert import read
    from saecore.sae import SAE

    place = Path(given)
    run = next((one for one in (place, place.resolve().parent) if (one / RECORD).is_file()), None)
    layers = Layers(given)
    if run is None:
        sae, name = read(given).sae, given
        merge(layers, _described(sae), f"the metadata of {given}")
    else:
        experiment = read_record(run)["experiment"]
        if not (run / "sae").is_dir():
            raise DataError(
                f"{run}: the run has no SAE yet; finish it with saecore run {run / RECORD} "
                f"--resume {run}"
            )
        sae, name = SAE.load_from_disk(run / "sae"), f"{experiment['name']}/{run.resolve().name}"
        known = {key: one for key, one in experiment.items() if key in ("model", "dataset")}
        merge(layers, known, str(run / RECORD))
    for setting in settings:
        add_setting(layers, setting)
    return Opened(sae, name, run, layers)


def _described(sae: SAE) -> dict[str, Any]:
    """[model] as far as the SAE's metadata names it."""
    meta = sae.cfg.metadata
    hooks = meta.get("hook_names")
    model = {
        "type": "huggingface",
        "name": meta.get("model_name"),
        "head": meta.get("hook_head_index"),
        **({"hooks": hooks} if hooks else {"hook": meta.get("hook_name")}),
    }
    if meta.get("model_name") == "tiny_lm":
        model = {**model, "type": "tiny_lm", "name": None}
    dataset = {"context_size": meta.get("context_size"), "prepend_bos": meta.get("prepend_bos")}
    return {
        "model": {key: one for key, one in model.items() if one is not None},
        "dataset": {key: one for key, one in dataset.items() if one is not None},
    }


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


def open_text(opened: Opened) -> Text:
    """Load the model and tokenise the text: the side that is trained on, in the run's order.

    Raises:
        SaecoreError: they are not named, missing, or do not fit each other.
    """
    from saecore.reading import pick_device, read_tokens
    from saecore.sae_config import DTYPES

    tables, source = opened.tables(), opened.layers.source
    gives = tables.dataset.plugin.component.gives
    if gives:
        raise ConfigError(
            source,
            [f"dataset: {tables.dataset.plugin.name} gives activations, not text; name the text "
             "with --set dataset.type=…"],
        )  # fmt: skip
    model = tables.model
    backend = model.plugin.build(pick_device(model.device, source), DTYPES[model.dtype])
    return Text(backend, _contexts(read_tokens(tables.dataset, backend, source, 0)),
                tables.dataset.seed)  # fmt: skip


def _contexts(rows: TokenRows) -> Contexts:
    from saecore.data.contexts import ArrayContexts

    train = rows.train
    return ArrayContexts(train) if isinstance(train, np.ndarray) else train

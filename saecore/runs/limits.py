"""Check the limits that need the sizes of the activations, before text is read or a step taken."""

from __future__ import annotations

import torch

from saecore.activations.build import sizes
from saecore.config.experiment import Experiment
from saecore.core.model import ModelBackend
from saecore.core.sae_config import DTYPES, Shape
from saecore.models.hook_site import HookSite
from saecore.runs.build import build_trainer, check_start
from saecore.runs.no_activations import NoActivations

META = torch.device("meta")


def check_limits(experiment: Experiment, backend: ModelBackend | None = None) -> None:
    """Refuse an experiment whose SAE or trainer cannot be built, such as one with k over d_sae.

    Nothing of the size of the SAE is allocated. A dataset that does not tell its sizes is not
    checked; neither is an architecture that cannot be built without values.

    Args:
        experiment: the experiment.
        backend: the language model, if activations are read from one.

    Raises:
        SaecoreError: the settings do not fit each other or the model.
    """
    size = sizes(experiment, backend) if backend is not None else _dataset_sizes(experiment)
    if size is None:
        return
    table, (d_in, d_out) = experiment.sae, size
    hooks = len(experiment.model.read_hooks) if experiment.model is not None else 1
    shape = Shape(
        d_in, d_out, table.width(d_in), dtype=DTYPES[table.dtype], device=META, hooks=hooks
    )
    try:
        sae = table.architecture.build(shape)
        if table.init_from is not None:
            check_start(sae, table)
        build_trainer(experiment, sae, NoActivations(), backend)
    except (NotImplementedError, RuntimeError):  # needs values, which the meta device has not
        return


def _dataset_sizes(experiment: Experiment) -> tuple[int, int] | None:
    """Sizes d_in and d_out of a dataset of activations, as far as it tells them cheaply."""
    table, model = experiment.dataset, experiment.model
    loader, config = table.loader, table.loader.config
    if "recorded" in loader.component.provides:
        cache = loader.build(table.seed)
        if model is None:
            site = HookSite(hooks=(cache.only_hook(config.hook),))
        else:
            site = HookSite(
                hooks=model.read_hooks,
                separate_targets=model.targets,
                head=model.head,
                target_head=model.head,
            )
        rows = cache.stream(site)
        return rows.d_in, rows.d_out
    d_in = getattr(config, "d_in", None)
    return (d_in, d_in) if isinstance(d_in, int) else None

"""The parts of a run, made from an experiment: SAE and trainer."""

from __future__ import annotations

import torch

from saecore.backend import ModelBackend
from saecore.calibration import check_threshold_form
from saecore.config.experiment import Experiment
from saecore.data.source import ActivationSource
from saecore.end_to_end import ModelLoss
from saecore.errors import ConfigError, ReleaseError
from saecore.initialization import Start
from saecore.l0_control import L0Control
from saecore.normalize import RUNTIME
from saecore.optimizer import parameter_groups
from saecore.randomness import generator
from saecore.releases.convert import read
from saecore.sae import SAE
from saecore.sae_config import DTYPES, Shape
from saecore.trainer import Trainer, TrainerSettings


def make_sae(
    experiment: Experiment,
    d_in: int,
    d_out: int,
    device: torch.device,
    source: str,
) -> SAE:
    """The SAE with its first weights.

    Raises:
        ConfigError: the settings do not fit each other, or not the SAE to start from.
    """
    table = experiment.sae
    hooks = len(experiment.model.read_hooks) if experiment.model is not None else 1
    shape = Shape(d_in, d_out, table.width(d_in), DTYPES[table.dtype], device, hooks)
    try:
        sae: SAE = table.plugin.build(shape)
    except ConfigError as error:
        raise ConfigError(source, error.problems) from None
    if table.init_from is None:
        unit = table.decoder_norm == "unit"
        norm = 1.0 if unit else table.init.decoder_norm
        tied = table.init.type != "independent"
        sae.initialize(generator(experiment.seed, "init"), norm, tied)
        return sae
    try:
        start = read(table.init_from).sae
    except ReleaseError as error:
        raise ConfigError(source, [f"sae.init_from: {error}"]) from error
    scaling = table.normalizer.name if table.normalizer.name in RUNTIME else "none"
    problems = []
    if start.architecture != sae.architecture:
        problems.append(
            f"sae.init_from: {table.init_from} is a {start.architecture} SAE, the experiment's is "
            f'{sae.architecture}; set sae.architecture = "{start.architecture}"'
        )
    if start.cfg.normalize_activations != scaling:
        problems.append(
            f"sae.init_from: {table.init_from} normalizes activations by "
            f'"{start.cfg.normalize_activations}", the experiment by "{scaling}"; set '
            f'sae.normalizer = "{start.cfg.normalize_activations}"'
        )
    if problems:
        raise ConfigError(source, problems)
    state, given = sae.state_dict(), start.state_dict()
    for name, tensor in state.items():
        if name not in given or given[name].shape != tensor.shape:
            got = list(given[name].shape) if name in given else "nothing"
            raise ConfigError(
                source,
                [f"sae.init_from: {table.init_from}: {name}: expected {list(tensor.shape)}, "
                 f"got {got}"],
            )  # fmt: skip
    sae.load_state_dict({name: given[name] for name in state})
    return sae


def make_trainer(
    experiment: Experiment,
    sae: SAE,
    activations: ActivationSource,
    source: str,
    backend: ModelBackend | None = None,
) -> Trainer:
    """The trainer, before its first step; `backend` is needed where the loss is the model's.

    Raises:
        ConfigError: there is no coefficient that `sae.l0_control` could move, a learning-rate
            factor of an unknown parameter, or two averages of weights.
    """
    t = experiment.training
    auto = getattr(t.optimizer.config, "auto_lr", 2e-4) / (sae.cfg.d_sae / 2**14) ** 0.5
    lr = auto if t.lr == "auto" else float(t.lr)
    optimizer = t.optimizer.build(parameter_groups(sae, lr, t.lr_factors), lr)
    if t.ema is not None and hasattr(optimizer, "averaged"):
        name = t.optimizer.name
        raise ConfigError(
            source, [f"training.ema: optimizer {name} averages by itself; remove the key"]
        )
    if experiment.evaluation.calibrate_l0 is not None:
        check_threshold_form(sae)
    settings = TrainerSettings(
        t.steps,
        t.batch_size,
        lr,
        t.clip_norm,
        t.accumulate,
        t.autocast,
        t.feature_sampling_window,
        t.bad_numbers,
        experiment.seed,
        experiment.sae.decoder_norm == "unit",
        t.ema,
    )
    table, control = experiment.sae.l0_control, None
    if table is not None:
        if sae.coefficient is None:
            raise ConfigError(
                source,
                [f"sae.l0_control: architecture {sae.architecture} has no sparsity coefficient to "
                 "move; remove the table and set k"],
            )  # fmt: skip
        control = L0Control(table.target, table.speed, sae.W_dec.device)
    return Trainer(
        sae,
        activations,
        optimizer,
        settings,
        lr_schedule=t.lr_schedule.build(),
        normalizer=experiment.sae.normalizer.build(),
        dead_latents=experiment.sae.dead_latents.build(),
        l0_control=control,
        model_loss=_model_loss(experiment, backend),
        start=Start(experiment.sae.init, saved=experiment.sae.init_from is not None),
    )


def _model_loss(experiment: Experiment, backend: ModelBackend | None) -> ModelLoss | None:
    kind = experiment.training.loss
    if kind == "mse" or backend is None:
        return None
    model = experiment.language_model
    hooks = model.targets or model.read_hooks
    return ModelLoss(backend, hooks, kind, experiment.dataset.context_size)

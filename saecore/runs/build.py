"""Build an experiment's SAE and trainer."""

from __future__ import annotations

import torch

from saecore.config.experiment import Experiment, SAETable
from saecore.core.activation_store import ActivationStore
from saecore.core.model import ModelBackend
from saecore.core.normalizer import RUNTIME
from saecore.core.sae import SAE
from saecore.core.sae_config import DTYPES, Shape
from saecore.errors import CheckpointError, ConfigError, ReleaseError
from saecore.randomness import generator
from saecore.releases.resolve import resolve
from saecore.training.calibration import check_threshold_form
from saecore.training.end_to_end import ModelLoss
from saecore.training.initialization import Start
from saecore.training.l0_controller import L0Controller
from saecore.training.optimizer_steps import parameter_groups
from saecore.training.trainer import Trainer, TrainerSettings


def build_sae(experiment: Experiment, d_in: int, d_out: int, device: torch.device) -> SAE:
    """Build the SAE with its initial weights.

    Args:
        experiment: the experiment.
        d_in: size of the activations that the SAE reads.
        d_out: size of the activations that it reconstructs.
        device: the SAE's device.

    Raises:
        ConfigError: the settings do not fit each other, or do not fit the SAE of `init_from`.
    """
    table = experiment.sae
    hooks = len(experiment.model.read_hooks) if experiment.model is not None else 1
    shape = Shape(
        d_in, d_out, table.width(d_in), dtype=DTYPES[table.dtype], device=device, hooks=hooks
    )
    sae: SAE = table.architecture.build(shape)
    if table.init_from is not None:
        _load_weights(sae, table)
        return sae
    unit = table.decoder_norm == "unit"
    norm = 1.0 if unit else table.init.decoder_norm
    tied = table.init.type != "independent"
    sae.initialize(generator(experiment.seed, "init"), norm, tied)
    return sae


def _load_weights(sae: SAE, table: SAETable) -> None:
    """Copy the weights of the SAE that `init_from` names.

    Raises:
        ConfigError: it cannot be read, or has another architecture, normalization or shape.
    """
    saved = check_start(sae, table).state_dict()
    sae.load_state_dict({name: saved[name] for name in sae.state_dict()})


def check_start(sae: SAE, table: SAETable) -> SAE:
    """Read the SAE that `init_from` names, and check that its weights fit.

    Args:
        sae: the SAE that will start from it.
        table: the experiment's [sae].

    Raises:
        ConfigError: it cannot be read, or has another architecture, normalization or shape.
    """
    try:
        start = resolve(str(table.init_from)).load().sae
    except (CheckpointError, ReleaseError) as error:
        raise ConfigError([f"sae.init_from: {error}"]) from error
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
        raise ConfigError(problems)
    state, saved = sae.state_dict(), start.state_dict()
    for name, tensor in state.items():
        if name not in saved or saved[name].shape != tensor.shape:
            got = list(saved[name].shape) if name in saved else "nothing"
            raise ConfigError(
                [f"sae.init_from: {table.init_from}: {name}: expected {list(tensor.shape)}, "
                 f"got {got}"],
            )  # fmt: skip
    return start


def build_trainer(
    experiment: Experiment,
    sae: SAE,
    activations: ActivationStore,
    backend: ModelBackend | None = None,
) -> Trainer:
    """Build the trainer, before its first step.

    Args:
        experiment: the experiment.
        sae: the SAE to train.
        activations: the activations to train on.
        backend: the language model; needed for a loss through the model.

    Raises:
        ConfigError: `sae.l0_control` has no coefficient to move, a learning-rate factor names an
            unknown parameter, or both optimizer and `training.ema` would average the weights.
    """
    t = experiment.training
    auto = getattr(t.optimizer.config, "auto_lr", 2e-4) / (sae.cfg.d_sae / 2**14) ** 0.5
    lr = auto if t.lr == "auto" else float(t.lr)
    optimizer = t.optimizer.build(parameter_groups(sae, lr, t.lr_factors), lr)
    if t.ema is not None and hasattr(optimizer, "averaged"):
        name = t.optimizer.name
        raise ConfigError(
            [f"training.ema: optimizer {name} averages the weights itself; remove the key"]
        )
    if experiment.evaluation.calibrate_l0 is not None:
        check_threshold_form(sae)
    settings = TrainerSettings(
        steps=t.steps,
        batch_size=t.batch_size,
        lr=lr,
        clip_norm=t.clip_norm,
        accumulate=t.accumulate,
        autocast=t.autocast,
        feature_sampling_window=t.feature_sampling_window,
        bad_numbers=t.bad_numbers,
        seed=experiment.seed,
        unit_decoder=experiment.sae.decoder_norm == "unit",
        ema=t.ema,
    )
    table, control = experiment.sae.l0_control, None
    if table is not None:
        if sae.coefficient is None:
            raise ConfigError(
                [f"sae.l0_control: architecture {sae.architecture} has no sparsity coefficient to "
                 "move; remove the table and set k"],
            )  # fmt: skip
        control = L0Controller(table.target, table.speed, sae.W_dec.device)
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
    return ModelLoss(
        backend=backend, hooks=hooks, kind=kind, context_size=experiment.dataset.context_size
    )

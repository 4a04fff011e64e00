"""The parts of a run, made from an experiment: text, window, SAE, trainer."""

from __future__ import annotations

import torch

from saecore.backend import ModelBackend
from saecore.calibration import check_threshold_form
from saecore.config.experiment import DatasetTable, Experiment
from saecore.data.buffer import Window, WindowSettings
from saecore.data.packing import Packing
from saecore.data.source import ActivationSource
from saecore.data.tokens import TokenRows, special_tokens, token_rows
from saecore.end_to_end import ContextStream, ModelLoss
from saecore.errors import ConfigError, DataError
from saecore.initialization import Start
from saecore.l0_control import L0Control
from saecore.normalize import RUNTIME
from saecore.optimizer import parameter_groups
from saecore.randomness import generator
from saecore.sae import SAE
from saecore.sae_config import DTYPES, Shape
from saecore.trainer import Trainer, TrainerSettings


def pick_device(name: str, source: str = "experiment", key: str = "model.device") -> torch.device:
    """The torch device of a setting; "auto" takes cuda, mps, cpu in this order.

    Raises:
        ConfigError: this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, True):
        raise ConfigError(source, [f'{key}: this machine has no {name}; use "auto" or "cpu"'])
    return device


def sizes(experiment: Experiment, backend: ModelBackend, source: str) -> tuple[int, int]:
    """d_in and d_out, from the model's hooks."""
    model, problems = experiment.language_model, []
    cls = experiment.sae.plugin.component.builder()
    name = experiment.sae.plugin.name
    if model.hooks and not getattr(cls, "several_hooks", False):
        problems.append(f"model.hooks: architecture {name} reads one hook; set model.hook")
    several_targets = getattr(cls, "several_targets", False)
    if model.target_hook and not getattr(cls, "separate_target", False):
        problems.append(
            f"model.target_hook: architecture {name} reconstructs what it reads; remove the key"
        )
    if model.target_hooks and not several_targets:
        problems.append(
            f"model.target_hooks: architecture {name} does not reconstruct several other hooks; "
            "remove the key"
        )
    if several_targets and not model.target_hooks:
        problems.append(
            f"model.target_hooks: architecture {name} reconstructs other hooks than it reads; "
            "name one for each of model.hooks"
        )
    if experiment.sae.normalizer.name in RUNTIME and (model.hooks or model.targets):
        # The scale of a token's activation at one hook says nothing of another hook's.
        problems.append(
            f"sae.normalizer: {experiment.sae.normalizer.name} scales every activation by itself, "
            'which works for one hook; use "expected_average_only_in" or "none"'
        )
    if problems:
        raise ConfigError(source, problems)

    def size(hook: str) -> int:
        sizes = backend.d(hook)
        if model.head is None:
            return int(torch.tensor(sizes).prod())
        if len(sizes) == 1:
            problems.append(
                f"model.head: {hook} has no heads; use hook_z, hook_q, hook_k or hook_v, or "
                "remove the key"
            )
        elif model.head >= sizes[0]:
            problems.append(f"model.head: {hook} has heads 0 to {sizes[0] - 1}, got {model.head}")
        return sizes[-1]

    read = {hook: size(hook) for hook in model.read_hooks}
    wanted = {hook: size(hook) for hook in model.targets}
    d_in = sum(read[hook] for hook in model.read_hooks)
    d_out = sum(wanted[hook] for hook in model.targets) if wanted else d_in
    for key, found in (("hooks", read), ("target_hooks", wanted)):
        if len(set(found.values())) > 1:
            sized = ", ".join(f"{hook}: {one}" for hook, one in found.items())
            problems.append(f"model.{key}: expected hooks of one size, got {sized}")
    if experiment.sae.d_in not in (None, d_in):
        problems.append(
            f"sae.d_in: {', '.join(read)} of {backend.name} has size {d_in}, got "
            f"{experiment.sae.d_in}"
        )
    if backend.max_context is not None and experiment.dataset.context_size > backend.max_context:
        problems.append(
            f"dataset.context_size: {backend.name} takes at most {backend.max_context} tokens, "
            f"got {experiment.dataset.context_size}"
        )
    if problems:
        raise ConfigError(source, problems)
    return d_in, d_out


def read_tokens(
    table: DatasetTable, backend: ModelBackend, source: str, evaluated: int
) -> TokenRows:
    """Tokenise and pack the text, or open what was made before.

    Args:
        table: the text, and how it becomes contexts.
        backend: the language model, for its tokenizer.
        source: where the settings come from, for error messages.
        evaluated: held-out tokens that will be needed.

    Raises:
        ConfigError: the tokenizer has no such special token.
        DataError: there is no text, or none held out.
    """
    special = special_tokens(backend.tokenizer)
    problems = []
    if table.prepend_bos and "bos" not in special:
        problems.append(
            f"dataset.prepend_bos: {backend.name}'s tokenizer has no BOS token; set it to false"
        )
    separator: int | None = None
    if isinstance(table.separator, int):
        separator = table.separator
        if not 0 <= separator < backend.vocab_size:
            problems.append(
                f"dataset.separator: expected a token id below {backend.vocab_size}, "
                f"got {separator}"
            )
    elif table.separator != "none":
        separator = special.get(table.separator)
        if separator is None:
            problems.append(
                f"dataset.separator: {backend.name}'s tokenizer has no {table.separator} token; "
                f"expected one of {', '.join([*special, 'none'])} or a token id"
            )
    if problems:
        raise ConfigError(source, problems)
    packing = Packing(
        table.context_size,
        begin_context=special["bos"] if table.prepend_bos else None,
        separator=separator,
        concat=table.concat,
    )
    documents = table.plugin.build(backend.tokenizer)
    rows = token_rows(
        documents,
        backend.tokenizer,
        backend.vocab_size,
        packing,
        table.held_out,
        max(1, evaluated // table.context_size) if evaluated else 0,
    )
    if evaluated and not len(rows.held_out):
        raise DataError(
            "dataset.held_out: no context of held-out text to evaluate on; raise "
            "dataset.held_out, give more text, or set evaluation.tokens = 0"
        )
    return rows


def excluded_tokens(table: DatasetTable, backend: ModelBackend) -> tuple[int, ...]:
    """Ids of the tokens whose activations are left out."""
    if table.exclude_special_tokens is True:
        return tuple(sorted(set(special_tokens(backend.tokenizer).values())))
    return table.exclude_special_tokens or ()


def make_window(experiment: Experiment, backend: ModelBackend, rows: TokenRows) -> Window:
    """The stream of activations.

    Raises:
        DataError: the text is shorter than the training, as far as its length is known.
    """
    model, table, buffer = experiment.language_model, experiment.dataset, experiment.buffer
    end_to_end = experiment.training.loss != "mse"
    window = (ContextStream if end_to_end else Window)(
        backend,
        rows.train,
        WindowSettings(
            model.read_hooks,
            model.targets,
            model.head,
            experiment.training.batch_size if end_to_end else buffer.tokens,
            buffer.model_batch_size,
            table.positions,
            excluded_tokens(table, backend),
            table.epochs,
            table.seed,
        ),
    )
    needed = experiment.training.steps * experiment.training.batch_size
    available = window.rows()
    if available is not None and available < needed:
        epochs = -(-needed * table.epochs // max(1, available))
        raise DataError(
            f"training.tokens: the text has {available:_} tokens in {table.epochs} epoch(s), "
            f"{needed:_} were asked for; lower training.tokens, give more text or set "
            f"dataset.epochs = {epochs}"
        )
    return window


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
    start = SAE.load_from_disk(table.init_from, device)
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
    hooks = (model.target_hook,) if model.target_hook else model.read_hooks
    return ModelLoss(backend, hooks, kind, experiment.dataset.context_size)

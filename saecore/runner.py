"""From an experiment to a trained SAE on disk: the one file that wires the rooms together."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from saecore.backend import ModelBackend
from saecore.checkpoint import save
from saecore.config.experiment import Experiment
from saecore.config.explain import chosen, flatten, to_tables
from saecore.data.buffer import Window, WindowSettings
from saecore.data.packing import Packing
from saecore.data.tokens import TokenRows, special_tokens, token_rows
from saecore.errors import ConfigError, DataError, NumericsError
from saecore.evaluation import evaluate
from saecore.files import explained, write_json
from saecore.plugins import Host, current_host, versions
from saecore.randomness import generator
from saecore.sae import SAE
from saecore.sae_config import DTYPES, Metadata, Shape
from saecore.tracking import Loggers, MetricsFile, RunInfo
from saecore.trainer import Trainer, TrainerSettings


@attrs.frozen
class RunResult:
    """What a run leaves."""

    directory: Path
    """The run's directory."""
    sae: SAE
    """The trained SAE in its published form."""
    evaluation: Mapping[str, Any]
    """Held-out figures, evaluator by evaluator."""
    metrics: Mapping[str, float]
    """The last line of metrics."""
    seconds: float
    """Wall time of training."""


def run(experiment: Experiment, host: Host | None = None, source: str = "experiment") -> RunResult:
    """Train, evaluate and save.

    Args:
        experiment: what to do.
        host: the plugins to use; default: all that are installed.
        source: where the experiment comes from, for error messages.

    Raises:
        SaecoreError: the experiment cannot be run; nothing that was there before is changed.
    """
    host = host or current_host()
    parent = _writable(Path(experiment.output) / experiment.name)
    device = pick_device(experiment.model.device, source)
    backend: ModelBackend = experiment.model.plugin.build(device, DTYPES[experiment.model.dtype])
    d_in, d_out = _sizes(experiment, backend, source)
    rows = _tokens(experiment, backend, source)
    window = _window(experiment, backend, rows)
    sae = _sae(experiment, backend, d_in, d_out, device, source)
    trainer = _trainer(experiment, sae, window)

    info = _start(experiment, parent, backend, rows, host)
    loggers = _loggers(experiment, info, host)
    metrics = MetricsFile(info.directory / "metrics.jsonl")
    try:
        loggers.call("start", info)
        return _train(experiment, trainer, backend, rows, info, loggers, metrics)
    finally:
        metrics.close()
        loggers.call("close")


def _train(
    experiment: Experiment,
    trainer: Trainer,
    backend: ModelBackend,
    rows: TokenRows,
    info: RunInfo,
    loggers: Loggers,
    metrics: MetricsFile,
) -> RunResult:
    training, table = experiment.training, experiment.evaluation
    evaluators = {one.name: one.build() for one in experiment.evaluator} if table.tokens else {}
    contexts = max(1, table.tokens // experiment.dataset.context_size)
    held_out = torch.from_numpy(rows.held_out[:contexts].astype("int64"))

    def figures_of(sae: SAE) -> dict[str, dict[str, Any]]:
        return evaluate(sae, backend, held_out, evaluators)

    def log(values: dict[str, float]) -> None:
        metrics.write(trainer.completed, trainer.tokens, values)
        loggers.call("scalars", trainer.completed, values)

    trainer.prepare()
    began = last = time.monotonic()
    logged = trainer.completed
    evaluated = 0
    values: dict[str, float] = {}
    paused = 0.0
    while trainer.completed < training.steps:
        trainer.step()
        final = trainer.completed == training.steps
        if trainer.completed % training.log_every_steps == 0 or final:
            now = time.monotonic()
            values = trainer.read_metrics()
            tokens = (trainer.completed - logged) * training.batch_size
            values["performance/tokens_per_second"] = tokens / max(1e-9, now - last)
            last, logged = now, trainer.completed
            log(values)
        checkpoint = training.checkpoint
        if checkpoint.every_steps and (trainer.completed % checkpoint.every_steps == 0 or final):
            save(
                info.directory / "checkpoints",
                trainer.completed,
                trainer.state_dict(),
                checkpoint.keep,
            )
        every = table.every_tokens
        if every and not final and evaluators and trainer.tokens // every > evaluated:
            evaluated = trainer.tokens // every
            start = time.monotonic()
            log(_flat(figures_of(_published(experiment, trainer, values, rows, backend))))
            last += time.monotonic() - start
            paused += time.monotonic() - start
    seconds = time.monotonic() - began - paused

    sae = _published(experiment, trainer, values, rows, backend)
    _check_finite(sae)
    sae.save_model(info.directory / "sae", trainer.latents.sparsity())
    evaluation = figures_of(sae)
    log(_flat(evaluation))
    summary = {
        "tokens": trainer.tokens,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(trainer.tokens / max(1e-9, seconds), 1),
    }
    write_json(info.directory / "evaluation.json", {"training": summary, "figures": evaluation})
    for name in ("sae", "experiment.json", "evaluation.json"):
        loggers.call("artifact", info.directory / name)
    return RunResult(info.directory, sae, evaluation, values, seconds)


# -- the parts, left to right --------------------------------------------------------------


def pick_device(name: str, source: str = "experiment") -> torch.device:
    """The torch device of `model.device`; "auto" takes cuda, mps, cpu in this order.

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
        raise ConfigError(
            source, [f'model.device: this machine has no {name}; use "auto" or "cpu"']
        )
    return device


def _writable(directory: Path) -> Path:
    """Make the directory of the runs of this name, before anything slow happens."""
    with explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".probe-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    return directory


def _sizes(experiment: Experiment, backend: ModelBackend, source: str) -> tuple[int, int]:
    """d_in and d_out, from the model's hooks."""
    model, problems = experiment.model, []
    cls = experiment.sae.plugin.component.builder()
    name = experiment.sae.plugin.name
    if model.hooks and not getattr(cls, "several_hooks", False):
        problems.append(f"model.hooks: architecture {name} reads one hook; set model.hook")
    if model.target_hook and not getattr(cls, "separate_target", False):
        problems.append(
            f"model.target_hook: architecture {name} reconstructs what it reads; remove the key"
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

    d_in = size(model.read_hooks[0])
    d_out = size(model.target_hook) if model.target_hook else d_in
    if backend.max_context is not None and experiment.dataset.context_size > backend.max_context:
        problems.append(
            f"dataset.context_size: {backend.name} takes at most {backend.max_context} tokens, "
            f"got {experiment.dataset.context_size}"
        )
    if problems:
        raise ConfigError(source, problems)
    return d_in, d_out


def _tokens(experiment: Experiment, backend: ModelBackend, source: str) -> TokenRows:
    table = experiment.dataset
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
    documents = table.plugin.build()
    rows = token_rows(documents, backend.tokenizer, backend.vocab_size, packing, table.held_out)
    if experiment.evaluation.tokens and experiment.evaluator and not len(rows.held_out):
        raise DataError(
            "dataset.held_out: no context of held-out text to evaluate on; raise "
            "dataset.held_out, give more text, or set evaluation.tokens = 0"
        )
    return rows


def _window(experiment: Experiment, backend: ModelBackend, rows: TokenRows) -> Window:
    model, table, buffer = experiment.model, experiment.dataset, experiment.buffer
    exclude: tuple[int, ...] = ()
    if table.exclude_special_tokens is True:
        exclude = tuple(sorted(set(special_tokens(backend.tokenizer).values())))
    elif table.exclude_special_tokens:
        exclude = table.exclude_special_tokens
    window = Window(
        backend,
        rows.train,
        WindowSettings(
            model.read_hooks,
            model.target_hook,
            model.head,
            buffer.tokens,
            buffer.model_batch_size,
            table.positions,
            exclude,
            table.epochs,
            table.seed,
        ),
    )
    needed = experiment.training.steps * experiment.training.batch_size
    available = window.rows()
    if available < needed:
        epochs = -(-needed * table.epochs // max(1, available))
        raise DataError(
            f"training.tokens: the text has {available:_} tokens in {table.epochs} epoch(s), "
            f"{needed:_} were asked for; lower training.tokens, give more text or set "
            f"dataset.epochs = {epochs}"
        )
    return window


def _sae(
    experiment: Experiment,
    backend: ModelBackend,
    d_in: int,
    d_out: int,
    device: torch.device,
    source: str,
) -> SAE:
    table = experiment.sae
    shape = Shape(d_in, d_out, table.width(d_in), DTYPES[table.dtype], device)
    try:
        sae: SAE = table.plugin.build(shape)
    except ConfigError as error:
        raise ConfigError(source, error.problems) from None
    if table.init_from is None:
        sae.initialize(generator(experiment.seed, "init"), table.init.decoder_norm)
        return sae
    start = SAE.load_from_disk(table.init_from, device)
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


def _trainer(experiment: Experiment, sae: SAE, window: Window) -> Trainer:
    t = experiment.training
    lr = 2e-4 / (sae.cfg.d_sae / 2**14) ** 0.5 if t.lr == "auto" else float(t.lr)
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
    )
    return Trainer(
        sae,
        window,
        t.optimizer.build(sae.parameters(), lr),
        settings,
        lr_schedule=t.lr_schedule.build(),
        normalizer=experiment.sae.normalizer.build(),
        dead_latents=experiment.sae.dead_latents.build(),
    )


def _start(
    experiment: Experiment, parent: Path, backend: ModelBackend, rows: TokenRows, host: Host
) -> RunInfo:
    """Make the run's directory and experiment.json."""
    tables = to_tables(experiment)
    with explained(parent):
        while True:
            run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
            directory = parent / run_id
            try:
                directory.mkdir()
                break
            except FileExistsError:
                continue
    record = {
        "experiment": tables,
        "model": dict(backend.identity),
        "corpus": rows.corpus,
        "tokens_key": rows.key,
        "torch": torch.__version__,
        "plugins": versions(host.provider(one.kind, one.name) for one in chosen(experiment)),
    }
    write_json(directory / "experiment.json", record)
    t = experiment.training
    return RunInfo(experiment.name, run_id, directory, dict(flatten(tables)), t.steps, t.batch_size)


def _loggers(experiment: Experiment, info: RunInfo, host: Host) -> Loggers:
    from saecore.config.structure import structure_choice

    listed = list(experiment.logger)
    if all(one.name != "console" for one in listed) and "console" in host.names("logger"):
        listed.append(structure_choice("logger", "console", host))
    return Loggers([(one.name, one.build(info.directory)) for one in listed])


def _published(
    experiment: Experiment,
    trainer: Trainer,
    values: Mapping[str, float],
    rows: TokenRows,
    backend: ModelBackend,
) -> SAE:
    """The SAE as it would be saved now, with metadata under the names that SAELens uses."""
    sae = trainer.export()
    model, data, table = experiment.model, experiment.dataset, experiment.sae
    details: dict[str, Any] = {"decoder_init_norm": table.init.decoder_norm}
    details.update(trainer.sae.training_details())
    metadata = {
        "dataset_path": data.plugin.name,
        "hook_name": model.read_hooks[0],
        "model_name": backend.name,
        "model_class_name": type(getattr(backend, "model", backend)).__name__,
        "hook_head_index": model.head,
        "context_size": data.context_size,
        "seqpos_slice": list(data.positions) if data.positions else [None],
        "prepend_bos": data.prepend_bos,
        "exclude_special_tokens": to_tables(data)["exclude_special_tokens"],
        "sequence_separator_token": data.separator,
        "disable_concat_sequences": not data.concat,
        "training_architecture": sae.architecture,
        "training_architecture_details": details,
        "l0": values.get("metrics/l0"),
        "num_dead_features": values.get("sparsity/dead_features"),
        "activation_convention": "raw",
        "corpus": rows.corpus,
        "training_tokens": trainer.tokens,
        **table.metadata,
    }
    heads = len(backend.d(model.read_hooks[0])) > 1 and model.head is None
    sae.cfg = attrs.evolve(
        sae.cfg,
        reshape_activations="hook_z" if heads else "none",
        metadata=Metadata(metadata),
    )
    return sae


def _check_finite(sae: SAE) -> None:
    for name, tensor in sae.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise NumericsError(
                f"{name} has values that are not finite after training; nothing was saved. "
                "Lower training.lr or check the activations"
            )


def _flat(evaluation: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {
        f"evaluation/{name}": float(figure["value"])
        for figures in evaluation.values()
        for name, figure in figures.items()
    }

"""What a run reads, made from an experiment: device, sizes, tokens, the stream of activations."""

from __future__ import annotations

import torch

from saecore.backend import ModelBackend
from saecore.config.experiment import DatasetTable, Experiment
from saecore.data.buffer import Window, WindowSettings
from saecore.data.packing import Packing
from saecore.data.tokens import TokenRows, special_tokens, token_rows
from saecore.end_to_end import ContextStream
from saecore.errors import ConfigError, DataError
from saecore.normalize import RUNTIME


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


def packing_of(table: DatasetTable, backend: ModelBackend, source: str) -> Packing:
    """How documents become contexts of a model's tokens.

    Raises:
        ConfigError: the tokenizer has no such special token.
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
    return Packing(
        table.context_size,
        begin_context=special["bos"] if table.prepend_bos else None,
        separator=separator,
        concat=table.concat,
    )


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
    packing = packing_of(table, backend, source)
    documents = table.plugin.build(backend.tokenizer)
    contexts = max(1, evaluated // table.context_size) if evaluated else 0
    how = (backend.tokenizer, backend.vocab_size, table.held_out, contexts)
    if hasattr(documents, "rows"):  # KeptTokens
        rows: TokenRows = documents.rows(packing, *how)
    else:
        rows = token_rows(documents, how[0], how[1], packing, *how[2:])
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


def window_settings(experiment: Experiment, backend: ModelBackend) -> WindowSettings:
    """What is read of the model, and how it is mixed."""
    model, table, buffer = experiment.language_model, experiment.dataset, experiment.buffer
    end_to_end = experiment.training.loss != "mse"
    return WindowSettings(
        model.read_hooks,
        model.targets,
        model.head,
        experiment.training.batch_size if end_to_end else buffer.tokens,
        buffer.model_batch_size,
        table.positions,
        excluded_tokens(table, backend),
        table.epochs,
        table.seed,
    )


def make_window(experiment: Experiment, backend: ModelBackend, rows: TokenRows) -> Window:
    """The stream of activations.

    Raises:
        DataError: the text is shorter than the training, as far as its length is known.
    """
    end_to_end = experiment.training.loss != "mse"
    make = ContextStream if end_to_end else Window
    window = make(backend, rows.train, window_settings(experiment, backend))
    check_length(experiment, window)
    return window


def check_length(experiment: Experiment, window: Window) -> None:
    """Refuse a text that is too short.

    Raises:
        DataError: it is shorter than the training, as far as its length is known.
    """
    needed = experiment.training.steps * experiment.training.batch_size
    available, epochs = window.rows(), experiment.dataset.epochs
    if available is not None and available < needed:
        enough = -(-needed * epochs // max(1, available))
        raise DataError(
            f"training.tokens: the text has {available:_} tokens in {epochs} epoch(s), "
            f"{needed:_} were asked for; lower training.tokens, give more text or set "
            f"dataset.epochs = {enough}"
        )

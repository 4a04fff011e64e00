"""Build from an experiment what a run reads: hook site, sizes, tokens, activation store."""

from __future__ import annotations

from collections.abc import Iterator

from saecore.activations.context_store import ContextStore
from saecore.activations.mixing_buffer import MixingBuffer, MixingBufferSettings
from saecore.activations.packing import Packing
from saecore.activations.token_cache import TokenRows, token_rows
from saecore.config.experiment import DatasetTable, Experiment, ModelTable
from saecore.core.model import ModelBackend, vector_size
from saecore.core.normalizer import RUNTIME
from saecore.errors import ConfigError, DataError
from saecore.models.hook_site import HookSite
from saecore.models.tokenizer import special_token_ids, special_tokens


def hook_site(model: ModelTable, data: DatasetTable, backend: ModelBackend) -> HookSite:
    """The hooks of [model] and the tokens that [dataset] uses.

    Args:
        model: hooks and head.
        data: positions and excluded tokens.
        backend: the language model; its tokenizer is used only if special tokens are excluded.
    """
    excluded = data.exclude_special_tokens
    return HookSite(
        hooks=model.read_hooks,
        separate_targets=model.targets,
        head=model.head,
        target_head=model.head,
        positions=slice(None) if data.positions is None else slice(*data.positions),
        exclude=special_token_ids(backend.tokenizer) if excluded is True else excluded or (),
    )


def sizes(experiment: Experiment, backend: ModelBackend) -> tuple[int, int]:
    """Sizes d_in and d_out of the activations at the experiment's hooks.

    Raises:
        ConfigError: the architecture cannot be trained on these hooks, or a size or the context
            does not fit the model.
        ModelError: the model has no such hook.
    """
    problems = list(_architecture_problems(experiment))
    if problems:
        raise ConfigError(problems)
    model = experiment.language_model
    shapes = {hook: backend.d(hook) for hook in (*model.read_hooks, *model.targets)}
    problems += _head_problems(model.head, shapes)
    vectors = {hook: vector_size(shape, model.head) for hook, shape in shapes.items()}
    for key, hooks in (("hooks", model.read_hooks), ("target_hooks", model.targets)):
        if len({vectors[hook] for hook in hooks}) > 1:
            listed = ", ".join(f"{hook}: {vectors[hook]}" for hook in hooks)
            problems.append(f"model.{key}: expected hooks of one size, got {listed}")
    d_in = sum(vectors[hook] for hook in model.read_hooks)
    d_out = sum(vectors[hook] for hook in model.targets) if model.targets else d_in
    if experiment.sae.d_in not in (None, d_in):
        problems.append(
            f"sae.d_in: {', '.join(model.read_hooks)} of {backend.name} has size {d_in}, got "
            f"{experiment.sae.d_in}"
        )
    if backend.max_context is not None and experiment.dataset.context_size > backend.max_context:
        problems.append(
            f"dataset.context_size: {backend.name} takes at most {backend.max_context} tokens, "
            f"got {experiment.dataset.context_size}"
        )
    if problems:
        raise ConfigError(problems)
    return d_in, d_out


def _architecture_problems(experiment: Experiment) -> Iterator[str]:
    """Hooks that the architecture or the normalizer does not support."""
    model, name = experiment.language_model, experiment.sae.architecture.name
    cls = experiment.sae.architecture.component.builder()
    several_targets = getattr(cls, "several_targets", False)
    if model.hooks and not getattr(cls, "several_hooks", False):
        yield f"model.hooks: architecture {name} reads one hook; set model.hook"
    if model.target_hook and not getattr(cls, "separate_target", False):
        yield f"model.target_hook: architecture {name} reconstructs its input; remove the key"
    if model.target_hooks and not several_targets:
        yield (
            f"model.target_hooks: architecture {name} does not reconstruct several other hooks; "
            "remove the key"
        )
    if several_targets and not model.target_hooks:
        yield (
            f"model.target_hooks: architecture {name} reconstructs hooks other than those it "
            "reads; name one for each of model.hooks"
        )
    normalizer = experiment.sae.normalizer.name
    if normalizer in RUNTIME and (model.hooks or model.targets):
        # The scale of a token's activation at one hook says nothing about another hook's.
        yield (
            f"sae.normalizer: {normalizer} scales every activation by itself, which works for one "
            'hook only; use "expected_average_only_in" or "none"'
        )


def _head_problems(head: int | None, shapes: dict[str, tuple[int, ...]]) -> Iterator[str]:
    """Hooks without the head that is to be read."""
    if head is None:
        return
    for hook, shape in shapes.items():
        if len(shape) == 1:
            yield (
                f"model.head: {hook} has no heads; use hook_z, hook_q, hook_k or hook_v, or "
                "remove the key"
            )
        elif head >= shape[0]:
            yield f"model.head: {hook} has heads 0 to {shape[0] - 1}, got {head}"


def packing_of(table: DatasetTable, backend: ModelBackend) -> Packing:
    """How [dataset] packs documents into contexts of a model's tokens.

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
        raise ConfigError(problems)
    return Packing(
        context_size=table.context_size,
        begin_context=special["bos"] if table.prepend_bos else None,
        separator=separator,
        concat=table.concat,
    )


def read_tokens(table: DatasetTable, backend: ModelBackend, evaluated: int) -> TokenRows:
    """Tokenize and pack the text, or open the cached result.

    Args:
        table: the text, and how it becomes contexts.
        backend: the language model, for its tokenizer.
        evaluated: number of held-out tokens needed.

    Raises:
        ConfigError: the tokenizer has no such special token.
        DataError: there is no text, or none held out.
    """
    packing = packing_of(table, backend)
    documents = table.loader.build(backend.tokenizer)
    contexts = max(1, evaluated // table.context_size) if evaluated else 0
    if hasattr(documents, "rows"):  # TokenSource
        rows: TokenRows = documents.rows(
            packing, backend.tokenizer, backend.vocab_size, table.held_out, contexts
        )
    else:
        rows = token_rows(
            documents, backend.tokenizer, backend.vocab_size, packing, table.held_out, contexts
        )
    if evaluated and not len(rows.held_out):
        raise DataError(
            "dataset.held_out: no context of held-out text to evaluate on; raise "
            "dataset.held_out, give more text, or set evaluation.tokens = 0"
        )
    return rows


def buffer_settings(experiment: Experiment, backend: ModelBackend) -> MixingBufferSettings:
    """What the experiment reads from the model, and how it is mixed."""
    data, buffer = experiment.dataset, experiment.buffer
    end_to_end = experiment.training.loss != "mse"
    return MixingBufferSettings(
        site=hook_site(experiment.language_model, data, backend),
        fill_tokens=experiment.training.batch_size if end_to_end else buffer.tokens,
        model_batch_size=buffer.model_batch_size,
        epochs=data.epochs,
        seed=data.seed,
    )


def build_store(
    experiment: Experiment, backend: ModelBackend, rows: TokenRows
) -> MixingBuffer | ContextStore:
    """The activation store to train on: mixed, or whole contexts for a loss through the model.

    Raises:
        DataError: the text is known to be shorter than the training.
    """
    end_to_end = experiment.training.loss != "mse"
    store_class = ContextStore if end_to_end else MixingBuffer
    store = store_class(backend, rows.train, buffer_settings(experiment, backend))
    check_length(experiment, store.rows())
    return store


def check_length(experiment: Experiment, available: int | None) -> None:
    """Refuse a text that is shorter than training.tokens.

    Args:
        experiment: its training decides how many tokens are needed.
        available: tokens of the text in all epochs; None while unknown.

    Raises:
        DataError: the text is too short.
    """
    needed = experiment.training.steps * experiment.training.batch_size
    epochs = experiment.dataset.epochs
    if available is not None and available < needed:
        enough = -(-needed * epochs // max(1, available))
        raise DataError(
            f"training.tokens: the text has {available:_} tokens in {epochs} epoch(s), expected "
            f"{needed:_}; lower training.tokens, give more text or set dataset.epochs = {enough}"
        )

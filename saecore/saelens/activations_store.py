"""`ActivationsStore`: the activations that an SAE reads, from a model and text in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from saecore.activations.build import read_tokens
from saecore.activations.mixing_buffer import MixingBuffer, MixingBufferSettings
from saecore.config.from_metadata import text_of
from saecore.core.sae import SAE
from saecore.errors import ConfigError, DataError
from saecore.evaluation.held_out import check_model
from saecore.models.device import pick_device
from saecore.models.hook_site import HookSite
from saecore.models.wrap import backend_of, path_of

LABEL = "ActivationsStore"
"""Label of errors."""


class ActivationsStore:
    """Tokens of a text, and a model's activations on it, mixed as in training.

    Create it with `from_sae`. Iterating yields batches until the text ends.

    Args:
        buffer: the mixed stream of activations.
        batch_size: rows per batch.
        device: device of the returned tokens and activations.
    """

    def __init__(self, buffer: MixingBuffer, batch_size: int, device: torch.device) -> None:
        self._buffer, self._batch_size, self._device = buffer, batch_size, device
        self._next_context = 0

    @classmethod
    def from_sae(
        cls,
        model: Any,
        sae: SAE,
        *,
        store_batch_size_prompts: int = 8,
        train_batch_size_tokens: int = 4096,
        n_batches_in_buffer: int = 32,
        device: str | torch.device | None = None,
        dataset: Any = None,
    ) -> ActivationsStore:
        """Create a store for an SAE; its metadata names hook, head, context size and text.

        Args:
            model: a `ModelBackend`, a transformers model or a TransformerLens bridge. It is read
                in evaluation mode and without the SAEs that are in it; after each call it is as
                it was before.
            sae: the SAE.
            store_batch_size_prompts: contexts per forward pass.
            train_batch_size_tokens: rows of `next_batch`.
            n_batches_in_buffer: forward passes whose activations the mixing buffer holds.
            device: device of the returned tokens and activations; default: the SAE's.
            dataset: a `datasets.Dataset`, or a name or path as in `dataset_path` of
                `LanguageModelSAERunnerConfig`; default: the text the SAE was trained on.

        Raises:
            ConfigError: the SAE's metadata names no hook, or the SAE does not fit the model.
            ModelError: the type of the model is unknown, or it has no such hook.
            DataError: the text cannot be read.
        """
        metadata = sae.cfg.metadata
        sizes = {
            "store_batch_size_prompts": (store_batch_size_prompts, 1),
            "train_batch_size_tokens": (train_batch_size_tokens, 1),
            "n_batches_in_buffer": (n_batches_in_buffer, 2),
        }
        problems = [
            f"{name}: expected an integer of at least {low}, got {value!r}"
            for name, (value, low) in sizes.items()
            if type(value) is not int or value < low
        ]
        path = metadata.get("dataset_path") if dataset is None else path_of(dataset)
        missing = {"hook_name": metadata.get("hook_name"), "dataset_path": path}
        problems += [
            f"sae: its metadata has no {name}"
            + ("; give dataset" if name == "dataset_path" else ", so it reads no language model")
            for name, value in missing.items()
            if not value
        ]
        if problems:
            raise ConfigError(problems, label=LABEL)
        backend = backend_of(model)
        table = text_of(sae, str(path))
        check_model(backend, sae, table.context_size)
        fill = n_batches_in_buffer // 2 * store_batch_size_prompts * table.context_size
        buffer = MixingBuffer(
            backend,
            read_tokens(table, backend, 0).train,
            MixingBufferSettings(
                site=attrs.evolve(HookSite.of(sae, backend), separate_targets=()),
                fill_tokens=fill,
                model_batch_size=store_batch_size_prompts,
                seed=table.seed,
            ),
        )
        target = pick_device(str(device or sae.W_dec.device), "device")
        return cls(buffer, train_batch_size_tokens, target)

    def get_batch_tokens(self, batch_size: int | None = None) -> Tensor:
        """The next contexts, `[batch_size, context_size]`; after the last it starts over.

        Args:
            batch_size: default: store_batch_size_prompts.

        Raises:
            DataError: the text cannot be read.
        """
        missing = batch_size or self._buffer.settings.model_batch_size
        contexts, seed = self._buffer.contexts, self._buffer.settings.seed
        parts = []
        while missing > 0:
            count = contexts.count(self._next_context + missing)
            epoch, start = divmod(self._next_context, count)
            stop = min(count, start + missing)
            parts.append(contexts.read(epoch, start, stop, seed))
            missing -= stop - start
            self._next_context += stop - start
        tokens = torch.from_numpy(np.concatenate(parts).astype(np.int64))
        return tokens.to(self._device)

    def get_activations(self, tokens: Tensor) -> Tensor:
        """Activations of `tokens [B, T]` as the SAE reads them: `[B, T, d_in]`.

        For an SAE that reads several hooks: `[B, T, hooks, d]`. No token is dropped or mixed.
        """
        site = self._buffer.settings.site
        activations = self._buffer.backend.activations(tokens, site.hooks)
        vectors = {
            hook: site.read(value).to(self._device, torch.float32)
            for hook, value in activations.items()
        }
        return site.stack(vectors)[0]

    def next_batch(self) -> Tensor:
        """The next rows of the mixed stream, `[train_batch_size_tokens, d_in]`.

        Raises:
            DataError: the text has ended.
        """
        return self._buffer.next(self._batch_size).inputs.to(self._device)

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            try:
                batch = self.next_batch()
            except DataError:
                if self._buffer.rows() == self._buffer.position:
                    return
                raise
            yield batch

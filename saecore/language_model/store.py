"""`ActivationsStore`: the activations that an SAE reads, from a model and text given in Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saecore.data.buffer import Window, WindowSettings
from saecore.errors import ConfigError, DataError
from saecore.language_model.given import backend_of, path_of
from saecore.language_model.recorded import check_model, text_of
from saecore.plugins import current_host
from saecore.reading import excluded_tokens, pick_device, read_tokens
from saecore.sae import SAE

SOURCE = "ActivationsStore"
"""Where errors say that they come from."""


class ActivationsStore:
    """Tokens of a text, and a model's activations on it, mixed as in training.

    Made by `from_sae`. Iteration gives batches until the text ends.

    Args:
        window: the stream of activations.
        batch_size: rows per batch.
        device: where tokens and activations are returned.
    """

    def __init__(self, window: Window, batch_size: int, device: torch.device) -> None:
        self._window, self._batch_size, self._device = window, batch_size, device
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
        """Read what the SAE was trained on: hook, head, context and text are in its metadata.

        Args:
            model: a `ModelBackend`, a transformers model or a TransformerLens bridge; it is put
                into evaluation mode, without gradients.
            sae: the SAE.
            store_batch_size_prompts: contexts per forward pass.
            train_batch_size_tokens: rows of `next_batch`.
            n_batches_in_buffer: forward passes whose activations the mixing window holds.
            device: where tokens and activations are returned; default: the SAE's.
            dataset: a `datasets.Dataset`, or a name or path as `dataset_path` of
                `LanguageModelSAERunnerConfig`; default: the SAE's own text.

        Raises:
            ConfigError: the SAE does not say what it reads, or does not fit the model.
            ModelError: the model is of no known kind or has no such hook.
            DataError: the text cannot be read.
        """
        host, metadata = current_host(), sae.cfg.metadata
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
            raise ConfigError(SOURCE, problems)
        backend = backend_of(model, host)
        table = text_of(sae, str(path), SOURCE)
        check_model(backend, sae, table, SOURCE)
        hooks = tuple(metadata.get("hook_names") or [metadata["hook_name"]])
        head = metadata.get("hook_head_index")
        fill = n_batches_in_buffer // 2 * store_batch_size_prompts * table.context_size
        window = Window(
            backend,
            read_tokens(table, backend, SOURCE, 0).train,
            WindowSettings(
                hooks,
                head=head,
                fill_tokens=fill,
                model_batch_size=store_batch_size_prompts,
                positions=table.positions,
                exclude=excluded_tokens(table, backend),
                seed=table.seed,
            ),
        )
        place = pick_device(str(device or sae.W_dec.device), SOURCE, "device")
        return cls(window, train_batch_size_tokens, place)

    def get_batch_tokens(self, batch_size: int | None = None) -> Tensor:
        """The next contexts, `[batch_size, context_size]`; behind the last the first comes again.

        Args:
            batch_size: default: store_batch_size_prompts.

        Raises:
            DataError: the text cannot be read.
        """
        wanted = batch_size or self._window.settings.model_batch_size
        contexts, seed = self._window.contexts, self._window.settings.seed
        parts, found = [], 0
        while found < wanted:
            count = contexts.count(self._next_context + wanted - found)
            epoch, start = divmod(self._next_context, count)
            stop = min(count, start + wanted - found)
            parts.append(contexts.read(epoch, start, stop, seed))
            found, self._next_context = found + stop - start, self._next_context + stop - start
        tokens = torch.from_numpy(np.concatenate(parts).astype(np.int64))
        return tokens.to(self._device)

    def get_activations(self, tokens: Tensor) -> Tensor:
        """Activations of `tokens [B, T]` as the SAE reads them: `[B, T, d_in]`.

        An SAE of several hooks gets `[B, T, hooks, d]`. Nothing is left out or mixed.
        """
        s = self._window.settings
        found = self._window.backend.activations(tokens, s.hooks)
        values = []
        for hook in s.hooks:
            value = found[hook]
            if value.dim() == 4:
                value = value.flatten(2) if s.head is None else value[:, :, s.head]
            values.append(value.to(self._device, torch.float32))
        return values[0] if len(values) == 1 else torch.stack(values, dim=2)

    def next_batch(self) -> Tensor:
        """The next rows of the mixed stream, `[train_batch_size_tokens, d_in]`.

        Raises:
            DataError: the text has ended.
        """
        return self._window.next(self._batch_size).inputs.to(self._device)

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            try:
                batch = self.next_batch()
            except DataError:
                if self._window.rows() == self._window.position:
                    return
                raise
            yield batch

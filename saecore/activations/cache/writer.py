"""Writing a cache: the stream of a mixing buffer, shard by shard, resumable at any point."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.activations.build import check_length, hook_site, read_tokens
from saecore.activations.cache.manifest import MANIFEST, CacheManifest, Precision, read_manifest
from saecore.activations.cache.reader import CONTEXTS
from saecore.activations.cache.shards import begin_or_resume, is_written, pack_rows, write_shard
from saecore.activations.mixing_buffer import MixingBuffer, MixingBufferSettings
from saecore.activations.provenance import text_metadata
from saecore.activations.rows import ActivationRows
from saecore.activations.token_cache import TokenRows
from saecore.config.experiment import Experiment
from saecore.core.model import ModelBackend
from saecore.core.sae_config import DTYPES
from saecore.errors import ConfigError, DataError
from saecore.models.device import pick_device
from saecore.models.tokenizer import tokenizer_hash
from saecore.storage.files import write_tensors
from saecore.storage.lock import locked

SHARD_BYTES = 2**26
"""Approximate size of a shard."""

MARGIN = 1.05
"""Disk space required, as a multiple of what will be written."""


@attrs.frozen
class Estimate:
    """Cost of writing a cache."""

    bytes: int
    """Bytes still to be written."""
    seconds: float
    """Time of the model's forward passes, from three batches."""
    free: int
    """Bytes free on the disk."""


@attrs.frozen(eq=False, kw_only=True)
class CacheWriter:
    """Writes a cache; built by `prepare`."""

    directory: Path
    manifest: CacheManifest
    backend: ModelBackend
    buffer: MixingBuffer
    contexts: Tensor
    """Held-out contexts `[n, context_size]`."""

    @property
    def shards(self) -> int:
        """Number of training shards."""
        return self.manifest.shards("train")

    def done(self) -> int:
        """Number of training shards already written."""
        missing = (n for n in range(self.shards) if not is_written(self.directory, "train", n))
        return next(missing, self.shards)

    def estimate(self) -> Estimate:
        """Bytes, time and free disk, from three batches of the model.

        Raises:
            DataError: the disk has too little space.
        """
        left = self.manifest.rows - self.done() * self.manifest.rows_per_shard
        left = max(0, left) + self.manifest.held_out_rows
        needed = left * self.manifest.row_bytes()
        free = shutil.disk_usage(_existing(self.directory)).free
        if needed * MARGIN > free:
            raise DataError(
                f"{self.directory}: {needed / 1e9:.2f} GB to write, {free / 1e9:.2f} GB free; "
                "write fewer tokens, a smaller --dtype, or --to another disk"
            )
        size, length = self.buffer.settings.model_batch_size, self.buffer.contexts.context_size
        tokens = torch.zeros(size, length, dtype=torch.int64)
        seconds = []
        for _ in range(3):  # the first loads kernels
            began = time.monotonic()
            self.backend.activations(tokens, tuple(self.manifest.hooks))
            seconds.append(time.monotonic() - began)
        return Estimate(needed, min(seconds) / tokens.numel() * left, free)

    def write(self, progress: Callable[[int, int], None] = lambda done, shards: None) -> None:
        """Write the missing shards; may be interrupted at any point and called again.

        Args:
            progress: called with the number of shards written and their total.

        Raises:
            DataError: the directory holds a different cache.
            StorageError: it cannot be written, or another process is writing to it.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with locked(self.directory, "write to another directory"):
            self._begin()
            for number, rows in enumerate(self._held_out_shards()):
                if not is_written(self.directory, "held_out", number):
                    self._write_shard("held_out", number, rows)
            first = self.done()
            self.buffer.seek(first * self.manifest.rows_per_shard)
            # A shard is written while the model makes the next one; never two at once.
            with ThreadPoolExecutor(1, thread_name_prefix="cache") as executor:
                writing: Future[None] | None = None
                for number in range(first, self.shards):
                    progress(number, self.shards)
                    rows = self.buffer.next_rows(self.manifest.shard_rows("train", number))
                    if writing is not None:
                        writing.result()
                    writing = executor.submit(self._write_shard, "train", number, rows)
                if writing is not None:
                    writing.result()
            progress(self.shards, self.shards)

    def _begin(self) -> None:
        begin_or_resume(
            self.directory,
            MANIFEST,
            attrs.asdict(self.manifest),
            lambda text, label: attrs.asdict(read_manifest(text, label)),
            kind="a cache",
            first=("dtype", "hooks", "model", "tokenizer", "dataset", "stream"),
        )
        if len(self.contexts) and not (self.directory / CONTEXTS).exists():
            write_tensors(self.directory / CONTEXTS, {"contexts": self.contexts.int()})

    def _write_shard(self, side: str, number: int, rows: ActivationRows) -> None:
        tensors = {"tokens": rows.tokens.int(), "positions": rows.positions.int()}
        for hook, column in rows.columns.items():
            tensors |= pack_rows(hook, column, self.manifest.dtype)
        write_shard(self.directory, side, number, tensors)

    def _held_out_shards(self) -> Iterator[ActivationRows]:
        """Rows of the held-out contexts, in order, one shard at a time."""
        if not self.manifest.held_out_rows:
            return
        batches = [
            self.buffer.mixer.read_rows(part)
            for part in self.contexts.split(self.buffer.settings.model_batch_size)
        ]
        rows, size = ActivationRows.join(batches), self.manifest.rows_per_shard
        for start in range(0, len(rows), size):
            yield rows.take(slice(start, start + size))


def prepare(
    experiment: Experiment,
    directory: Path,
    dtype: Precision = "float32",
    hooks: tuple[str, ...] = (),
) -> CacheWriter:
    """Load the model, read the text and decide the contents of the cache.

    Args:
        experiment: its [model], [dataset], [buffer], training.tokens and evaluation.tokens decide
            the rows; a run of it would read the same ones.
        directory: the cache's directory, new or to be resumed.
        dtype: precision on disk.
        hooks: hooks in addition to those that the experiment reads.

    Raises:
        SaecoreError: the experiment has no model or text, or they do not fit together.
    """
    if experiment.model is None:
        raise ConfigError(["model: missing; only activations of a model can be cached"])
    model, data = experiment.language_model, experiment.dataset
    names = tuple(dict.fromkeys((*model.read_hooks, *model.targets, *hooks)))
    backend: ModelBackend = model.backend.build(pick_device(model.device), DTYPES[model.dtype])
    shapes = {hook: tuple(backend.d(hook)) for hook in names}
    tokens = read_tokens(data, backend, experiment.evaluation.tokens)
    settings = MixingBufferSettings(
        site=attrs.evolve(
            hook_site(model, data, backend),
            hooks=names,
            separate_targets=(),
            head=None,
            target_head=None,
        ),
        fill_tokens=experiment.buffer.tokens,
        model_batch_size=experiment.buffer.model_batch_size,
        epochs=data.epochs,
        seed=data.seed,
    )
    buffer = MixingBuffer(backend, tokens.train, settings)
    check_length(experiment, buffer.rows())
    number = max(1, experiment.evaluation.tokens // data.context_size)
    held_out = tokens.held_out[:number] if experiment.evaluation.tokens else tokens.held_out[:0]
    contexts = torch.from_numpy(held_out.astype("int64"))
    manifest = _manifest(experiment, tokens, buffer, shapes, dtype, contexts)
    return CacheWriter(
        directory=directory, manifest=manifest, backend=backend, buffer=buffer, contexts=contexts
    )


def _manifest(
    experiment: Experiment,
    tokens: TokenRows,
    buffer: MixingBuffer,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: Precision,
    contexts: Tensor,
) -> CacheManifest:
    backend = buffer.backend
    manifest = CacheManifest(
        hooks=dict(shapes),
        dtype=dtype,
        rows=experiment.training.steps * experiment.training.batch_size,
        held_out_rows=buffer.mixer.used_rows(contexts),
        rows_per_shard=1,
        model={key: str(value) for key, value in backend.identity.items()},
        tokenizer=tokenizer_hash(backend.tokenizer),
        dataset=dict(tokens.identity),
        stream=json.loads(json.dumps(_stream(experiment, tokens, buffer.settings))),
        metadata=text_metadata(experiment, backend, tokens),
    )
    per_shard = max(1024, 2 ** round(max(0, SHARD_BYTES // manifest.row_bytes()).bit_length() - 1))
    return attrs.evolve(manifest, rows_per_shard=per_shard)


def _stream(
    experiment: Experiment, tokens: TokenRows, settings: MixingBufferSettings
) -> dict[str, Any]:
    """What decides the rows and their order; these keys are part of the file format."""
    return {
        "fill_tokens": settings.fill_tokens,
        "model_batch_size": settings.model_batch_size,
        "positions": experiment.dataset.positions,
        "exclude": settings.site.exclude,
        "epochs": settings.epochs,
        "seed": settings.seed,
        "corpus": tokens.corpus,
        "tokens_key": tokens.key,
        "context_size": experiment.dataset.context_size,
    }


def _existing(directory: Path) -> Path:
    """The nearest existing directory."""
    return next(path for path in (directory, *directory.absolute().parents) if path.exists())

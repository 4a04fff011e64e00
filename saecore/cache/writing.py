"""Writing a cache: the stream of a window, shard by shard, from where it was left."""

from __future__ import annotations

import hashlib
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

from saecore.backend import ModelBackend
from saecore.cache.columns import packed
from saecore.cache.manifest import MANIFEST, Manifest, Precision, Shard, shard_name
from saecore.cache.reading import CONTEXTS
from saecore.config.experiment import Experiment
from saecore.data.buffer import Window, WindowSettings
from saecore.data.encoding import tokenizer_hash
from saecore.data.rows import Rows
from saecore.data.tokens import TokenRows
from saecore.errors import ConfigError, DataError
from saecore.feed import text_metadata
from saecore.files import STAGING, write_json, write_tensors
from saecore.lock import locked
from saecore.reading import excluded_tokens, pick_device, read_tokens
from saecore.sae_config import DTYPES

SHARD_BYTES = 2**26
"""Size of a shard, about."""

MARGIN = 1.05
"""Disk asked for, as a multiple of what will be written."""


@attrs.frozen
class Estimate:
    """What writing will take."""

    bytes: int
    """Bytes still to be written."""
    seconds: float
    """Time of the model's forward passes, from three batches."""
    free: int
    """Bytes free on the disk."""


@attrs.frozen(eq=False)
class CacheWriter:
    """What `write` needs, prepared by `prepare`."""

    directory: Path
    manifest: Manifest
    backend: ModelBackend
    window: Window
    contexts: Tensor
    """Held-out contexts `[n, context_size]`."""

    def done(self) -> int:
        """Shards of training rows that are whole."""
        there = (self.directory / shard_name("train", n, "json") for n in self._numbers("train"))
        return next((n for n, file in enumerate(there) if not file.exists()), self.shards)

    @property
    def shards(self) -> int:
        """Shards of training rows in all."""
        return self.manifest.shards("train")

    def estimate(self) -> Estimate:
        """Bytes, time and free disk, from three batches of the model.

        Raises:
            DataError: the disk has too little room.
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
        size, length = self.window.settings.model_batch_size, self.window.contexts.context_size
        tokens = torch.zeros(size, length, dtype=torch.int64)
        seconds = []
        for _ in range(3):  # the first loads kernels
            began = time.monotonic()
            self.backend.activations(tokens, tuple(self.manifest.hooks))
            seconds.append(time.monotonic() - began)
        return Estimate(needed, min(seconds) / tokens.numel() * left, free)

    def write(self, progress: Callable[[int, int], None] = lambda done, shards: None) -> None:
        """Write what is missing; may be stopped at any instant and called again.

        Args:
            progress: called with shards done and shards in all.

        Raises:
            DataError: the directory holds another cache.
            CheckpointError: it cannot be written, or another process is writing.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with locked(self.directory):
            self._begin()
            for number, rows in enumerate(self._held_out_shards()):
                if not (self.directory / shard_name("held_out", number, "json")).exists():
                    self._write_shard("held_out", number, rows)
            first = self.done()
            self.window.seek(first * self.manifest.rows_per_shard)
            # A shard waits for the disk while the model makes the next one; never two at once.
            with ThreadPoolExecutor(1, thread_name_prefix="cache") as writer:
                writing: Future[None] | None = None
                for number in range(first, self.shards):
                    progress(number, self.shards)
                    rows = self.window.next_rows(self.manifest.shard_rows("train", number))
                    if writing is not None:
                        writing.result()
                    writing = writer.submit(self._write_shard, "train", number, rows)
                if writing is not None:
                    writing.result()
            progress(self.shards, self.shards)

    def _begin(self) -> None:
        """Write cache.json, or see that it is there and the same; clear what a kill has left."""
        file = self.directory / MANIFEST
        if file.exists():
            check_same(file, self.manifest)
        elif any(one.name != ".lock" for one in self.directory.iterdir()):
            raise DataError(f"{self.directory}: not empty, and not a cache; choose another --to")
        else:
            write_json(file, attrs.asdict(self.manifest))
        for side in ("train", "held_out"):
            for left in (self.directory / side).glob(f"{STAGING}*"):
                left.unlink()
        if len(self.contexts) and not (self.directory / CONTEXTS).exists():
            write_tensors(self.directory / CONTEXTS, {"contexts": self.contexts.int()})

    def _write_shard(self, side: str, number: int, rows: Rows) -> None:
        """Write the file, then the record that says it is whole."""
        tensors = {"tokens": rows.tokens.int(), "positions": rows.positions.int()}
        for hook, column in rows.columns.items():
            tensors |= packed(hook, column, self.manifest.dtype)
        file = self.directory / shard_name(side, number)
        write_tensors(file, tensors)
        with file.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        shard = Shard(digest, file.stat().st_size)
        write_json(self.directory / shard_name(side, number, "json"), attrs.asdict(shard))

    def _held_out_shards(self) -> Iterator[Rows]:
        """Rows of the held-out contexts, in order, cut as shards."""
        if not self.manifest.held_out_rows:
            return
        found = [
            self.window.read_rows(part)
            for part in self.contexts.split(self.window.settings.model_batch_size)
        ]
        rows, size = Rows.join(found), self.manifest.rows_per_shard
        for start in range(0, len(rows), size):
            yield rows.take(slice(start, start + size))

    def _numbers(self, side: str) -> range:
        return range(self.manifest.shards(side))


def prepare(
    experiment: Experiment,
    directory: Path,
    dtype: Precision = "float32",
    hooks: tuple[str, ...] = (),
    source: str = "experiment",
) -> CacheWriter:
    """Load the model, read the text, and say what the cache will be.

    Args:
        experiment: its [model], [dataset], [buffer], training.tokens and evaluation.tokens decide
            the rows; a run of it would see the same ones.
        directory: where the cache is or will be.
        dtype: precision on disk.
        hooks: hooks besides those that the experiment reads.
        source: where the experiment comes from, for messages.

    Raises:
        SaecoreError: the experiment has no model or text, or they do not fit it.
    """
    if experiment.model is None:
        raise ConfigError(source, ["model: missing; only activations of a model are cached"])
    model, data = experiment.language_model, experiment.dataset
    names = tuple(dict.fromkeys((*model.read_hooks, *model.targets, *hooks)))
    backend: ModelBackend = model.plugin.build(
        pick_device(model.device, source), DTYPES[model.dtype]
    )
    sizes = {hook: tuple(backend.d(hook)) for hook in names}
    tokens = read_tokens(data, backend, source, experiment.evaluation.tokens)
    buffer = experiment.buffer
    settings = WindowSettings(
        names,
        (),
        None,
        buffer.tokens,
        buffer.model_batch_size,
        data.positions,
        excluded_tokens(data, backend),
        data.epochs,
        data.seed,
    )
    window = Window(backend, tokens.train, settings)
    rows = experiment.training.steps * experiment.training.batch_size
    available = window.rows()
    if available is not None and available < rows:
        raise DataError(
            f"training.tokens: the text has {available:_} tokens in {data.epochs} epoch(s), "
            f"{rows:_} were asked for; lower training.tokens or give more text"
        )
    number = max(1, experiment.evaluation.tokens // data.context_size)
    held = tokens.held_out[:number] if experiment.evaluation.tokens else tokens.held_out[:0]
    contexts = torch.from_numpy(held.astype("int64"))
    manifest = _manifest(experiment, backend, tokens, window, sizes, dtype, rows, contexts)
    return CacheWriter(directory, manifest, backend, window, contexts)


def _manifest(
    experiment: Experiment,
    backend: ModelBackend,
    tokens: TokenRows,
    window: Window,
    sizes: Mapping[str, tuple[int, ...]],
    dtype: Precision,
    rows: int,
    contexts: Tensor,
) -> Manifest:
    settings = attrs.asdict(window.settings)
    stream: dict[str, Any] = {
        **{key: one for key, one in settings.items() if key not in ("hooks", "targets", "head")},
        "corpus": tokens.corpus,
        "tokens_key": tokens.key,
        "context_size": experiment.dataset.context_size,
    }
    manifest = Manifest(
        dict(sizes),
        dtype,
        rows,
        window.used_rows(contexts),
        1,
        {key: str(one) for key, one in backend.identity.items()},
        tokenizer_hash(backend.tokenizer),
        dict(tokens.identity),
        json.loads(json.dumps(stream)),
        text_metadata(experiment, backend, tokens),
    )
    per_shard = max(1024, 2 ** round(max(0, SHARD_BYTES // manifest.row_bytes()).bit_length() - 1))
    return attrs.evolve(manifest, rows_per_shard=per_shard)


def check_same(file: Path, manifest: Manifest) -> None:
    """Refuse to go on with a cache that is another one.

    Raises:
        DataError: the manifest on disk differs; the message names the first key.
    """
    from saecore.cache.manifest import read_manifest

    there = attrs.asdict(read_manifest(file.read_text(encoding="utf-8"), str(file)))
    ours = attrs.asdict(manifest)
    for key in ("dtype", "hooks", "model", "tokenizer", "dataset", "stream", *ours):
        found, wanted = (json.loads(json.dumps(one[key])) for one in (there, ours))
        if found != wanted:
            if isinstance(found, dict) and isinstance(wanted, dict):
                inner = next(k for k in {**found, **wanted} if found.get(k) != wanted.get(k))
                key, found, wanted = f"{key}.{inner}", found.get(inner), wanted.get(inner)
            raise DataError(
                f"{file.parent}: holds a cache with {key} = {found!r}, this one would have "
                f"{wanted!r}; choose another --to, or delete it"
            )


def _existing(directory: Path) -> Path:
    """The nearest directory that exists."""
    return next(one for one in (directory, *directory.absolute().parents) if one.exists())

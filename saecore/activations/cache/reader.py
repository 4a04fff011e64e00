"""Training from a cache: its shards, mapped into memory, as an `ActivationStore`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saecore.activations.cache.manifest import MANIFEST, CacheManifest, read_manifest
from saecore.activations.cache.shards import open_shard, shard_name, unpack_rows
from saecore.activations.documents import SIDES
from saecore.activations.rows import ActivationRows
from saecore.core.model import ModelBackend, vector_size
from saecore.core.step import Batch
from saecore.errors import DataError, nearest
from saecore.models.hook_site import HookSite, merge_heads
from saecore.models.tokenizer import tokenizer_hash
from saecore.randomness import generator
from saecore.storage.repository import Repository

CONTEXTS = "held_out/contexts.safetensors"
"""Held-out contexts of tokens, for evaluators that run the model."""

CPU = torch.device("cpu")


class ActivationCache:
    """A cache in a directory or a repository of the hub; shards are fetched as they are read.

    Args:
        files: the directory or repository.
        epochs: how often the rows may be read, with the shards shuffled each time.
        seed: seed of that order.

    Raises:
        DataError: there is no cache, or a shard of it is missing.
    """

    def __init__(self, files: Repository, epochs: int = 1, seed: int = 0) -> None:
        self.files, self.epochs, self.seed = files, epochs, seed
        if not files.has(MANIFEST):
            raise DataError(
                f"{files.name}: no {MANIFEST}; expected a directory written by `saecore cache`"
            )
        text = files.path(MANIFEST).read_text(encoding="utf-8")
        self.manifest = read_manifest(text, f"{files.name}/{MANIFEST}")
        for side in SIDES:
            total = self.manifest.shards(side)
            present = sum(files.has(shard_name(side, n, "json")) for n in range(total))
            if present < total:
                raise DataError(
                    f"{files.name}: only {present} of {total} {side} shards exist; rerun the "
                    "command that writes the cache, it resumes"
                )
        self._shard: Callable[[str, int], Mapping[str, Tensor]] = lru_cache(maxsize=2)(self._open)

    @property
    def contexts(self) -> Tensor:
        """Held-out contexts of tokens `[n, context_size]`."""
        return self.files.safetensors(CONTEXTS)["contexts"].long()

    def check_model(self, backend: ModelBackend) -> None:
        """Refuse a model other than the one that made the cache.

        Raises:
            DataError: model, revision, precision or tokenizer differ.
        """
        recorded = dict(self.manifest.model)
        identity = {key: str(value) for key, value in backend.identity.items()}
        for key in sorted({*recorded, *identity}):
            if str(recorded.get(key)) != identity.get(key, "None"):
                raise DataError(
                    f"{self.files.name}: made with model {key} = {recorded.get(key)!r}, [model] "
                    f"has {identity.get(key)!r}; use that model, or write a cache with this one"
                )
        if tokenizer_hash(backend.tokenizer) != self.manifest.tokenizer:
            raise DataError(f"{self.files.name}: made with a tokenizer other than the model's")

    def only_hook(self, name: str | None) -> str:
        """The named hook, or the only one of the cache.

        Raises:
            DataError: no hook is named, and the cache has several.
        """
        if name is None and len(self.manifest.hooks) > 1:
            raise DataError(
                f"{self.files.name}: it has several hooks; name one with dataset.hook "
                f"({', '.join(self.manifest.hooks)}), or add [model] with its hooks"
            )
        return name or next(iter(self.manifest.hooks))

    def stream(
        self, site: HookSite, device: torch.device | None = None, side: str = "train"
    ) -> CachedActivationStore:
        """The rows of some hooks.

        Args:
            site: hooks and head; the tokens are those that were written.
            device: device of the batches; default: the CPU.
            side: "train" or "held_out".

        Raises:
            DataError: the cache has no such hook.
        """
        for hook in site.all_hooks:
            if hook not in self.manifest.hooks:
                raise DataError(
                    f"{self.files.name}: no hook {hook!r}{nearest(hook, list(self.manifest.hooks))}"
                    f" (it has {', '.join(self.manifest.hooks)})"
                )
        return CachedActivationStore(self, site, device or CPU, side)

    def vectors(self, site: HookSite, hook: str, side: str, number: int, part: slice) -> Tensor:
        """Rows of a hook in one shard `[n, d]`, float32: one head, or all concatenated."""
        rows = unpack_rows(hook, self._shard(side, number), part)
        if site.head is None:
            return rows
        return merge_heads(rows.unflatten(1, self.manifest.hooks[hook]), site.head).contiguous()

    def tokens(self, side: str, number: int, part: slice) -> tuple[Tensor, Tensor]:
        """Token ids and positions of rows in one shard `[n]`."""
        shard = self._shard(side, number)
        return shard["tokens"][part].long(), shard["positions"][part].long()

    def _open(self, side: str, number: int) -> Mapping[str, Tensor]:
        file, tensors = open_shard(self.files, side, number)
        check_shapes(tensors, self.manifest, self.manifest.shard_rows(side, number), file)
        return tensors


def check_shapes(
    tensors: Mapping[str, Tensor], manifest: CacheManifest, rows: int, file: Path
) -> None:
    """Check that a shard has the tensors that the manifest promises.

    Raises:
        DataError: one is missing or has another shape.
    """
    shapes: dict[str, tuple[int, ...]] = {
        hook: (rows, vector_size(shape)) for hook, shape in manifest.hooks.items()
    }
    for name, expected in {**shapes, "tokens": (rows,), "positions": (rows,)}.items():
        shape = list(tensors[name].shape) if name in tensors else None
        if shape != list(expected):
            raise DataError(f"{file}: {name}: expected {list(expected)}, got {shape}")


class CachedActivationStore:
    """An `ActivationDataset`: rows of some hooks in the order in which they are stored.

    Args:
        cache: the cache.
        site: hooks and head.
        device: device of the batches.
        side: "train" or "held_out".
    """

    def __init__(
        self, cache: ActivationCache, site: HookSite, device: torch.device, side: str
    ) -> None:
        self.cache, self.site, self.device, self.side = cache, site, device, side
        self.position = 0
        """Rows read so far."""
        self.d_in = sum(map(self._size, site.hooks))
        self.d_out = sum(map(self._size, site.targets))
        self.fingerprint = cache.manifest.fingerprint
        self.metadata: Mapping[str, Any] = cache.manifest.metadata

    def held_out(self) -> CachedActivationStore:
        """The rows that are never trained on."""
        return self.cache.stream(self.site, self.device, "held_out")

    def rows(self) -> int:
        """Rows in the whole stream."""
        return self.cache.manifest.side_rows(self.side) * self._epochs

    def seek(self, position: int) -> None:
        """Continue from a position."""
        self.position = position

    def next(self, size: int) -> Batch:
        """The next rows.

        Raises:
            DataError: there are fewer, or a shard is damaged.
        """
        if self.position + size > self.rows():
            raise DataError(
                f"{self.cache.files.name}: {self.rows():_} rows for {self.side}, row "
                f"{self.position + size:_} does not exist; write a larger cache, or raise "
                "dataset.passes"
            )
        parts = self._parts(self.position, self.position + size)
        self.position += size

        def column(hook: str) -> Tensor:
            vectors = [
                self.cache.vectors(self.site, hook, self.side, number, part)
                for number, part in parts
            ]
            return (vectors[0] if len(vectors) == 1 else torch.cat(vectors)).to(self.device)

        labels = [self.cache.tokens(self.side, number, part) for number, part in parts]
        tokens, positions = (torch.cat(tensors) for tensors in zip(*labels, strict=True))
        columns = {hook: column(hook) for hook in self.site.all_hooks}
        return ActivationRows(columns, tokens, positions).batch(self.site)

    @property
    def _epochs(self) -> int:
        return self.cache.epochs if self.side == "train" else 1

    def _size(self, hook: str) -> int:
        return vector_size(self.cache.manifest.hooks[hook], self.site.head)

    def _parts(self, start: int, stop: int) -> list[tuple[int, slice]]:
        """Shards and rows in them that make up a range of the stream."""
        manifest = self.cache.manifest
        total, parts = manifest.side_rows(self.side), []
        while start < stop:
            epoch, at = divmod(start, total)
            for number in self._order(epoch):
                rows = manifest.shard_rows(self.side, number)
                if at < rows:
                    end = min(rows, at + stop - start)
                    parts.append((number, slice(at, end)))
                    start += end - at
                    break
                at -= rows
        return parts

    def _order(self, epoch: int) -> list[int]:
        count = self.cache.manifest.shards(self.side)
        if not epoch:
            return list(range(count))
        random = generator(self.cache.seed, "cache", epoch)
        order: list[int] = torch.randperm(count, generator=random).tolist()
        return order

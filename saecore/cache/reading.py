"""Training from a cache: its shards, mapped into memory, as an `ActivationSource`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saecore.backend import ModelBackend
from saecore.cache import verified
from saecore.cache.columns import unpacked
from saecore.cache.manifest import (
    MANIFEST,
    Manifest,
    read_manifest,
    read_shard,
    shard_name,
    width,
)
from saecore.data.encoding import tokenizer_hash
from saecore.errors import DataError, nearest
from saecore.randomness import generator
from saecore.releases import reading
from saecore.releases.repository import Repository
from saecore.step import Batch

CONTEXTS = "held_out/contexts.safetensors"
"""Held-out contexts of tokens, for evaluators that run the model."""


class ActivationCache:
    """A cache in a directory or a repository of the hub; shards are fetched as they are read.

    Args:
        files: the directory or repository.
        epochs: how often the rows may be read, shards in another order each time.
        seed: of that order.

    Raises:
        DataError: there is no cache, or a shard of it is missing.
    """

    def __init__(self, files: Repository, epochs: int = 1, seed: int = 0) -> None:
        self.files, self.epochs, self.seed = files, epochs, seed
        if not files.has(MANIFEST):
            raise DataError(
                f"{files.name}: no {MANIFEST}; expected what `saecore cache` has written"
            )
        text = files.path(MANIFEST).read_text(encoding="utf-8")
        self.manifest = read_manifest(text, f"{files.name}/{MANIFEST}")
        for side in ("train", "held_out"):
            whole = self.manifest.shards(side)
            found = sum(files.has(shard_name(side, n, "json")) for n in range(whole))
            if found < whole:
                raise DataError(
                    f"{files.name}: {found} of {whole} {side} shards are there; give the command "
                    "that writes the cache again, and it goes on"
                )
        self._shard: Callable[[str, int], Mapping[str, Tensor]] = lru_cache(maxsize=2)(self._open)

    @property
    def contexts(self) -> Tensor:
        """Held-out contexts of tokens `[n, context_size]`."""
        return self.files.safetensors(CONTEXTS)["contexts"].long()

    def check_model(self, backend: ModelBackend) -> None:
        """Refuse another model than the one that made the cache.

        Raises:
            DataError: model, revision, precision or tokenizer differ.
        """
        recorded = dict(self.manifest.model)
        found = {key: str(one) for key, one in backend.identity.items()}
        for key in sorted({*recorded, *found}):
            if str(recorded.get(key)) != found.get(key, "None"):
                raise DataError(
                    f"{self.files.name}: made with model {key} = {recorded.get(key)!r}, [model] "
                    f"says {found.get(key)!r}; use that model, or write a cache with this one"
                )
        if tokenizer_hash(backend.tokenizer) != self.manifest.tokenizer:
            raise DataError(f"{self.files.name}: made with another tokenizer than the model's")

    def only_hook(self, name: str | None) -> str:
        """The hook that is named, or the only one there is.

        Raises:
            DataError: there are several.
        """
        if name is None and len(self.manifest.hooks) > 1:
            raise DataError(
                f"{self.files.name}: it has several hooks; name one with dataset.hook "
                f"({', '.join(self.manifest.hooks)}), or give [model] with its hooks"
            )
        return name or next(iter(self.manifest.hooks))

    def stream(
        self,
        hooks: Sequence[str],
        targets: Sequence[str] = (),
        head: int | None = None,
        device: torch.device | None = None,
        side: str = "train",
    ) -> CachedRows:
        """The rows of some hooks.

        Args:
            hooks: hooks that are read; several give `[N, hooks, d]`.
            targets: hooks that are reconstructed, if they are others.
            head: attention head to take.
            device: where batches go; default: the CPU.
            side: "train" or "held_out".

        Raises:
            DataError: the cache has no such hook.
        """
        for hook in (*hooks, *targets):
            if hook not in self.manifest.hooks:
                raise DataError(
                    f"{self.files.name}: no hook {hook!r}{nearest(hook, list(self.manifest.hooks))}"
                    f" (it has {', '.join(self.manifest.hooks)})"
                )
        return CachedRows(self, tuple(hooks), tuple(targets), head, device or CPU, side)

    def column(self, hook: str, side: str, number: int, part: slice) -> Tensor:
        """Rows of a hook in one shard `[n, d]`, float32."""
        return unpacked(hook, self._shard(side, number), part)

    def tokens(self, side: str, number: int, part: slice) -> tuple[Tensor, Tensor]:
        """Token ids and positions of rows in one shard `[n]`."""
        shard = self._shard(side, number)
        return shard["tokens"][part].long(), shard["positions"][part].long()

    def _open(self, side: str, number: int) -> Mapping[str, Tensor]:
        name = shard_name(side, number)
        file = self.files.path(name)
        verified.check(file, read_shard(self.files.path(shard_name(side, number, "json"))))
        return checked(reading.safetensors(file, str(file)), self.manifest, side, number, file)


def checked(
    tensors: Mapping[str, Tensor], manifest: Manifest, side: str, number: int, file: Path
) -> Mapping[str, Tensor]:
    """The tensors of a shard, if they are what the manifest promises.

    Raises:
        DataError: they are not.
    """
    rows = manifest.shard_rows(side, number)
    sizes: dict[str, tuple[int, ...]] = {
        hook: (rows, width(one)) for hook, one in manifest.hooks.items()
    }
    for name, size in {**sizes, "tokens": (rows,), "positions": (rows,)}.items():
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != size:
            raise DataError(f"{file}: {name}: expected {list(size)}, got {found and list(found)}")
    return tensors


CPU = torch.device("cpu")


class CachedRows:
    """An `ActivationSource`, and `OwnActivations`: the rows of some hooks in their stored order.

    Args:
        cache: where they are.
        hooks: hooks that are read.
        targets: hooks that are reconstructed, if they are others.
        head: attention head to take.
        device: where batches go.
        side: "train" or "held_out".
    """

    def __init__(
        self,
        cache: ActivationCache,
        hooks: tuple[str, ...],
        targets: tuple[str, ...],
        head: int | None,
        device: torch.device,
        side: str,
    ) -> None:
        self.cache, self.hooks, self.targets = cache, hooks, targets
        self.head, self.device, self.side = head, device, side
        self.position = 0
        """Rows given out so far."""
        self.d_in = sum(map(self._size, hooks))
        self.d_out = sum(map(self._size, targets or hooks))
        self.fingerprint = cache.manifest.fingerprint
        self.metadata: Mapping[str, Any] = cache.manifest.metadata

    def held_out(self) -> CachedRows:
        """The rows that are never trained on."""
        return self.cache.stream(self.hooks, self.targets, self.head, self.device, "held_out")

    def rows(self) -> int:
        """Rows in the whole stream."""
        return self.cache.manifest.side_rows(self.side) * self._epochs

    def seek(self, position: int) -> None:
        """Go on from a position."""
        self.position = position

    def next(self, size: int) -> Batch:
        """The next rows.

        Raises:
            DataError: there are fewer, or a shard is damaged.
        """
        if self.position + size > self.rows():
            raise DataError(
                f"{self.cache.files.name}: {self.rows():_} rows for {self.side}, row "
                f"{self.position + size:_} was asked for; write a larger cache, or raise "
                "dataset.passes"
            )
        parts = list(self._parts(self.position, self.position + size))
        self.position += size

        def column(hook: str) -> Tensor:
            found = [self._read(hook, number, part) for number, part in parts]
            return (found[0] if len(found) == 1 else torch.cat(found)).to(self.device)

        def together(hooks: tuple[str, ...]) -> Tensor:
            columns = [column(hook) for hook in hooks]
            return torch.stack(columns, dim=1) if len(columns) > 1 else columns[0]

        inputs = together(self.hooks)
        seen = [self.cache.tokens(self.side, number, part) for number, part in parts]
        tokens, positions = (torch.cat(one) for one in zip(*seen, strict=True))
        targets = together(self.targets) if self.targets else inputs
        return Batch(inputs, targets, tokens, positions)

    @property
    def _epochs(self) -> int:
        return self.cache.epochs if self.side == "train" else 1

    def _size(self, hook: str) -> int:
        sizes = self.cache.manifest.hooks[hook]
        return width(sizes) if self.head is None else sizes[-1]

    def _read(self, hook: str, number: int, part: slice) -> Tensor:
        rows = self.cache.column(hook, self.side, number, part)
        if self.head is None:
            return rows
        heads = rows.unflatten(1, self.cache.manifest.hooks[hook])
        one: Tensor = heads[:, self.head].contiguous()
        return one

    def _parts(self, start: int, stop: int) -> list[tuple[int, slice]]:
        """Shards and rows in them that make up a piece of the stream."""
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
        numbers = generator(self.cache.seed, "cache", epoch)
        order: list[int] = torch.randperm(count, generator=numbers).tolist()
        return order

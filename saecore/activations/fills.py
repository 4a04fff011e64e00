"""Fills of model activations, and the mixed rows served from two of them at a time.

Fill n is a fixed range of contexts, in the order of their epoch. Its rows are divided at random:
one half is served together with the second half of fill n - 1, the other half with fill n + 1.
Every row is served exactly once, mixed over two fills, and serve n is a function of n alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saecore.activations.contexts import ArrayContexts, Contexts
from saecore.activations.prefetch import Prefetcher
from saecore.activations.rows import ActivationRows
from saecore.core.model import ModelBackend
from saecore.randomness import generator

if TYPE_CHECKING:
    from saecore.activations.mixing_buffer import MixingBufferSettings


class FillMixer:
    """Runs the model over fills and mixes their rows into serves.

    Args:
        backend: the language model.
        contexts: rows of tokens; an array `[n, context_size]` is permuted as a whole.
        settings: what is read, and how it is mixed.
    """

    def __init__(
        self,
        backend: ModelBackend,
        contexts: Contexts | NDArray[Any],
        settings: MixingBufferSettings,
    ) -> None:
        self.backend, self.settings = backend, settings
        array = isinstance(contexts, np.ndarray)
        self.contexts: Contexts = ArrayContexts(contexts) if array else contexts  # type: ignore[arg-type, assignment]
        self._per_fill: int = max(1, settings.fill_tokens // self.contexts.context_size)
        self._fills: dict[int, ActivationRows] = {}
        self._prefetcher: Prefetcher[ActivationRows | None] | None = None
        self.rows_in: Callable[[int], int] = lru_cache(maxsize=None)(self._count_rows)
        """Number of rows in a fill."""

    # -- serves ----------------------------------------------------------------------------

    def serve(self, number: int) -> ActivationRows:
        """The rows of a serve in their order; forgets earlier fills and prefetches the next."""
        rows = self._mix(number)
        self._fills = {n: fill for n, fill in self._fills.items() if n >= number}
        self._prefetch(number + 1, next(iter(rows.columns.values())).device)
        return rows

    def serve_rows(self, number: int) -> int:
        """Number of rows in a serve: half of its fill and the other half of the one before."""
        first = self.rows_in(number) // 2
        before = self.rows_in(number - 1) if number else 0
        return first + before - before // 2

    def has_serve(self, number: int) -> bool:
        """Whether the text is long enough for this serve."""
        return not number or bool(self.contexts_in(number - 1))

    def advance(self, share: float) -> None:
        """Prefetch until this share, 0 to 1, of the next fill is done."""
        if self._prefetcher is not None:
            self._prefetcher.advance(share)

    def _mix(self, number: int) -> ActivationRows:
        seed, parts = self.settings.seed, []
        for n, late in ((number - 1, True), (number, False)):
            if n >= 0 and self.contexts_in(n):
                rows = self._fill(n)
                order = torch.randperm(len(rows), generator=generator(seed, "split", n))
                half = len(rows) // 2
                parts.append((rows, order[half:] if late else order[:half]))
        mixed = torch.randperm(
            sum(len(order) for _, order in parts), generator=generator(seed, "serve", number)
        )
        return ActivationRows.gathered(parts, mixed)

    # -- fills -----------------------------------------------------------------------------

    def rows(self) -> int | None:
        """Rows in the whole stream; None until the text has been read to its end."""
        if self.contexts.total is None:
            return None
        fills = -(-self.contexts.total * self.settings.epochs // self._per_fill)
        return sum(self.rows_in(n) for n in range(fills))

    def ended(self) -> str:
        """The error message for reading past the end of the text."""
        total, epochs = self.rows(), self.settings.epochs
        return (
            f"dataset: the text ends after {total:_} tokens in {epochs} epoch"
            f"{'s' if epochs > 1 else ''}; lower training.tokens, give more text or set "
            f"dataset.epochs = {epochs + 1}"
        )

    def contexts_in(self, n: int) -> int:
        """Number of contexts in fill n; 0 after the last one."""
        end = (n + 1) * self._per_fill
        # A count below `end` is that of the whole text; only then do later epochs begin here.
        total = self.contexts.count(end) * self.settings.epochs
        return max(0, min(end, total) - n * self._per_fill)

    def tokens(self, n: int) -> Tensor:
        """Contexts of fill n `[contexts, context_size]`."""
        at, end = n * self._per_fill, n * self._per_fill + self.contexts_in(n)
        length = self.contexts.count(end)  # of an epoch, unless the fill ends before
        parts = []
        while at < end:
            epoch, start = divmod(at, length)
            stop = min(length, start + end - at)
            parts.append(self.contexts.read(epoch, start, stop, self.settings.seed))
            at += stop - start
        return torch.from_numpy(np.concatenate(parts).astype(np.int64))

    def _count_rows(self, n: int) -> int:
        contexts = self.contexts_in(n)
        if not contexts or self.settings.site.everywhere:
            return contexts * self.contexts.context_size
        return self.used_rows(self.tokens(n))

    def _fill(self, n: int) -> ActivationRows:
        """Fill n: kept from the last serve, prefetched, or made now."""
        if n not in self._fills:
            rows = None
            if self._prefetcher is not None:
                rows = self._prefetcher.take(
                    n, lambda fill: [*fill.columns.values()] if fill else []
                )
            self._fills[n] = self.read_rows(self.tokens(n)) if rows is None else rows
        return self._fills[n]

    def _prefetch(self, n: int, device: torch.device) -> None:
        contexts = self.contexts_in(n)
        if self.prefetches(device) and contexts:
            self._prefetcher = self._prefetcher or Prefetcher(device)
            batches = -(-contexts // self.settings.model_batch_size)
            self._prefetcher.begin(n, batches, self._read_batches(self.tokens(n)))

    def prefetches(self, device: torch.device) -> bool:
        """Whether the next fill is made while this one is trained on."""
        return device.type == "cuda"

    # -- the model -------------------------------------------------------------------------

    def used_rows(self, tokens: Tensor) -> int:
        """Number of the tokens `[n, context_size]` whose activations are used."""
        return int(self.settings.site.used(tokens).sum())

    def read_rows(self, tokens: Tensor) -> ActivationRows:
        """Run the model over contexts `[n, context_size]`; rows in the order of the tokens."""
        *_, rows = self._read_batches(tokens)
        assert rows is not None
        return rows

    def _read_batches(self, tokens: Tensor) -> Iterator[ActivationRows | None]:
        """As `read_rows`, one batch of the model per item; the last item is the result."""
        site, batch_size = self.settings.site, self.settings.model_batch_size
        used = site.used(tokens)
        positions = torch.arange(tokens.shape[1]).expand_as(tokens)
        columns: dict[str, Tensor] = {}
        at, total = 0, int(used.sum())
        for start in range(0, len(tokens), batch_size):
            part = tokens[start : start + batch_size]
            # Always the same batch shape: another shape may change the bits.
            padded = torch.zeros(batch_size, tokens.shape[1], dtype=torch.int64)
            padded[: len(part)] = part
            activations = self.backend.activations(padded, site.all_hooks)
            mask = used[start : start + len(part)]
            # Indices are computed on the host: a mask on a GPU would force a synchronization.
            indices = None if mask.all() else mask.flatten().nonzero()[:, 0]
            count = mask.numel() if indices is None else len(indices)
            for hook, value in activations.items():
                rows = site.read(value[: len(part)]).flatten(0, 1)  # [tokens, d]
                if hook not in columns:
                    size = (total, rows.shape[-1])
                    columns[hook] = torch.empty(size, dtype=torch.float32, device=rows.device)
                if indices is not None:
                    rows = rows[indices.to(rows.device)]
                columns[hook][at : at + count] = rows
            at += count
            if at < total:
                yield None
        yield ActivationRows(columns, tokens[used], positions[used])

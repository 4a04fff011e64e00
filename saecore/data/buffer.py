"""The two-fill window: activations of a language model, mixed, as one resumable stream.

Fill n is a fixed range of contexts (in the order that they have in their epoch). Its rows are
divided at random: one half is served together with the second half of fill n−1, the other half
with fill n+1. So every row is served exactly once, mixed over two fills, and the stream is a
function of the position alone: resuming at a position runs two fills again, and nothing is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saecore.backend import ModelBackend
from saecore.data.ahead import Ahead
from saecore.data.contexts import ArrayContexts, Contexts
from saecore.data.rows import Rows
from saecore.errors import DataError
from saecore.randomness import generator
from saecore.step import Batch


@attrs.frozen
class WindowSettings:
    """What is read, and how it is mixed."""

    hooks: tuple[str, ...]
    """Hooks that are read; several give `[N, hooks, d]`."""
    targets: tuple[str, ...] = ()
    """Hooks of the targets, if they are others; several give `[N, hooks, d]`."""
    head: int | None = None
    """Attention head to take."""
    fill_tokens: int = 65_536
    """Tokens per fill, before any are left out."""
    model_batch_size: int = 32
    """Contexts per forward."""
    positions: tuple[int, int] | None = None
    """Positions of each context that are used."""
    exclude: tuple[int, ...] = ()
    """Token ids whose activations are left out."""
    epochs: int = 1
    """How often the contexts are gone through."""
    seed: int = 0
    """Seed of order and mixing."""


class Window:
    """An `ActivationSource` over a live model.

    Args:
        backend: the language model.
        contexts: rows of tokens; an array `[n, context_size]` is permuted as a whole.
        settings: what is read, and how it is mixed.
    """

    def __init__(
        self, backend: ModelBackend, contexts: Contexts | NDArray[Any], settings: WindowSettings
    ) -> None:
        self.backend, self.settings = backend, settings
        array = isinstance(contexts, np.ndarray)
        self.contexts: Contexts = ArrayContexts(contexts) if array else contexts  # type: ignore[arg-type, assignment]
        self._per_fill: int = max(1, settings.fill_tokens // self.contexts.context_size)
        self._position = 0
        self._served: Rows | None = None
        self._serve = -1
        self._begin = 0  # position at which the present serve begins
        self._fills: dict[int, Rows] = {}
        self._ahead: Ahead[Rows | None] | None = None
        self._kept: Callable[[int], int] = lru_cache(maxsize=None)(self._kept_count)

    @property
    def position(self) -> int:
        """Rows given out so far."""
        return self._position

    def seek(self, position: int) -> None:
        """Go on from a position; the fills it needs are run again when they are needed."""
        self._position = position
        begin, serve = 0, 0
        while self._size(serve) and begin + self._served_count(serve) <= position:
            begin += self._served_count(serve)
            serve += 1
        self._begin, self._serve, self._served = begin, serve, None

    def next(self, size: int) -> Batch:
        """The next `size` rows.

        Raises:
            DataError: the text has ended; the message says how many rows there were.
        """
        return self._batch(self.next_rows(size))

    def next_rows(self, size: int) -> Rows:
        """The next `size` rows, a column per hook.

        Raises:
            DataError: as `next`.
        """
        parts: list[Rows] = []
        missing = size
        if self._serve < 0:
            self.seek(self._position)
        while missing:
            if self._serve and not self._size(self._serve - 1):
                raise DataError(self._ended())
            if self._served is None:
                self._served = self._mix(self._serve)
                self._look_ahead()
            at = self._position - self._begin
            part = self._served.take(slice(at, at + missing))
            parts.append(part)
            missing -= len(part)
            self._position += len(part)
            if self._position == self._begin + len(self._served):
                self._begin += len(self._served)
                self._serve, self._served = self._serve + 1, None
        if self._ahead is not None and self._served is not None:
            self._ahead.advance((self._position - self._begin) / len(self._served))
        return Rows.join(parts)

    def rows(self) -> int | None:
        """Rows in the whole stream; None while the text has not been read to its end."""
        if self.contexts.total is None:
            return None
        fills = -(-self.contexts.total * self.settings.epochs // self._per_fill)
        return sum(self._kept(n) for n in range(fills))

    def _ended(self) -> str:
        total, epochs = self.rows(), self.settings.epochs
        needed = f"dataset.epochs = {epochs + 1} reads it once more"
        return (
            f"dataset: the text ends after {total:_} tokens in {epochs} epoch"
            f"{'s' if epochs > 1 else ''}; lower training.tokens or give more text ({needed})"
        )

    # -- fills -----------------------------------------------------------------------------

    def _size(self, n: int) -> int:
        """Contexts in fill n; none after the last one."""
        end = (n + 1) * self._per_fill
        # Below `end` the count is that of the whole text, and only then there are epochs after.
        total = self.contexts.count(end) * self.settings.epochs
        return max(0, min(end, total) - n * self._per_fill)

    def _served_count(self, serve: int) -> int:
        """Rows of a serve: half of its fill and the other half of the fill before."""
        first = self._kept(serve) // 2
        before = self._kept(serve - 1) if serve else 0
        return first + before - before // 2

    def _mix(self, serve: int) -> Rows:
        """The rows of a serve in their order."""
        seed, parts = self.settings.seed, []
        for n, late in ((serve - 1, True), (serve, False)):
            if n >= 0 and self._size(n):
                rows = self._fill(n)
                order = torch.randperm(len(rows), generator=generator(seed, "split", n))
                half = len(rows) // 2
                parts.append((rows, order[half:] if late else order[:half]))
        mixed = torch.randperm(
            sum(len(order) for _, order in parts), generator=generator(seed, "serve", serve)
        )
        return Rows.gathered(parts, mixed)

    def _tokens(self, n: int) -> Tensor:
        """Contexts of fill n `[contexts, context_size]`."""
        at, end = n * self._per_fill, n * self._per_fill + self._size(n)
        length = self.contexts.count(end)  # of an epoch, unless the fill ends before
        parts = []
        while at < end:
            epoch, start = divmod(at, length)
            stop = min(length, start + end - at)
            parts.append(self.contexts.read(epoch, start, stop, self.settings.seed))
            at += stop - start
        return torch.from_numpy(np.concatenate(parts).astype(np.int64))

    def _keep(self, tokens: Tensor) -> Tensor:
        """Which tokens' activations are used, bool, as `tokens`."""
        keep = torch.ones_like(tokens, dtype=torch.bool)
        if self.settings.positions is not None:
            inside = torch.zeros(tokens.shape[1], dtype=torch.bool)
            inside[slice(*self.settings.positions)] = True
            keep &= inside
        for token in self.settings.exclude:
            keep &= tokens != token
        return keep

    def _kept_count(self, n: int) -> int:
        s = self.settings
        size = self._size(n)
        if not size or (s.positions is None and not s.exclude):
            return size * self.contexts.context_size
        return int(self._keep(self._tokens(n)).sum())

    def _fill(self, n: int) -> Rows:
        """Fill n: as it was made before, or made now."""
        if n not in self._fills:
            made = None
            if self._ahead is not None:
                made = self._ahead.take(n, lambda rows: [*rows.columns.values()] if rows else [])
            self._fills[n] = self._run_fill(n) if made is None else made
        return self._fills[n]

    def _run_fill(self, n: int) -> Rows:
        """Run the model over fill n, all at once."""
        return self.read_rows(self._tokens(n))

    def _look_ahead(self) -> None:
        """Forget the fill that is no longer needed; begin the next one where that helps."""
        self._fills = {n: rows for n, rows in self._fills.items() if n >= self._serve}
        assert self._served is not None
        device = next(iter(self._served.columns.values())).device
        following = self._size(self._serve + 1)
        if self.works_ahead(device) and following:
            self._ahead = self._ahead or Ahead(device)
            batches = -(-following // self.settings.model_batch_size)
            self._ahead.begin(
                self._serve + 1, batches, self._reading(self._tokens(self._serve + 1))
            )

    def works_ahead(self, device: torch.device) -> bool:
        """Whether the next fill is made while this one is trained on."""
        return device.type == "cuda"

    def used_rows(self, tokens: Tensor) -> int:
        """How many of some contexts' tokens `[n, context_size]` are used."""
        return int(self._keep(tokens).sum())

    def read_rows(self, tokens: Tensor) -> Rows:
        """Run the model over contexts `[n, context_size]`; their rows in order."""
        *_, made = self._reading(tokens)
        assert made is not None
        return made

    def _reading(self, tokens: Tensor) -> Iterator[Rows | None]:
        """The same, a batch of the model a turn; the last turn gives the rows."""
        s = self.settings
        keep = self._keep(tokens)
        positions = torch.arange(tokens.shape[1]).expand_as(tokens)
        names = tuple(dict.fromkeys((*s.hooks, *s.targets)))
        columns: dict[str, Tensor] = {}
        at, total = 0, int(keep.sum())
        for start in range(0, len(tokens), s.model_batch_size):
            part = tokens[start : start + s.model_batch_size]
            # Always the same batch shape: another one may give other bits.
            padded = torch.zeros(s.model_batch_size, tokens.shape[1], dtype=torch.int64)
            padded[: len(part)] = part
            found = self.backend.activations(padded, names)
            kept = keep[start : start + len(part)]
            # Places are found on the host: a mask on a GPU would make it wait.
            places = None if kept.all() else kept.flatten().nonzero()[:, 0]
            count = kept.numel() if places is None else len(places)
            for name, value in found.items():
                rows = self._shaped(value[: len(part)]).flatten(0, 1)  # [tokens, d]
                if name not in columns:
                    size = (total, rows.shape[-1])
                    columns[name] = torch.empty(size, dtype=torch.float32, device=rows.device)
                if places is not None:
                    rows = rows[places.to(rows.device)]
                columns[name][at : at + count] = rows
            at += count
            if at < total:
                yield None
        yield Rows(columns, tokens[keep], positions[keep])

    def _shaped(self, value: Tensor) -> Tensor:
        """One head, or all of them concatenated: `[B, T, d]`."""
        if value.dim() == 4:
            head = self.settings.head
            return value.flatten(2) if head is None else value[:, :, head]
        return value

    def _batch(self, rows: Rows) -> Batch:
        def together(hooks: tuple[str, ...]) -> Tensor:
            columns = [rows.columns[name] for name in hooks]
            return torch.stack(columns, dim=1) if len(columns) > 1 else columns[0]

        inputs = together(self.settings.hooks)
        targets = together(self.settings.targets) if self.settings.targets else inputs
        return Batch(inputs, targets, rows.tokens, rows.positions)

"""Activations with the tokens that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import torch
from torch import Tensor


@attrs.frozen(eq=False)
class Rows:
    """Activations of some tokens: a column `[N, d]` per hook, token ids and positions `[N]`."""

    columns: Mapping[str, Tensor]
    tokens: Tensor
    positions: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, part: slice) -> Rows:
        """Consecutive rows."""
        columns = {name: one[part] for name, one in self.columns.items()}
        return Rows(columns, self.tokens[part], self.positions[part])

    @staticmethod
    def join(parts: list[Rows]) -> Rows:
        """Parts one after another."""
        if len(parts) == 1:
            return parts[0]
        columns = {
            name: torch.cat([one.columns[name] for one in parts]) for name in parts[0].columns
        }
        return Rows(
            columns,
            torch.cat([one.tokens for one in parts]),
            torch.cat([one.positions for one in parts]),
        )

    @staticmethod
    def gathered(parts: list[tuple[Rows, Tensor]], mixed: Tensor) -> Rows:
        """Rows picked from several, then brought into the order `mixed`."""

        def gather(get: Callable[[Rows], Tensor]) -> Tensor:
            first = get(parts[0][0])
            out = first.new_empty(len(mixed), *first.shape[1:])
            places, at = torch.empty_like(mixed), 0
            places[mixed] = torch.arange(len(mixed))  # row i goes to places[i]
            for rows, order in parts:
                source, device = get(rows), first.device
                out[places[at : at + len(order)].to(device)] = source[order.to(device)]
                at += len(order)
            return out

        names = parts[0][0].columns
        columns = {name: gather(_column(name)) for name in names}
        return Rows(columns, gather(lambda rows: rows.tokens), gather(lambda rows: rows.positions))


def _column(name: str) -> Callable[[Rows], Tensor]:
    return lambda rows: rows.columns[name]

"""Activations together with their tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import torch
from torch import Tensor

from saecore.core.step import Batch
from saecore.models.hook_site import HookSite


@attrs.frozen(eq=False)
class ActivationRows:
    """Activations of some tokens: a column `[N, d]` per hook, token ids and positions `[N]`."""

    columns: Mapping[str, Tensor]
    tokens: Tensor
    positions: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, part: slice) -> ActivationRows:
        """Consecutive rows."""
        columns = {hook: column[part] for hook, column in self.columns.items()}
        return ActivationRows(columns, self.tokens[part], self.positions[part])

    def batch(self, site: HookSite) -> Batch:
        """The rows as inputs and targets of an SAE."""
        inputs, targets = site.stack(self.columns)
        return Batch(inputs, targets, tokens=self.tokens, positions=self.positions)

    @staticmethod
    def join(parts: list[ActivationRows]) -> ActivationRows:
        """Concatenate parts."""
        if len(parts) == 1:
            return parts[0]
        columns = {
            hook: torch.cat([part.columns[hook] for part in parts]) for hook in parts[0].columns
        }
        return ActivationRows(
            columns,
            torch.cat([part.tokens for part in parts]),
            torch.cat([part.positions for part in parts]),
        )

    @staticmethod
    def gathered(parts: list[tuple[ActivationRows, Tensor]], mixed: Tensor) -> ActivationRows:
        """Pick rows from several parts and shuffle them.

        Args:
            parts: rows, each with the indices to pick.
            mixed: permutation `[N]` of all picked rows; row i of the result is row `mixed[i]`.
        """

        def gather(get: Callable[[ActivationRows], Tensor]) -> Tensor:
            first = get(parts[0][0])
            out = first.new_empty(len(mixed), *first.shape[1:])
            destinations, at = torch.empty_like(mixed), 0
            destinations[mixed] = torch.arange(len(mixed))  # row i goes to destinations[i]
            for rows, order in parts:
                source, device = get(rows), first.device
                out[destinations[at : at + len(order)].to(device)] = source[order.to(device)]
                at += len(order)
            return out

        columns = {hook: gather(_column(hook)) for hook in parts[0][0].columns}
        return ActivationRows(
            columns, gather(lambda rows: rows.tokens), gather(lambda rows: rows.positions)
        )


def _column(hook: str) -> Callable[[ActivationRows], Tensor]:
    return lambda rows: rows.columns[hook]

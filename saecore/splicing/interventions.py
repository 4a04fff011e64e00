"""Steering and ablation: features held at fixed values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.core.sae import SAE
from saecore.errors import ConfigError
from saecore.ops.codes import Codes

Steer = Mapping[int, float] | Mapping[str, Mapping[int, float]]
"""{feature: value}; with several SAEs {hook: {feature: value}}."""
Ablate = Iterable[int] | Mapping[str, Iterable[int]]
"""[features]; with several SAEs {hook: [features]}."""


@attrs.frozen(eq=False)
class Interventions:
    """Features of one SAE, and the values they are held at."""

    latents: Tensor
    """`[n]`, int64."""
    values: Tensor
    """`[n]`."""

    def apply(self, codes: Codes) -> Codes:
        """Hold the features at their values in every row; differentiable."""
        others = codes.where(~torch.isin(codes.indices, self.latents))
        latents, values = self.latents[self.values != 0], self.values[self.values != 0]
        if not len(latents):
            return others
        n_rows = codes.n_rows
        held = Codes.from_top(
            values.to(codes.values.dtype).expand(n_rows, -1),
            latents.expand(n_rows, -1),
            codes.d_sae,
        )
        rows = torch.cat([others.rows, held.rows])
        order = torch.sort(rows, stable=True).indices
        return Codes.from_entries(
            torch.cat([others.values, held.values])[order],
            torch.cat([others.indices, held.indices])[order],
            others.offsets + held.offsets,
            codes.d_sae,
        )


def interventions_of(
    saes: Sequence[SAE], names: Sequence[tuple[str, ...]], steer: Any, ablate: Any
) -> list[Interventions | None]:
    """The interventions on each SAE, or None.

    Args:
        saes: the SAEs.
        names: for each SAE, the hooks by which `steer` and `ablate` may refer to it.
        steer: see `Steer`, or None.
        ablate: see `Ablate`, or None.

    Raises:
        ConfigError: an unknown hook or feature, a value that is not finite, or a feature that is
            both steered and ablated.
    """
    held: list[dict[int, float]] = [{} for _ in saes]
    problems: list[str] = []
    for key, argument in (("steer", steer), ("ablate", ablate)):
        for i, table in _by_sae(key, argument, names, problems):
            d_sae = saes[i].cfg.d_sae
            for latent, value in table.items():
                where = f"{key}: feature {latent!r} of {names[i][0]}"
                if type(latent) is not int or not 0 <= latent < d_sae:
                    problems.append(f"{where}: expected an integer from 0 to {d_sae - 1}")
                elif not isinstance(value, int | float) or not abs(value) < float("inf"):
                    problems.append(f"{where}: expected a finite number, got {value!r}")
                elif latent in held[i]:
                    problems.append(f"{where}: it is already steered; remove one of the two")
                else:
                    held[i][latent] = float(value)
    if problems:
        raise ConfigError(problems, label="splice")
    return [
        _interventions(sae, table) if table else None for sae, table in zip(saes, held, strict=True)
    ]


def _interventions(sae: SAE, held: Mapping[int, float]) -> Interventions:
    device = sae.W_dec.device
    return Interventions(
        torch.tensor([*held], device=device), torch.tensor([*held.values()], device=device)
    )


def _by_sae(
    key: str, argument: Any, names: Sequence[tuple[str, ...]], problems: list[str]
) -> list[tuple[int, dict[Any, Any]]]:
    """Pairs of an SAE's index and {feature: value}."""
    if argument is None:
        return []
    known = ", ".join(targets[0] for targets in names)
    by_hook = isinstance(argument, Mapping) and any(isinstance(key, str) for key in argument)
    if not by_hook:
        if len(names) != 1:
            problems.append(
                f"{key}: there are {len(names)} SAEs; expected {{hook: features}} (SAEs at "
                f"{known or 'no hook'})"
            )
            return []
        return [(0, _table(argument))]
    tables = []
    for hook, features in argument.items():
        index = next((i for i, hooks in enumerate(names) if hook in hooks), None)
        if index is None:
            problems.append(f"{key}: no SAE at {hook!r} (SAEs at {known or 'no hook'})")
        else:
            tables.append((index, _table(features)))
    return tables


def _table(features: Any) -> dict[Any, Any]:
    return dict(features) if isinstance(features, Mapping) else dict.fromkeys(features, 0.0)

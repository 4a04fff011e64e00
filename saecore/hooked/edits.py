"""Steering and ablation: features that are held at a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.codes import Codes
from saecore.errors import ConfigError
from saecore.sae import SAE

Steer = Mapping[int, float] | Mapping[str, Mapping[int, float]]
"""{feature: value}; with several SAEs {hook: {feature: value}}."""
Ablate = Iterable[int] | Mapping[str, Iterable[int]]
"""[features]; with several SAEs {hook: [features]}."""


@attrs.frozen(eq=False)
class Edits:
    """Features of one SAE and the values they are held at."""

    latents: Tensor
    """`[n]`, int64."""
    values: Tensor
    """`[n]`."""

    def apply(self, codes: Codes) -> Codes:
        """The features with these held at their values in every row; differentiable."""
        kept = codes.where(~torch.isin(codes.indices, self.latents))
        latents, values = self.latents[self.values != 0], self.values[self.values != 0]
        if not len(latents):
            return kept
        n_rows = codes.n_rows
        held = Codes.from_top(
            values.to(codes.values.dtype).expand(n_rows, -1),
            latents.expand(n_rows, -1),
            codes.d_sae,
        )
        rows = torch.cat([kept.rows, held.rows])
        order = torch.sort(rows, stable=True).indices
        return Codes.from_entries(
            torch.cat([kept.values, held.values])[order],
            torch.cat([kept.indices, held.indices])[order],
            kept.offsets + held.offsets,
            codes.d_sae,
        )


def edits_of(
    saes: Sequence[SAE], names: Sequence[tuple[str, ...]], steer: Any, ablate: Any
) -> list[Edits | None]:
    """What each SAE's features are held at.

    Args:
        saes: the SAEs.
        names: the hooks that each is known by.
        steer: see `Steer`, or None.
        ablate: see `Ablate`, or None.

    Raises:
        ConfigError: a hook or feature that there is not, a value that is not finite, or a feature
            that is both steered and ablated.
    """
    held: list[dict[int, float]] = [{} for _ in saes]
    problems: list[str] = []
    for key, given in (("steer", steer), ("ablate", ablate)):
        for i, table in _by_sae(key, given, names, problems):
            d_sae = saes[i].cfg.d_sae
            for latent, value in table.items():
                where = f"{key}: feature {latent!r} of {names[i][0]}"
                if type(latent) is not int or not 0 <= latent < d_sae:
                    problems.append(f"{where}: expected an integer from 0 to {d_sae - 1}")
                elif not isinstance(value, int | float) or not abs(value) < float("inf"):
                    problems.append(f"{where}: expected a finite number, got {value!r}")
                elif latent in held[i]:
                    problems.append(f"{where}: it is steered already; leave out one of the two")
                else:
                    held[i][latent] = float(value)
    if problems:
        raise ConfigError("splice", problems)
    return [_edits(sae, one) if one else None for sae, one in zip(saes, held, strict=True)]


def _edits(sae: SAE, held: Mapping[int, float]) -> Edits:
    place = sae.W_dec.device
    return Edits(torch.tensor([*held], device=place), torch.tensor([*held.values()], device=place))


def _by_sae(
    key: str, given: Any, names: Sequence[tuple[str, ...]], problems: list[str]
) -> list[tuple[int, dict[Any, Any]]]:
    """Pairs of an SAE's number and {feature: value}."""
    if given is None:
        return []
    known = ", ".join(one[0] for one in names)
    by_hook = isinstance(given, Mapping) and any(isinstance(one, str) for one in given)
    if not by_hook:
        if len(names) != 1:
            problems.append(
                f"{key}: there are {len(names)} SAEs; expected {{hook: features}} with hooks of "
                f"{known or 'none'}"
            )
            return []
        return [(0, _table(given))]
    found = []
    for hook, features in given.items():
        number = next((i for i, one in enumerate(names) if hook in one), None)
        if number is None:
            problems.append(f"{key}: no SAE at {hook!r} (SAEs at {known or 'no hook'})")
        else:
            found.append((number, _table(features)))
    return found


def _table(features: Any) -> dict[Any, Any]:
    return dict(features) if isinstance(features, Mapping) else dict.fromkeys(features, 0.0)

"""Muon: orthogonalized momentum for matrices (Jordan 2024), Adam for everything else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from saecore.plugins import Component, above, at_least, between, hookimpl

if TYPE_CHECKING:
    import torch


@attrs.frozen(kw_only=True)
class MuonConfig:
    """Settings of Muon and its Adam; `lr = "auto"` is 2e-3 / sqrt(d_sae / 2^14)."""

    auto_lr: ClassVar[float] = 2e-3
    momentum: float = attrs.field(default=0.95, validator=between(0, 1))
    """Decay rate of the Nesterov momentum of matrices."""
    ns_steps: int = attrs.field(default=5, validator=at_least(1))
    """Newton–Schulz iterations; each multiplies d_in × d_in matrices with the gradient."""
    betas: tuple[float, float] = attrs.field(default=(0.9, 0.999), validator=between(0, 1))
    """Decay rates of Adam, for parameters that are not matrices."""
    eps: float = attrs.field(default=1e-8, validator=above(0))
    """Added to the root of Adam's second average."""


class Muon:
    """torch's Muon (its original form: updates scaled by √max(1, rows / columns)) and Adam.

    Args:
        config: settings.
        params: parameters or groups; each group is split into matrices and the rest.
        lr: learning rate of both.
    """

    def __init__(self, config: MuonConfig, params: Iterable[Any], lr: float) -> None:
        import torch

        groups = list(params)
        if groups and not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        matrices: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for group in groups:
            for kind, part in ((True, matrices), (False, others)):
                members = [p for p in group["params"] if (p.dim() == 2) == kind]
                if members:
                    part.append({**group, "params": members})
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            self._parts.append(
                torch.optim.Muon(
                    matrices,
                    lr=lr,
                    weight_decay=0.0,
                    momentum=config.momentum,
                    ns_steps=config.ns_steps,
                )
            )
        if others:
            self._parts.append(
                torch.optim.Adam(others, lr=lr, betas=config.betas, eps=config.eps, fused=True)
            )

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both."""
        return [group for part in self._parts for group in part.param_groups]

    @property
    def state(self) -> Mapping[torch.Tensor, Any]:
        """The state of every parameter."""
        return {key: state for part in self._parts for key, state in part.state.items()}

    def step(self) -> None:
        """Update the parameters from their gradients."""
        for part in self._parts:
            part.step()

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for part in self._parts:
            part.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """The state of both."""
        return {str(i): part.state_dict() for i, part in enumerate(self._parts)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state."""
        for i, part in enumerate(self._parts):
            part.load_state_dict(state_dict[str(i)])


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="optimizer",
        name="muon",
        config=MuonConfig,
        build=Muon,
        summary="orthogonalized momentum for matrices, Adam for the rest",
    )

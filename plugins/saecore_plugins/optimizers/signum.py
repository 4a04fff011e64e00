"""Signum: sign updates without a schedule (Defazio et al. 2024, arXiv 2405.15682)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import attrs

from saecore.plugins import Component, above, between, hookimpl


@attrs.frozen
class SignumConfig:
    """Settings of schedule-free sign descent; `lr = "auto"` is 5e-3 / sqrt(d_sae / 2^14)."""

    auto_lr: ClassVar[float] = 5e-3
    momentum: float = attrs.field(default=0.95, validator=[above(0), between(0, 1)])
    """Gradients are computed at momentum · average + (1 − momentum) · newest weights."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="optimizer",
        name="signum",
        config=SignumConfig,
        build="saecore_plugins.optimizers.schedule_free:ScheduleFreeSign",
        summary="sign updates, schedule-free: the weights saved are averages",
    )

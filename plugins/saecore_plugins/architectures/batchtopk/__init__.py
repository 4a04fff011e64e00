"""BatchTopK: the k · N largest pre-activations of a batch (Bussmann et al. 2024, 2412.06410)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.core.architecture_config import RescaledConfig
from saecore.plugins import Component, hookimpl
from saecore_plugins.activations.batchtopk import BatchTopKConfig as ActivationBatchTopKConfig


@attrs.frozen
class BatchTopKConfig(ActivationBatchTopKConfig, RescaledConfig):
    """Settings of a BatchTopK SAE."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="architecture",
        name="batchtopk",
        config=BatchTopKConfig,
        build="saecore_plugins.architectures.batchtopk.sae:BatchTopK",
        summary="the k · N largest pre-activations of a batch; published as JumpReLU",
    )

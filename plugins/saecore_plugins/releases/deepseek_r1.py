"""DeepSeek R1: ReLU SAEs of the distilled models by qresearch, one `.pt` file each.

`DeepSeek-R1-<model>-SAE-l<layer>.pt` holds encoder.weight `[d_sae, d]`, encoder.bias,
decoder.weight `[d, d_sae]` and decoder.bias, in bfloat16. The decoder's bias is not subtracted from
the input. The file name gives model and layer; there is no configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import LinearFiles


class DeepSeekR1(LinearFiles):
    """Reads SAEs of qresearch/DeepSeek-R1-*."""

    pattern = re.compile(r"(DeepSeek-R1-[\w.-]+)-SAE-l(\d+)\.pt")
    form = "DeepSeek-R1-<model>-SAE-l<layer>.pt"
    encoder, decoder = "encoder", "decoder"
    organization = "deepseek-ai"
    metadata: ClassVar[Mapping[str, Any]] = {
        "dataset_path": "lmsys/lmsys-chat-1m",
        "context_size": 1024,
    }


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="release",
        name="deepseek_r1",
        build=DeepSeekR1,
        summary="ReLU SAEs of DeepSeek R1's distilled models (….pt)",
    )

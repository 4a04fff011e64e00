"""Goodfire: ReLU SAEs of Llama 3 Instruct models, one `.pt` or `.pth` file each.

`Llama-<version>-<size>-Instruct-SAE-l<layer>.pt` holds encoder_linear.weight `[d_sae, d]`,
encoder_linear.bias, decoder_linear.weight `[d, d_sae]` and decoder_linear.bias, in float32. The
decoder's bias is not subtracted from the input. The file name gives model and layer; there is no
configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import LinearFiles


class Goodfire(LinearFiles):
    """Reads SAEs of Goodfire/Llama-*."""

    pattern = re.compile(r"(Llama-[\w.]+-\d+B-Instruct)-SAE-l(\d+)\.pth?")
    form = "Llama-<version>-<size>-Instruct-SAE-l<layer>.pt"
    encoder, decoder = "encoder_linear", "decoder_linear"
    organization = "meta-llama"
    metadata: ClassVar[Mapping[str, Any]] = {"dataset_path": "lmsys/lmsys-chat-1m"}


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="release",
        name="goodfire",
        build=Goodfire,
        summary="Goodfire: ReLU SAEs of Llama 3 Instruct models (….pt, ….pth)",
    )

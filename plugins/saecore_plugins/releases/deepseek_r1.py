"""DeepSeek R1: ReLU SAEs of the distilled models by qresearch, one `.pt` file each.

`{name}` is `DeepSeek-R1-<model>-SAE-l<layer>.pt` with encoder.weight `[d_sae, d]`, encoder.bias,
decoder.weight `[d, d_sae]` and decoder.bias, in bfloat16. The decoder's bias is not subtracted from
the input. Model and layer are in the file's name; there is no configuration.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

import attrs

from saecore.components import Component
from saecore.errors import ReleaseError
from saecore.hookspecs import hookimpl
from saecore.releases.layout import NamedFiles
from saecore.releases.repository import Repository
from saecore.releases.source import Draft, Facts
from saecore.releases.tensors import Tensors

NAME = re.compile(r"(DeepSeek-R1-[\w.-]+)-SAE-l(\d+)\.pt")
"""File names: the model and the layer."""


@attrs.frozen
class DeepSeekR1Config:
    """This format has no settings."""


class DeepSeekR1(NamedFiles):
    """Reads SAEs of qresearch/DeepSeek-R1-*."""

    pattern = NAME

    def load(self, files: Repository, path: str, facts: Facts) -> Draft:
        """Read the file."""
        label = f"{files.name}/{path}"
        name = NAME.fullmatch(posixpath.basename(path))
        if name is None:
            raise ReleaseError(f"{label}: expected DeepSeek-R1-<model>-SAE-l<layer>.pt")
        tensors = Tensors(files.torch(path), label)
        weights = {
            "W_enc": tensors.take("encoder.weight", 2).t(),
            "b_enc": tensors.take("encoder.bias", 1),
            "W_dec": tensors.take("decoder.weight", 2).t(),
            "b_dec": tensors.take("decoder.bias", 1),
        }
        tensors.end()
        metadata = {
            "model_name": f"deepseek-ai/{name[1]}",
            "hook_name": f"blocks.{int(name[2])}.hook_resid_post",
            "hook_head_index": None,
            "prepend_bos": True,
            "dataset_path": "lmsys/lmsys-chat-1m",
            "context_size": 1024,
        }
        return Draft.of("standard", weights, metadata)


@hookimpl
def saecore_components() -> Iterable[Component]:
    """Offer the format."""
    yield Component(
        kind="release",
        name="deepseek_r1",
        config=DeepSeekR1Config,
        build=DeepSeekR1,
        summary="ReLU SAEs of DeepSeek R1's distilled models (….pt)",
    )

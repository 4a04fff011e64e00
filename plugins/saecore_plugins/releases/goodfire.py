"""Goodfire: ReLU SAEs of Llama 3 Instruct models, one `.pt` or `.pth` file each.

`Llama-<version>-<size>-Instruct-SAE-l<layer>.pt` holds encoder_linear.weight `[d_sae, d]`,
encoder_linear.bias, decoder_linear.weight `[d, d_sae]` and decoder_linear.bias, in float32. The
decoder's bias is not subtracted from the input. Model and layer are in the file's name; there is no
configuration.
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

NAME = re.compile(r"(Llama-[\w.]+-\d+B-Instruct)-SAE-l(\d+)\.pth?")
"""File names: the model and the layer."""


@attrs.frozen
class GoodfireConfig:
    """This format has no settings."""


class Goodfire(NamedFiles):
    """Reads SAEs of Goodfire/Llama-*."""

    pattern = NAME

    def load(self, files: Repository, path: str, facts: Facts) -> Draft:
        """Read the file."""
        label = f"{files.name}/{path}"
        name = NAME.fullmatch(posixpath.basename(path))
        if name is None:
            raise ReleaseError(f"{label}: expected Llama-<version>-<size>-Instruct-SAE-l<layer>.pt")
        tensors = Tensors(files.torch(path), label)
        weights = {
            "W_enc": tensors.take("encoder_linear.weight", 2).t(),
            "b_enc": tensors.take("encoder_linear.bias", 1),
            "W_dec": tensors.take("decoder_linear.weight", 2).t(),
            "b_dec": tensors.take("decoder_linear.bias", 1),
        }
        tensors.end()
        metadata = {
            "model_name": f"meta-llama/{name[1]}",
            "hook_name": f"blocks.{int(name[2])}.hook_resid_post",
            "hook_head_index": None,
            "prepend_bos": True,
            "dataset_path": "lmsys/lmsys-chat-1m",
        }
        return Draft.of("standard", weights, metadata)


@hookimpl
def saecore_components() -> Iterable[Component]:
    """Offer the format."""
    yield Component(
        kind="release",
        name="goodfire",
        config=GoodfireConfig,
        build=Goodfire,
        summary="Goodfire: ReLU SAEs of Llama 3 Instruct models (….pt, ….pth)",
    )

"""Goodfire: ReLU SAEs of Llama 3 Instruct models, one `.pt` or `.pth` file each.

`Llama-<version>-<size>-Instruct-SAE-l<layer>.pt` holds encoder_linear.weight `[d_sae, d]`,
encoder_linear.bias, decoder_linear.weight `[d, d_sae]` and decoder_linear.bias, in float32. The
decoder's bias is not subtracted from the input. Model and layer are in the file's name; there is no
configuration.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

import attrs

from saecore.components import Component
from saecore.errors import ReleaseError
from saecore.hookspecs import hookimpl
from saecore.releases.repository import Repository
from saecore.releases.source import Draft, Facts
from saecore.releases.tensors import Tensors

NAME = re.compile(r"(Llama-[\w.]+-\d+B-Instruct)-SAE-l(\d+)\.pth?")
"""File names: the model and the layer."""


@attrs.frozen
class GoodfireConfig:
    """This format has no settings."""


class Goodfire:
    """Reads SAEs of Goodfire/Llama-*."""

    def __init__(self, config: GoodfireConfig) -> None:
        self.config = config

    def recognise(self, files: Repository, path: str) -> bool:
        """Whether `path` is a file with such a name."""
        return files.has(path) and NAME.fullmatch(posixpath.basename(path)) is not None

    def list(self, files: Repository) -> Sequence[str]:
        """Every file with such a name."""
        return [one for one in files.files if self.recognise(files, one)]

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
        d_in, d_sae = weights["W_enc"].shape
        cfg = {
            "architecture": "standard",
            "d_in": d_in,
            "d_sae": d_sae,
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": False,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": metadata,
        }
        return Draft(cfg, weights)


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

"""The configuration of an SAE: sizes, precision, architecture settings, metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch

from saecore.errors import ConfigError, nearest

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16,
          "float64": torch.float64}  # fmt: skip
"""Precisions by their names in files."""


@attrs.frozen
class Shape:
    """Sizes, precision and device of the weights."""

    d_in: int
    """Size of the activations that are read."""
    d_out: int
    """Size of the activations that are reconstructed."""
    d_sae: int
    """Number of latents."""
    dtype: torch.dtype = torch.float32
    """Precision of the weights."""
    device: torch.device = attrs.field(default=torch.device("cpu"), converter=torch.device)
    """Device of the weights."""
    hooks: int = 1
    """Number of hooks whose activations are concatenated in d_in (and in d_out)."""
    allocate: bool = True
    """Whether to allocate the parameters; False if other tensors replace them right away."""


class Metadata(Mapping[str, Any]):
    """The origin of an SAE: hook_name, model_name, … by key or as attributes.

    A missing name raises AttributeError; it is never None.
    """

    def __init__(self, values: Mapping[str, Any] = {}) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            known = sorted(self._values)
            raise AttributeError(
                f"this SAE's metadata has no {name!r}{nearest(name, known)} "
                f"(known: {', '.join(known) or 'nothing'})"
            ) from None

    def __repr__(self) -> str:
        return f"Metadata({self._values!r})"


@attrs.frozen(kw_only=True)
class SAEConfig:
    """The configuration of an SAE: `sae.cfg`."""

    d_in: int
    """Size of the activations that are read."""
    d_sae: int
    """Number of latents."""
    d_out: int
    """Size of the activations that are reconstructed."""
    architecture: str
    """Name of the architecture."""
    dtype: str
    """Precision of the weights."""
    device: str
    """Device of the weights."""
    architecture_config: Any
    """The architecture's settings, which are also attributes of this object."""
    normalize_activations: str = "none"
    """Normalization in the forward pass; "none" if it has been folded into the weights."""
    reshape_activations: str = "none"
    """"hook_z" if `[..., heads, d_head]` is flattened to `[..., d_in]`."""
    metadata: Metadata = attrs.field(factory=Metadata)
    """The origin of the SAE."""
    hooks: int = 1
    """Number of hooks whose activations are concatenated in d_in (and in d_out)."""
    inference: bool = False
    """Whether it is in inference form; otherwise training settings are saved with it."""

    @property
    def hook_name(self) -> str:
        """The hook whose activations are read."""
        return str(self.metadata.hook_name)

    @property
    def model_name(self) -> str:
        """The language model."""
        return str(self.metadata.model_name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "architecture_config":
            raise AttributeError(name)
        try:
            return getattr(self.architecture_config, name)
        except AttributeError:
            known = [field.name for field in attrs.fields(SAEConfig)]
            known += [field.name for field in attrs.fields(type(self.architecture_config))]
            raise AttributeError(
                f"the config of a {self.architecture} SAE has no {name!r}{nearest(name, known)}"
            ) from None


def check_width(k: float, d_sae: int, key: str = "sae.k") -> None:
    """Refuse more active latents than there are latents.

    Raises:
        ConfigError: k > d_sae.
    """
    if k > d_sae:
        raise ConfigError([f"{key}: expected at most d_sae = {d_sae}, got {k}"])

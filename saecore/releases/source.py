"""What a plugin of the kind `release` is: one published format, and the form it is brought to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.releases.repository import Repository
    from saecore.sae import SAE


@attrs.frozen
class Facts:
    """What a catalogue knows of an SAE; everything is unknown for a repository outside it."""

    release: str | None = None
    """The release's name in the catalogue."""
    sae_id: str | None = None
    """The SAE's name within its release."""
    model: str | None = None
    """The language model."""
    hook: str | None = None
    """The hook that is read."""
    l0: float | None = None
    """Mean number of active latents, as published."""
    variance_explained: float | None = None
    """Explained variance, as published."""
    norm_scaling_factor: float | None = None
    """Factor of the activations before the encoder, for SAEs trained on scaled ones."""
    neuronpedia: str | None = None
    """Neuronpedia's name, `model/layer-set`."""
    overrides: Mapping[str, Any] = attrs.field(factory=dict)
    """Keys of the configuration that the catalogue corrects."""


@attrs.frozen
class Draft:
    """An SAE as a source gives it: the form of SAELens 6's files, whatever the format was."""

    cfg: dict[str, Any]
    """As in cfg.json: architecture, d_in, d_sae, the architecture's own keys and metadata."""
    tensors: dict[str, Tensor]
    """`W_enc [d_in, d_sae]`, `W_dec [d_sae, d_out]`, `b_enc`, `b_dec`, …, as in that format."""
    sparsity: Tensor | None = None
    """log10 of each latent's firing frequency `[d_sae]`."""
    input_scale: float | None = None
    """Factor of the activations that is still to be folded into the weights."""
    warnings: Sequence[str] = ()
    """What the user should know of this SAE: one line each."""


class ReleaseSource(Protocol):
    """One format of published SAEs.

    Sizes come from tensors, never from names. A source that can also write its format has a
    method `write(sae, directory)`, which raises ReleaseError where the format cannot express
    the SAE exactly.
    """

    def recognise(self, files: Repository, path: str) -> bool:
        """Whether an SAE of this format is at `path`; looks at names and small files only."""

    def list(self, files: Repository) -> Sequence[str]:
        """The paths of this format's SAEs in a repository."""

    def load(self, files: Repository, path: str, facts: Facts) -> Draft:
        """Read the SAE at `path`.

        Raises:
            ReleaseError: a file or tensor is missing, or does not fit the others.
        """


class ReleaseWriter(Protocol):
    """A source that can also write its format."""

    def write(self, sae: SAE, directory: Path) -> None:
        """Write an SAE.

        Raises:
            ReleaseError: the format cannot express this SAE exactly.
        """

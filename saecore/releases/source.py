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

    @classmethod
    def of(
        cls,
        architecture: str,
        tensors: dict[str, Tensor],
        metadata: Mapping[str, Any],
        warnings: Sequence[str] = (),
        **own: Any,
    ) -> Draft:
        """A draft with the sizes of its tensors, in the precision and form that most have.

        Args:
            architecture: its name in cfg.json.
            tensors: as the field; `W_enc`, or `W_dec` alone, says d_in and d_sae.
            metadata: where it comes from; a hook_z is flattened.
            warnings: as the field.
            own: the architecture's keys, and those that differ from no b_dec in the encoder's
                input and no normalization.
        """
        encoder = tensors["W_enc"] if "W_enc" in tensors else tensors["W_dec"].t()
        hook = metadata.get("hook_name") or ""
        cfg = {
            "architecture": architecture,
            "d_in": encoder.shape[0],
            "d_sae": encoder.shape[1],
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": False,
            "normalize_activations": "none",
            "reshape_activations": "hook_z" if hook.endswith("hook_z") else "none",
            **own,
            "metadata": dict(metadata),
        }
        return cls(cfg, tensors, warnings=warnings)

    def knowing(self, facts: Facts) -> Draft:
        """With what a catalogue knows beside the files: figures, names, corrections.

        Model and hook of the catalogue are taken where the files name none.
        """
        corrections = {key: one for key, one in facts.overrides.items() if key in CORRECTED}
        named = {
            "l0": facts.l0,
            "variance_explained": facts.variance_explained,
            "neuronpedia_id": facts.neuronpedia,
            **{key: one for key, one in facts.overrides.items() if key not in CORRECTED},
        }
        own = dict(self.cfg.get("metadata") or {})
        for key, known in (("model_name", facts.model), ("hook_name", facts.hook)):
            if own.get(key) is None and known is not None:
                own[key] = known
        own |= {key: one for key, one in named.items() if one is not None}
        return attrs.evolve(self, cfg={**self.cfg, **corrections, "metadata": own})


CORRECTED = ("normalize_activations", "apply_b_dec_to_input", "reshape_activations")
"""Keys of the configuration itself that a catalogue may correct; others are of the metadata."""


class ReleaseSource(Protocol):
    """One format of published SAEs.

    Sizes come from tensors, never from names. A source that can also write its format has a
    method `write` (`ReleaseWriter`), which raises ReleaseError where the format cannot express
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

    def write(self, sae: SAE, directory: Path, sparsity: Tensor | None = None) -> None:
        """Write an SAE, so that `list` and `load` find the same function in `directory`.

        Args:
            sae: it stays as it is.
            directory: an empty one, or one that is not there.
            sparsity: log10 of each latent's firing frequency `[d_sae]`, for formats that keep it.

        Raises:
            ReleaseError: the format cannot express this SAE exactly.
        """

"""Release plugins: readers and writers of published formats, and the draft they return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.core.sae import SAE
    from saecore.storage.repository import Repository


@attrs.frozen(kw_only=True)
class CatalogueFacts:
    """What a catalogue knows about an SAE; empty for repositories outside every catalogue."""

    release: str | None = None
    """The release's name in the catalogue."""
    sae_id: str | None = None
    """The SAE's name within its release."""
    model: str | None = None
    """The language model."""
    hook: str | None = None
    """The hook that it reads."""
    l0: float | None = None
    """Mean number of active latents, as published."""
    variance_explained: float | None = None
    """Explained variance, as published."""
    norm_scaling_factor: float | None = None
    """Factor for the activations before the encoder, for SAEs trained on scaled activations."""
    neuronpedia: str | None = None
    """Its name on Neuronpedia, `model/layer-set`."""
    overrides: Mapping[str, Any] = attrs.field(factory=dict)
    """Corrections of configuration keys."""


@attrs.frozen(kw_only=True)
class Draft:
    """An SAE as read by a release plugin, in the layout of SAELens 6's files."""

    cfg: dict[str, Any]
    """As in cfg.json: architecture, d_in, d_sae, the architecture's keys and metadata."""
    tensors: dict[str, Tensor]
    """`W_enc [d_in, d_sae]`, `W_dec [d_sae, d_out]`, `b_enc`, `b_dec`, …, as in that format."""
    sparsity: Tensor | None = None
    """log10 of each latent's firing frequency `[d_sae]`."""
    input_scale: float | None = None
    """Factor for the activations that has not been folded into the weights yet."""
    warnings: Sequence[str] = ()
    """Warnings for the user, one line each."""

    @classmethod
    def of(
        cls,
        architecture: str,
        tensors: dict[str, Tensor],
        metadata: Mapping[str, Any],
        warnings: Sequence[str] = (),
        **settings: Any,
    ) -> Draft:
        """Make a draft with sizes from its tensors and defaults for the other keys of cfg.json.

        The defaults are float32, no normalization, b_dec not subtracted from the input, and heads
        flattened if the hook is a hook_z.

        Args:
            architecture: its name in cfg.json.
            tensors: as the field; `W_enc`, or else `W_dec`, gives d_in and d_sae.
            metadata: model, hook, text and so on.
            warnings: as the field.
            settings: the architecture's keys, and keys that differ from the defaults.
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
            **settings,
            "metadata": dict(metadata),
        }
        return cls(cfg=cfg, tensors=tensors, warnings=warnings)

    def with_facts(self, facts: CatalogueFacts) -> Draft:
        """Add the figures, names and corrections of a catalogue.

        Model and hook are added only if the files do not name them.
        """
        corrections = {key: value for key, value in facts.overrides.items() if key in CORRECTED}
        known = {
            "l0": facts.l0,
            "variance_explained": facts.variance_explained,
            "neuronpedia_id": facts.neuronpedia,
            **{key: value for key, value in facts.overrides.items() if key not in CORRECTED},
        }
        metadata = dict(self.cfg.get("metadata") or {})
        for key, name in (("model_name", facts.model), ("hook_name", facts.hook)):
            if metadata.get(key) is None and name is not None:
                metadata[key] = name
        metadata |= {key: value for key, value in known.items() if value is not None}
        return attrs.evolve(self, cfg={**self.cfg, **corrections, "metadata": metadata})


CORRECTED = ("normalize_activations", "apply_b_dec_to_input", "reshape_activations")
"""Keys at the top of the configuration that a catalogue may correct; others are metadata."""


class ReleaseSource(Protocol):
    """Reader of one format of published SAEs.

    Sizes come from tensors, never from names. A source that can also write its format is a
    `ReleaseWriter`, too.
    """

    def recognize(self, files: Repository, path: str) -> bool:
        """Whether an SAE of this format is at `path`; reads names and small files only."""

    def list(self, files: Repository) -> Sequence[str]:
        """List the paths of this format's SAEs in a repository."""

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read the SAE at `path`.

        Raises:
            ReleaseError: a file or tensor is missing or contradicts the others.
        """


class ReleaseWriter(Protocol):
    """Writer of one format."""

    def write(self, sae: SAE, directory: Path, sparsity: Tensor | None = None) -> None:
        """Write an SAE so that `list` and `load` give the same function back.

        Args:
            sae: the SAE; not modified.
            directory: an empty or new directory.
            sparsity: log10 of each latent's firing frequency `[d_sae]`, for formats that store it.

        Raises:
            ReleaseError: the format cannot express this SAE exactly.
        """

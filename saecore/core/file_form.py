"""How an architecture is written to cfg.json and sae_weights.safetensors, and read back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from saecore.core.sae import SAE


def _no_sizes(config: Any, d_sae: int) -> Collection[int]:
    return ()


def _no_details(sae: Any) -> Mapping[str, Any]:
    return {}


@attrs.frozen(kw_only=True)
class FileForm:
    """The file format of one architecture: `SAE.file_form`.

    The format is that of SAELens 6: cfg.json holds what inference needs, and what only training
    used is recorded under `training_architecture_details` in its metadata. The defaults suit an
    architecture that SAELens does not have. A subclass of another architecture starts from its
    parent's record: `file_form = attrs.evolve(BatchTopK.file_form, …)`.
    """

    saved_fields: tuple[str, ...] | None = None
    """Config fields written to cfg.json; None writes all of them."""
    training_fields: frozenset[str] = frozenset({"decoder_init_norm"})
    """Keys that only matter to training, under SAELens' names: ignored on load, and recorded as
    training details where the config has them."""
    recorded_fields: tuple[str, ...] | None = None
    """Config fields recorded as training details; default: those of `training_fields` that
    cfg.json does not hold."""
    warm_up: tuple[str, str] | None = None
    """A training detail and the schedule field whose `warm_up_steps` it records, such as
    ("l1_warm_up_steps", "l1_schedule")."""
    details: Callable[[Any], Mapping[str, Any]] = _no_details
    """`details(sae)`: further training details."""
    defaults: Mapping[str, Any] = {"rescale_acts_by_decoder_norm": False}
    """Meaning of a key that cfg.json lacks, where it differs from the field's default."""
    variants: Mapping[str, Mapping[str, Any]] = {}
    """Settings that SAELens does not have, by prefix of the architecture's name in cfg.json:
    SAELens then refuses the file instead of misreading it."""
    activation_in_name: bool = False
    """Whether activations other than relu are a prefix of the name, as in `jumprelu_transcoder`."""
    training_state: tuple[str, ...] = ()
    """Buffers that checkpoints hold and published files do not."""
    normalizations: tuple[str, ...] = ()
    """Values of normalize_activations that only this architecture understands."""
    tensor_sizes: Callable[[Any, int], Collection[int]] = _no_sizes
    """`tensor_sizes(config, d_sae)`: sizes of saved tensors besides d_in, d_out and d_sae."""

    def architecture_name(self, sae: SAE) -> str:
        """Return the architecture's name in cfg.json."""
        config = sae.cfg.architecture_config
        for prefix, settings in self.variants.items():
            if all(getattr(config, key) == value for key, value in settings.items()):
                return f"{prefix}_{sae.architecture}"
        if self.activation_in_name and config.activation.name != "relu":
            return f"{config.activation.name}_{sae.architecture}"
        return sae.architecture

    def training_details(self, sae: SAE) -> dict[str, Any]:
        """Return the settings that only training used, under SAELens' names."""
        config = sae.cfg.architecture_config
        names = self.recorded_fields
        if names is None:
            names = tuple(
                field.name
                for field in attrs.fields(type(config))
                if field.name in self.training_fields
                and field.name not in (self.saved_fields or ())
            )
        details = {name: getattr(config, name) for name in names}
        if self.warm_up is not None:
            detail, schedule = self.warm_up
            details[detail] = getattr(getattr(config, schedule).config, "warm_up_steps", 0)
        return {**details, **self.details(sae)}

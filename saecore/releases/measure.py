"""Whether a published SAE is what it is said to be: its L0 and explained variance on text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch

from saecore.config.structure import structure_choice
from saecore.errors import ReleaseError
from saecore.evaluation import evaluate
from saecore.language_model.recorded import check_model, model_of, text_of
from saecore.plugins import current_host
from saecore.reading import pick_device, read_tokens
from saecore.sae_config import DTYPES

if TYPE_CHECKING:
    from saecore.sae import SAE

RECORDED = {
    "L0": ("l0", "l0"),
    "explained variance": ("variance_explained", "explained_variance"),
}
"""Figures that are compared: what metadata and the evaluator `reconstruction` call them."""


@attrs.frozen
class Comparison:
    """One figure, as published and as measured."""

    name: str
    recorded: float | None
    """None where nobody has published it."""
    measured: float

    @property
    def ratio(self) -> float | None:
        """Measured over recorded."""
        return self.measured / self.recorded if self.recorded else None

    def off(self, tolerance: float) -> bool:
        """Whether they differ by more than a share of the recorded one."""
        if self.recorded is None:
            return False
        return abs(self.measured - self.recorded) > tolerance * abs(self.recorded)


@attrs.frozen
class Measured:
    """What was measured, and on what."""

    comparisons: tuple[Comparison, ...]
    model: str
    """The language model, its component and convention."""
    text: str
    """Name of the text, and size of the contexts."""
    tokens: int
    """Tokens that were measured."""


def measure(
    sae: SAE,
    model: str | None = None,
    dataset: str | None = None,
    tokens: int = 32_768,
    device: str = "auto",
    dtype: str = "float32",
) -> Measured:
    """Run an SAE on held-out text of its language model.

    Model, hook, text and contexts are those of the SAE's metadata. L0 is the mean number of latents
    that are not zero, explained variance 1 − E‖x−x̂‖² / (E‖x‖² − ‖E x‖²); publishers may have
    defined them in another way, or measured on other text.

    Args:
        sae: the SAE.
        model: another name of the model, or its directory.
        dataset: another text.
        tokens: how many to measure on.
        device: of model and SAE.
        dtype: precision of the model.

    Raises:
        ConfigError: the metadata do not say enough, or not what the model fits.
        DataError: the text cannot be read, or is too short.
        ReleaseError: the SAE reads no language model.
    """
    host = current_host()
    if not sae.cfg.metadata.get("hook_name"):
        raise ReleaseError("its metadata name no hook, so there is nothing to measure it on")
    chosen, table = model_of(sae, model), text_of(sae, dataset, "SAE")
    backend = chosen.build(pick_device(device, "--device", "device"), DTYPES[dtype])
    check_model(backend, sae, table, "SAE")
    contexts = read_tokens(table, backend, "SAE", tokens).held_out
    held_out = torch.from_numpy(contexts[: max(1, tokens // table.context_size)].astype("int64"))
    evaluator = structure_choice("evaluator", "reconstruction", host).build()
    sae = sae.to(backend.device) if hasattr(backend, "device") else sae
    figures = evaluate(sae, backend, held_out, {"figures": evaluator})["figures"]
    if not figures:
        raise ReleaseError("no token of the text is one that the SAE reads")
    metadata = sae.cfg.metadata
    return Measured(
        tuple(
            Comparison(name, metadata.get(key), float(figures[measured]["value"]))
            for name, (key, measured) in RECORDED.items()
        ),
        f"{backend.name} ({chosen.name}, {backend.convention})",
        f"{dataset or metadata.get('dataset_path')}, contexts of {table.context_size}",
        int(figures["l0"]["tokens"]),
    )

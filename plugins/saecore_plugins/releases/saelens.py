"""SAELens: `{path}/cfg.json`, `sae_weights.safetensors` and, if published, `sparsity.safetensors`.

Files of version 6 hold what they need. Files from before are one flat table of settings, whose
names are translated, whose `metadata` keys are gathered, and whose other keys mean nothing to an
SAE that is trained. `expected_average_only_in` needs the factor of the catalogue, for it is not in
the files: without one the SAE is refused, because its features would be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from saecore.components import Component
from saecore.hookspecs import hookimpl
from saecore.releases.repository import Repository
from saecore.releases.source import Draft, Facts


@attrs.frozen
class SAELensConfig:
    """This format has no settings."""


class SAELens:
    """Reads what SAELens and saecore write."""

    def __init__(self, config: SAELensConfig) -> None:
        self.config = config

    def recognise(self, files: Repository, path: str) -> bool:
        """Whether `path` has both files."""
        return all(files.has(f"{path}/{one}") for one in ("cfg.json", "sae_weights.safetensors"))

    def list(self, files: Repository) -> Sequence[str]:
        """Every folder with both files."""
        end = "cfg.json"
        folders = [one.removesuffix(end).rstrip("/") for one in files.files if one.endswith(end)]
        return [one for one in folders if self.recognise(files, one or ".")]

    def load(self, files: Repository, path: str, facts: Facts) -> Draft:
        """Read the three files."""
        cfg = files.json(f"{path}/cfg.json")
        tensors = files.safetensors(f"{path}/sae_weights.safetensors")
        sparsity = None
        if files.has(f"{path}/sparsity.safetensors"):
            sparsity = files.safetensors(f"{path}/sparsity.safetensors").get("sparsity")
        return Draft(cfg, tensors, sparsity)


@hookimpl
def saecore_components() -> Iterable[Component]:
    """Offer the format."""
    yield Component(
        kind="release",
        name="saelens",
        config=SAELensConfig,
        build=SAELens,
        summary="SAELens 6 and before, and saecore itself (cfg.json, sae_weights.safetensors)",
    )

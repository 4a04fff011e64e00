"""What to evaluate: an SAE, with the model and text that it or its run records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from saecore.config.from_metadata import Tables, metadata_tables
from saecore.core.sae import SAE
from saecore.core.sae_config import Metadata
from saecore.releases.resolve import resolve
from saecore.storage.run_directory import RunDirectory


@attrs.frozen(eq=False, kw_only=True)
class EvaluationTarget:
    """An SAE, with the model and text that it or its run records."""

    sae: SAE
    """The SAE."""
    name: str
    """The name it was requested by."""
    tables: Tables
    """[model], [dataset] and [evaluation], as far as they are known."""
    evaluators: Mapping[str, Tables] = attrs.field(factory=dict)
    """The run's evaluators, by name."""
    run: Path | None = None
    """The run's directory, if a run was named; None for a checkpoint."""


def resolve_target(sae: SAE | str | Path) -> EvaluationTarget:
    """Resolve an SAE from a run, a path or RELEASE:SAE_ID.

    Args:
        sae: an SAE, the directory of a run or of a checkpoint in it, or anything that `saecore
            convert` reads.

    Raises:
        SaecoreError: there is no such SAE.
    """
    if isinstance(sae, SAE):
        return EvaluationTarget(sae=sae, name="SAE", tables=metadata_tables(sae.cfg.metadata))
    location = resolve(sae)
    if location.run is not None:
        run = RunDirectory(location.run)
        return _run(run, SAE.load_from_disk(run.sae_directory), str(run.path), run.path)
    if location.checkpoint is not None:
        run = RunDirectory(location.checkpoint.absolute().parent.parent)
        return _run(run, location.load().sae, str(sae))
    loaded = location.load().sae.float()
    return EvaluationTarget(sae=loaded, name=str(sae), tables=metadata_tables(loaded.cfg.metadata))


def _run(run: RunDirectory, sae: SAE, name: str, path: Path | None = None) -> EvaluationTarget:
    """The SAE of a run, or of one of its checkpoints (no `path`), with the run's tables."""
    tables = run.read_record()["experiment"]
    names = ("model", "dataset", "evaluation")
    return EvaluationTarget(
        sae=sae,
        name=name,
        tables={name: tables[name] for name in names if name in tables},
        evaluators={table["type"]: table for table in tables.get("evaluator", ())},
        run=path,
    )


def update_metadata(sae: SAE, changes: Mapping[str, Any]) -> None:
    """Change the metadata of an SAE in place."""
    if changes:
        metadata = Metadata({**sae.cfg.metadata, **changes})
        sae.cfg = attrs.evolve(sae.cfg, metadata=metadata)

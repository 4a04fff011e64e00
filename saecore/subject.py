"""What is to be evaluated: an SAE, and what it or its run says of model and text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from saecore.errors import CheckpointError
from saecore.language_model.recorded import contexts_of, model_table
from saecore.language_model.translate import dataset_table
from saecore.plugins import Host
from saecore.resume import RECORD, read_record
from saecore.sae import SAE

Tables = dict[str, Any]

DATASETS = (".arrow", ".parquet", ".json", ".jsonl", ".csv", ".gz", ".zst")
"""Files with many documents each."""


@attrs.frozen(eq=False)
class Subject:
    """An SAE, and where it is from."""

    sae: SAE
    """The SAE."""
    name: str
    """What it was called."""
    tables: Tables
    """[model], [dataset] and [evaluation], as far as they are known."""
    evaluators: Mapping[str, Tables] = attrs.field(factory=dict)
    """The run's evaluators, by name."""
    run: Path | None = None
    """The run's directory, if it is a run."""


def subject_of(given: SAE | str | Path, host: Host) -> Subject:
    """The SAE that somebody names.

    Args:
        given: an SAE, a run's directory, or what `saecore convert` reads.
        host: the plugins.

    Raises:
        SaecoreError: there is none.
    """
    if isinstance(given, SAE):
        return Subject(given, "SAE", metadata_tables(given, host))
    directory = Path(given)
    if (directory / RECORD).is_file():
        return _run(directory)
    from saecore.releases.convert import read

    sae = read(str(given)).sae.float()
    return Subject(sae, str(given), metadata_tables(sae, host))


def _run(directory: Path) -> Subject:
    tables = read_record(directory)["experiment"]
    if not (directory / "sae").is_dir():
        raise CheckpointError(
            f"{directory}: the run has not ended, so it has no SAE; go on with it by "
            f"`saecore run {directory / RECORD} --resume {directory}`"
        )
    sae = SAE.load_from_disk(directory / "sae")
    kept = {key: tables[key] for key in ("model", "dataset", "evaluation") if key in tables}
    listed = {one["type"]: one for one in tables.get("evaluator", ())}
    return Subject(sae, str(directory), kept, listed, directory)


def metadata_tables(sae: SAE, host: Host) -> Tables:
    """[model] and [dataset], as far as the metadata of an SAE says them."""
    meta, tables = sae.cfg.metadata, {}
    hooks = hook_keys(meta)
    name = meta.get("model_name")
    if name:
        tables["model"] = {**model_table(str(name), meta, host), **hooks}
    elif hooks:
        tables["model"] = hooks
    path = meta.get("dataset_path")
    keys = contexts_of(meta)
    tables["dataset"] = {**text_table(str(path), host), **keys} if path else keys
    return tables


def hook_keys(meta: Mapping[str, Any]) -> Tables:
    """Where an SAE reads and writes, as keys of [model]."""
    several = {"hooks": meta.get("hook_names"), "target_hooks": meta.get("hook_names_out")}
    keys = {
        "hook": None if several["hooks"] else meta.get("hook_name"),
        "target_hook": None if several["target_hooks"] else meta.get("hook_name_out"),
        "head": meta.get("hook_head_index"),
        **several,
    }
    return {key: value for key, value in keys.items() if value is not None}


def text_table(path: str, host: Host) -> Tables:
    """A dataset by name or path: a plugin, files with a document each, or Hugging Face's; text of
    the hub is read as it is needed.
    """
    place = Path(path)
    if not place.exists():
        in_house = path in host.names("dataset")
        return {"type": path} if in_house else dataset_table(path, True, host)
    files = [place] if place.is_file() else [one for one in place.rglob("*") if one.is_file()]
    if any(one.suffix in DATASETS for one in files):
        return dataset_table(path, False, host)
    return {"type": "text_files", "paths": [path]}

"""Publish SAEs and runs on the Hugging Face hub."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from saecore.core.sae import SAE
from saecore.core.sae_config import Metadata
from saecore.errors import ReleaseError
from saecore.releases.card import card_of_saes, figure
from saecore.releases.export_form import inference_form
from saecore.releases.load import Loaded
from saecore.releases.resolve import resolve
from saecore.storage.files import STAGING, write_json
from saecore.storage.hub_upload import Published, Target
from saecore.storage.redact import shareable, without_private
from saecore.storage.repository import Repository
from saecore.storage.run_directory import RECORD, RESULT

MEASURED = {"l0": "l0", "variance_explained": "explained_variance"}
"""Figures in an SAE's metadata, and their names in evaluation.json."""


@attrs.frozen
class Item:
    """One SAE to publish, with the records of its run."""

    loaded: Loaded
    """The SAE and its sparsity."""
    evaluation: Mapping[str, Any] | None = None
    """evaluation.json of its run."""
    experiment: Mapping[str, Any] | None = None
    """experiment.json of its run."""


def upload_saes_to_huggingface(
    saes: Sequence[SAE | Loaded | str | Path] | Mapping[str, SAE | Loaded | str | Path],
    repo_id: str,
    token: str | None = None,
    *,
    private: bool = False,
    overwrite: bool = False,
    revision: str | None = None,
    license: str | None = None,
) -> Published:
    """Publish SAEs on the Hugging Face hub, in one commit, in the format of SAELens 6.

    Each SAE becomes `{id}/cfg.json`, `sae_weights.safetensors` and, if available,
    `sparsity.safetensors`, `evaluation.json` and `experiment.json`; the repository gets a model
    card. SAEs already in the repository stay, with their rows in the card, and so does a card that
    saecore did not write. Paths on this machine are reduced to their last part.

    Args:
        saes: SAEs by their names in the repository, or a list, which are named after their hooks.
            Each is an SAE, the result of `SAE.from_pretrained`, or the name of an SAE: the
            directory of a run or an SAE, a file, or RELEASE:SAE_ID.
        repo_id: `username/repo-name`; created if it does not exist.
        token: of a user with write access; default: the user who is logged in. It is sent to the
            hub and nowhere else.
        private: whether to make a new repository private.
        overwrite: whether to replace files of the same names with other content.
        revision: the branch; default: the main one.
        license: the hub's name of a license, such as "mit".

    Returns:
        The commit and the files it changed.

    Raises:
        ReleaseError: an SAE cannot be read, two have the same name, the repository has other files
            under these names (`ConflictError`), or the hub refuses.
        CheckpointError: a run has not ended.
    """
    target = Target(name=repo_id, token=token, revision=revision, private=private)
    named = list(saes.items()) if isinstance(saes, Mapping) else [(None, sae) for sae in saes]
    if not named:
        raise ReleaseError("saes: expected at least one SAE, got none")
    items: dict[str, Item] = {}
    for chosen, sae in named:
        item = _item(sae)
        name = chosen if chosen is not None else _hook(item)
        if name in items:
            raise ReleaseError(
                f"saes: two SAEs would be named {name!r}; give names, as in saes={{name: sae}}"
            )
        items[name] = item
    with tempfile.TemporaryDirectory(prefix=STAGING) as staging:
        files, configs = _written(items, Path(staging))
        figures = {
            name: item.evaluation["figures"]
            for name, item in items.items()
            if item.evaluation is not None
        }
        return target.write(
            files,
            f"Add {', '.join(items)}" if len(items) < 4 else f"Add {len(items)} SAEs",
            lambda old: card_of_saes(repo_id, configs, figures, license, old),
            overwrite,
        )


def _item(sae: SAE | Loaded | str | Path) -> Item:
    """Read an SAE and the records beside it; its run's figures go to its metadata."""
    if isinstance(sae, Loaded):
        return Item(sae)
    if isinstance(sae, SAE):
        return Item(Loaded(sae, {}, None))
    location = resolve(sae)
    loaded = location.load()
    folder = "." if location.run is not None else location.path
    evaluation = _record(location.files, f"{folder}/{RESULT}")
    item = Item(loaded, evaluation, _record(location.files, f"{folder}/{RECORD}"))
    if evaluation is None:
        return item
    measured = {key: figure(evaluation["figures"], name) for key, name in MEASURED.items()}
    known = {key: value for key, value in measured.items() if value is not None}
    cfg = loaded.sae.cfg
    loaded.sae.cfg = attrs.evolve(cfg, metadata=Metadata({**cfg.metadata, **known}))
    return item


def _record(files: Repository, name: str) -> dict[str, Any] | None:
    """The record of a run, None if there is no such file."""
    if not files.has(name):
        return None
    try:
        record = json.loads(files.path(name).read_text(encoding="utf-8"))
        if name.endswith(RESULT):
            record["figures"] = dict(record["figures"])
        return dict(record)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ReleaseError(f"{files.label(name)}: not the record of a run: {error}") from None


def _hook(item: Item) -> str:
    """The name of an SAE that was given none: its hook."""
    name = item.loaded.sae.cfg.metadata.get("hook_name")
    if not name:
        raise ReleaseError(
            "saes: an SAE's metadata names no hook to name it after; give names, as in "
            "saes={name: sae}"
        )
    return str(name)


def _written(
    items: Mapping[str, Item], directory: Path
) -> tuple[dict[str, Path], dict[str, dict[str, Any]]]:
    """Write all SAEs below a directory.

    Returns:
        Every file by its name in the repository, and every cfg.json by the SAE's name.
    """
    from saecore.releases.saelens_files import cfg_dict, write_sae

    files, configs = {}, {}
    for number, (name, item) in enumerate(items.items()):
        sae, folder = inference_form(item.loaded.sae), directory / str(number)
        if sae.separate_target and sae.cfg.normalize_activations != "none":
            raise ReleaseError(
                f"{name}: a transcoder with normalize_activations = "
                f"{sae.cfg.normalize_activations!r} cannot be published: SAELens would ignore the "
                "normalization"
            )
        sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata(shareable(dict(sae.cfg.metadata))))
        write_sae(sae, folder, item.loaded.sparsity)
        configs[name] = cfg_dict(sae)
        if item.evaluation is not None:
            write_json(folder / RESULT, dict(item.evaluation))
        if item.experiment is not None:
            write_json(folder / RECORD, without_private(item.experiment))
        files.update({f"{name}/{file.name}": file for file in sorted(folder.iterdir())})
    return files, configs

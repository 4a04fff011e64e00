"""Publishing SAEs and runs, so that everybody can load them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from saecore.errors import ReleaseError
from saecore.files import STAGING, write_json
from saecore.releases.card import card_of_saes, figure
from saecore.releases.load import Loaded
from saecore.releases.shareable import shareable, without_private
from saecore.releases.upload import Published, Target
from saecore.releases.writing import published
from saecore.resume import RECORD, RESULT
from saecore.sae import SAE
from saecore.sae_config import Metadata

MEASURED = {"l0": "l0", "variance_explained": "explained_variance"}
"""Figures in an SAE's metadata, and what the evaluator calls them."""


@attrs.frozen
class Item:
    """One SAE and what is known of it."""

    loaded: Loaded
    """The SAE, and its sparsity."""
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
    """Publish SAEs on the Hugging Face hub, in one commit, in the form that SAELens 6 loads.

    For every SAE `{id}/cfg.json`, `sae_weights.safetensors` and, where they are known,
    `sparsity.safetensors`, `evaluation.json` and `experiment.json`; and a model card. SAEs that
    are there already stay, with their rows in the card; so does a card that somebody has written.
    Paths of this machine are cut to their last part.

    Args:
        saes: SAEs by their names in the repository, or a list, whose names are those of the hooks.
            Each is an SAE, what `SAE.from_pretrained` gave, or the directory of a run or an SAE.
        repo_id: `username/repo-name`; it is made if it is not there.
        token: of a user who may write there; default: whoever is logged in. It goes to the hub
            and nowhere else.
        private: whether a new repository can be seen by nobody else.
        overwrite: whether files of other content under the same names may be replaced.
        revision: the branch; default: the main one.
        license: what the hub calls it, such as "mit".

    Returns:
        The commit and what it has written.

    Raises:
        ReleaseError: an SAE cannot be read, two have the same name, there are other files of these
            names (`ConflictError`), or the hub refuses.
    """
    target = Target(repo_id, token, revision, private)
    named = list(saes.items()) if isinstance(saes, Mapping) else [(None, one) for one in saes]
    if not named:
        raise ReleaseError("saes: expected at least one SAE, got none")
    items: dict[str, Item] = {}
    for given, one in named:
        item = _item(one)
        name = given if given is not None else _hook(item)
        if name in items:
            raise ReleaseError(
                f"saes: two SAEs would be named {name!r}; give names, as in saes={{name: sae}}"
            )
        items[name] = item
    with tempfile.TemporaryDirectory(prefix=STAGING) as staging:
        files, configs = _written(items, Path(staging))
        figures = {name: one.evaluation["figures"] for name, one in items.items()
                   if one.evaluation is not None}  # fmt: skip
        return target.write(
            files,
            f"Add {', '.join(items)}" if len(items) < 4 else f"Add {len(items)} SAEs",
            lambda old: card_of_saes(repo_id, configs, figures, license, old),
            overwrite,
        )


def _item(given: SAE | Loaded | str | Path) -> Item:
    """An SAE with what lies beside it, figures of its run in its metadata."""
    if isinstance(given, Loaded):
        return Item(given)
    if isinstance(given, SAE):
        return Item(Loaded(given, {}, None))
    from saecore.releases.convert import read

    path = Path(given).expanduser()
    if not path.exists():
        raise ReleaseError(f"{path}: no such file or directory; expected a run or an SAE")
    a_run = (path / "sae").is_dir()
    loaded = read(str(path / "sae" if a_run else path))
    item = Item(loaded, _json(path / RESULT), _json(path / RECORD))
    if item.evaluation is None:
        return item
    held_out = item.evaluation["figures"]
    found = {key: figure(held_out, name) for key, name in MEASURED.items()}
    known = {key: one for key, one in found.items() if one is not None}
    cfg = loaded.sae.cfg
    loaded.sae.cfg = attrs.evolve(cfg, metadata=Metadata({**cfg.metadata, **known}))
    return item


def _json(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        if file.name == RESULT:
            table["figures"] = dict(table["figures"])
        return dict(table)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ReleaseError(f"{file}: not the record of a run: {error}") from None


def _hook(item: Item) -> str:
    """The name of an SAE that nobody has named: that of its hook."""
    name = item.loaded.sae.cfg.metadata.get("hook_name")
    if not name:
        raise ReleaseError(
            "saes: an SAE's metadata names no hook, after which it could be called; give names, as "
            "in saes={name: sae}"
        )
    return str(name)


def _written(
    items: Mapping[str, Item], directory: Path
) -> tuple[dict[str, Path], dict[str, dict[str, Any]]]:
    """Every file by its name in the repository, and every cfg.json."""
    from saecore.saved import cfg_dict, write_sae

    files, configs = {}, {}
    for number, (name, item) in enumerate(items.items()):
        sae, place = published(item.loaded.sae), directory / str(number)
        if sae.separate_target and sae.cfg.normalize_activations != "none":
            raise ReleaseError(
                f"{name}: a transcoder with normalize_activations = "
                f"{sae.cfg.normalize_activations!r} is not published: SAELens would leave that out"
            )
        sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata(shareable(dict(sae.cfg.metadata))))
        write_sae(sae, place, item.loaded.sparsity)
        configs[name] = cfg_dict(sae)
        if item.evaluation is not None:
            write_json(place / RESULT, dict(item.evaluation))
        if item.experiment is not None:
            write_json(place / RECORD, without_private(item.experiment))
        files.update({f"{name}/{one.name}": one for one in sorted(place.iterdir())})
    return files, configs

"""Publishing activations and tokens, so that others train on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from saecore.cache.manifest import MANIFEST
from saecore.releases.card import card_of_cache
from saecore.releases.repository import Directory
from saecore.releases.shareable import shareable
from saecore.releases.upload import Published, Target


def upload_cache(
    path: Path,
    repo_id: str,
    token: str | None = None,
    *,
    private: bool = False,
    overwrite: bool = False,
    revision: str | None = None,
    license: str | None = None,
) -> Published:
    """Publish what `saecore cache` or `saecore tokenize` wrote, to be streamed from the hub.

    Args:
        path: the directory.
        repo_id: `username/repo-name`; one repository holds one cache.
        token: as for `upload_saes_to_huggingface`, as the others.
        private: as there.
        overwrite: as there.
        revision: as there.
        license: as there.

    Raises:
        DataError: the cache is not whole.
        ReleaseError: as there.
    """
    target = Target(repo_id, token, revision, private)
    kind, facts = _cache_facts(path)
    inner = (one.relative_to(path) for one in sorted(path.rglob("*")) if one.is_file())
    files = {one.as_posix(): path / one for one in inner
             if one.suffix in (".json", ".safetensors")
             and not any(part.startswith(".") for part in one.parts)}  # fmt: skip
    message = f"Add {'activations' if kind == 'cached' else 'tokens'}"
    said = shareable(facts)
    done = target.write(
        files, message, lambda old: card_of_cache(repo_id, kind, said, license, old), overwrite
    )
    if said == facts:
        return done
    note = f"{facts['model']} is a path of this machine; nobody else has the model by that name"
    return attrs.evolve(done, notes=(*done.notes, note))


def cache_type(path: Path) -> str | None:
    """The `dataset.type` that reads a cache or tokens on disk; None for other directories."""
    from saecore.cache import tokens

    known = {MANIFEST: "cached", tokens.MANIFEST: "tokens"}
    return next((kind for name, kind in known.items() if (path / name).is_file()), None)


def _cache_facts(path: Path) -> tuple[str, dict[str, Any]]:
    """The type of a cache as a dataset, and what its manifest says; it must be whole."""
    from saecore.cache import tokens
    from saecore.cache.reading import ActivationCache

    files = Directory(path)
    if cache_type(path) == "tokens":
        kept = tokens.TokenStore(files).manifest
        return "tokens", {
            "dataset": kept.dataset.get("name"),
            "context size": kept.packing.get("context_size"),
            **{f"contexts, {side}": count for side, count in kept.rows.items()},
        }
    manifest = ActivationCache(files).manifest
    return "cached", {
        "model": manifest.model.get("name"),
        "hooks": ", ".join(manifest.hooks),
        "precision": manifest.dtype,
        "tokens": manifest.rows,
        "tokens held out": manifest.held_out_rows,
        "dataset": manifest.metadata.get("dataset_path"),
        "context size": manifest.metadata.get("context_size"),
    }

"""Publish activation caches and token directories on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from saecore.activations.cache.manifest import MANIFEST
from saecore.releases.card import card_of_cache
from saecore.storage.hub_upload import Published, Target
from saecore.storage.redact import shareable
from saecore.storage.repository import Directory


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
    """Publish the output of `saecore cache` or `saecore tokenize`, for streaming from the hub.

    Args:
        path: the directory.
        repo_id: `username/repo-name`; a repository holds one cache.
        token: this and the following as for `upload_saes_to_huggingface`.
        private: whether to make a new repository private.
        overwrite: whether to replace files of the same names with other content.
        revision: the branch.
        license: the hub's name of a license.

    Raises:
        DataError: the cache is incomplete.
        ReleaseError: the repository has other files under these names (`ConflictError`), or the hub
            refuses.
    """
    target = Target(name=repo_id, token=token, revision=revision, private=private)
    kind, facts = _cache_facts(path)
    keys = dataset_keys(path, repo_id)
    relative = (file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_file())
    files = {
        name.as_posix(): path / name
        for name in relative
        if name.suffix in (".json", ".safetensors")
        and not any(part.startswith(".") for part in name.parts)
    }
    message = f"Add {'activations' if kind == 'cached' else 'tokens'}"
    public = shareable(facts)
    published = target.write(
        files, message, lambda old: card_of_cache(repo_id, keys, public, license, old), overwrite
    )
    if public == facts:
        return published
    note = f"{facts['model']} is a path on this machine; others cannot load the model by that name"
    return attrs.evolve(published, notes=(*published.notes, note))


def cache_type(path: Path) -> str | None:
    """The `dataset.type` of a cache or token directory; None for other directories."""
    from saecore.activations.cache import tokens

    known = {MANIFEST: "cached", tokens.MANIFEST: "tokens"}
    return next((kind for name, kind in known.items() if (path / name).is_file()), None)


def dataset_keys(path: Path, repository: str) -> dict[str, Any]:
    """Keys of [dataset] with which an experiment trains on a published cache.

    Contexts of tokens are accepted only under the settings that they were written with.

    Args:
        path: the cache on disk.
        repository: `username/repo-name`.
    """
    from saecore.activations.cache import tokens

    kind = cache_type(path)
    keys: dict[str, Any] = {"type": kind, "repo": repository}
    if kind == "tokens":
        manifest = tokens.TokenStore(Directory(path)).manifest
        packing = manifest.packing
        begin, separator = packing.get("begin_context"), packing.get("separator")
        keys |= {"context_size": packing["context_size"], "held_out": manifest.held_out}
        keys |= {"prepend_bos": False} if begin is None else {}
        keys |= {"concat": False} if not packing.get("concat", True) else {}
        if separator != begin or begin is None:  # the default is the token that begins a context
            keys["separator"] = "none" if separator is None else separator
    return keys


def _cache_facts(path: Path) -> tuple[str, dict[str, Any]]:
    """The `dataset.type` of a cache, and facts from its manifest for the card."""
    from saecore.activations.cache import tokens
    from saecore.activations.cache.reader import ActivationCache

    files = Directory(path)
    if cache_type(path) == "tokens":
        token_manifest = tokens.TokenStore(files).manifest
        return "tokens", {
            "dataset": token_manifest.dataset.get("name"),
            "context size": token_manifest.packing.get("context_size"),
            **{f"contexts, {side}": count for side, count in token_manifest.rows.items()},
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

"""Convert an SAE to another library's format: write, read back, compare, then move into place."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from saecore.core.release import CatalogueFacts
from saecore.core.sae import SAE
from saecore.errors import ReleaseError, nearest
from saecore.releases.export_form import inference_form, widened
from saecore.releases.load import finish, installed_formats
from saecore.storage.files import STAGING, storage_errors
from saecore.storage.repository import Directory

if TYPE_CHECKING:
    from saecore.core.release import ReleaseSource, ReleaseWriter
    from saecore.releases.load import Loaded

TOLERANCE = 1e-5
"""Largest difference of features and reconstructions, relative to their largest value."""

REPORTED = ("model_name", "hook_name", "hook_name_out", "dataset_path", "context_size")
"""Metadata whose loss is reported."""


def convert(loaded: Loaded, name: str, out: Path, force: bool = False) -> list[str]:
    """Write an SAE in another library's format.

    The written files are read back and must give the same features and reconstructions for random
    activations. Only then is the directory moved into place, atomically.

    Args:
        loaded: the SAE and its sparsity.
        name: the format's plugin.
        out: the directory to write.
        force: replace `out` if it holds an SAE of this format.

    Returns:
        Metadata that the format does not keep, one line each.

    Raises:
        ReleaseError: the format cannot be written or cannot express this SAE, or `out` exists.
    """
    source = writer(name)
    out = Path(os.path.abspath(out))
    if out.exists() and not force:
        raise ReleaseError(f"{out}: already exists; --force replaces it")
    staging = out.parent / f"{STAGING}convert-{secrets.token_hex(4)}"
    new = staging / out.name  # some formats read the name of their repository
    try:
        with storage_errors(out, setting="OUT"):
            new.mkdir(parents=True)
        source.write(loaded.sae, new, loaded.sparsity)
        _check_target(out, new)
        notes = compare(loaded.sae, source, new)
        with storage_errors(out, setting="OUT"):
            if out.exists():
                os.replace(out, staging / "before")
            os.replace(new, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return notes


def writer(name: str) -> Any:
    """The plugin of a writable format: a `ReleaseSource` and `ReleaseWriter`.

    Raises:
        ReleaseError: there is no such format, or it is read-only.
    """
    formats = installed_formats()
    writable = sorted(known for known, source in formats.items() if hasattr(source, "write"))
    if name not in writable:
        reason = "is read-only" if name in formats else "no such format"
        raise ReleaseError(
            f"--to {name}: {reason}{nearest(name, writable)} (writable: {', '.join(writable)})"
        )
    return cast("ReleaseWriter", formats[name])


def compare(sae: SAE, source: ReleaseSource, directory: Path) -> list[str]:
    """Read a written SAE back and compare it with the original.

    Args:
        sae: the original.
        source: the format's plugin.
        directory: the written files.

    Returns:
        Metadata that the format does not keep, one line each.

    Raises:
        ReleaseError: features or reconstructions differ.
    """
    files = Directory(directory)
    paths = list(source.list(files))
    if len(paths) != 1:
        raise ReleaseError(f"{directory.name}: expected one SAE to be written, found {paths}")
    draft = source.load(files, paths[0], CatalogueFacts())
    read_back = finish(draft, f"{directory.name}/{paths[0]}", dtype="float32").sae
    original = inference_form(widened(sae)).float()
    x = torch.randn(4, 16, sae.cfg.d_in, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pairs = {
            "features": (original.encode(x), read_back.encode(x)),
            "reconstructions": (original(x), read_back(x)),
        }
    for what, (expected, got) in pairs.items():
        bound = TOLERANCE * (float(expected.abs().max()) + 1.0)
        if expected.shape != got.shape or not bool(((expected - got).abs() <= bound).all()):
            raise ReleaseError(f"{what} would change: the format cannot express this SAE")
    return _lost(sae.cfg.metadata, draft.cfg.get("metadata") or {})


def _lost(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line for each reported key of the metadata that changes."""
    notes = []
    for key in REPORTED:
        old, new = before.get(key), after.get(key)
        if old is not None and old != new:
            outcome = "is not kept" if new is None else f"will be read as {new!r}"
            notes.append(f"{key} = {old!r} {outcome}")
    return notes


def _check_target(out: Path, new: Path) -> None:
    """Refuse to replace anything but an SAE of the same format."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ReleaseError(f"{out}: already exists and is not a directory; choose another name")
    written = {file.name for file in new.rglob("*") if file.is_file()} | {"sparsity.safetensors"}
    others = sorted(
        file.relative_to(out).as_posix()
        for file in out.rglob("*")
        if file.is_file() and file.name not in written
    )
    if others:
        raise ReleaseError(
            f"{out}: has {others[0]}, which is not a file of this format; --force would delete it, "
            "so choose another name"
        )

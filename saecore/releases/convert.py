"""One published format into another: written, read again, compared, and only then put in place."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from saecore.errors import ReleaseError, nearest
from saecore.files import STAGING, explained
from saecore.plugins import current_host
from saecore.releases.load import finish, load
from saecore.releases.repository import Directory
from saecore.releases.source import Facts
from saecore.releases.writing import published, widened
from saecore.sae import SAE

if TYPE_CHECKING:
    from saecore.releases.load import Loaded
    from saecore.releases.source import ReleaseSource, ReleaseWriter

TOLERANCE = 1e-5
"""Largest difference of features and reconstructions, over their largest value."""

KEPT = ("model_name", "hook_name", "hook_name_out", "dataset_path", "context_size")
"""Metadata whose loss is reported."""


def sources() -> dict[str, ReleaseSource]:
    """Every installed format by name."""
    host = current_host()
    found = {one: host.component("release", one) for one in host.names("release")}
    return {name: one.make(one.config()) for name, one in found.items()}


def read(given: str, path: str | None = None) -> Loaded:
    """The SAE that somebody names on a command line, in the precision of its files.

    Args:
        given: a place of this machine, or `release:sae_id` (see `SAE.from_pretrained`).
        path: which SAE of a directory that has several.

    Raises:
        ReleaseError: there is no such thing, or it cannot be read.
    """
    release, colon, sae_id = given.partition(":")
    if not colon or Path(given).exists():
        return load(*find(Path(given), path))
    if path is not None:
        raise ReleaseError(f"{given}: names its SAE itself; leave out --sae {path}")
    return SAE.from_pretrained(release, sae_id, dtype=None)


def find(place: Path, path: str | None = None) -> tuple[Directory, str]:
    """The one SAE at a place of this machine.

    Args:
        place: a directory, or the file of an SAE.
        path: which SAE of a directory that has several.

    Raises:
        ReleaseError: there is none, or it has several and none is named.
    """
    if place.is_file():
        return Directory(place.parent), place.name
    files = Directory(place)
    if path is not None:
        return files, path
    known = sources()
    if any(one.recognise(files, ".") for one in known.values()):
        return files, "."
    listed = sorted({path for one in known.values() for path in one.list(files)})
    if len(listed) == 1:
        return files, listed[0]
    if not listed:
        raise ReleaseError(f"{place}: no SAE of a known format (known: {', '.join(sorted(known))})")
    some = ", ".join(listed[:5]) + (", …" if len(listed) > 5 else "")
    raise ReleaseError(f"{place}: {len(listed)} SAEs; name one with --sae (it has {some})")


def convert(given: Loaded, name: str, out: Path, force: bool = False) -> list[str]:
    """Write an SAE in a format of other libraries.

    What was written is read again, and must give the same features and reconstructions for random
    activations; then it takes its name at once.

    Args:
        given: the SAE.
        name: the format's plugin.
        out: the directory to write.
        force: replace `out` where it holds an SAE of this format.

    Returns:
        What the format does not keep, one line each.

    Raises:
        ReleaseError: the format cannot be written, or cannot express this SAE; or `out` exists.
    """
    source = writer(name)
    out = Path(os.path.abspath(out))
    if out.exists() and not force:
        raise ReleaseError(f"{out}: is there already; --force replaces it")
    staging = out.parent / f"{STAGING}convert-{secrets.token_hex(4)}"
    new = staging / out.name  # some formats read the name of their repository
    try:
        with explained(out, setting="OUT"):
            new.mkdir(parents=True)
        source.write(given.sae, new, given.sparsity)
        _check_target(out, new)
        notes = compare(given.sae, source, new)
        with explained(out, setting="OUT"):
            if out.exists():
                os.replace(out, staging / "before")
            os.replace(new, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return notes


def writer(name: str) -> Any:
    """The plugin of a format that can be written, a `ReleaseSource` and `ReleaseWriter`.

    Raises:
        ReleaseError: there is no such format, or it can only be read.
    """
    known = sources()
    able = sorted(one for one, source in known.items() if hasattr(source, "write"))
    if name not in able:
        why = "can be read only" if name in known else "no such format"
        raise ReleaseError(
            f"--to {name}: {why}{nearest(name, able)} (can be written: {', '.join(able)})"
        )
    return cast("ReleaseWriter", known[name])


def compare(sae: SAE, source: ReleaseSource, directory: Path) -> list[str]:
    """Read again what was written, and compare.

    Returns:
        Metadata that the format does not keep, one line each.

    Raises:
        ReleaseError: it reads as another SAE.
    """
    files = Directory(directory)
    paths = list(source.list(files))
    if len(paths) != 1:
        raise ReleaseError(f"{directory.name}: expected one SAE to be written, found {paths}")
    draft = source.load(files, paths[0], Facts())
    again = finish(draft, f"{directory.name}/{paths[0]}", dtype="float32").sae
    before = published(widened(sae)).float()
    x = torch.randn(4, 16, sae.cfg.d_in, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pairs = {
            "features": (before.encode(x), again.encode(x)),
            "reconstructions": (before(x), again(x)),
        }
    for what, (wanted, got) in pairs.items():
        size = float(wanted.abs().max()) + 1.0
        if wanted.shape != got.shape or not bool(((wanted - got).abs() <= TOLERANCE * size).all()):
            raise ReleaseError(f"{what} would change: the format cannot express this SAE")
    return _lost(sae.cfg.metadata, draft.cfg.get("metadata") or {})


def _lost(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    notes = []
    for key in KEPT:
        old, new = before.get(key), after.get(key)
        if old is not None and old != new:
            instead = "is not kept" if new is None else f"will be read as {new!r}"
            notes.append(f"{key} = {old!r} {instead}")
    return notes


def _check_target(out: Path, new: Path) -> None:
    """Refuse to replace anything but an SAE of the same format."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ReleaseError(f"{out}: is there already and no directory; take another name")
    known = {one.name for one in new.rglob("*") if one.is_file()} | {"sparsity.safetensors"}
    others = sorted(
        one.relative_to(out).as_posix()
        for one in out.rglob("*")
        if one.is_file() and one.name not in known
    )
    if others:
        raise ReleaseError(
            f"{out}: has {others[0]}, which is no file of this format; --force would remove it, "
            "so take another name"
        )

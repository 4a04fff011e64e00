"""Resolve the name of an SAE: a run, a path on disk, RELEASE:SAE_ID or USER/REPO:PATH."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from saecore.core.release import CatalogueFacts, Draft
from saecore.errors import CheckpointError, ReleaseError, nearest
from saecore.releases import catalogue
from saecore.releases.load import finish, installed_formats, load
from saecore.storage.repository import Directory, Repository, is_inside
from saecore.storage.run_directory import RECORD

if TYPE_CHECKING:
    from saecore.releases.load import Loaded

RUN_SAE = "sae"
"""The folder of a run directory that holds its trained SAE."""
SAE_FILES = ("cfg.json", "sae_weights.safetensors")
"""Files of every SAE that saecore has saved."""


@attrs.frozen(kw_only=True)
class SAELocation:
    """Where an SAE is, and what is known about it before any file is read."""

    files: Repository
    """The repository or directory."""
    path: str
    """The SAE's path in it."""
    facts: CatalogueFacts = attrs.field(factory=CatalogueFacts)
    """What a catalogue knows about it."""
    source: str | None = None
    """The release plugin that reads it; None: detect the format from the files."""
    run: Path | None = None
    """The run directory, if the name was that of a run."""
    checkpoint: Path | None = None
    """The checkpoint's directory, if the name was that of a checkpoint in a run."""

    def load(self, source: str | None = None, **options: Any) -> Loaded:
        """Read the SAE.

        Args:
            source: the release plugin that reads it; default: the location's.
            options: device, dtype and fold_W_dec_norm, as for `saecore.releases.load.load`.

        Raises:
            ReleaseError: the files are missing, damaged, or of no known format.
            CheckpointError: the checkpoint is damaged.
        """
        if self.checkpoint is not None:
            from saecore.core.sae_files import read_checkpoint
            from saecore.releases.build import weights

            sae, sparsity, cfg = read_checkpoint(self.checkpoint)
            draft = Draft(cfg=cfg, tensors=weights(sae), sparsity=sparsity)
            return finish(draft, str(self.checkpoint), **options)
        source = source or self.source
        return load(self.files, self.path, facts=self.facts, source=source, **options)


def resolve(
    name: str | Path, sae_id: str = "", *, revision: str | None = None, force_download: bool = False
) -> SAELocation:
    """Find an SAE by name, without network access.

    A name without an `sae_id` that exists on disk means the directory or file. With one, a name
    that is both a directory and a release or repository is refused.

    Args:
        name: one of these:

            - the directory of a run, of an SAE, or of anything that contains exactly one SAE
            - a checkpoint in a run, RUN/checkpoints/step-NNNNNNNN
            - the file of an SAE, for formats that keep an SAE in one file
            - a release of a catalogue, a hub repository `username/repo-name`, or a directory,
              with the SAE in `sae_id`
            - both in one string: `RELEASE:SAE_ID`, `username/repo-name:PATH`, `DIRECTORY:PATH`

            A `Path` always means a directory or file on disk.
        sae_id: the SAE's name in the release, or its path in the repository or directory; empty
            for the repository itself.
        revision: branch, tag or commit of the hub repository.
        force_download: download files even if they are cached.

    Raises:
        ReleaseError: the name is unknown or ambiguous, or a directory contains several SAEs.
        CheckpointError: the directory is that of a run that has not ended.
    """
    on_disk = Path(os.path.expanduser(name))
    if not sae_id and os.path.exists(on_disk):
        return _on_disk(on_disk, revision)
    if isinstance(name, Path):
        return _in_directory(on_disk, sae_id, revision)
    if _can_be_split(name):
        if sae_id:
            raise ReleaseError(f"{name}: already names an SAE; leave out {sae_id!r}")
        name, _, sae_id = name.partition(":")
        on_disk = Path(os.path.expanduser(name))
    meanings = {} if _is_a_path(name) else _published(name)
    if on_disk.is_dir():
        meanings["directory"] = f"the directory {name}"
    if len(meanings) > 1:
        raise ReleaseError(
            f"{name}: could be {' or '.join(meanings.values())}; write ./{name} for the "
            "directory, or rename it"
        )
    if "catalogue" in meanings:
        entry = catalogue.entry(name, sae_id)
        return SAELocation(
            files=_hub(entry.repository, revision, force_download),
            path=entry.path,
            facts=entry.facts,
            source=entry.source,
        )
    if "hub" in meanings:
        path = _checked_path(sae_id, name)
        facts = CatalogueFacts(sae_id=sae_id or None)
        return SAELocation(files=_hub(name, revision, force_download), path=path, facts=facts)
    if "directory" in meanings or on_disk.is_file() or _is_a_path(name):
        return _in_directory(on_disk, sae_id, revision)
    close = nearest(name, catalogue.names(), 3)
    raise ReleaseError(
        f"{name}: no such directory, not the name of a hub repository (username/repo-name), and no "
        f"release of a catalogue{close} (`saecore releases` lists them)"
    )


def _is_a_path(name: str) -> bool:
    """Whether a name can only be a path on disk: ./x, ~/x, /x or with a drive letter."""
    return re.match(r"[./~\\]|[A-Za-z]:[/\\]", name) is not None


def _can_be_split(name: str) -> bool:
    """Whether a name is NAME:SAE_ID: it has a colon that is not part of a path that exists."""
    drive = re.match(r"[A-Za-z]:[/\\]", name) is not None
    return ":" in name and not drive and not os.path.exists(os.path.expanduser(name))


def _published(name: str) -> dict[str, str]:
    """What else than a directory a name can mean."""
    meanings = {}
    if catalogue.owner(name) is not None:
        meanings["catalogue"] = "the catalogue's release"
    if re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", name, re.ASCII):
        meanings["hub"] = "the hub's repository"
    return meanings


def _hub(repository: str, revision: str | None, force_download: bool) -> Repository:
    from saecore.storage.hub import Hub

    return Hub(repository, revision, force_download, catalogue.repositories)


def _in_directory(directory: Path, sae_id: str, revision: str | None) -> SAELocation:
    """The SAE at a path of a directory."""
    if directory.is_file():
        raise ReleaseError(f"{directory}: is a file, which holds one SAE; leave out {sae_id!r}")
    files = Directory(directory)
    _refuse_revision(directory, revision)
    path = _checked_path(sae_id, str(directory))
    return SAELocation(files=files, path=path, checkpoint=_checkpoint(directory / path))


def _on_disk(place: Path, revision: str | None) -> SAELocation:
    """The SAE of a file, or the only one in a directory."""
    _refuse_revision(place, revision)
    if place.is_file():
        return SAELocation(files=Directory(place.parent), path=place.name)
    files = Directory(place)
    checkpoint = _checkpoint(place)
    if checkpoint is not None:
        return SAELocation(files=files, path=".", checkpoint=checkpoint)
    path = _only_sae(files)
    is_run = path == RUN_SAE and files.has(RECORD)
    return SAELocation(files=files, path=path, run=place if is_run else None)


def _checkpoint(place: Path) -> Path | None:
    """The directory, if it is that of a checkpoint: RUN/checkpoints/step-NNNNNNNN."""
    run = place.absolute().parent.parent
    is_one = (place / "state.json").is_file() and (run / RECORD).is_file()
    return place if is_one else None


def _only_sae(files: Directory) -> str:
    """The path of the only SAE in a directory; `.` where no format knows any."""
    for path in (".", RUN_SAE):  # what saecore has saved is found without a plugin
        if all(files.has(f"{path}/{file}") for file in SAE_FILES):
            return path
    if files.has(RECORD) and not files.has("cfg.json"):
        words = ("saecore", "run", str(files.root / RECORD), "--resume", str(files.root))
        checkpoints = sorted(files.root.glob("checkpoints/step-*"))
        look = f", or name its newest checkpoint, {checkpoints[-1]}" if checkpoints else ""
        raise CheckpointError(
            f"{files.root}: the run has not ended, so it has no SAE yet; resume it with "
            f"`{shlex.join(words)}`{look}"
        )
    if (files.root.parent / RECORD).is_file() and (steps := sorted(files.root.glob("step-*"))):
        raise CheckpointError(
            f"{files.root}: {len(steps)} checkpoints; name one, such as {steps[-1]}"
        )
    formats = installed_formats().values()
    if any(format_.recognize(files, ".") for format_ in formats):
        return "."
    paths = sorted({path for format_ in formats for path in format_.list(files)})
    if len(paths) > 1:
        listed = ", ".join(paths[:5]) + (", …" if len(paths) > 5 else "")
        name = files.name if _is_a_path(files.name) else f"./{files.name}"
        raise ReleaseError(
            f"{files.name}: {len(paths)} SAEs; name one, as in {name}:{paths[0]} (it has {listed})"
        )
    return paths[0] if paths else "."


def _refuse_revision(place: Path, revision: str | None) -> None:
    if revision is not None:
        raise ReleaseError(f"{place}: a directory has no revisions; leave out revision=")


def _checked_path(sae_id: str, name: str) -> str:
    """A path in a repository or directory, normalized.

    Raises:
        ReleaseError: it leads out of it.
    """
    path = posixpath.normpath(str(sae_id) or ".")
    if not is_inside(path):
        raise ReleaseError(f"{name}: {str(sae_id)!r} is not a path in a repository")
    return path

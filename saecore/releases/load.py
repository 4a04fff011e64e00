"""Load an `SAE` from a repository: detect the format, read, check, build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from saecore.core.release import CatalogueFacts, Draft, ReleaseSource
from saecore.errors import ReleaseError, labeled_errors, nearest
from saecore.plugins.host import current_host
from saecore.storage import safe_load
from saecore.storage.repository import Directory

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from saecore.core.sae import SAE
    from saecore.storage.repository import Repository


READER_ERRORS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a reader may raise on malformed content: the file is then not of this format."""

UNPACK = (
    "from_pretrained returns (sae, cfg_dict, sparsity); unpack it first: "
    "sae, cfg_dict, sparsity = SAE.from_pretrained(…)"
)


class Loaded(NamedTuple):
    """The result of `SAE.from_pretrained`: `sae, cfg_dict, sparsity = SAE.from_pretrained(…)`."""

    sae: SAE
    """The SAE."""
    cfg_dict: dict[str, Any]
    """Its configuration as SAELens 6 writes it."""
    sparsity: Tensor | None
    """log10 of each latent's firing frequency `[d_sae]`, if published."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"no {name!r}: {UNPACK}")

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise: the tuple was mistaken for its SAE."""
        raise TypeError(f"not an SAE: {UNPACK}")


def installed_formats() -> dict[str, ReleaseSource]:
    """Every installed release plugin, by name."""
    return {name: _format(name) for name in current_host().names("release")}


def _format(name: str) -> ReleaseSource:
    component = current_host().component("release", name)
    source: ReleaseSource = component.make(component.config())
    return source


def detect_format(
    files: Repository, path: str, name: str | None = None
) -> tuple[str, ReleaseSource]:
    """Detect the format of the SAE at `path` from its files.

    Args:
        files: the repository.
        path: the SAE's path in it.
        name: the release plugin, if it is known.

    Returns:
        The plugin's name, and the plugin.

    Raises:
        ReleaseError: no format, or more than one, recognizes the files.
    """
    if name is not None:
        return name, _format(name)
    formats = installed_formats()
    names = [known for known, source in formats.items() if source.recognize(files, path)]
    label = files.label(path)
    if not names:
        raise ReleaseError(f"{label}: {_unrecognized(files, path, formats)}")
    if len(names) > 1:
        raise ReleaseError(
            f"{label}: could be any of {', '.join(sorted(names))}; choose one with source= "
            f"(on the command line, switch the others off with --block release.NAME)"
        )
    return names[0], formats[names[0]]


def _unrecognized(files: Repository, path: str, formats: Mapping[str, ReleaseSource]) -> str:
    """What a path has that no format recognizes, and what is missing from it."""
    if files.has(path) and isinstance(files, Directory):
        safe_load.refuse_pickle(files.path(path), files.label(path))
    folder = "" if path == "." else f"{path}/"
    inside = [name.removeprefix(folder) for name in files.files if name.startswith(folder)]
    if not inside and folder == "":
        return "has no files; expected the directory of an SAE or a run"
    missing: dict[tuple[str, ...], list[str]] = {}
    for name, source in formats.items():
        parts: tuple[str, ...] = getattr(source, "names", ())
        present = tuple(part for part in parts if part in inside)
        if present and len(present) < len(parts):
            absent = " and ".join(part for part in parts if part not in inside)
            missing.setdefault(present, []).append(f"{absent} (format {name})")
    if missing:
        return "; ".join(
            f"has {' and '.join(present)}, but no {' or '.join(absent)}"
            for present, absent in missing.items()
        )
    paths = sorted({path for source in formats.values() for path in source.list(files)})
    if paths == ["."] and files.has(path):
        return f"is one file of an SAE; give its directory, {files.name}"
    what, names = ("SAEs", paths) if paths else ("files", inside)
    listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    has = f"; {files.name} has the {what}: {listed}{nearest(path, paths)}" if names else ""
    return f"no known format (`saecore plugins` lists the formats){has}"


def load(
    files: Repository,
    path: str,
    *,
    facts: CatalogueFacts | None = None,
    source: str | None = None,
    device: str | torch.device = "cpu",
    dtype: str | None = None,
    fold_W_dec_norm: bool = False,
) -> Loaded:
    """Read the SAE at `path` of a repository.

    Args:
        files: the repository.
        path: the SAE's path in it.
        facts: what a catalogue knows about it.
        source: the release plugin; default: detected from the files.
        device: device of the weights.
        dtype: precision of the weights; default: the file's.
        fold_W_dec_norm: scale decoder rows to unit norm and features by the norms.

    Raises:
        ReleaseError: the files cannot be read, or could be read in more than one way.
        ConfigError: this machine has no such device.
    """
    import warnings

    from saecore.models.device import check_device  # imports torch

    with labeled_errors(files.name):
        check_device(device, "device")
    facts, path = facts or CatalogueFacts(), path or "."
    name, format_ = detect_format(files, path, source)
    label = files.label(path)
    try:
        draft = format_.load(files, path, facts).with_facts(facts)
        if files.commit is not None:
            origin = {
                "format": name,
                "repository": files.name,
                "commit": files.commit,
                "path": path,
            }
            entry = {"release": facts.release, "sae_id": facts.sae_id} if facts.release else {}
            draft.cfg["metadata"]["source"] = {**entry, **origin}
        loaded = finish(draft, label, device, dtype, fold_W_dec_norm)
    except READER_ERRORS as error:
        raise ReleaseError(
            f"{label}: cannot be read as {name}: {type(error).__name__}: {error}"
        ) from error
    for line in draft.warnings:
        warnings.warn(line, stacklevel=4)  # the caller of SAE.from_pretrained
    return loaded


def finish(
    draft: Draft,
    label: str,
    device: str | torch.device = "cpu",
    dtype: str | None = None,
    fold_W_dec_norm: bool = False,
) -> Loaded:
    """Build the SAE of a draft.

    Args:
        draft: what a release plugin has read.
        label: where it was read, for messages.
        device: as for `load`.
        dtype: as for `load`.
        fold_W_dec_norm: as for `load`.

    Raises:
        ReleaseError: configuration and tensors contradict each other.
    """
    import torch

    from saecore.releases.build import sae_from_files

    sae = sae_from_files(dict(draft.cfg), draft.tensors, label, label, torch.device(device), dtype)
    if draft.input_scale is not None:
        sae.scale_input(draft.input_scale)
    if fold_W_dec_norm:
        sae.fold_W_dec_norm()
    built = {"dtype": sae.cfg.dtype, "device": sae.cfg.device}
    return Loaded(sae, {**draft.cfg, **built}, draft.sparsity)

"""From a name to an `SAE`: find the repository, recognise the format, read, check, build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from saecore.errors import ReleaseError
from saecore.plugins import current_host
from saecore.releases.source import Draft, Facts, ReleaseSource

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from saecore.releases.repository import Repository
    from saecore.sae import SAE


class Loaded(NamedTuple):
    """What `SAE.from_pretrained` gives: `sae, cfg_dict, sparsity = SAE.from_pretrained(…)`."""

    sae: SAE
    """The SAE."""
    cfg_dict: dict[str, Any]
    """Its configuration as SAELens 6 writes it."""
    sparsity: Tensor | None
    """log10 of each latent's firing frequency `[d_sae]`, where it was published."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"from_pretrained gives three things, and this is all of them, which have no {name!r}; "
            "write: sae, cfg_dict, sparsity = SAE.from_pretrained(…)"
        )


def source_of(files: Repository, path: str, name: str | None = None) -> tuple[str, ReleaseSource]:
    """The format of what is at `path`, by its files.

    Args:
        files: the repository.
        path: the SAE's path in it.
        name: the plugin, where the caller knows it.

    Raises:
        ReleaseError: no format or several recognise it.
    """
    host = current_host()
    names = [name] if name is not None else host.names("release")
    built = {one: host.component("release", one).make(_settings(one)) for one in names}
    if name is not None:
        return name, built[name]
    found = [one for one, source in built.items() if source.recognise(files, path)]
    where = f"{files.name}/{path}".rstrip("/")
    if not found:
        raise ReleaseError(
            f"{where}: no known format (looked for: {', '.join(sorted(built))}); "
            "name one with source="
        )
    if len(found) > 1:
        raise ReleaseError(
            f"{where}: could be any of {', '.join(sorted(found))}; say which with source="
        )
    return found[0], built[found[0]]


def _settings(name: str) -> Any:
    return current_host().component("release", name).config()


def load(
    files: Repository,
    path: str,
    *,
    facts: Facts | None = None,
    source: str | None = None,
    device: str | torch.device = "cpu",
    dtype: str | None = None,
    fold_W_dec_norm: bool = False,
) -> Loaded:
    """Read the SAE at `path` of a repository.

    Args:
        files: the repository.
        path: the SAE's path in it.
        facts: what a catalogue knows.
        source: the format's plugin; default: recognised by the files.
        device: where the weights go.
        dtype: precision; default: the file's.
        fold_W_dec_norm: give decoder rows unit norm, which goes to the features.

    Raises:
        ReleaseError: it cannot be read, or not be read for certain.
    """
    import warnings

    _, format_ = source_of(files, path, source)
    draft = format_.load(files, path, facts or Facts())
    for line in draft.warnings:
        warnings.warn(line, stacklevel=3)
    return finish(draft, f"{files.name}/{path}".rstrip("/"), device, dtype, fold_W_dec_norm)


def finish(
    draft: Draft,
    label: str,
    device: str | torch.device = "cpu",
    dtype: str | None = None,
    fold_W_dec_norm: bool = False,
) -> Loaded:
    """Build the SAE of a draft; arguments as for `load`."""
    import torch

    from saecore.releases.build import build_sae

    sae = build_sae(dict(draft.cfg), draft.tensors, label, label, torch.device(device), dtype)
    if draft.input_scale is not None:
        sae.scale_input(draft.input_scale)
    if fold_W_dec_norm:
        sae.fold_W_dec_norm()
    return Loaded(sae, draft.cfg, draft.sparsity)


def load_directory(path: str | Path, **options: Any) -> Loaded:
    """Read an SAE from a directory, whatever its format; options as for `load`."""
    from saecore.releases.repository import Directory

    return load(Directory(path), "", **options)

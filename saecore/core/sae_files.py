"""Save and load an SAE: the methods that `SAE` has for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, final

import torch
from torch import Tensor

if TYPE_CHECKING:
    from saecore.core.sae import SAE
    from saecore.releases.load import Loaded


class SAEFiles:
    """Mixin of `SAE`. The work is done in `saecore.releases`, which is imported on use."""

    @final
    def save_model(self, path: str | Path, sparsity: Tensor | None = None) -> None:
        """Write cfg.json, sae_weights.safetensors and, where given, sparsity.safetensors.

        Args:
            path: the directory.
            sparsity: log10 of each latent's firing frequency `[d_sae]`.

        Raises:
            StorageError: the directory cannot be written.
        """
        from saecore.releases.saelens_files import write_sae

        write_sae(cast("SAE", self), Path(path), sparsity)

    @final
    @staticmethod
    def load_from_disk(
        path: str | Path, device: str | torch.device = "cpu", dtype: str | None = None
    ) -> SAE:
        """Read an SAE from disk, in the precision of its files.

        What saecore and SAELens 6 have saved needs no plugin; other formats are detected from
        their files and read by release plugins (`saecore plugins`).

        Args:
            path: the directory of an SAE, a run or a checkpoint in a run, the file of an SAE, or
                any other name that `from_pretrained` takes. A path that exists wins over a release
                of that name.
            device: device of the weights.
            dtype: precision; default: the file's.

        Raises:
            ReleaseError: a file is missing, the files contradict each other, or no format, or more
                than one, recognizes them.
            CheckpointError: the run has not ended.
            ConfigError: this machine has no such device.
        """
        from saecore.releases.resolve import resolve
        from saecore.releases.saelens_files import read_sae

        return read_sae(resolve(path), device, dtype)

    @final
    @staticmethod
    def from_pretrained(
        release: str | Path,
        sae_id: str = "",
        device: str | torch.device = "cpu",
        *,
        dtype: str | None = "float32",
        revision: str | None = None,
        force_download: bool = False,
        fold_W_dec_norm: bool = False,
        source: str | None = None,
    ) -> Loaded:
        """Load a published SAE: `sae, cfg_dict, sparsity = SAE.from_pretrained(release, sae_id)`.

        Args:
            release: a release of a catalogue (`saecore releases` lists them), a hub repository
                `username/repo-name`, or the directory of a run or an SAE. It can name the SAE, too:
                `RELEASE:SAE_ID`.
            sae_id: the SAE's name in the release, or its path in the repository or directory.
            device: device of the weights.
            dtype: precision of the weights; None keeps the file's.
            revision: branch, tag or commit of the repository; the commit is recorded in the
                metadata.
            force_download: download files even if they are cached.
            fold_W_dec_norm: scale decoder rows to unit norm and features by the norms.
            source: the release plugin; default: the catalogue's, or detected from the files.

        Returns:
            The SAE, its configuration as SAELens 6 writes it, and log10 of each latent's firing
            frequency `[d_sae]` where it was published, else None.

        Raises:
            ReleaseError: the name is unknown or ambiguous, files are missing or contradict each
                other, or the SAE could only be read wrongly.
            CheckpointError: the run has not ended.
            ConfigError: this machine has no such device.
        """
        from saecore.releases.resolve import resolve

        location = resolve(release, sae_id, revision=revision, force_download=force_download)
        return location.load(source, device=device, dtype=dtype, fold_W_dec_norm=fold_W_dec_norm)

    from_pretrained_with_cfg_and_sparsity = from_pretrained


def read_checkpoint(path: Path) -> tuple[SAE, Tensor, dict[str, Any]]:
    """Read the SAE in a checkpoint; only a trainer, imported on use, can export it.

    Args:
        path: the checkpoint's directory, RUN/checkpoints/step-NNNNNNNN.

    Returns:
        The SAE in inference form on the CPU, log10 of each latent's firing frequency `[d_sae]`,
        and its cfg.json.

    Raises:
        CheckpointError: the checkpoint is damaged, or not of its run's experiment.
        ConfigError: this version, or the installed plugins, cannot run the experiment.
    """
    from saecore.runs.checkpoint_sae import read_checkpoint_sae

    return read_checkpoint_sae(path)

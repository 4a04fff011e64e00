"""Base classes of release formats: an SAE is a folder of certain files, or one file."""

from __future__ import annotations

import posixpath
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from saecore.core.release import CatalogueFacts, Draft
from saecore.errors import ReleaseError
from saecore.releases.tensor_reader import Tensors
from saecore.storage.repository import Repository


class Format:
    """A format without settings; subclasses implement `recognize`, `list` and `load`."""

    def __init__(self, config: Any) -> None:
        self.config = config


class Folders(Format):
    """A format whose SAE is a folder."""

    names: ClassVar[tuple[str, ...]]
    """Files of the folder, relative to it."""

    def recognize(self, files: Repository, path: str) -> bool:
        """Whether the folder `path` has all of the files."""
        return all(files.has(posixpath.join(path, name)) for name in self.names)

    def list(self, files: Repository) -> Sequence[str]:
        """List every such folder."""
        end = self.names[0]
        paths = [name for name in files.files if name == end or name.endswith(f"/{end}")]
        folders = [path.removesuffix(end).rstrip("/") or "." for path in paths]
        return [folder for folder in folders if self.recognize(files, folder)]


class SingleFiles(Format, ABC):
    """A format whose SAE is one file; subclasses implement `recognize` and `load`."""

    @abstractmethod
    def recognize(self, files: Repository, path: str) -> bool:
        """Whether the file `path` is an SAE of this format."""

    def list(self, files: Repository) -> Sequence[str]:
        """List every such file."""
        return [name for name in files.files if self.recognize(files, name)]


class NamedFiles(SingleFiles):
    """A format whose SAE is one file, recognized by its name."""

    pattern: ClassVar[re.Pattern[str]]
    """The file name, without its folder."""
    form: ClassVar[str]
    """The same for messages, such as layer<n>.sae.pt."""

    def recognize(self, files: Repository, path: str) -> bool:
        """Whether `path` is a file with such a name."""
        return files.has(path) and self.pattern.fullmatch(posixpath.basename(path)) is not None

    def match(self, files: Repository, path: str) -> re.Match[str]:
        """The parts of a file's name.

        Raises:
            ReleaseError: the file has another name.
        """
        match = self.pattern.fullmatch(posixpath.basename(path))
        if match is None:
            raise ReleaseError(f"{files.label(path)}: expected {self.form}")
        return match


class LinearFiles(NamedFiles):
    """ReLU SAEs of residual streams: two linear layers in one `.pt` file named after its layer.

    The groups of `pattern` are the model's name and the layer. The layers' weights are stored
    `[out, in]`. The decoder's bias is not subtracted from the input.
    """

    encoder: ClassVar[str]
    """Name of the encoder layer."""
    decoder: ClassVar[str]
    """Name of the decoder layer."""
    organization: ClassVar[str]
    """Owner of the model on the hub."""
    metadata: ClassVar[Mapping[str, Any]]
    """Metadata beside model and hook."""

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read the file."""
        name = self.match(files, path)
        tensors = Tensors(files.torch(path), files.label(path))
        weights = {
            "W_enc": tensors.take(f"{self.encoder}.weight", 2).t(),
            "b_enc": tensors.take(f"{self.encoder}.bias", 1),
            "W_dec": tensors.take(f"{self.decoder}.weight", 2).t(),
            "b_dec": tensors.take(f"{self.decoder}.bias", 1),
        }
        tensors.end()
        metadata = {
            "model_name": f"{self.organization}/{name[1]}",
            "hook_name": f"blocks.{int(name[2])}.hook_resid_post",
            "hook_head_index": None,
            "prepend_bos": True,
            **self.metadata,
        }
        return Draft.of("standard", weights, metadata)


def cross_layer_warning(label: str) -> str:
    """The warning for a single layer of a cross-layer transcoder."""
    return (
        f"{label}: one layer of a cross-layer transcoder: its features are correct, its "
        "reconstruction is not, because other layers contribute to every target"
    )

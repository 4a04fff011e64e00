"""Read-only access to the files of a repository: `Repository`, and `Directory` on disk."""

from __future__ import annotations

import posixpath
import re
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saecore.errors import ReleaseError, nearest
from saecore.storage import safe_load

if TYPE_CHECKING:
    from torch import Tensor


MAX_PART = 255
"""Longest part of a path, in characters; some published names exceed a hundred."""


class Repository(ABC):
    """Read-only files with names like `layer_3/params.npz`; every reader checks what it reads."""

    name: str
    """`username/repo-name`, or the directory, for messages."""

    @property
    def commit(self) -> str | None:
        """The commit, for repositories that have commits."""
        return None

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Names of all files, sorted."""
        return tuple(sorted(self._list()))

    def has(self, name: str) -> bool:
        """Whether a file of this name exists."""
        return normalized(name) in self.files

    def path(self, name: str) -> Path:
        """The path of a file on this machine, downloaded first if necessary.

        Raises:
            ReleaseError: the file does not exist or cannot be downloaded.
        """
        name = normalized(name)
        if not is_inside(name):
            raise ReleaseError(f"{self.name}: {name!r} is not the name of a file in a repository")
        return self._fetch(name)

    def missing(self, name: str) -> ReleaseError:
        """The error for a file that does not exist."""
        return ReleaseError(f"{self.name}: no file {name}{nearest(name, list(self.files))}")

    def json(self, name: str) -> dict[str, Any]:
        """Read a JSON object; see `safe_load.json_table`."""
        return safe_load.json_table(self.path(name), self.label(name))

    def yaml(self, name: str) -> dict[str, Any]:
        """Read a YAML mapping; see `safe_load.yaml_table`."""
        return safe_load.yaml_table(self.path(name), self.label(name))

    def safetensors(self, name: str) -> dict[str, Tensor]:
        """Read the tensors of a safetensors file; see `safe_load.safetensors`."""
        return safe_load.safetensors(self.path(name), self.label(name))

    def tensor_names(self, name: str) -> frozenset[str]:
        """Read the tensor names of a safetensors file; see `safe_load.tensor_names`."""
        return safe_load.tensor_names(self.path(name), self.label(name))

    def npz(self, name: str) -> dict[str, Tensor]:
        """Read the arrays of an .npz file; see `safe_load.npz`."""
        return safe_load.npz(self.path(name), self.label(name))

    def torch(self, name: str) -> Any:
        """Read a .pt file of tensors, numbers and strings; see `safe_load.torch_file`."""
        return safe_load.torch_file(self.path(name), self.label(name))

    def label(self, name: str) -> str:
        """A file or folder as messages name it; the repository itself for `.`."""
        name = normalized(name)
        return self.name if name == "." else f"{self.name}/{name}"

    @abstractmethod
    def _list(self) -> list[str]:
        """List the names of all files."""

    @abstractmethod
    def _fetch(self, name: str) -> Path:
        """A file's path on this machine."""


def normalized(name: str) -> str:
    """A name as in `Repository.files`; a leading slash means the repository's root."""
    return posixpath.normpath(name.removeprefix("/"))


def is_inside(name: str) -> bool:
    """Whether a normalized name stays inside a repository on every operating system."""
    return (
        re.match(r"/|\.\.(/|$)|[A-Za-z]:[/\\]|~", name) is None
        and re.search(r"[\\\x00-\x1f\x7f]", name) is None
        and max(map(len, name.split("/"))) <= MAX_PART
    )


class Directory(Repository):
    """The files below a directory on this machine.

    Links that leave the directory are refused, because it may be an unpacked download. Links into
    `blobs` are allowed: the hub's cache has them.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.name = str(root)
        if not self.root.is_dir():
            raise ReleaseError(f"{root}: no such directory")

    def has(self, name: str) -> bool:
        """Whether a file of this name exists."""
        name = normalized(name)
        return is_inside(name) and (self.root / name).is_file()

    def _list(self) -> list[str]:
        try:
            return [
                file.relative_to(self.root).as_posix()
                for file in self.root.rglob("*")
                if file.is_file()
            ]
        except OSError as error:
            raise ReleaseError(
                f"{self.name}: its files cannot be listed: {error.strerror}; give the directory of "
                "an SAE"
            ) from error

    def _fetch(self, name: str) -> Path:
        path = self.root / name
        if not path.is_file():
            raise self.missing(name)
        target = path.resolve()
        if not target.is_relative_to(self.root.resolve()) and target.parent.name != "blobs":
            raise ReleaseError(
                f"{path}: is a link that leaves the directory; give the directory it leads to"
            )
        return path

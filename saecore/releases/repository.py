"""Files from somewhere: a directory, or a repository of the hub at one revision."""

from __future__ import annotations

import posixpath
import re
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saecore.errors import ReleaseError, nearest
from saecore.releases import reading

if TYPE_CHECKING:
    from torch import Tensor


MAX_PART = 255
"""Longest part of a path; some published names have more than a hundred characters."""


class Repository(ABC):
    """Read-only files with names like `layer_3/params.npz`; every reader checks what it reads."""

    name: str
    """`username/repo-name`, or the directory: what messages call it."""

    @property
    def commit(self) -> str | None:
        """Which state of the repository it is, where it has states."""
        return None

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Names of all files, sorted."""
        return tuple(sorted(self._list()))

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return plain(name) in self.files

    def path(self, name: str) -> Path:
        """Where a file is on this machine; it is downloaded first where it must be.

        Raises:
            ReleaseError: there is no such file, or it cannot be had.
        """
        name = plain(name)
        if not inside(name):
            raise ReleaseError(f"{self.name}: {name!r} is not the name of a file in a repository")
        return self._fetch(name)

    def missing(self, name: str) -> ReleaseError:
        """The error for a file that is not there."""
        return ReleaseError(f"{self.name}: no file {name}{nearest(name, list(self.files))}")

    def json(self, name: str) -> dict[str, Any]:
        """A table of settings from a JSON file; see `reading.json_table`."""
        return reading.json_table(self.path(name), self._label(name))

    def yaml(self, name: str) -> dict[str, Any]:
        """A table of settings from a YAML file; see `reading.yaml_table`."""
        return reading.yaml_table(self.path(name), self._label(name))

    def safetensors(self, name: str) -> dict[str, Tensor]:
        """Tensors of a safetensors file; see `reading.safetensors`."""
        return reading.safetensors(self.path(name), self._label(name))

    def tensor_names(self, name: str) -> frozenset[str]:
        """Names of the tensors in a safetensors file; see `reading.tensor_names`."""
        return reading.tensor_names(self.path(name), self._label(name))

    def npz(self, name: str) -> dict[str, Tensor]:
        """Arrays of an .npz file; see `reading.npz`."""
        return reading.npz(self.path(name), self._label(name))

    def torch(self, name: str) -> Any:
        """What a .pt file holds: tensors, numbers and strings only; see `reading.torch_file`."""
        return reading.torch_file(self.path(name), self._label(name))

    def _label(self, name: str) -> str:
        return f"{self.name}/{name}"

    @abstractmethod
    def _list(self) -> list[str]:
        """Names of all files."""

    @abstractmethod
    def _fetch(self, name: str) -> Path:
        """A file's path on this machine."""


def plain(name: str) -> str:
    """A name as `files` has it; what is at the repository's root may begin with a slash."""
    return posixpath.normpath(name.removeprefix("/"))


def inside(name: str) -> bool:
    """Whether a normalized name stays inside a repository, whatever the system takes it for."""
    return (
        re.match(r"/|\.\.(/|$)|[A-Za-z]:[/\\]|~", name) is None
        and re.search(r"[\\\x00-\x1f\x7f]", name) is None
        and max(map(len, name.split("/"))) <= MAX_PART
    )


class Directory(Repository):
    """The files below a directory of this machine.

    A link that leaves the directory is refused, because a directory may have been unpacked from
    somewhere; but for links into `blobs`, as the hub's cache has them.
    """

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)
        self.name = str(root)
        if not self._root.is_dir():
            raise ReleaseError(f"{root}: no such directory")

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        name = plain(name)
        return inside(name) and (self._root / name).is_file()

    def _list(self) -> list[str]:
        try:
            return [one.relative_to(self._root).as_posix()
                    for one in self._root.rglob("*") if one.is_file()]  # fmt: skip
        except OSError as error:
            raise ReleaseError(
                f"{self.name}: its files cannot be listed: {error.strerror}; give the directory of "
                "an SAE"
            ) from error

    def _fetch(self, name: str) -> Path:
        path = self._root / name
        if not path.is_file():
            raise self.missing(name)
        target = path.resolve()
        if not target.is_relative_to(self._root.resolve()) and target.parent.name != "blobs":
            raise ReleaseError(
                f"{path}: is a link that leaves the directory; give the directory it leads to"
            )
        return path

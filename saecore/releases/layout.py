"""Where SAEs are in a repository: most formats are a folder with certain files, or a named file."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from saecore.releases.repository import Repository


class Format:
    """A format without settings; a source implements `recognise`, `list` and `load`."""

    def __init__(self, config: Any) -> None:
        self.config = config


class Folders(Format):
    """A format whose SAE is a folder."""

    names: ClassVar[tuple[str, ...]]
    """Files that the folder has, relative to it."""

    def recognise(self, files: Repository, path: str) -> bool:
        """Whether `path` has all of the files."""
        return all(files.has(posixpath.join(path, one)) for one in self.names)

    def list(self, files: Repository) -> Sequence[str]:
        """Every such folder."""
        end = self.names[0]
        paths = [one for one in files.files if one == end or one.endswith(f"/{end}")]
        folders = [one.removesuffix(end).rstrip("/") or "." for one in paths]
        return [one for one in folders if self.recognise(files, one)]


class NamedFiles(Format):
    """A format whose SAE is one file, known by its name."""

    pattern: ClassVar[re.Pattern[str]]
    """What the file's name is like, without its folder."""

    def recognise(self, files: Repository, path: str) -> bool:
        """Whether `path` is a file with such a name."""
        return files.has(path) and self.pattern.fullmatch(posixpath.basename(path)) is not None

    def list(self, files: Repository) -> Sequence[str]:
        """Every such file."""
        return [one for one in files.files if self.recognise(files, one)]

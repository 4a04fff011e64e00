"""Text files on disk, one document per file."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from saecore.core.dataset import Document
from saecore.errors import DataError
from saecore.plugins import Component, hookimpl


@attrs.frozen
class TextFilesConfig:
    """Which files."""

    paths: tuple[str, ...]
    """Files, directories (with all files below them) or patterns such as "books/**/*.txt"."""


class Files:
    """Documents from files; names are relative to their common directory.

    Args:
        files: the files, by name.
    """

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = dict(sorted(files.items()))
        digest = hashlib.sha256()
        for name, path in self._files.items():
            data = _read(path)
            digest.update(f"{name}\0{len(data)}\0".encode() + data)
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Document]:
        for name, path in self._files.items():
            yield Document(name, _read(path).decode("utf-8", errors="replace"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"dataset: {path}: cannot be read: {error.strerror}") from error


def build(config: TextFilesConfig, tokenizer: Any) -> Files:
    """Find the files.

    Raises:
        DataError: a path or pattern matches no file.
    """
    paths: list[Path] = []
    for text in config.paths:
        path = Path(text).expanduser()
        candidates = (
            path.rglob("*") if path.is_dir() else map(Path, glob.glob(str(path), recursive=True))
        )
        files = [file for file in candidates if file.is_file()]
        if not files:
            raise DataError(
                f"dataset.paths: {text}: no such file; expected a file, a directory with files "
                'or a pattern such as "books/**/*.txt"'
            )
        paths += files
    if not paths:
        raise DataError("dataset.paths: expected at least one file, directory or pattern, got []")
    absolute = sorted({path.resolve() for path in paths})
    common = absolute[0].parent
    while not all(path.is_relative_to(common) for path in absolute):
        common = common.parent
    return Files({path.relative_to(common).as_posix(): path for path in absolute})


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="dataset",
        name="text_files",
        config=TextFilesConfig,
        build=build,
        summary="text files on disk, one document per file",
    )

"""The running interpreter's standard library as text: a corpus available everywhere."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saecore.errors import DataError
from saecore.plugins import Component, NoSettings, hookimpl
from saecore_plugins.datasets.text_files import Files

SKIPPED = {"site-packages", "test", "tests", "idle_test", "lib2to3"}
"""Directories left out, as in the training of the embedded model (see its card)."""


def build(config: NoSettings, tokenizer: Any) -> Files:
    """Collect the standard library's source files.

    Raises:
        DataError: this interpreter comes without source files.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    files = {}
    for path in root.rglob("*.py"):
        relative = path.relative_to(root)
        if not SKIPPED & set(relative.parts):
            files[relative.as_posix()] = path
    if not files:
        raise DataError(
            f"dataset: this Python interpreter has no .py files in {root}; "
            'use type = "text_files" with paths = ["your/text"]'
        )
    return Files(files)


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="dataset",
        name="python_corpus",
        build=build,
        summary="the Python standard library's source; needs no download",
    )

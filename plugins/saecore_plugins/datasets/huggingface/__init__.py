"""Datasets in Hugging Face format, from the hub or from disk, downloaded or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from saecore.plugins import Component, hookimpl
from saecore_plugins.datasets.huggingface.config import HuggingFaceConfig

if TYPE_CHECKING:
    from saecore.core.dataset import Documents, DocumentStream


def build(config: HuggingFaceConfig, tokenizer: Any) -> Documents | DocumentStream:
    """Open the dataset; code that comes with it is never run.

    Raises:
        DataError: it cannot be opened, has no such split or column, or its conversations need a
            chat template that the tokenizer lacks.
    """
    from saecore_plugins.datasets.huggingface.opening import open_rows
    from saecore_plugins.datasets.huggingface.rows import documents

    return documents(open_rows(config), config, tokenizer)


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="dataset",
        name="huggingface",
        config=HuggingFaceConfig,
        build=build,
        summary="text, tokens or conversations from the hub or local files, streamed or not",
    )

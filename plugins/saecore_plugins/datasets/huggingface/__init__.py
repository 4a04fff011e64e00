"""Datasets in Hugging Face format, from the hub or from disk, as a whole or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from saecore.components import Component
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore.data.documents import Documents, DocumentStream


@attrs.frozen
class FilterConfig:
    """A condition on rows; exactly one of equals, one_of and min_length."""

    column: str
    """The column that is looked at."""
    equals: bool | int | float | str | None = None
    """Keep rows with this value."""
    one_of: tuple[int | float | str, ...] = ()
    """Keep rows with one of these values."""
    min_length: int | None = attrs.field(default=None, validator=at_least(1))
    """Keep rows with at least so many characters, items or turns."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a missing or doubled condition."""
        conditions = (self.equals is not None, bool(self.one_of), self.min_length is not None)
        if sum(conditions) != 1:
            yield "column", "expected exactly one of equals, one_of and min_length beside it"


@attrs.frozen
class HuggingFaceConfig:
    """Which rows, and where their text is."""

    name: str
    """Name on the hub; or a local file or directory (parquet, json lines, arrow, csv, text with a
    document a line, or what `save_to_disk` wrote)."""
    config: str | None = None
    """The dataset's configuration ("subset" on the hub), if it has several."""
    split: str = "train"
    """The split; without streaming also a part of one, such as "train[:10%]"."""
    revision: str | None = None
    """Branch, tag or commit on the hub; default: the main branch. The commit is recorded."""
    data_files: tuple[str, ...] = ()
    """Files of the dataset or patterns such as "data/*.parquet"; default: those of the split."""
    streaming: bool = False
    """Read rows as training needs them, in place of downloading and tokenising all first."""
    column: str | None = None
    """Column of text, of lists of token ids, or of conversations (lists of role and content);
    default: the first there is of tokens, input_ids, text, content, problem, conversation,
    conversations, messages."""
    filter: tuple[FilterConfig, ...] = ()
    """Conditions that a row has to meet, all of them: tables [[dataset.filter]] with column and
    one of equals, one_of and min_length."""


def build(config: HuggingFaceConfig, tokenizer: Any) -> Documents | DocumentStream:
    """Open the dataset; code that comes with one is never run.

    Raises:
        DataError: it cannot be opened, has no such split or column, or its conversations need a
            chat template that the tokenizer lacks.
    """
    from saecore_plugins.datasets.huggingface.opening import opened
    from saecore_plugins.datasets.huggingface.rows import documents

    return documents(opened(config), config, tokenizer)


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the dataset."""
    yield Component(
        kind="dataset",
        name="huggingface",
        config=HuggingFaceConfig,
        build=build,
        summary="text, tokens or conversations from the hub or local files, streamed or not",
    )

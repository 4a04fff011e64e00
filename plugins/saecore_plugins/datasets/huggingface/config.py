"""Settings of the Hugging Face dataset: which rows, and which column."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.plugins import at_least


@attrs.frozen(kw_only=True)
class FilterConfig:
    """A condition on rows: exactly one of equals, one_of and min_length."""

    column: str
    """The column to test."""
    equals: bool | int | float | str | None = None
    """Keep rows with this value."""
    one_of: tuple[int | float | str, ...] = ()
    """Keep rows with one of these values."""
    min_length: int | None = attrs.field(default=None, validator=at_least(1))
    """Keep rows with at least this many characters, items or turns."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a missing or doubled condition."""
        conditions = {
            "equals": self.equals is not None,
            "one_of": bool(self.one_of),
            "min_length": self.min_length is not None,
        }
        if sum(conditions.values()) != 1:
            got = ", ".join(name for name, is_set in conditions.items() if is_set) or "none of them"
            yield (
                "column",
                f"expected exactly one of equals, one_of and min_length beside it, got {got}",
            )


@attrs.frozen
class HuggingFaceConfig:
    """Which rows, and which column holds their text."""

    name: str
    """Name on the hub, or a local file or directory (parquet, json lines, arrow, csv, text with one
    document per line, or written by `save_to_disk`)."""
    config: str | None = None
    """The dataset's configuration ("subset" on the hub), if it has several."""
    split: str = "train"
    """The split; without streaming, a slice such as "train[:10%]" is allowed."""
    revision: str | None = None
    """Branch, tag or commit on the hub; default: the main branch. The commit is recorded."""
    data_files: tuple[str, ...] = ()
    """Files of the dataset, or patterns such as "data/*.parquet"; default: the split's files."""
    streaming: bool = False
    """Read rows as training needs them, instead of downloading and tokenizing all of them first."""
    column: str | None = None
    """Column of text, of lists of token ids, or of conversations (lists of role and content);
    default: the first existing one of tokens, input_ids, text, content, problem, conversation,
    conversations, messages."""
    filter: tuple[FilterConfig, ...] = ()
    """Conditions that a row must meet, all of them: tables [[dataset.filter]] with column and one
    of equals, one_of and min_length."""

"""Text becomes rows of tokens once, split, checked, and kept."""

import numpy as np
import pytest

from saecore.activations import token_cache as module
from saecore.activations.documents import held_out, parts
from saecore.activations.packing import Packing
from saecore.activations.token_cache import token_rows
from saecore.core.dataset import Document
from saecore.errors import DataError, StorageError


class Letters:
    """A tokenizer: every letter is a token."""

    def get_vocab(self):
        """Letters to ids."""
        return {chr(97 + i): i for i in range(26)}

    def __call__(self, texts, **_):
        """Encode."""
        return {"input_ids": [[ord(c) - 97 for c in text if c.islower()] for text in texts]}


class Texts(list):
    """Documents from a list of texts."""

    fingerprint = "fixed"

    def __iter__(self):
        for i, text in enumerate(super().__iter__()):
            yield Document(f"doc{i}", text)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache directory."""
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path))
    return tmp_path


def test_rows_are_kept_and_reopened(cache, monkeypatch):
    """The second call opens the file; another packing makes another file."""
    documents = Texts(["abcdefgh" * 4] * 30)
    first = token_rows(documents, Letters(), 26, Packing(context_size=8), 0.2)
    monkeypatch.setattr(module, "_write", lambda *_: pytest.fail("tokenized again"))
    again = token_rows(documents, Letters(), 26, Packing(context_size=8), 0.2)
    assert np.array_equal(first.train, again.train)
    assert isinstance(again.train, np.memmap)
    monkeypatch.undo()
    monkeypatch.setenv("SAECORE_CACHE", str(cache))
    assert token_rows(documents, Letters(), 26, Packing(context_size=4), 0.2).key != first.key


def test_split_by_name():
    """Documents are held out by a hash of their names, and nothing is on both sides."""
    documents = Texts([chr(97 + i % 26) * 8 for i in range(400)])
    rows = token_rows(documents, Letters(), 26, Packing(context_size=8, concat=False), 0.2)
    assert len(rows.train) + len(rows.held_out) == 400
    assert 40 < len(rows.held_out) < 130
    expected = sum(held_out(f"doc{i}", 0.2) for i in range(400))
    assert len(rows.held_out) == expected


def test_few_documents_are_cut_in_two():
    """A single long text gives held-out text too: its end."""
    train, end = parts(Document("book", "word " * 100), 0.1, few=True)
    assert train.text + end.text == "word " * 100
    assert 0.05 < len(end.text) / 500 < 0.15


def test_no_documents():
    """No documents is an error, as is too little text; both say what to do."""
    with pytest.raises(DataError, match="no documents"):
        token_rows(Texts(), Letters(), 26, Packing(context_size=8), 0.0)
    with pytest.raises(DataError, match=r"no context of 8 tokens.*lower dataset\.context_size"):
        token_rows(Texts(["abc"]), Letters(), 26, Packing(context_size=8), 0.0)


def test_tokens_outside_the_vocabulary():
    """A token that the model does not know is refused, with its document."""
    with pytest.raises(DataError, match=r"doc1 has token 25, outside .* of 20"):
        token_rows(Texts(["abc" * 9, "zzz" * 9]), Letters(), 20, Packing(context_size=8), 0.0)
    with pytest.raises(DataError):  # nothing half-made is left behind that would be used
        token_rows(Texts(["abc" * 9, "zzz" * 9]), Letters(), 20, Packing(context_size=8), 0.0)


def test_a_cache_that_cannot_be_written(cache, monkeypatch):
    """A cache directory that cannot be made is an error that names the variable to set."""
    (cache / "file").write_text("")
    monkeypatch.setenv("SAECORE_CACHE", str(cache / "file"))
    with pytest.raises(StorageError, match="set the variable SAECORE_CACHE"):
        token_rows(Texts(["abcdefgh" * 4] * 30), Letters(), 26, Packing(context_size=8), 0.2)

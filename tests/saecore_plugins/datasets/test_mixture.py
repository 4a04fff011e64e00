"""Several datasets as one: shares by weight, exact continuation, an end at the first end."""

from collections import Counter
from itertools import islice

import pytest

from saecore.config import structure_experiment
from saecore.config.messages import to_tables
from saecore.core.dataset import Document, DocumentStream
from saecore.errors import ConfigError, DataError
from saecore_plugins.datasets import mixture
from saecore_plugins.datasets.mixture import MixedDocuments, MixedStream, turns


class Texts(list):
    """Documents that can be counted."""

    fingerprint = "texts"

    def __iter__(self):
        for i, text in enumerate(super().__iter__()):
            yield Document(str(i), text)


class Stream:
    """A stream of documents."""

    fingerprint = "stream"

    def __init__(self, count):
        self.count = count

    def read_from(self, number):
        """Documents from this number on."""
        for i in range(number, self.count):
            yield Document(str(i), f"s{i}")


@pytest.mark.parametrize("weights", [[1, 1], [3, 1], [0.7, 0.2, 0.1], [5.0]])
def test_shares(weights):
    """Of any first n documents each source has its share, to within one for each source."""
    counts = Counter()
    for n, turn in enumerate(islice(turns(weights), 2000), 1):
        counts[turn] += 1
        for i, weight in enumerate(weights):
            assert abs(counts[i] - n * weight / sum(weights)) <= len(weights)


def test_documents_and_names():
    """Documents keep their order, and their names say their source."""
    mixed = MixedDocuments([Texts("abcd"), Texts("xy")], [2, 1])
    assert [(document.name, document.text) for document in mixed] == [
        ("0/0", "a"),
        ("0/1", "b"),
        ("1/0", "x"),
        ("0/2", "c"),
        ("0/3", "d"),
        ("1/1", "y"),
    ]
    assert len(mixed) == 6
    assert not isinstance(mixed, DocumentStream)


@pytest.mark.parametrize("weights", [[1, 1], [3, 1], [1, 9]])
def test_the_end(weights):
    """The mixture ends where a source has no document for its turn, counted or streamed."""
    mixed = MixedDocuments([Texts("a" * 50), Texts("b" * 20)], weights)
    documents = list(mixed)
    assert len(mixed) == len(documents)
    counts = Counter(document.text for document in documents)
    assert counts["a"] == 50 or counts["b"] == 20
    streamed = MixedStream([Texts("a" * 50), Stream(20)], weights)
    assert [document.name for document in streamed.read_from(0)] == [
        document.name for document in documents
    ]


def test_a_stream_goes_on_anywhere():
    """A mixture read from a number on gives what it gives there when read from the beginning."""
    mixed = MixedStream([Texts("a" * 50), Stream(90)], [1, 2])
    assert isinstance(mixed, DocumentStream)
    everything = list(mixed.read_from(0))
    for number in (0, 1, 2, 17, len(everything) - 1, len(everything)):
        assert list(mixed.read_from(number)) == everything[number:]


def test_fingerprint():
    """Sources and weights decide the fingerprint."""
    prints = {
        MixedDocuments([Texts("a"), Stream(1)], [1, 1]).fingerprint,
        MixedDocuments([Texts("a"), Stream(1)], [1, 2]).fingerprint,
        MixedDocuments([Stream(1), Texts("a")], [1, 1]).fingerprint,
    }
    assert len(prints) == 3


def experiment(*sources):
    """An experiment over a mixture."""
    return structure_experiment(
        {
            "model": {"type": "tiny_lm", "hook": "blocks.1.hook_resid_post"},
            "dataset": {"type": "mixture", "source": list(sources)},
            "sae": {"architecture": "topk", "d_sae": 64, "k": 4},
            "training": {"tokens": 10_000},
        }
    )


def test_sources_from_tables(tmp_path):
    """Sources are tables as datasets are, with a weight beside; they read back as written."""
    (tmp_path / "a.txt").write_text("some text")
    sources = [
        {"type": "text_files", "paths": [str(tmp_path)], "weight": 3},
        {"type": "python_corpus"},
    ]
    mixed = experiment(*sources)
    assert structure_experiment(to_tables(mixed)) == mixed
    documents = mixed.dataset.loader.build(None)
    assert [document.name for document in documents] == ["0/a.txt"]
    assert documents.weights == [3.0, 1.0]


def test_wrong_sources():
    """Problems of a source come with its place; a mixture of nothing is refused."""
    with pytest.raises(ConfigError, match=r'source\[1\]\.type: no dataset named "nope"'):
        experiment({"type": "python_corpus"}, {"type": "nope"})
    with pytest.raises(ConfigError, match=r"source\[0\]\.weight: expected more than 0, got 0"):
        experiment({"type": "python_corpus", "weight": 0})
    with pytest.raises(ConfigError, match=r"at least one table \[\[dataset\.source\]\]"):
        experiment()


def test_a_source_that_gives_no_documents(monkeypatch):
    """A dataset of activations cannot be mixed with text."""
    config = experiment({"type": "python_corpus"}).dataset.loader.config
    monkeypatch.setattr(mixture.Choice, "build", lambda *_: object())
    with pytest.raises(DataError, match=r"source\[0\].*python_corpus gives no documents"):
        mixture.build(config, None)

"""A stream becomes shards of rows: the same rows however often it was cut, in exact order."""

import json

import numpy as np
import pytest

from saecore.activations import token_cache as tokens_module
from saecore.activations import token_shards as shards_module
from saecore.activations.documents import held_out
from saecore.activations.mixing_buffer import MixingBuffer
from saecore.activations.packing import Packing, pack
from saecore.activations.token_cache import token_rows
from saecore.activations.token_shards import ShardedContexts
from saecore.core.dataset import Document
from saecore.errors import DataError, StorageError
from tests.activations.fakes import CountingBackend, buffer_settings
from tests.activations.test_token_cache import Letters

PACKING = Packing(context_size=8, begin_context=1000, separator=1001)
PER_SHARD = 5


def lengths(number):
    """Tokens of document `number`: 0 to 40, in no simple order."""
    return number * 17 % 41


class Source:
    """Documents of tokens 0, 1, 2, …; counts what is read and can fail."""

    def __init__(self, documents=40, fail_at=None):
        self.documents, self.fail_at = documents, fail_at
        self.opened = []

    def token_ids(self, number):
        """Distinct tokens for every document."""
        return np.arange(lengths(number), dtype=np.int64) + 2000 + 50 * number

    def __call__(self, number):
        """Tokens of all documents from this number on."""
        self.opened.append(number)
        for i in range(number, self.documents):
            if i == self.fail_at:
                raise DataError("the network is gone")
            yield i, self.token_ids(i)


def contexts(directory, source=None, packing=PACKING):
    """Shards of five rows."""
    return ShardedContexts(source or Source(), directory, PER_SHARD, packing, np.int32)


def packed(source, packing=PACKING):
    """All rows at once, by plain packing."""
    documents = (source.token_ids(i) for i in range(source.documents))
    return np.stack(list(pack(documents, packing)))


@pytest.mark.parametrize("concat", [True, False])
def test_rows_equal_packing(tmp_path, concat):
    """Rows of a stream are the rows of plain packing, as if there were no shards."""
    packing = Packing(context_size=8, begin_context=1000, separator=1001, concat=concat)
    expected = packed(Source(), packing)
    assert len(expected) > 2 * PER_SHARD
    shards = contexts(tmp_path, packing=packing)
    assert np.array_equal(shards.first(10_000), expected)
    assert shards.total == len(expected)


def test_only_what_is_needed_is_read(tmp_path):
    """The first rows are there as soon as their shard is; the rest stays unread."""
    source = Source()
    shards = contexts(tmp_path, source)
    assert shards.total is None
    assert shards.count(3) == PER_SHARD
    assert shards.count(PER_SHARD + 1) == 2 * PER_SHARD
    assert shards.total is None
    assert source.opened == [0]
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_a_second_run_goes_on_after_the_shards(tmp_path):
    """What is on disk is not read again; after it the stream goes on where it stood."""
    expected = packed(Source())
    contexts(tmp_path).count(12)
    source = Source()
    again = contexts(tmp_path, source)
    assert np.array_equal(again.first(15), expected[:15])
    assert source.opened == []
    assert np.array_equal(again.first(10_000), expected)
    assert source.opened[0] > 0
    third = Source(fail_at=0)
    assert np.array_equal(contexts(tmp_path, third).first(10_000), expected)
    assert third.opened == []


@pytest.mark.parametrize("fail_at", range(0, 40, 3))
def test_rows_after_a_stop_anywhere(tmp_path, fail_at):
    """A reader that dies at any document and is started again gives the same rows."""
    shards = contexts(tmp_path, Source(fail_at=fail_at))
    with pytest.raises(DataError, match="network"):
        shards.count(10_000)
    with pytest.raises(DataError, match="network"):  # not taken for the stream's end
        shards.count(10_000)
    assert np.array_equal(contexts(tmp_path).first(10_000), packed(Source()))


def test_rows_after_a_write_that_failed(tmp_path, monkeypatch):
    """A shard that could not be written is read and written again, in the same process too."""
    write, failed = shards_module.write_bytes, []

    def full(path, data, setting):
        if path.name in ("000001.bin", "000002.json") and path.name not in failed:
            failed.append(path.name)
            raise StorageError("disk full")
        write(path, data, setting)

    monkeypatch.setattr(shards_module, "write_bytes", full)
    shards = contexts(tmp_path)
    for _ in range(2):
        with pytest.raises(StorageError):
            shards.count(10_000)
    assert len(failed) == 2
    assert np.array_equal(shards.first(10_000), packed(Source()))


def test_an_end_at_the_end_of_a_shard(tmp_path):
    """A stream that ends where a shard is full is known to have ended; nothing is added."""

    def tokens_from(number):
        return ((i, np.arange(8 * i, 8 * i + 8)) for i in range(number, 2 * PER_SHARD))

    for _ in range(2):
        shards = contexts(tmp_path, tokens_from, Packing(context_size=8))
        assert shards.first(10_000).flatten().tolist() == list(range(16 * PER_SHARD))
        assert shards.total == shards.count(1) == 2 * PER_SHARD


def test_a_stop_between_file_and_record(tmp_path):
    """A shard without a record, complete or not, is written again."""
    whole = contexts(tmp_path / "a")
    whole.count(10_000)
    contexts(tmp_path / "b").count(5)
    (tmp_path / "b" / "000001.bin").write_bytes(b"half of a file")
    shards = contexts(tmp_path / "b")
    assert np.array_equal(shards.first(10_000), whole.first(10_000))
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.parametrize("damage", ["truncated", "missing", "manifest"])
def test_damaged_shards(tmp_path, damage):
    """A file that differs from its record is refused, with the directory to delete."""
    contexts(tmp_path).count(10)
    if damage == "truncated":
        file = tmp_path / "000001.bin"
        file.write_bytes(file.read_bytes()[:-4])
    elif damage == "missing":
        (tmp_path / "000001.bin").unlink()
    else:
        (tmp_path / "000001.json").write_text("{}")
    with pytest.raises(DataError, match=r"000001\.bin: damaged token file.*delete .* and run"):
        contexts(tmp_path)


def test_order_is_a_permutation_in_each_shard(tmp_path):
    """An epoch has every row once, shuffled inside its shard; seed and epoch change the order."""
    shards = contexts(tmp_path)
    total = shards.count(10_000)
    plain = shards.first(total).tolist()
    orders = {}
    for epoch, seed in ((0, 0), (1, 0), (0, 1)):
        rows = shards.read(epoch, 0, total, seed).tolist()
        for start in range(0, total, PER_SHARD):
            part = slice(start, start + PER_SHARD)
            assert sorted(rows[part]) == sorted(plain[part])
        orders[epoch, seed] = rows
        assert shards.read(epoch, 3, 11, seed).tolist() == rows[3:11]
    assert len({json.dumps(order) for order in [plain, *orders.values()]}) == 4


# -- through the window ----------------------------------------------------------------------


def window(directory, source=None, **changes):
    """A window with fills of seven contexts, over shards of five."""
    settings = {"fill_tokens": 56, "model_batch_size": 2, "seed": 3, **changes}
    shards = contexts(directory, source, Packing(context_size=8))
    return MixingBuffer(CountingBackend(), shards, buffer_settings(**settings))


def served(source, count):
    """The next tokens."""
    return source.next(count).inputs[:, 0].long().tolist()


@pytest.mark.parametrize("changes", [{}, {"positions": (1, 7), "exclude": (2018, 2101)}])
def test_window_resumes_over_a_stream(tmp_path, changes):
    """A window set to any position gives what an uninterrupted one gives, with shards or none."""
    used = packed(Source(), Packing(context_size=8))[:, slice(*changes.get("positions", (None,)))]
    tokens = used[~np.isin(used, changes.get("exclude", ()))].tolist()
    whole, count = window(tmp_path / "whole", **changes), len(tokens)
    assert whole.rows() is None
    everything = served(whole, count)
    assert sorted(everything) == sorted(tokens)
    assert whole.rows() == count
    for position in (0, 1, 55, 56, 200, count - 1):
        for directory in ("whole", f"new-{position}"):
            resumed = window(tmp_path / directory, **changes)
            resumed.seek(position)
            assert served(resumed, count - position) == everything[position:]


def test_window_seeds(tmp_path):
    """Another seed serves the same stream in another order."""
    assert served(window(tmp_path), 100) != served(window(tmp_path, seed=4), 100)


@pytest.mark.parametrize("known", [False, True])
def test_a_stream_that_ends_early(tmp_path, known):
    """The end is an error with the exact number of tokens and what to do."""
    rows = 8 * len(packed(Source(), Packing(context_size=8)))
    if known:
        contexts(tmp_path, packing=Packing(context_size=8)).count(10_000)
    source = window(tmp_path)
    assert source.rows() == (rows if known else None)
    source.next(rows)
    with pytest.raises(DataError, match=rf"ends after {rows} tokens in 1 epoch; .*epochs = 2"):
        source.next(1)


def test_epochs_of_a_stream(tmp_path):
    """A second epoch serves every row again in another order, also across a resume."""
    rows = packed(Source(), Packing(context_size=8)).flatten().tolist()
    both = served(window(tmp_path / "a", epochs=2), 2 * len(rows))
    assert sorted(both) == sorted(rows * 2)
    assert both[: len(rows)] != both[len(rows) :]
    for directory in ("a", "b"):
        resumed = window(tmp_path / directory, epochs=2)
        resumed.seek(len(rows) - 3)
        assert served(resumed, len(rows) + 3) == both[len(rows) - 3 :]


# -- through token_rows ----------------------------------------------------------------------


class Stream:
    """A stream of texts."""

    fingerprint = "fixed"
    identity = {"name": "letters"}  # noqa: RUF012

    def __init__(self, texts):
        self.texts = texts

    def read_from(self, number):
        """Documents from this number on."""
        for i in range(number, len(self.texts)):
            yield Document(f"row {i}", self.texts[i])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache directory, and small shards."""
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path))
    monkeypatch.setattr(tokens_module, "SHARD_TOKENS", {"train": 64, "held_out": 16})
    return tmp_path


def test_held_out_documents_of_a_stream(cache):
    """Both sides are chosen by the hash of the name; as many held-out rows as are evaluated."""
    texts = [chr(97 + i % 26) * 8 for i in range(400)]
    rows = token_rows(Stream(texts), Letters(), 26, Packing(context_size=8), 0.2, evaluated=7)
    expected = [ord(texts[i][0]) - 97 for i in range(400) if held_out(f"row {i}", 0.2)]
    assert rows.held_out[:, 0].tolist() == expected[:7]
    assert rows.identity == {"name": "letters"}
    total = rows.train.count(1000)
    assert total + len(expected) == 400
    more = token_rows(Stream(texts), Letters(), 26, Packing(context_size=8), 0.2, evaluated=1000)
    assert more.held_out[:, 0].tolist() == expected
    assert more.key == rows.key
    none = token_rows(Stream(texts), Letters(), 26, Packing(context_size=8), 0.0, evaluated=5)
    assert len(none.held_out) == 0


def test_a_stream_without_a_context(cache):
    """A stream too short for one context is an error that says so."""
    with pytest.raises(DataError, match=r"no context of 8 tokens in the whole stream; give more"):
        token_rows(Stream(["abc"]), Letters(), 26, Packing(context_size=8), 0.0)


def test_a_stream_with_tokens_outside_the_vocabulary(cache):
    """A token that the model does not know stops the run with its row; nothing is left of it."""
    with pytest.raises(DataError, match=r"row 1 has token 25, outside .* of 20"):
        token_rows(Stream(["abc" * 4, "zzz" * 9]), Letters(), 20, Packing(context_size=8), 0.0)
    assert not list(cache.rglob("*.json"))


def test_a_cache_that_cannot_be_written(cache, monkeypatch):
    """The error of a cache that cannot be made names the variable to set."""
    (cache / "file").write_text("")
    monkeypatch.setenv("SAECORE_CACHE", str(cache / "file"))
    with pytest.raises((StorageError, DataError), match="set the variable SAECORE_CACHE"):
        token_rows(Stream(["abcdefgh" * 40]), Letters(), 26, Packing(context_size=8), 0.0)


def test_documents_that_come_tokenized(cache):
    """Tokens are packed as they are, checked against the vocabulary, and mix with texts."""

    class Both(list):
        fingerprint = "both"

    documents = Both([Document("a", tokens=[5, 6, 7]), Document("b", "abc"), Document("c")])
    rows = token_rows(documents, Letters(), 26, Packing(context_size=6), 0.0)
    assert rows.train.tolist() == [[5, 6, 7, 0, 1, 2]]
    ready = Both([Document(str(i), tokens=[i, 1, 2]) for i in range(4)])
    ready.fingerprint = "ready"
    rows = token_rows(ready, Letters(), 26, Packing(context_size=3, concat=False), 0.0)
    assert rows.train.tolist() == [[i, 1, 2] for i in range(4)]
    few = Both([Document("a", tokens=list(range(20)))])
    few.fingerprint = "few"
    rows = token_rows(few, Letters(), 26, Packing(context_size=5), 0.25)
    assert rows.train.flatten().tolist() == list(range(15))
    assert rows.held_out.tolist() == [list(range(15, 20))]
    wrong = Both([Document("a", tokens=[5, 26])])
    wrong.fingerprint = "wrong"
    with pytest.raises(DataError, match=r"a has token 26, outside .*tokenized for another model"):
        token_rows(wrong, Letters(), 26, Packing(context_size=6), 0.0)

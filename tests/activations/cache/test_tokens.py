"""Tokens on disk: the contexts of the text they were made from, and refused for any other."""

import pytest

from saecore.activations.cache.tokens import write_tokens
from saecore.config import structure_experiment
from saecore.errors import DataError
from saecore.runs.run import run
from tests.activations.cache.test_cache import files, own_cache, tables, text, weights

__all__ = ["own_cache", "text"]  # fixtures


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Shards of 50 contexts."""
    monkeypatch.setattr("saecore.activations.cache.tokens.ROWS_PER_SHARD", 50)


def from_tokens(experiment, directory, **dataset):
    """The same experiment, reading the tokens."""
    old = experiment["dataset"]
    same = {key: old[key] for key in ("context_size", "held_out", "positions")}
    table = {**same, "type": "tokens", "path": str(directory), **dataset}
    return {**experiment, "dataset": table, "name": "tokens"}


def test_training_from_tokens_gives_the_bits_of_training_from_the_text(text, tmp_path):
    """Contexts, their order and the held-out ones are the same."""
    live = tables(text, tmp_path)
    manifest = write_tokens(structure_experiment(live), tmp_path / "tokens")
    assert manifest.shards("train") > 2
    expected = run(structure_experiment(live))
    result = run(structure_experiment(from_tokens(live, tmp_path / "tokens")))
    assert weights(result) == weights(expected)
    assert result.evaluation == expected.evaluation


def test_writing_goes_on_and_never_over_something_else(text, tmp_path):
    """A shard that was lost is written again with the same bytes; other tokens are refused."""
    live, directory = tables(text, tmp_path), tmp_path / "tokens"
    write_tokens(structure_experiment(live), directory)
    whole = files(directory)
    for ending in ("json", "safetensors"):
        (directory / f"train/000001.{ending}").unlink()
    with pytest.raises(DataError, match=r"train/000001\.safetensors is missing"):
        run(structure_experiment(from_tokens(live, directory)))
    write_tokens(structure_experiment(live), directory)
    assert files(directory) == whole
    other = tables(text, tmp_path, dataset={"context_size": 16, "positions": None})
    with pytest.raises(DataError, match=r"holds tokens with packing\.context_size = 32"):
        write_tokens(structure_experiment(other), directory)
    assert files(directory) == whole


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"context_size": 64}, r"dataset\.context_size was 32 .* it is 64"),
        ({"prepend_bos": False}, r"begins a context \(dataset\.prepend_bos\) was"),
        ({"held_out": 0.5}, r"dataset\.held_out was 0\.2"),
    ],
)
def test_other_contexts_than_those_wanted_are_refused(text, tmp_path, changed, match):
    """The message names the setting, what it was and what it is."""
    live = tables(text, tmp_path)
    write_tokens(structure_experiment(live), tmp_path / "tokens")
    with pytest.raises(DataError, match=match):
        run(structure_experiment(from_tokens(live, tmp_path / "tokens", **changed)))


def test_changed_shard_is_named(text, tmp_path):
    """Tokens that are not those that were written are never trained on."""
    live = tables(text, tmp_path)
    write_tokens(structure_experiment(live), tmp_path / "tokens")
    shard = tmp_path / "tokens/train/000000.safetensors"
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"000000\.safetensors: changed since"):
        run(structure_experiment(from_tokens(live, tmp_path / "tokens")))

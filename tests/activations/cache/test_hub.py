"""Caches on the hub: pushed, then streamed by a run."""

import tomllib

import numpy
import pytest
import torch
from click.testing import CliRunner

from saecore.activations.build import read_tokens
from saecore.activations.cache.tokens import write_tokens
from saecore.cli import cli
from saecore.config import structure_experiment
from saecore.errors import DataError
from saecore.releases.publish_cache import upload_cache
from tests.activations.cache.test_cache import SITE, own_cache, tables, text, write  # noqa: F401 (fixtures)
from tests.helpers import MINIMAL

REPO = "username/rows"


def push(path, *more):
    """The command."""
    words = ["push", str(path), "--repo", REPO, *more]
    return CliRunner().invoke(cli, words, standalone_mode=False)


def dataset(where, kind, **more):
    """The dataset of an experiment that reads what is there."""
    table = {"type": kind, **where, **more}
    return structure_experiment({**tomllib.loads(MINIMAL), "dataset": table}).dataset


def test_activations_from_the_hub(hub, text, tmp_path, monkeypatch):  # noqa: F811
    """A pushed cache gives the rows of the one on disk; shards come one by one, and what is not
    read is not downloaded.
    """
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    write(text, tmp_path / "cache")
    done = push(tmp_path / "cache")
    assert done.exception is None
    assert f"--set dataset.type=cached --set dataset.repo={REPO}" in done.output
    locations = ({"path": str(tmp_path / "cache")}, {"repo": REPO})
    disk, streamed = (
        dataset(location, "cached").loader.build(0).stream(SITE) for location in locations
    )

    def fetched():
        seen = [request.rpartition("/")[2] for request in hub.asked if request.startswith("GET")]
        return [name for name in seen if name.endswith(".safetensors")]

    for rows, shards in ((1000, ["000000"]), (1000, ["000000", "000001"])):
        expected, batch = disk.next(rows), streamed.next(rows)
        assert torch.equal(expected.inputs, batch.inputs)
        assert torch.equal(expected.tokens, batch.tokens)
        assert fetched() == [f"{name}.safetensors" for name in shards]
    card = hub.repositories[REPO].commits[hub.repositories[REPO].branches["main"]]["README.md"]
    assert b'type = "cached"\nrepo = "username/rows"' in card


def test_tokens_from_the_hub(hub, text, tmp_path, monkeypatch):  # noqa: F811
    """Pushed tokens are those on disk."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    experiment = structure_experiment(tables(text, tmp_path, training={"tokens": 600}))
    write_tokens(experiment, tmp_path / "tokens")
    assert push(tmp_path / "tokens").exception is None
    model = experiment.model.backend.build(torch.device("cpu"), torch.float32)
    more = {"context_size": 32, "held_out": 0.2, "positions": [1, 32]}
    disk, streamed = (
        read_tokens(dataset(location, "tokens", **more), model, 64)
        for location in ({"path": str(tmp_path / "tokens")}, {"repo": REPO})
    )
    assert numpy.array_equal(disk.held_out, streamed.held_out)
    assert numpy.array_equal(*(rows.train.read(0, 3, 9, 0) for rows in (disk, streamed)))


def test_a_cache_that_is_not_whole(hub, text, tmp_path):  # noqa: F811
    """It is refused before anything is sent; so is a name for an SAE."""
    write(text, tmp_path / "cache")
    assert "--id is for SAEs" in str(push(tmp_path / "cache", "--id", "x").exception)
    (tmp_path / "cache/train/000001.json").unlink()
    with pytest.raises(DataError, match="2 of 3 train shards exist"):
        upload_cache(tmp_path / "cache", REPO, "hf_secret")
    assert not hub.repositories

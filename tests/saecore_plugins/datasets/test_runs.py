"""Whole runs over streams, tokens, conversations and mixtures."""

import json
import shutil

import pytest
import torch

from saecore import SAE
from saecore.activations import token_cache as tokens_module
from saecore.config import structure_experiment
from saecore.errors import DataError
from saecore.runs.run import run
from saecore_plugins.models.tiny_lm import DIRECTORY

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Empty caches, and small shards."""
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(tokens_module, "SHARD_TOKENS", {"train": 4096, "held_out": 1024})


@pytest.fixture
def texts(tmp_path):
    """Sixty texts of about two hundred tokens, as json lines."""
    directory = tmp_path / "texts"
    directory.mkdir()
    with (directory / "a.jsonl").open("w") as file:
        for i in range(60):
            words = [f"def f{j % 17}(x{i}): return x{i} + {j * i % 23}\n" for j in range(20)]
            file.write(json.dumps({"text": "".join(words)}) + "\n")
    return directory


def experiment(tmp_path, dataset, model=None, **training):
    """A small experiment."""
    return structure_experiment(
        {
            "name": "small",
            "output": str(tmp_path / "runs"),
            "model": {
                "type": "tiny_lm",
                **(model or {}),
                "hook": "blocks.0.hook_resid_post",
                "device": "cpu",
            },
            "dataset": {"context_size": 32, "held_out": 0.1, **dataset},
            "buffer": {"tokens": 1024, "model_batch_size": 16},
            "sae": {"architecture": "topk", "d_sae": 64, "k": 4},
            "training": {"tokens": 4096, "batch_size": 256, "lr": 1e-3, **training},
            "evaluation": {"tokens": 256},
        }
    )


def weights(result):
    """The trained tensors."""
    return SAE.load_from_disk(result.directory / "sae").state_dict()


def test_a_stream_gives_the_same_bits_again(texts, tmp_path):
    """A run over a stream, one over the shards that it left, and one from nothing are equal."""
    table = {"type": "huggingface", "name": str(texts), "streaming": True}
    results = []
    for cached in (False, True, False):
        if not cached:
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        results.append(run(experiment(tmp_path, table)))
    record = json.loads((results[0].directory / "experiment.json").read_text())
    assert record["dataset"] == {"name": str(texts), "split": "train", "column": "text"}
    assert structure_experiment(record["experiment"]) == experiment(tmp_path, table)
    assert results[0].evaluation["reconstruction"]["l0"]["tokens"] == 256
    assert results[0].sae.cfg.metadata["dataset_path"] == str(texts)
    for other in results[1:]:
        for name, tensor in weights(results[0]).items():
            assert torch.equal(tensor, weights(other)[name]), name


def test_a_stream_that_is_too_short(texts, tmp_path):
    """The end of a stream during training is an error with the number of tokens there were; the
    next run knows it before it begins; epochs read the text again.
    """
    table = {"type": "huggingface", "name": str(texts), "streaming": True}
    with pytest.raises(DataError, match=r"ends after ([\d_]+) tokens in 1 epoch;"):
        run(experiment(tmp_path, table, tokens=30_720))
    with pytest.raises(DataError, match=r"training\.tokens: the text has .*epochs = 2"):
        run(experiment(tmp_path, table, tokens=30_720))
    result = run(experiment(tmp_path, {**table, "epochs": 2}, tokens=30_720))
    assert result.metrics


def test_tokens_and_conversations_in_a_mixture(texts, tmp_path):
    """Text, tokens and conversations train together, from a model with a chat template."""
    model = tmp_path / "chat"
    shutil.copytree(DIRECTORY, model)
    (model / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    ids = [[(i * j) % 500 for j in range(200)] for i in range(40)]
    datasets.Dataset.from_dict({"input_ids": ids}).save_to_disk(tmp_path / "ids")
    turns = [[{"role": "user", "content": f"what is {i}? " * 20}] for i in range(40)]
    datasets.Dataset.from_dict({"messages": turns}).to_parquet(tmp_path / "chat.parquet")
    sources = [
        {"type": "huggingface", "name": str(texts), "streaming": True, "weight": 2},
        {"type": "huggingface", "name": str(tmp_path / "ids")},
        {"type": "huggingface", "name": str(tmp_path / "chat.parquet")},
    ]
    table = {"type": "mixture", "source": sources}
    chosen = {"type": "huggingface", "name": str(model)}
    result = run(experiment(tmp_path, table, chosen, tokens=1024))
    record = json.loads((result.directory / "experiment.json").read_text())
    assert [source["column"] for source in record["dataset"]["sources"]] == [
        "text",
        "input_ids",
        "messages",
    ]


@pytest.mark.parametrize("streaming", [False, True])
def test_tokens_of_another_model(tmp_path, streaming):
    """Token ids beyond the model's vocabulary stop the run before training."""
    ids = [[1, 2, 3] * 20] * 30 + [[1, 2, 100_000]]
    datasets.Dataset.from_dict({"tokens": ids}).to_parquet(tmp_path / "a.parquet")
    table = {"type": "huggingface", "name": str(tmp_path / "a.parquet"), "streaming": streaming}
    with pytest.raises(
        DataError, match=r"row 30 has token 100000, outside .*tokenized for another"
    ):
        run(experiment(tmp_path, table))
    assert not list((tmp_path / "runs" / "small").iterdir())


def test_a_tokenizer_of_another_model(texts, tmp_path):
    """A tokenizer that knows more tokens than the model stops the run with the text it met."""
    from transformers import AutoTokenizer

    model = tmp_path / "model"
    shutil.copytree(DIRECTORY, model)
    tokenizer = AutoTokenizer.from_pretrained(DIRECTORY)
    tokenizer.add_tokens(["): return x"])
    tokenizer.save_pretrained(model)
    table = {"type": "huggingface", "name": str(texts)}
    with pytest.raises(DataError, match=r"row 0 has token \d+, outside .*the model's own tokeni"):
        run(experiment(tmp_path, table, {"type": "huggingface", "name": str(model)}))

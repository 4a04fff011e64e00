"""A whole run, from tables to files."""

import json

import pytest
import torch

from saecore import SAE
from saecore.config import structure_experiment
from saecore.errors import ConfigError, DataError
from saecore.runs.run import run


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Thirty small text files."""
    directory = tmp_path_factory.mktemp("text")
    for i in range(30):
        words = [f"def f{j % 17}(x{i}): return x{i} + {j * i % 23}\n" for j in range(300)]
        (directory / f"{i}.txt").write_text("".join(words))
    return directory


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Token files in a directory of the test's own."""
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def tables(text, output, **sections):
    """A small experiment."""
    base = {
        "name": "small",
        "output": str(output),
        "model": {"type": "tiny_lm", "hook": "blocks.1.hook_resid_post", "device": "cpu"},
        "dataset": {"type": "text_files", "paths": [str(text)], "context_size": 32},
        "buffer": {"tokens": 4096, "model_batch_size": 32},
        "sae": {"architecture": "topk", "d_sae": 512, "k": 8},
        "training": {"tokens": 20_480, "batch_size": 512, "lr": 1e-3},
        "evaluation": {"tokens": 1024, "every_tokens": 8192},
    }
    for name, values in sections.items():
        base[name] = {**base[name], **values}
    return base


def test_a_run_leaves_what_it_promises(text, tmp_path):
    """experiment.json, metrics.jsonl, the SAE and evaluation.json, each as documented; the same
    experiment gives the same bits again.
    """
    experiment = structure_experiment(tables(text, tmp_path))
    first, second = run(experiment), run(experiment)
    record = json.loads((first.directory / "experiment.json").read_text())
    assert record["plugins"]["architecture.topk"].startswith("saecore ")
    assert record["model"]["name"] == "tiny_lm"
    assert len(record["corpus"]) == 64
    again = structure_experiment(record["experiment"])
    assert again == experiment
    lines = [json.loads(line) for line in (first.directory / "metrics.jsonl").open()]
    steps = [line["step"] for line in lines if "metrics/l0" in line]
    assert steps == [10, 20, 30, 40]
    evaluated = [line["tokens"] for line in lines if "evaluation/ce_loss_score" in line]
    assert evaluated == [8192, 16384, 20480]
    losses = [line["losses/mse_loss"] for line in lines if "losses/mse_loss" in line]
    assert losses[-1] < losses[0]
    sae = SAE.load_from_disk(first.directory / "sae")
    assert sae.cfg.hook_name == "blocks.1.hook_resid_post"
    assert sae.cfg.metadata.context_size == 32
    figures = json.loads((first.directory / "evaluation.json").read_text())["figures"]
    assert figures["reconstruction"]["l0"]["value"] <= 8
    assert figures["reconstruction"]["l0"]["tokens"] == 1024
    other = SAE.load_from_disk(second.directory / "sae")
    for name, tensor in sae.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize(
    ("sections", "d_in"),
    [
        ({"model": {"hook": "blocks.1.attn.hook_z"}}, 256),
        ({"model": {"hook": "blocks.1.attn.hook_z", "head": 3}, "sae": {"d_sae": 64}}, 32),
        ({"dataset": {"positions": [1, -1], "exclude_special_tokens": True}}, 256),
        (
            {
                "sae": {
                    "architecture": "topk",
                    "normalizer": {"type": "expected_average_only_in", "tokens": 2048},
                    "dead_latents": {"type": "auxk", "after_tokens": 2000},
                },
                "training": {"autocast": True, "accumulate": 2, "lr": "auto"},
            },
            256,
        ),
    ],
)
def test_variants_run(text, tmp_path, sections, d_in):
    """Attention heads, positions, special tokens, normalizer, AuxK, autocast: a run each."""
    sections.setdefault("training", {})["tokens"] = 4096
    experiment = structure_experiment(tables(text, tmp_path, **sections))
    result = run(experiment)
    assert result.sae.cfg.d_in == d_in
    assert 0 < result.evaluation["loss_recovered"]["ce_loss_with_sae"]["value"] < 20


def test_standard_runs(text, tmp_path):
    """A standard SAE trains from tables, with a warm-up of its coefficient."""
    base = tables(text, tmp_path)
    base["training"]["tokens"] = 4096
    base["sae"] = {
        "architecture": "standard",
        "d_sae": 256,
        "l1_coefficient": 5.0,
        "l1_schedule": {"type": "constant", "warm_up_steps": 4},
    }
    result = run(structure_experiment(base))
    assert result.metrics["details/l1_coefficient"] == 5.0
    assert result.evaluation["reconstruction"]["l0"]["value"] > 0


def test_starting_from_a_saved_sae(text, tmp_path):
    """init_from takes the weights of a saved SAE; another width is refused with both shapes."""
    base = tables(text, tmp_path)
    base["training"]["tokens"] = 2048
    first = run(structure_experiment(base))
    base["sae"]["init_from"] = str(first.directory / "sae")
    base["training"]["lr"] = 1e-12
    second = run(structure_experiment(base))
    torch.testing.assert_close(second.sae.W_dec, first.sae.W_dec)
    base["sae"]["d_sae"] = 100
    with pytest.raises(ConfigError, match=r"init_from.*expected \[100"):
        run(structure_experiment(base))


def test_text_that_ends_too_early(text, tmp_path):
    """More tokens than the text has: refused before training, with the number of epochs."""
    experiment = structure_experiment(tables(text, tmp_path, training={"tokens": 10**9}))
    with pytest.raises(DataError, match=r"dataset\.epochs = \d+"):
        run(experiment)
    assert not list((tmp_path / "small").iterdir())


def test_checkpoints_of_a_run(text, tmp_path):
    """Checkpoints at their interval and at the end, the newest kept, each loadable."""
    from saecore.storage import checkpoint

    base = tables(text, tmp_path)
    base["training"] = {
        "tokens": 5 * 512,
        "batch_size": 512,
        "checkpoint": {"every_steps": 2, "keep": 2},
    }
    result = run(structure_experiment(base))
    found = checkpoint.checkpoints(result.directory / "checkpoints")
    assert [path.name for path in found] == ["step-00000004", "step-00000005"]
    assert checkpoint.load(found[-1])["completed"] == 5

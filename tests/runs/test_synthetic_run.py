"""A whole run without a language model."""

import json
from pathlib import Path

import pytest
import torch

from saecore import SAE
from saecore.cli import cli
from saecore.config import structure_experiment
from saecore.config.load import load_experiment
from saecore.errors import ConfigError
from saecore.runs.run import run


def tables(output, **training):
    """A small problem that is solved in a second: sixteen features, two active."""
    return {
        "name": "synthetic",
        "output": str(output),
        "dataset": {
            "type": "synthetic", "features": 16, "d_in": 16, "active": 2.0, "device": "cpu",
        },
        "sae": {"architecture": "topk", "d_sae": 16, "k": 2},
        "training": {"tokens": 100_000, "batch_size": 256, "lr": 1e-2, **training},
        "evaluation": {"tokens": 4096},
    }  # fmt: skip


def weights(result):
    """The tensors of the saved SAE."""
    return SAE.load_from_disk(result.directory / "sae").state_dict()


def test_a_run_without_a_model(tmp_path):
    """It finds most features, leaves the files that every run leaves, without a model in them,
    and the same bits come again from experiment.json.
    """
    first = run(structure_experiment(tables(tmp_path)))
    record = json.loads((first.directory / "experiment.json").read_text())
    assert record["model"] is None
    assert len(record["corpus"]) == 64
    second = run(structure_experiment(record["experiment"]))
    for name, tensor in weights(first).items():
        assert torch.equal(tensor, weights(second)[name]), name
    assert set(first.evaluation) == {"reconstruction", "ground_truth"}
    truth = first.evaluation["ground_truth"]
    assert truth["mcc"]["value"] > 0.8
    assert truth["mcc"]["tokens"] == 4096
    assert truth["l0"]["value"] <= 2
    metadata = SAE.load_from_disk(first.directory / "sae").cfg.metadata
    assert metadata["dataset_path"] == "synthetic"
    assert metadata["corpus"] == record["corpus"]
    assert "model_name" not in metadata


def test_evaluation_while_training(tmp_path):
    """Held-out figures during training neither move the training stream nor each other."""
    plain = run(structure_experiment(tables(tmp_path, tokens=8192)))
    base = tables(tmp_path, tokens=8192)
    base["evaluation"]["every_tokens"] = 2048
    often = run(structure_experiment(base))
    for name, tensor in weights(plain).items():
        assert torch.equal(tensor, weights(often)[name]), name
    assert often.evaluation == plain.evaluation
    lines = [json.loads(line) for line in (often.directory / "metrics.jsonl").open()]
    assert [x["tokens"] for x in lines if "evaluation/mcc" in x] == [2048, 4096, 6144, 8192]


@pytest.mark.parametrize("optimizer", ["adam", "signum", "muon"])
def test_optimizers_learn(tmp_path, optimizer):
    """Every optimizer explains most of the variance of the small problem."""
    lr = {"adam": 1e-2, "signum": 2e-2, "muon": 1e-2}[optimizer]
    result = run(structure_experiment(tables(tmp_path, optimizer=optimizer, lr=lr)))
    assert result.evaluation["reconstruction"]["explained_variance"]["value"] > 0.7


def test_average_and_factors(tmp_path):
    """An average of weights, and a bias that is held still by the factor 0."""
    options = {"ema": 0.9, "lr_factors": {"b_dec": 0.0}, "lr": "auto", "tokens": 8192}
    result = run(structure_experiment(tables(tmp_path, **options)))
    assert not weights(result)["b_dec"].any()
    assert weights(result)["b_enc"].any()


def test_two_averages_are_refused(tmp_path):
    """Signum averages by itself."""
    experiment = structure_experiment(tables(tmp_path, ema=0.9, optimizer="signum"))
    with pytest.raises(
        ConfigError, match=r"training\.ema: optimizer signum averages the weights itself"
    ):
        run(experiment)


def test_a_factor_of_no_parameter(tmp_path):
    """The name is given back with those that exist."""
    experiment = structure_experiment(tables(tmp_path, lr_factors={"encoder": 2}))
    known = r"\(known: W_dec, W_enc, b_dec, b_enc\)"
    with pytest.raises(ConfigError, match=rf"lr_factors\.encoder: .*{known}"):
        run(experiment)


FILE = """
dataset = { type = "synthetic", features = 8, d_in = 8, active = 1, device = "cpu" }
sae = { architecture = "topk", d_sae = 8, k = 1 }
training = { tokens = 4096, batch_size = 256 }
evaluation = { tokens = 512 }
"""


def test_from_the_command_line(tmp_path, capsys):
    """`saecore run` says what it trains on, and `check` knows no [model]."""
    file = tmp_path / "tiny.toml"
    file.write_text(f'output = "{tmp_path}"\n{FILE}')
    cli.main(["check", str(file)], standalone_mode=False)
    assert "[model]" not in capsys.readouterr().out
    cli.main(["run", str(file)], standalone_mode=False)
    text = capsys.readouterr().out
    assert "topk on synthetic activations, 16 steps of 256 tokens\n" in text
    assert "ground_truth (512 tokens)" in text
    cli.main(["runs", "--output", str(tmp_path)], standalone_mode=False)
    assert "topk" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["synthetic", "synthetic/standard"])
def test_the_examples_find_the_features(name, tmp_path):
    """The experiments that come with saecore find 128 features in 64 dimensions: MCC ≥ 0.9."""
    file = Path(__file__).parents[2] / "experiments" / f"{name}.toml"
    experiment, _ = load_experiment(file, [f"output={tmp_path}", 'dataset.device="cpu"'])
    assert run(experiment).evaluation["ground_truth"]["mcc"]["value"] >= 0.9


@pytest.mark.parametrize("kind", [str, Path])
def test_a_run_of_a_file(tmp_path, kind):
    """`run` takes the path of an experiment file, too; its problems name the file."""
    import tomli_w

    file = tmp_path / "small.toml"
    file.write_text(tomli_w.dumps(tables(tmp_path, tokens=512)))
    assert run(kind(file)).directory.parent == tmp_path / "synthetic"
    file.write_text("name = small\n")
    with pytest.raises(ConfigError) as refused:
        run(kind(file))
    assert str(refused.value).startswith(f"{file}: 1 problem\n  line 1: strings need quotes: ")


def test_a_run_of_something_else():
    """One line for what is neither an experiment nor a path."""
    with pytest.raises(TypeError) as refused:
        run({"name": "x"})
    assert str(refused.value) == (
        "expected an Experiment or the path of an experiment file, got dict"
    )

"""The comparison of architectures goes on where it was, and its table holds what was measured."""

import pytest

from saecore.cli.init import examples
from tests.bench import architectures

FIGURES = {"explained_variance": 0.5, "ce_loss_score": 0.9, "l0": 32.0, "dead_fraction": 0.25}


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Runs the command for 5,000 tokens with a run that only notes its name."""
    trained = []

    def result(experiment):
        trained.append(experiment.name)
        made = {"date": "today", "commit": "c0ffee", "device": "cpu", "threads": 1, "torch": "2"}
        row = {"name": experiment.name, "tokens": experiment.training.tokens, "d_sae": 64}
        return {**row, **made, "seconds": 3, "figures": FIGURES}

    monkeypatch.setattr(architectures, "result", result)

    def call(*arguments):
        trained.clear()
        places = ["--results", str(tmp_path / "results"), "--table", str(tmp_path / "table.md")]
        monkeypatch.setattr("sys.argv", ["x", "--tokens", "5000", *places, *arguments])
        architectures.main()
        return list(trained), (tmp_path / "table.md").read_text()

    return call


def test_every_experiment_is_compared_once(command):
    """All experiments on the embedded model are trained at the same tokens, those that have a
    result are left out the next time, and the table has a row for each.
    """
    first, text = command("--only", "topk", "pca")
    assert first == ["pca", "topk"]
    names = sorted(file.stem for file in examples().glob("*.toml") if file.stem != "synthetic")
    second, text = command()
    assert second == [name for name in names if name not in ("topk", "pca")]
    assert "| topk | 64 | 0.500 | 0.9000 | 32.0 | 25.0% | 3 |" in text
    assert sum(line.startswith("| ") for line in text.splitlines()) == len(names) + 2
    assert command()[0] == []
    assert command("--again", "topk")[0] == ["topk"]

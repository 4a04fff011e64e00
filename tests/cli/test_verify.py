"""`saecore verify`: one line per file, exit code 1 on damage."""

import shutil

import pytest
from click.testing import CliRunner

from saecore.cli import cli
from tests.faults.small import tables, whole, write_text


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with two checkpoints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAECORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        text = write_text(tmp_path_factory.mktemp("text"))
        return whole(tables(text, tmp_path_factory.mktemp("runs")))


def verified(directory):
    """Exit code and lines."""
    result = CliRunner().invoke(cli, ["verify", str(directory)])
    return result.exit_code, result.output.splitlines()


def test_a_whole_run(finished):
    """Every part of a finished run has a line."""
    code, lines = verified(finished)
    assert code == 0
    parts = ["experiment.json", "step-00000008", "step-00000012", "metrics.jsonl",
             "evaluation.json", "sae"]  # fmt: skip
    assert len(lines) == len(parts)
    for line, part in zip(lines, parts, strict=True):
        assert line.startswith(f"ok  {finished}")
        assert part in line


FILES = [
    "experiment.json", "metrics.jsonl", "evaluation.json", "sae/cfg.json",
    "sae/sae_weights.safetensors", "sae/sparsity.safetensors",
    "checkpoints/step-00000008/manifest.json", "checkpoints/step-00000012/state.json",
]  # fmt: skip


OPTIONAL = ("evaluation.json", "sae/sparsity.safetensors")
"""An unfinished run has no results, and sparsity need not be there."""


@pytest.mark.parametrize(
    ("name", "damage"),
    [(name, "cut") for name in FILES] + [(name, "gone") for name in FILES if name not in OPTIONAL],
)
def test_damage(finished, tmp_path, name, damage):
    """A file that is cut off or gone gives one line that names it, or what it belongs to."""
    directory = tmp_path / "run"
    shutil.copytree(finished, directory)
    file = directory / name
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    code, lines = verified(directory)
    assert code == 1
    (damaged,) = [line for line in lines if line.startswith("DAMAGED")]
    place = name.split("/")[0] if name.startswith("sae/") else name.rpartition("/")[0] or name
    assert f"{directory / place}" in damaged


def test_not_a_run(tmp_path):
    """A directory that is not a run's is a typed error."""
    result = CliRunner().invoke(cli, ["verify", str(tmp_path)])
    assert "not a run" in str(result.exception)


def test_the_parent_of_runs(tmp_path):
    """A directory of runs is refused with the runs below it, whichever level it is."""
    for number in range(6):
        (tmp_path / "small" / f"r{number}").mkdir(parents=True)
        (tmp_path / "small" / f"r{number}" / "experiment.json").write_text("{}")
    listed = ", ".join(str(tmp_path / "small" / f"r{number}") for number in range(5))
    for place in (tmp_path / "small", tmp_path):
        result = CliRunner().invoke(cli, ["verify", str(place)])
        assert str(result.exception) == (
            f"{place}: not a run's directory, but runs are below it; give one of them: {listed}, …"
        )
    (tmp_path / "other").mkdir()
    result = CliRunner().invoke(cli, ["verify", str(tmp_path / "other")])
    assert str(result.exception) == (
        f"{tmp_path}/other: not a run's directory (it has no experiment.json)"
    )

"""Sweeps on the command line: `show`, `run` and its exit code, `check`."""

import json

import pytest
from click.testing import CliRunner

from saecore.cli import cli
from tests.faults.small import write_text
from tests.sweeps.small import sweep_file

POINTS = [
    {"sae.k": 2},
    {"sae.k": 3, "model.hook": "blocks.0.hook_nonesuch"},
    {"sae.k": 4, "buffer.tokens": 512},
]
SETTINGS = {"evaluator": [], "training": {"tokens": 128}}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Token files in a directory of the tests' own."""
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def file(tmp_path):
    """A sweep of three points: one whose hook does not exist, one on a stream of its own."""
    return sweep_file(write_text(tmp_path / "text"), tmp_path, POINTS, SETTINGS)


def invoke(*args):
    """What a command gives."""
    return CliRunner().invoke(cli, list(map(str, args)))


def test_show(file, tmp_path):
    """The points with their streams; one of them as a file that runs alone; JSON; unknown names."""
    done = invoke("show", file)
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[0].startswith("several: 3 points on 2 streams, runs in ")
    assert lines[1].split()[0] == "k2-blocks.0.hook_resid_post-tokens256"[:2]
    assert lines[3].startswith("apart, buffer.tokens is 512 and 256 in ")
    assert [one["stream"] for one in json.loads(invoke("show", file, "--json").output)] == [1, 1, 2]
    alone = tmp_path / "alone.toml"
    alone.write_text(invoke("show", file, "k2").output)
    assert "k = 2" in invoke("show", alone).output
    assert "k = 2" in alone.read_text()
    assert "did you mean" in str(invoke("show", file, "k22").exception)
    assert "leave it out" in str(invoke("show", alone, "k2").exception)


def test_run_tells_by_its_exit_code(file):
    """A point that fails is named and the exit code is 1, the others finish; given again, they are
    skipped; --resume is refused.
    """
    done = invoke("run", file)
    assert done.exit_code == 1
    assert "2 of 3 points are finished" in done.output
    assert "hook_nonesuch" in done.stderr
    assert "report.html" in done.output
    again = invoke("run", file)
    assert again.output.count("finished before: ") == 2
    assert "--resume" in str(invoke("run", file, "--resume").exception)
    runs = invoke("runs", "--output", file.parent / "runs").output.splitlines()
    assert sum("topk" in line for line in runs) == 2


def test_check(file):
    """Problems of points, memory and time of what is trained side by side, and an exit code."""
    done = invoke("check", file)
    assert done.exit_code == 1
    assert "several: 3 points, all valid" in done.output
    assert "of training" in done.output
    assert "hook_nonesuch" in done.output
    plain = invoke("check", file, "--no-measure")
    assert plain.exit_code == 0
    assert "of training" not in plain.output

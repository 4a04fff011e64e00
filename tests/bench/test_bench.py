"""The measurements' own machinery: turns, results that are kept, and what counts as a miss."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import cases, figures, record, rounds, tables
from tests.bench.rounds import Contender

ROOT = Path(__file__).parents[2]
SMALL = cases.Shape(8, 64, 16, 4)


def test_contenders_take_turns_in_processes_of_their_own(tmp_path):
    """The floor and our own training step are timed step by step, with the same number of steps
    each, memory and versions; who cannot run says why and holds nobody up.
    """
    found = rounds.measure(
        [
            *cases.contenders("topk", SMALL, {"plain": "reference"})[:2],
            Contender("absent", "with_saelens", {}, "saelens"),
            Contender("broken", "floor", {"d_in": 8}),
        ],
        tmp_path,
        rounds=3,
        seconds=60,
    )
    assert [len(found[name]["ms"]) for name in ("floor", "plain")] == [3, 3]
    assert found["plain"]["peak_mib"] > 50
    assert found["plain"]["versions"]["torch"]
    assert "peers.sh" in found["absent"]["failed"]
    assert "d_sae" in found["broken"]["failed"]
    assert rounds.ratio(found, "plain", "floor") > 0
    assert rounds.ratio(found, "absent", "floor") is None


@pytest.mark.parametrize("kind", cases.KINDS)
def test_everyone_begins_with_the_same_density(kind):
    """SAELens' settings and ours name the same architecture, and a threshold or bias that leaves
    2k latents a token, or half of them in the dense case.
    """
    theirs, ours, biases = cases.settings(kind, cases.SHAPES[0])
    assert theirs["architecture"] == ours["architecture"] == kind.split()[0]
    bar = {**theirs, **{name: -value for name, value in biases.items()}}
    thresholds = [
        bar[name] for name in ("jumprelu_init_threshold", "b_gate", "b_enc") if name in bar
    ]
    if kind in ("jumprelu", "gated", "standard sparse"):
        assert thresholds == [pytest.approx(0.2418, abs=1e-3)]  # 2.418 standard deviations
    else:
        assert thresholds == []


def test_results_are_kept_case_by_case(tmp_path, capsys):
    """A case that has been measured is left out the next time; what is kept names the machine's
    processor and the load, never a host or a path.
    """
    file = tmp_path / "step.json"
    results = record.Results(file)
    assert list(results.missing(["a", "b"])) == ["a", "b"]
    results.add("a", {"ms": 1}, record.load())
    assert list(record.Results(file).missing(["a", "b"])) == ["b"]
    assert "a: measured" in capsys.readouterr().out
    repeated = record.Results(file, again=True, only=("b",))
    assert list(repeated.missing(["a", "b"])) == ["b"]
    repeated.add("b", {"ms": 2}, record.load())
    assert list(record.Results(file, again=True).missing(["a", "b"])) == ["a", "b"]
    assert set(json.loads(file.read_text())["cases"]) == {"a", "b"}  # others stay
    kept = json.loads(file.read_text())["cases"]["a"]
    assert kept["machine"]["cpu"]
    assert len(kept["load_before"]) == len(kept["load_after"]) == 3
    assert str(tmp_path) not in file.read_text()


def test_a_miss_is_called_one():
    """Reaching the aim, reaching what is required, missing it, and not having been measured."""
    speed, memory = figures.STEP["topk 512", "saelens"], figures.MEMORY
    assert figures.verdict(speed, "plain", 12.5) == "aim met (12)"
    assert figures.verdict(speed, "plain", 4.1).startswith("met (4")
    assert figures.verdict(speed, "accelerated", 4.1) == "MISS (at least 6 wanted)"
    assert figures.verdict(memory, "plain", 0.46) == "MISS (at most 0.45 wanted)"
    assert figures.verdict(memory, "plain", 0.3).startswith("aim met")
    assert figures.verdict(speed, "plain", None) == "not run"


def test_the_command_explains_itself_without_torch():
    """`python -m tests.bench --help` names all measurements, and the parent of the contenders
    never imports torch: its size would count as theirs.
    """
    code = (
        "import runpy, sys\n"
        "sys.argv = ['tests.bench', 'step', '--help']\n"
        "try: runpy.run_module('tests.bench', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    for name in ("step", "harvest", "run", "growth", "startup", "gpu"):
        assert name in done.stdout


def test_the_page_has_the_committed_results(tmp_path):
    """docs/explanation/performance.md is what `python -m tests.bench tables` writes; without
    results every figure says that it was not run.
    """
    text = tables.PAGE.read_text(encoding="utf-8")
    assert text == tables.filled(text, record.RESULTS)
    empty = tables.tables(tmp_path)
    assert "MISS" not in empty
    assert empty.count("not run") > 100

"""A run that was stopped and resumed ends with the bits of one that was not."""

import json

import pytest

from saecore.config import structure_experiment
from saecore.errors import CheckpointError
from saecore.runs.run import run
from saecore.storage import checkpoint
from tests.faults.small import (
    BATCH,
    STEPS,
    Killed,
    differences,
    interrupted,
    killed_in_step,
    lines,
    minimal,
    names,
    only_run,
    tables,
    whole,
    write_text,
)

KINDS = ("architecture", "normalizer", "dead_latents", "optimizer", "schedule")
"""What has state, or decides what a step does."""


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Small text files."""
    return write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Token files in a directory of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAECORE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="module")
def reference(text, tmp_path_factory):
    """An uninterrupted run."""
    return whole(tables(text, tmp_path_factory.mktemp("whole")))


@pytest.mark.parametrize(
    "steps",
    [(0,), (1,), (3,), (4,), (5,), (11,), (5, 9), (5, 6, 10), (9, 9, 9)],
    ids=lambda steps: "-".join(map(str, steps)),
)
def test_resumed_runs_end_with_the_same_bits(text, tmp_path, reference, steps):
    """Killed before the first step, at the interval and ±1, in the last step; twice, thrice, and
    thrice at one place: weights, counters, every logged figure and every step number are the same.
    """
    directory = interrupted(tables(text, tmp_path), *steps)
    assert differences(directory, reference) == []
    logged = [line["step"] for line in lines(directory) if "metrics/l0" in line]
    assert logged == list(range(1, STEPS + 1))
    assert [path.name for path in sorted((directory / "checkpoints").iterdir())] == [
        "step-00000008",
        "step-00000012",
    ]


def test_killed_after_the_last_step(text, tmp_path, monkeypatch):
    """Killed when everything is trained and nothing saved but the last checkpoint, in the middle of
    a metric window: the resume logs the rest of the window, saves and evaluates.
    """
    from saecore import SAE

    every = {"log_every_steps": 5, "checkpoint": {"every_steps": 4}}
    reference = whole(tables(text, tmp_path / "a", training=every))
    base = tables(text, tmp_path / "b", training=every)

    def dying(self, *args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(SAE, "save_model", dying)
        with pytest.raises(Killed):
            run(structure_experiment(base))
    assert differences(interrupted(base), reference) == []
    steps = [line["step"] for line in lines(reference) if "metrics/l0" in line]
    assert steps == [5, 10, 12]


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in KINDS for name in names(kind) if name != "temporal"],
)
def test_every_component_resumes(text, tmp_path, kind, name):
    """Whatever is installed: twice interrupted, over two epochs, with a cut-off metric window, it
    ends with the bits of the uninterrupted run.

    A temporal SAE is not trained.
    """
    if name == "adam8bit":
        pytest.importorskip("bitsandbytes")
    table = minimal(kind, name)
    base = tables(text, tmp_path / "a")
    base["training"].update({"log_every_steps": 5, "accumulate": 2})
    base["dataset"].update({"epochs": 2, "seed": 3})
    base["evaluation"] = {"tokens": 0}
    if kind == "architecture":
        base["sae"] = {"d_sae": 96, **table, "normalizer": base["sae"]["normalizer"]}
        if name == "clt":
            hooks = ["blocks.0.hook_resid_mid", "blocks.1.hook_resid_mid"]
            targets = ["blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out"]
            del base["model"]["hook"]
            base["model"].update({"hooks": hooks, "target_hooks": targets})
    elif kind in ("normalizer", "dead_latents"):
        base["sae"][kind] = table
    else:
        base["training"]["lr_schedule" if kind == "schedule" else kind] = table
    reference = whole(base)
    base["output"] = str(tmp_path / "b")
    assert differences(interrupted(base, 6, 10), reference) == []


def test_a_finished_run_says_so(text, tmp_path, reference):
    """Resuming what has ended trains nothing and gives its results again."""
    experiment = structure_experiment(tables(text, reference.parent.parent))
    before = (reference / "metrics.jsonl").read_bytes()
    result = run(experiment, resume=True)
    assert result.before
    assert result.directory == reference
    assert result.metrics["metrics/l0"] > 0
    assert run(experiment, resume=reference.name).before
    assert (reference / "metrics.jsonl").read_bytes() == before


def test_the_newest_unfinished_run_is_taken(text, tmp_path):
    """Of several runs of a name, finished ones are passed over; an id or directory picks one."""
    base = tables(text, tmp_path)
    finished = whole(base)
    for step in (5, 7):
        with killed_in_step(step), pytest.raises(Killed):
            run(structure_experiment(base))
    runs = sorted(
        finished.parent.iterdir(), key=lambda one: (one / "experiment.json").stat().st_mtime
    )
    first, second = [one for one in runs if one != finished]
    assert run(structure_experiment(base), resume=True).directory == second
    assert run(structure_experiment(base), resume=first.name).directory == first
    assert differences(first, second) == differences(first, finished) == []
    assert run(structure_experiment(base), resume=first).before
    with pytest.raises(CheckpointError, match="nor the id of a run"):
        run(structure_experiment(base), resume="../small")


def test_no_run_yet(text, tmp_path, capsys):
    """Where there is nothing to resume, a run begins: a job script can always say --resume."""
    base = tables(text, tmp_path, training={"tokens": 2 * BATCH})
    assert not run(structure_experiment(base), resume=True).before
    assert "to resume; starting a new one" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["flip", "delete", "manifest"])
def test_damaged_checkpoints_are_named_and_passed_over(text, tmp_path, reference, capsys, damage):
    """The newest checkpoint is damaged: named with the reason, put aside, and the one before is
    used; the result is the same.
    """
    base = tables(text, tmp_path)
    with killed_in_step(10), pytest.raises(Killed):
        run(structure_experiment(base))
    newest = checkpoint.checkpoints(only_run(base) / "checkpoints")[-1]
    file = newest / ("manifest.json" if damage == "manifest" else "optimizer.safetensors")
    if damage == "delete":
        file.unlink()
    else:
        data = bytearray(file.read_bytes())
        data[-40] ^= 4
        file.write_bytes(data)
    assert differences(interrupted(base), reference) == []
    told = capsys.readouterr()
    assert f"checkpoint rejected: {newest}" in told.err
    assert "from step-00000004" in told.out
    kept = sorted(path.name for path in newest.parent.iterdir())
    assert kept == ["rejected-step-00000008", "step-00000008", "step-00000012"]


def test_nothing_valid_left(text, tmp_path):
    """With checkpoints of which none is valid the run is left alone and the error says so."""
    base = tables(text, tmp_path)
    with killed_in_step(10), pytest.raises(Killed):
        run(structure_experiment(base))
    for path in checkpoint.checkpoints(only_run(base) / "checkpoints"):
        (path / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="none of its 2 checkpoints is valid"):
        run(structure_experiment(base), resume=True)


def test_half_written_files_are_cleaned_up(text, tmp_path, reference):
    """What a killed process left behind is gone after the resume."""
    base = tables(text, tmp_path)
    with killed_in_step(6), pytest.raises(Killed):
        run(structure_experiment(base))
    directory = only_run(base)
    left = [
        directory / "checkpoints" / ".tmp-00000008-1",
        directory / "checkpoints" / ".del-step-1",
    ]
    for path in left:
        path.mkdir()
        (path / "model.safetensors").write_bytes(b"half")
    (directory / ".tmp-experiment.json-1-0").write_text("{")
    assert differences(interrupted(base), reference) == []
    assert not [path for path in directory.rglob(".*") if path.name != ".lock"]


def test_what_may_change(text, tmp_path, reference):
    """Evaluation, loggers and checkpoints may be others in the resumed part."""
    base = tables(text, tmp_path)
    with killed_in_step(6), pytest.raises(Killed):
        run(structure_experiment(base))
    base["training"]["checkpoint"] = {"count": 3, "keep": 5}
    base["logger"] = [{"type": "console", "every_seconds": 1}]
    directory = interrupted(base)
    assert differences(directory, reference) == []
    found = [path.name for path in checkpoint.checkpoints(directory / "checkpoints")]
    assert found == ["step-00000004", "step-00000008", "step-00000012"]


def test_what_may_not_change(text, tmp_path):
    """Any other key is refused, all of them listed with both values, and nothing is touched."""
    base = tables(text, tmp_path)
    with killed_in_step(6), pytest.raises(Killed):
        run(structure_experiment(base))
    before = (only_run(base) / "metrics.jsonl").read_bytes()
    base["sae"]["k"], base["training"]["lr"] = 5, 0.1
    with pytest.raises(CheckpointError) as error:
        run(structure_experiment(base), resume=True)
    assert "sae.k (4 in the run, 5 now); training.lr (0.001 in the run, 0.1 now)" in str(
        error.value
    )
    base = tables(text, tmp_path, training={"tokens": 5 * BATCH})
    with pytest.raises(CheckpointError, match=r"training\.tokens .* may only grow"):
        run(structure_experiment(base), resume=True)
    assert (only_run(base) / "metrics.jsonl").read_bytes() == before


def test_other_text_is_refused(text, tmp_path):
    """The files of the dataset have changed since: refused, as other tokens would come."""
    own = write_text(tmp_path / "text")
    base = tables(own, tmp_path)
    with killed_in_step(6), pytest.raises(Killed):
        run(structure_experiment(base))
    (own / "0.txt").write_text("something else entirely\n" * 50)
    with pytest.raises(CheckpointError, match="the text has changed"):
        run(structure_experiment(base), resume=True)


@pytest.mark.parametrize("stop", [None, 6])
def test_more_tokens_where_that_is_exact(text, tmp_path, stop):
    """A constant schedule lets a run grow, stopped in the middle or finished: the bits are those
    of a run that was longer from the beginning.
    """
    constant = {"log_every_steps": 5, "lr_schedule": {"type": "constant", "warm_up_steps": 3}}
    longer = {**constant, "tokens": 20 * BATCH}
    reference = whole(tables(text, tmp_path / "a", training=longer))
    base = tables(text, tmp_path / "b", training=constant)
    if stop is None:
        whole(base)
    else:
        with killed_in_step(stop), pytest.raises(Killed):
            run(structure_experiment(base))
    base = tables(text, tmp_path / "b", training=longer)
    assert differences(interrupted(base, 15), reference) == []


def test_more_tokens_where_that_is_not_exact(text, tmp_path):
    """Refused where a step that is done would have had another learning rate, naming schedule and
    step; nothing is changed.
    """
    cosine = {"lr_schedule": {"type": "cosineannealing"}}
    base = tables(text, tmp_path, training=cosine)
    directory = whole(base)
    base["training"]["tokens"] = 20 * BATCH
    with pytest.raises(CheckpointError, match=r"training\.lr_schedule depends .* step 1, .* of 12"):
        run(structure_experiment(base), resume=True)
    assert (directory / "evaluation.json").exists()


def test_one_process_per_run(text, tmp_path):
    """A second process that wants the same run is told who has it."""
    from saecore.storage.lock import locked

    base = tables(text, tmp_path)
    with killed_in_step(6), pytest.raises(Killed):
        run(structure_experiment(base))
    with locked(only_run(base), "wait"), pytest.raises(CheckpointError, match="in use by process"):
        run(structure_experiment(base), resume=True)


def test_records_of_older_versions(text, tmp_path, reference):
    """A setting that did not exist when the run began takes its default; a damaged record is a
    typed error.
    """
    base = tables(text, tmp_path)
    with killed_in_step(6), pytest.raises(Killed):
        run(structure_experiment(base))
    file = only_run(base) / "experiment.json"
    record = json.loads(file.read_text())
    del record["experiment"]["training"]["bad_numbers"]
    file.write_text(json.dumps(record))
    assert differences(interrupted(base), reference) == []
    (file.parent / "evaluation.json").unlink()
    file.write_text("[]")
    with pytest.raises(CheckpointError, match="not the record of a run"):
        run(structure_experiment(base), resume=True)


def test_checkpoints_by_time_and_count(text, tmp_path):
    """`count` spreads checkpoints evenly; `every_minutes` counts from the last one; by default
    there is one at the end; with every_minutes = 0 there is none.
    """
    from saecore.config.training import CheckpointTable
    from saecore.runs.loop import Due

    due = Due(CheckpointTable(count=3, every_minutes=0), 10)
    assert [step for step in range(11) if due(step)] == [3, 6, 10]
    assert all(Due(CheckpointTable(every_minutes=1e-9), 10)(step) for step in range(3))
    assert not Due(CheckpointTable(), 10)(10)
    for minutes, expected in ((10, 1), (0, 0)):
        table = {"checkpoint": {"every_minutes": minutes}, "tokens": 2 * BATCH}
        base = tables(text, tmp_path / str(minutes))
        base["training"].update(table)
        found = checkpoint.checkpoints(whole(base) / "checkpoints")
        assert len(found) == expected

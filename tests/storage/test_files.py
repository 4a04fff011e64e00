"""Errors of files and locks: the right class, and advice that fits the caller."""

import pytest

from saecore.errors import CheckpointError, SaecoreError, StorageError
from saecore.storage.files import checkpoint_errors, write_json
from saecore.storage.lock import locked
from saecore.storage.run_directory import RunDirectory, find_runs, make_writable


@pytest.fixture
def blocked(tmp_path):
    """A path below a file, where nothing can be written."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "x.json"


def test_only_files_of_runs_raise_checkpoint_errors(blocked):
    """A plot or a cache that cannot be written is no matter of checkpoints; a run's files are."""
    with pytest.raises(StorageError, match="set output to") as caught:
        write_json(blocked, {})
    assert not isinstance(caught.value, CheckpointError)
    with pytest.raises(CheckpointError, match="set output to") as caught, checkpoint_errors():
        write_json(blocked, {})
    assert isinstance(caught.value.__cause__, OSError)
    for write in (RunDirectory(blocked).write_record, RunDirectory(blocked).write_result):
        with pytest.raises(CheckpointError, match="cannot be written"):
            write({})
    with pytest.raises(CheckpointError, match="cannot be written"):
        make_writable(blocked)


def test_a_lock_gives_the_advice_of_its_caller(tmp_path):
    """What to do instead of waiting depends on what is locked; --resume is for runs only."""
    second = locked(tmp_path, "write to another directory")
    with locked(tmp_path, "x"), pytest.raises(StorageError) as caught, second:
        pass
    assert str(caught.value).endswith("until it has ended, or write to another directory")
    assert "--resume" not in str(caught.value)
    run = RunDirectory.create(tmp_path)
    with run.locked(), pytest.raises(CheckpointError, match=r"in use by .*--resume"), run.locked():
        pass


def test_a_run_directory_knows_its_files(tmp_path):
    """Records are read as they were written; a run is found, and finished once it has results."""
    run = RunDirectory.create(make_writable(tmp_path / "name"))
    assert not run.is_run
    run.write_record({"experiment": {"name": "name"}})
    assert run.is_run
    assert not run.is_finished
    run.write_result({"figures": {}, "training": {"seconds": 1.0}})
    run.metrics_file.write_text('{"step": 1}\n{"step": 2}\n')
    assert run.is_finished
    assert run.read_record() == {"experiment": {"name": "name"}}
    assert run.read_result()["training"] == {"seconds": 1.0}
    assert [line["step"] for line in run.read_metrics()] == [1, 2]
    assert find_runs(tmp_path / "name") == find_runs(tmp_path, depths=(1, 2, 3)) == [run]
    assert run.checkpoints() == []
    run.reopen()
    assert not run.is_finished


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"experiment": 3, "figures": 3}'])
def test_damaged_files_are_typed_errors(tmp_path, text):
    """The message names the file."""
    run = RunDirectory(tmp_path)
    for file, read in (
        (run.record_file, run.read_record),
        (run.result_file, run.read_result),
    ):
        with pytest.raises(SaecoreError, match="cannot be read"):
            read()
        file.write_text(text)
        with pytest.raises(CheckpointError, match=file.name):
            read()

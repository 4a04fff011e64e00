"""Checkpoints: whole or not there, checked on reading, exact when trained on from."""

import json
import os

import pytest
import torch

from saecore.errors import CheckpointError
from saecore.storage import checkpoint, files
from tests.training.test_trainer import trainer


def state_after(steps):
    """A trainer after some steps."""
    one = trainer("topk", {"type": "expected_average_only_in", "tokens": 100})
    one.prepare()
    for _ in range(steps):
        one.step()
    return one


def test_training_goes_on_from_a_file_with_the_same_bits(tmp_path):
    """State written, read and trained on from equals an uninterrupted run, bit by bit."""
    whole = state_after(5)
    path = checkpoint.save(tmp_path, 5, whole.state_dict(), keep=2)
    resumed = trainer("topk", {"type": "expected_average_only_in", "tokens": 100})
    resumed.load_state_dict(checkpoint.load(path))
    for _ in range(7):
        whole.step()
        resumed.step()
    for name, tensor in whole.sae.state_dict().items():
        assert torch.equal(resumed.sae.state_dict()[name], tensor), name
    assert resumed.read_metrics() == whole.read_metrics()


def test_the_newest_are_kept(tmp_path):
    """Older checkpoints than asked for are deleted; nothing else is left behind."""
    state = {"x": torch.ones(3), "n": {1: [2.5, None, True]}}
    for step in (1, 2, 3, 10):
        checkpoint.save(tmp_path, step, state, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003", "step-00000010"]
    again = checkpoint.load(tmp_path / "step-00000010")
    assert torch.equal(again["x"], state["x"])
    assert again["n"] == {1: [2.5, None, True]}


@pytest.mark.parametrize("name", [*checkpoint.FILES, "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_damage_is_seen(tmp_path, name, damage):
    """A file that is changed, shortened or gone makes the checkpoint invalid, with its name."""
    path = checkpoint.save(tmp_path, 1, {"x": torch.ones(3), "optimizer": {"m": torch.ones(2)}}, 2)
    file = path / name
    data = bytearray(file.read_bytes())
    if damage == "delete":
        file.unlink()
    else:
        data[len(data) // 2] ^= 1
        file.write_bytes(data if damage == "flip" else data[:-3])
    with pytest.raises(CheckpointError, match=str(path)):
        checkpoint.load(path)


def test_a_manifest_of_other_files_is_refused(tmp_path):
    """A manifest edited by hand no longer matches its own hash."""
    path = checkpoint.save(tmp_path, 1, {"x": torch.ones(3)}, 2)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["files"]["state.json"]
    (path / "manifest.json").write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")))
    with pytest.raises(CheckpointError, match="has changed"):
        checkpoint.load(path)


def test_a_full_disk_leaves_earlier_checkpoints(tmp_path, monkeypatch):
    """No space in the middle of a save: a typed error, nothing half-made, the old one valid."""
    first = checkpoint.save(tmp_path, 1, {"x": torch.ones(3)}, 2)
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(CheckpointError, match="free some space"):
        checkpoint.save(tmp_path, 2, {"x": torch.zeros(3)}, 2)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    assert torch.equal(checkpoint.load(first)["x"], torch.ones(3))

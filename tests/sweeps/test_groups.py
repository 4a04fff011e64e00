"""Which points share a stream, which run apart and why, and how many fit into memory together."""

import attrs
import pytest

from saecore.config.load import load
from saecore.runs.planning.plan import MemoryItem
from saecore.sweeps import shared_inputs
from saecore.sweeps.groups import groups
from tests.faults.small import write_text
from tests.sweeps.small import POINTS, sweep_of


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Small text files."""
    return write_text(tmp_path_factory.mktemp("text"))


def test_what_is_shared_and_what_is_not(text, tmp_path):
    """Hooks, SAE and training may differ; model, dataset, buffer, and training through the model
    put a point apart, with the setting named.
    """
    points = [
        *POINTS,
        {"name": "buffer", "buffer.tokens": 512},
        {"name": "head", "model.head": 1, "model.hook": "blocks.0.attn.hook_z"},
        {"name": "same-buffer", "buffer.tokens": 512, "sae.k": 2},
        {"name": "ce", "training.loss": "ce", "sae.normalizer": "none"},
    ]
    found = groups(sweep_of(text, tmp_path, points).points)
    shared = [[one.name for one in group.points] for group in found]
    first = [one["name"] for one in POINTS]
    assert shared == [first, ["buffer", "same-buffer"], ["head"], ["ce"]]
    assert [one.apart for one in found] == [
        "",
        "buffer.tokens is 512 and 256 in base",
        "model.head is 1 and not set in base",
        'training.loss = "ce" runs the model with its own reconstructions',
    ]


def test_activations_of_a_dataset_have_no_forward(tmp_path):
    """Synthetic points run one by one."""
    file = tmp_path / "s.toml"
    file.write_text(
        '[dataset]\ntype = "synthetic"\nfeatures = 16\nd_in = 8\n'
        '[sae]\narchitecture = "topk"\nd_sae = 8\n'
        "[training]\ntokens = 10_000\n[sweep]\nsae.k = [1, 2]\n"
    )
    found = groups(load(file).points)
    assert [len(one.points) for one in found] == [1, 1]
    assert "no forward pass to share" in found[1].apart


def test_points_that_do_not_fit_together(text, tmp_path, monkeypatch):
    """With memory for two SAEs of the size, four points are trained two at a time; the memory of
    the model is counted once, that of each SAE for itself.
    """
    points = sweep_of(text, tmp_path, [{"sae.k": k} for k in (1, 2, 3, 4)]).points
    real = shared_inputs.make_plan

    def scarce(*args):
        plan = real(*args)
        weights = dict.fromkeys(("SAE", "gradients"), MemoryItem(2**30))
        memory = {
            **plan.memory,
            **weights,
            "program": MemoryItem(2**30),
            "model": MemoryItem(2**30),
        }
        return attrs.evolve(plan, memory=memory, limit=7 * 2**30)

    monkeypatch.setattr(shared_inputs, "make_plan", scarce)
    from saecore.runs.inputs import load_model

    shared = shared_inputs.SharedInputs(*load_model(points[0].experiment))
    batches, refused = shared_inputs.batches_that_fit(shared, points)
    assert refused == {}
    assert [[one.name for one in batch] for batch, _ in batches] == [["k1", "k2"], ["k3", "k4"]]
    assert 6 * 2**30 < batches[0][1].needed < 7 * 2**30

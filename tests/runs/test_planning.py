"""The plan of a run: what it counts, when it refuses, and what it says to lower."""

import re

import attrs
import pytest
import torch

from saecore.activations.build import sizes
from saecore.config import structure_experiment
from saecore.errors import ResourceError
from saecore.runs.planning.machine import _room, begin_peak, memory_limit, peak, resident
from saecore.runs.planning.memory import make_plan
from saecore.runs.planning.plan import (
    MemoryItem,
    MemoryKnob,
    Plan,
    as_tables,
    refuse_if_too_big,
    size,
)
from saecore.runs.planning.profile import measure

CPU = torch.device("cpu")
MB = 2**20


def tables(**sections):
    """A small experiment whose text is never read."""
    base = {
        "model": {"type": "tiny_lm", "hook": "blocks.1.hook_resid_post", "device": "cpu"},
        "dataset": {"type": "text_files", "paths": ["nonesuch"], "context_size": 32},
        "buffer": {"tokens": 4096, "model_batch_size": 8},
        "sae": {"architecture": "topk", "d_sae": 512, "k": 8},
        "training": {"tokens": 20_480, "batch_size": 512},
    }
    return {name: {**one, **sections.get(name, {})} for name, one in base.items()} | {
        name: one for name, one in sections.items() if name not in base
    }


@pytest.fixture(scope="module")
def backend():
    """The embedded model."""
    return structure_experiment(tables()).model.backend.build(CPU, torch.float32)


def planned(backend, **sections):
    """The plan of an experiment, and the experiment."""
    experiment = structure_experiment(tables(**sections))
    d_in, d_out = sizes(experiment, backend)
    return make_plan(experiment, backend, d_in, d_out, CPU), experiment


def plan_of(limit, **parts):
    """A plan with given parts `name=(bytes, key, value, least)`; nothing is held but for them."""
    memory = {name: MemoryItem(one[0], MemoryKnob(*one[1:])) for name, one in parts.items()}
    return Plan(
        tokens=100,
        steps=10,
        batch_size=10,
        fills=2,
        memory=memory,
        moments={"training": {"step": MemoryItem(0)}},
        limit=limit,
        device="cpu",
    )


@pytest.mark.parametrize("architecture", [{"architecture": "topk", "k": 8},
                                          {"architecture": "standard"}])  # fmt: skip
def test_weights_and_optimizer_are_counted_exactly(backend, architecture):
    """Weights, gradients and Adam's two averages are those of the SAE that would be trained."""
    wanted = tables()
    wanted["sae"] = {**architecture, "d_sae": 512}
    experiment = structure_experiment(wanted)
    plan = make_plan(experiment, backend, 256, 256, CPU)
    sae = experiment.sae.architecture.build(_shape(512))
    weights = sum(one.numel() * 4 for one in sae.parameters())
    assert plan.memory["SAE"].bytes == plan.memory["gradients"].bytes == weights
    assert plan.memory["optimizer"].bytes == pytest.approx(2 * weights, rel=1e-3)


def _shape(d_sae):
    from saecore import Shape

    return Shape(256, 256, d_sae, dtype=torch.float32, device=CPU)


def test_an_architecture_that_looks_at_values_can_be_planned(backend, monkeypatch):
    """One that cannot be built without memory counts as two matrices; it is not refused."""
    experiment = structure_experiment(tables())

    def build(self, shape):
        return float(torch.ones(1, device=shape.device))

    monkeypatch.setattr(type(experiment.sae.architecture), "build", build)
    from saecore.runs.planning.memory import _parameter_bytes

    assert sum(_parameter_bytes(experiment, 256, 256)) == 513 * 512 * 4


def test_window_is_counted_in_fills(backend):
    """Three fills of activations, ids and positions; one and a half where one fill is enough."""
    plan, _ = planned(backend)
    assert plan.memory["window"].bytes == 3 * 4096 * (256 * 4 + 16)
    assert (plan.steps, plan.tokens, plan.fills) == (40, 20_480, 6)
    small, _ = planned(backend, training={"tokens": 512})
    assert small.memory["window"].bytes == 3 * 4096 * (256 * 4 + 16) // 2
    assert small.fills == 1


def test_fills_are_those_that_the_window_runs(backend):
    """The number of fills in the plan is the number that reading the stream computes."""
    import numpy as np

    from saecore.activations.mixing_buffer import MixingBuffer, MixingBufferSettings
    from saecore.models.hook_site import HookSite

    for tokens in (512, 2048, 2560, 6144, 6656, 10_240):
        plan, _ = planned(backend, training={"tokens": tokens})
        contexts = np.zeros((1000, 32), dtype=np.int64)
        window = MixingBuffer(
            _Counting(),
            contexts,
            MixingBufferSettings(site=HookSite(hooks=("h",)), fill_tokens=4096),
        )
        for _ in range(plan.steps):
            window.next(512)
        assert plan.fills == window.backend.tokens // 4096, tokens


class _Counting:
    """A model that counts the tokens it has seen."""

    tokens = 0

    def activations(self, tokens, hooks):
        self.tokens += tokens.numel()
        return {name: torch.zeros(*tokens.shape, 1) for name in hooks}


def test_loggers_and_evaluators_say_what_they_hold(backend):
    """MLflow's library and the logits of an evaluation are part of the plan."""
    plan, _ = planned(backend, evaluator=[{"type": "loss_recovered", "batch_size": 64}])
    logits = 64 * 32 * backend.vocab_size * 4
    assert plan.moments["evaluation"]["evaluator"].bytes == 5 * logits
    assert plan.memory["loggers"].bytes == 0
    tracked, _ = planned(backend, logger=[{"type": "mlflow"}])
    assert tracked.memory["loggers"].bytes > 100 * MB
    without, _ = planned(backend, evaluation={"tokens": 0})
    assert without.moments["evaluation"]["evaluator"].bytes == 0


def test_saving_counts_one_tensor_at_a_time(backend):
    """Files are streamed: beside the exported SAE, saving holds a copy and three masks of
    the largest matrix, whenever checkpoints are written.
    """
    plain, _ = planned(backend)
    weights, matrix = plain.memory["SAE"].bytes, 512 * 256 * 4
    assert plain.moments["saving"]["published copy"].bytes == weights
    assert plain.moments["saving"]["copies"].bytes == matrix + 3 * 512 * 256
    for table in ({"every_steps": 10}, {"count": 3}, {"every_minutes": 0}):
        plan, _ = planned(backend, training={"checkpoint": table})
        assert plan.moments["saving"] == plain.moments["saving"]


def test_saving_holds_what_the_plan_says(tmp_path):
    """A checkpoint and the export of a wide SAE stay below the plan, and above half of it."""
    from saecore.runs.loop import check_finite
    from saecore.storage import checkpoint

    if not begin_peak(CPU):
        pytest.skip("this system does not tell")
    sae = structure_experiment(tables()).sae.architecture.build(_shape(64 * 1024))
    copies = 64 * 1024 * 256 * (4 + 3)
    moments = {name: torch.ones_like(one) for name, one in sae.state_dict().items()}
    state = {"sae": sae.state_dict(), "optimizer": moments}
    with torch.no_grad():
        for one in sae.parameters():
            one.zero_()  # memory that is only reserved is not resident
    before = resident()
    begin_peak(CPU)
    check_finite(sae, "here")
    checkpoint.save(tmp_path / "checkpoints", 1, state, 2)
    sae.save_model(tmp_path / "sae")
    held = peak(CPU) - before
    assert 0.5 < held / copies < 1.1


def test_a_plan_that_fits_passes(backend):
    """A small run on this machine is let through."""
    plan, _ = planned(backend)
    assert 0 < plan.needed < plan.limit
    refuse_if_too_big(plan)


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"sae": {"d_sae": 10**9}}, "sae.d_sae"),
        ({"sae": {"d_sae": None, "expansion_factor": 1e7}},
         "sae.expansion_factor"),
        ({"buffer": {"tokens": 10**10}}, "buffer.tokens"),
        ({"training": {"tokens": 10**10, "batch_size": 10**9}}, "training.batch_size"),
        ({"buffer": {"model_batch_size": 10**9}}, "buffer.model_batch_size"),
        ({"evaluator": [{"type": "reconstruction"}, {"type": "loss_recovered",
                                                     "batch_size": 10**9}]},
         "evaluator[1].batch_size"),
    ],
)  # fmt: skip
def test_what_cannot_fit_is_refused_with_a_number_that_fits(backend, sections, key):
    """One line names the value to lower; an experiment with the number it names passes."""
    experiment = tables(**sections)
    experiment["sae"] = {k: v for k, v in experiment["sae"].items() if v is not None}
    plan = make_plan(structure_experiment(experiment), backend, 256, 256, CPU)
    plan = attrs.evolve(plan, limit=2**33)
    with pytest.raises(ResourceError) as caught:
        refuse_if_too_big(plan)
    message = str(caught.value)
    assert "\n" not in message
    found = re.search(rf"lower {re.escape(key)} from [\d_.]+ to ([\d_.]+) ", message)
    assert found, message
    table, _, name = key.partition(".")
    table = experiment["evaluator"][1] if "[" in table else experiment[table]
    number = float(found[1].replace("_", ""))
    table[name] = number if name == "expansion_factor" else int(number)
    lowered = make_plan(structure_experiment(experiment), backend, 256, 256, CPU)
    refuse_if_too_big(attrs.evolve(lowered, limit=2**33))


def test_two_values_that_are_both_too_large():
    """Where no one value is enough, the two heaviest are named."""
    plan = plan_of(10, a=(100, "sae.d_sae", 8, 1), b=(90, "buffer.tokens", 8, 1))
    with pytest.raises(ResourceError, match=r"lower sae\.d_sae and buffer\.tokens, or take a sm"):
        refuse_if_too_big(plan)


def test_a_value_is_not_lowered_below_its_least():
    """A window cannot be smaller than a context; then another value is named."""
    plan = plan_of(
        10**8, a=(9 * 10**7, "buffer.tokens", 1000, 999), b=(2 * 10**7, "sae.d_sae", 650, 1)
    )
    with pytest.raises(ResourceError, match=r"lower sae\.d_sae from 650 to 160 "):
        refuse_if_too_big(plan)


def test_a_measurement_takes_the_place_of_rules_of_thumb(backend):
    """Time is steps times what a step and its tokens took; seen memory replaces the estimate."""
    plan, experiment = planned(backend, training={"tokens": 5120})
    assert plan.seconds is None
    seen = measure(experiment, backend, plan, CPU)
    known = plan.measured(seen)
    expected = 10 * (512 * seen.seconds_per_token + seen.seconds_per_step)
    assert known.seconds == pytest.approx(expected)
    assert known.seconds > 0
    for name, number in seen.memory.items():
        assert known.moments["training"][name].bytes == number
    assert as_tables(known)["time"]["seconds_per_step"] == seen.seconds_per_step


@pytest.mark.parametrize("hook", ["blocks.1.attn.hook_z", "blocks.1.hook_mlp_out"])
@pytest.mark.parametrize("head", [None, 3])
def test_measuring_reads_what_a_run_reads(backend, hook, head):
    """Heads are flattened, or one of them is taken, in the measurement as in a run."""
    if head is not None and "hook_z" not in hook:
        pytest.skip("this hook has no heads")
    model = {"hook": hook} if head is None else {"hook": hook, "head": head}
    plan, experiment = planned(backend, model=model, training={"tokens": 512})
    assert measure(experiment, backend, plan, CPU).seconds_per_step > 0


def test_several_hooks(backend):
    """A crosscoder's window holds every hook it reads, and its step can be measured."""
    base = tables(sae={"architecture": "crosscoder"}, training={"tokens": 512})
    del base["sae"]["k"]
    base["model"] = {"type": "tiny_lm", "device": "cpu",
                     "hooks": ["blocks.1.hook_resid_post", "blocks.2.hook_resid_post"]}  # fmt: skip
    experiment = structure_experiment(base)
    plan = make_plan(experiment, backend, *sizes(experiment, backend), CPU)
    assert plan.memory["window"].bytes == 3 * 4096 * (2 * 256 * 4 + 16) // 2
    assert measure(experiment, backend, plan, CPU).seconds_per_step > 0


def test_k_of_a_chosen_activation(backend):
    """An activation that is chosen in the experiment says how many latents are active."""
    steps = {}
    for name, activation in {"topk": {"type": "topk", "k": 8}, "relu": {"type": "relu"}}.items():
        base = tables(sae={"architecture": "transcoder", "activation": activation})
        del base["sae"]["k"]
        experiment = structure_experiment(base)
        steps[name] = make_plan(experiment, backend, 256, 256, CPU).moments["training"]["step"]
    # The difference is that of 8 and of half of 512 entries a token.
    assert steps["relu"].bytes - steps["topk"].bytes == 512 * (256 - 8) * 64


def test_several_targets(backend):
    """A cross-layer transcoder's window holds what is read and what is wanted."""
    base = tables(sae={"architecture": "clt"}, training={"tokens": 512})
    del base["sae"]["k"]
    base["model"] = {
        "type": "tiny_lm",
        "device": "cpu",
        "hooks": ["blocks.0.hook_resid_mid", "blocks.1.hook_resid_mid"],
        "target_hooks": ["blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out"],
    }
    experiment = structure_experiment(base)
    plan = make_plan(experiment, backend, *sizes(experiment, backend), CPU)
    assert plan.memory["window"].bytes == 3 * 4096 * (4 * 256 * 4 + 16) // 2
    assert plan.memory["SAE"].bytes == 4 * (512 * 256 + 512 + 512 * 512 + 512)
    assert measure(experiment, backend, plan, CPU).seconds_per_step > 0


def test_peak_memory_sees_what_was_freed():
    """The peak of a stretch of work counts memory that is no longer held at its end."""
    if not begin_peak(CPU):
        pytest.skip("this system does not tell")
    before = resident()
    block = torch.ones(16 * MB)
    del block
    assert peak(CPU) - before >= 60 * MB
    assert memory_limit(CPU) > 0


@pytest.mark.parametrize(
    ("limit", "rooms"), [("1000", [1000 - 600 + 50]), ("max", []), ("500", [0])]
)
def test_control_groups_limit_memory(tmp_path, limit, rooms):
    """What a container's control group leaves counts; cache that can be dropped is free."""
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.stat").write_text("anon 550\ninactive_file 50\n")
    assert list(_room(tmp_path, "memory.max", "memory.current")) == rooms
    assert list(_room(tmp_path / "nonesuch", "memory.max", "memory.current")) == []


def test_sizes_for_people():
    """Sizes read as MiB below one GiB and as GiB above."""
    assert (size(5 * MB), size(2**30 * 3 // 2)) == ("5 MiB", "1.5 GiB")

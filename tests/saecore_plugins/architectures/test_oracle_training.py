"""Training equals the recordings of the reference implementation, case by case."""

import json

import attrs
import pytest
import torch
from safetensors.torch import load_file

from saecore import SAE, Shape
from saecore.core.sae_config import Metadata
from saecore.core.step import Batch, StepContext
from saecore.plugins.host import current_host
from saecore.plugins.structure import structure_choice
from saecore.runs.export import reference_details
from saecore.training.trainer import Trainer, TrainerSettings
from tests.helpers import ListSource, assert_close

pytestmark = pytest.mark.oracle


def choice(kind, table):
    """A component with settings, as an experiment file would choose it."""
    return structure_choice(kind, table)


def pytest_generate_tests(metafunc):
    """One test for each recorded case of an architecture that is installed."""
    root = metafunc.config.getoption("--oracle") / "training"
    cases = []
    for path in sorted(root.glob("*/case.json")):
        architecture = json.loads(path.read_text())["architecture"]
        if architecture in current_host().names("architecture"):
            cases.append(path.parent)
    metafunc.parametrize("case", cases, ids=lambda path: path.name)


REFERENCE = {
    "gated": {"detach_aux": False},
    "batchtopk": {"threshold_bias_correction": False},
    "matryoshka_batchtopk": {"threshold_bias_correction": False},
}
"""Settings that select the reference's form where our default is another."""


class Case:
    """One recording, and our objects for its settings."""

    def __init__(self, path):
        self.path = path
        self.record = json.loads((path / "case.json").read_text())
        self.tensors = load_file(path / "tensors.safetensors")
        config = dict(self.record["config"])
        self.d_in, self.d_sae = config.pop("d_in"), config.pop("d_sae")
        self.norm = config.pop("normalize_activations", "none")
        self.auxk = config.pop("aux_loss_coefficient", 1.0)
        self.per_level = config.pop("use_matryoshka_aux_loss", False)
        for value in ("l1", "l0"):
            if f"{value}_warm_up_steps" in config:
                steps = config.pop(f"{value}_warm_up_steps")
                config[f"{value}_schedule"] = {"type": "constant", "warm_up_steps": steps}
        name = self.record["architecture"]
        architecture = {"architecture": name, **config, **REFERENCE.get(name, {})}
        shape = Shape(self.d_in, self.d_in, self.d_sae)
        self.sae = choice("architecture", architecture).build(shape)
        for name, ours in self.weights(self.sae).items():
            with torch.no_grad():
                ours.copy_(self.tensors[f"init/{name}"])

    def weights(self, sae):
        """Our tensors under the recorded names."""
        return {
            name.removeprefix("activation."): one
            for name, one in sae.state_dict(keep_vars=True).items()
            if name != "encoder"
        } | ({"W_enc": sae.W_enc} if "encoder" in sae.state_dict() else {})

    @property
    def dead_latents(self):
        """AuxK where the reference has it."""
        trainer = self.record["trainer"]
        tokens = trainer["dead_feature_window"] * trainer["batch"]
        if "topk" not in self.record["architecture"]:
            return choice("dead_latents", {"type": "none", "after_tokens": tokens}).build()
        table = {
            "type": "auxk",
            "after_tokens": tokens,
            "coefficient": self.auxk,
            "per_level": self.per_level,
        }
        return choice("dead_latents", table).build()


@pytest.fixture
def recording(case):
    """The case under test."""
    return Case(case)


def test_one_step(recording):
    """Features, reconstruction, every loss and every gradient of one forward and backward."""
    sae, tensors, record = recording.sae, recording.tensors, recording.record
    x = tensors["x"]
    normalizer = choice("normalizer", recording.norm).build()
    raw = Batch(x, x)
    batch, restore = normalizer.apply(raw), normalizer.restorer(raw)
    scheduled = {name: one.base for name, one in sae.scheduled().items()}
    context = StepContext(
        step=0,
        scheduled=scheduled,
        dead=tensors["dead"],
        targets=x,
        generator=lambda _: torch.Generator(),
        restore=restore,
    )
    if recording.norm == "layer_norm" or recording.norm == "constant_norm_rescale":
        normalizer.fold(sae)
    features = sae.encode(x)
    output = sae.training_step(batch, context)
    output.losses.update(recording.dead_latents.losses(sae, batch, output, context))
    output.total.backward()
    assert set(output.losses) == set(record["losses"])
    for name, value in record["losses"].items():
        assert_close(output.losses[name], value, name)
    assert_close(output.total, record["loss"], "loss")
    assert_close(features, tensors["feature_acts"], "features")
    assert_close(context.restored(output.reconstruction), tensors["sae_out"], "reconstruction")
    for name, ours in recording.weights(sae).items():
        if f"grad/{name}" in tensors:
            grad = sae.encoder.grad.t() if name == "W_enc" else ours.grad
            assert_close(grad, tensors[f"grad/{name}"], f"grad {name}")


def train(recording):
    """Train as recorded; returns the trainer and the losses of each step."""
    trainer_settings = recording.record["trainer"]
    optimizer = choice(
        "optimizer",
        {
            "type": "adam",
            "betas": trainer_settings["adam_betas"],
            "eps": trainer_settings["adam_eps"],
        },
    ).build(recording.sae.parameters(), trainer_settings["lr"])
    end = trainer_settings["lr_end"] / trainer_settings["lr"]
    schedule = {
        "type": trainer_settings["lr_scheduler_name"],
        "warm_up_steps": trainer_settings["lr_warm_up_steps"],
        "decay_steps": trainer_settings["lr_decay_steps"],
    }
    if schedule["type"] != "constant":
        schedule["end"] = end
    steps, size = trainer_settings["steps"], trainer_settings["batch"]
    batches = [recording.tensors[f"batch/{i}"] for i in range(steps)]
    settings = TrainerSettings(
        steps=steps,
        batch_size=size,
        lr=trainer_settings["lr"],
        clip_norm=trainer_settings["grad_clip_norm"],
    )
    normalizer = choice("normalizer", recording.norm).build()
    norm_batches = [one for name, one in sorted(recording.tensors.items()) if "norm_b" in name]
    if norm_batches:
        normalizer.estimate(Batch(one, one) for one in norm_batches)
    trainer = Trainer(
        recording.sae,
        ListSource(batches),
        optimizer,
        settings,
        lr_schedule=choice("schedule", schedule).build(),
        normalizer=normalizer,
        dead_latents=recording.dead_latents,
    )
    metrics = []
    for _ in range(steps):
        trainer.step()
        metrics.append(trainer.read_metrics())
    return trainer, metrics


def test_twelve_steps(recording):
    """Learning rates, losses step by step and the weights at the end of a run."""
    trainer, metrics = train(recording)
    for step, expected in enumerate(recording.record["losses_per_step"]):
        for name, value in expected.items():
            key = "losses/overall_loss" if name == "loss" else f"losses/{name}"
            assert_close(metrics[step][key], value, f"step {step} {name}")
        lr = recording.record["lr_per_step"][step]
        assert metrics[step]["details/current_learning_rate"] == pytest.approx(lr, rel=1e-9)
    result = trainer.sae
    trainer.normalizer.fold(result)
    for name, ours in recording.weights(result).items():
        assert_close(ours, recording.tensors[f"trained/{name}"], name)


def test_inference_form(recording):
    """The exported SAE has the recorded tensors, and the recorded features on new input."""
    trainer, _ = train(recording)
    result = trainer.export()
    saved = load_file(recording.path / "inference" / "sae_weights.safetensors")
    ours = recording.weights(result)
    assert set(ours) == set(saved)
    for name, tensor in saved.items():
        assert_close(ours[name], tensor, name)
    x = recording.tensors["x"]
    assert_close(result.encode(x), recording.tensors["inference/acts"], "features")
    assert_close(result(x), recording.tensors["inference/out"], "reconstruction")


@pytest.mark.parametrize("form", ["inference", "saved"])
def test_saved_config(recording, form, tmp_path):
    """cfg.json equals the recorded one, but for the versions of libraries."""
    trainer, _ = train(recording)
    norm = 1.0 if recording.record["architecture"] == "matching_pursuit" else 0.1
    sae = trainer.sae
    details = reference_details(sae, norm, trainer.dead_latents)
    if form == "inference":
        sae = trainer.export()
    else:
        trainer.normalizer.fold(sae)
    expected = json.loads((recording.path / form / "cfg.json").read_text())
    metadata = {
        "training_architecture": recording.record["architecture"],
        "training_architecture_details": details,
        **{key: expected["metadata"][key] for key in ("l0", "num_dead_features")},
    }
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata(metadata))
    sae.save_model(tmp_path)
    ours = json.loads((tmp_path / "cfg.json").read_text())
    for config in (ours, expected):
        for key in [key for key in config["metadata"] if key.endswith("_version")]:
            del config["metadata"][key]
    own = {"threshold_bias_correction", "random_widths"}  # settings that the reference lacks
    assert {key: one for key, one in ours.items() if key not in own} == expected


def test_saved_files_load(recording):
    """Directories that the reference saved load, training settings and all, and compute the
    same; what we save and load again is equal.
    """
    x = recording.tensors["x"]
    sae = SAE.load_from_disk(recording.path / "inference")
    assert_close(sae.encode(x), recording.tensors["inference/acts"], "features")
    assert_close(sae(x), recording.tensors["inference/out"], "reconstruction")
    if "topk_threshold" not in recording.tensors:  # of ours, only published ones are loaded
        trained = SAE.load_from_disk(recording.path / "saved")
        assert_close(trained.W_dec, recording.tensors["trained/W_dec"], "W_dec")

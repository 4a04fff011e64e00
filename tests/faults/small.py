"""The run that the fault tests interrupt: small, with everything that has state switched on."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path

import attrs
import torch

from saecore import SAE
from saecore.config import structure_experiment
from saecore.plugins.host import current_host
from saecore.runs.run import run
from saecore.training.trainer import Trainer

STEPS, BATCH = 12, 64


class Killed(BaseException):
    """Stands for the end of the process, where a test stays in it."""


def write_text(directory: Path, files: int = 12) -> Path:
    """Some small text files."""
    directory.mkdir(parents=True, exist_ok=True)
    for i in range(files):
        words = [f"def f{j % 17}(x{i}): return x{i} + {j * i % 23}\n" for j in range(60)]
        (directory / f"{i}.txt").write_text("".join(words))
    return directory


def tables(text: Path, output: Path, **sections) -> dict:
    """A small experiment; `sections` are laid over it, those that are tables key by key."""
    base = {
        "name": "small",
        "output": str(output),
        "model": {"type": "tiny_lm", "hook": "blocks.0.hook_resid_post", "device": "cpu"},
        "dataset": {"type": "text_files", "paths": [str(text)], "context_size": 32},
        "buffer": {"tokens": 256, "model_batch_size": 8},
        "sae": {
            "architecture": "topk",
            "d_sae": 96,
            "k": 4,
            "dead_latents": {"type": "auxk", "after_tokens": 200},
            "normalizer": {"type": "expected_average_only_in", "tokens": 128},
        },
        "training": {
            "tokens": STEPS * BATCH,
            "batch_size": BATCH,
            "lr": 1e-3,
            "lr_schedule": {"type": "constant", "warm_up_steps": 3, "decay_steps": 3},
            "log_every_steps": 1,
            "feature_sampling_window": 5,
            "checkpoint": {"every_steps": 4},
        },
        "evaluation": {"tokens": 64, "every_tokens": 300},
        "evaluator": [{"type": "reconstruction"}],
        "logger": [],
    }
    for name, value in sections.items():
        old = base.get(name)
        base[name] = {**old, **value} if isinstance(old, dict) else value
    return copy.deepcopy(base)


def whole(base: dict) -> Path:
    """The directory of an uninterrupted run."""
    return run(structure_experiment(base)).directory


def only_run(base: dict) -> Path:
    """The directory of the one run there is.

    A process that ends between making a directory and writing the record leaves an empty one, which
    is no run.
    """
    (record,) = Path(base["output"], base["name"]).glob("*/experiment.json")
    return record.parent


@contextlib.contextmanager
def killed_in_step(step: int):
    """Kill the process (as far as files can tell) when `step` steps are done."""
    real = Trainer.step

    def dying(self):
        if self.completed == step:
            raise Killed
        real(self)

    Trainer.step = dying
    try:
        yield
    finally:
        Trainer.step = real


def interrupted(base: dict, *steps: int) -> Path:
    """Run, be killed at each of these steps in turn, resume, and finish."""
    for step in steps:
        with killed_in_step(step), contextlib.suppress(Killed):
            run(structure_experiment(base), resume=True)
    run(structure_experiment(base), resume=True)
    return only_run(base)


def lines(directory: Path) -> list[dict]:
    """metrics.jsonl without the figures that tell the time."""
    return [
        {key: one for key, one in json.loads(line).items() if not key.startswith("performance/")}
        for line in (directory / "metrics.jsonl").read_text().splitlines()
    ]


def differences(one: Path, other: Path) -> list[str]:
    """What two finished runs do not have in common, to the last bit."""
    found = []
    first, second = (SAE.load_from_disk(path / "sae").state_dict() for path in (one, other))
    found += [name for name, tensor in first.items() if not torch.equal(tensor, second[name])]
    if lines(one) != lines(other):
        found.append("metrics.jsonl")
    for name in ("sae/sae_weights.safetensors", "sae/sparsity.safetensors"):
        if (one / name).read_bytes() != (other / name).read_bytes():
            found.append(name)
    figures = [
        json.loads((path / "evaluation.json").read_text())["figures"] for path in (one, other)
    ]
    return found + (["evaluation.json"] if figures[0] != figures[1] else [])


def names(kind: str) -> list[str]:
    """Every installed component of a kind."""
    return current_host().names(kind)


REQUIRED = {int: 4, float: 0.5}
"""What settings without a default get."""


EXTRA = {
    "identity": {"d_sae": 256},
    "matryoshka_batchtopk": {"matryoshka_widths": [24, 48, 96]},
}
"""What a component needs besides, by name."""


def minimal(kind: str, name: str) -> dict:
    """A table of a component in which every setting without a default has a small value."""
    config = current_host().component(kind, name).config
    hints = attrs.resolve_types(config) and attrs.fields(config)
    missing = [one for one in hints if one.default is attrs.NOTHING and one.init]
    tag = "architecture" if kind == "architecture" else "type"
    values = {one.name: REQUIRED[one.type] for one in missing if one.type in REQUIRED}
    if kind == "normalizer" and any(one.name == "tokens" for one in hints):
        values["tokens"] = 128
    return {tag: name, **values, **EXTRA.get(name, {})}

"""A sweep small enough for tests, and its points trained alone."""

import attrs
import tomli_w

from saecore.config.load import load
from saecore.runs.run import run
from tests.faults.small import tables

HOOKS = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_mid"]
PLAIN = {"sae.architecture": "topk", "sae.d_sae": 48, "sae.k": 4}
POINTS = [
    # As in the base: AuxK, a normalizer that reads the stream before training.
    {"name": "base"},
    {"name": "wide", "sae.d_sae": 128, "training.batch_size": 100, "seed": 3},
    {"name": "greedy", "training.batch_size": 300, "training.tokens": 900, "seed": 1},
    {
        "name": "jumprelu",
        "model.hook": HOOKS[1],
        "sae.architecture": "jumprelu",
        "sae.d_sae": 64,
        "sae.l0_coefficient": 1.0,
        "training.lr": 3e-3,
        "training.tokens": 512,
    },
    {
        "name": "batchtopk",
        **PLAIN,
        "sae.architecture": "batchtopk",
        "training.optimizer": "signum",
        "evaluation.every_tokens": 200,
    },
    {
        "name": "transcoder",
        "sae.architecture": "transcoder",
        "sae.d_sae": 48,
        "sae.activation": {"type": "topk", "k": 4},
        "model.target_hook": HOOKS[1],
        "training.log_every_steps": 5,
    },
]
"""Points of one stream that differ in everything in which they may."""


def nested(settings):
    """Dotted keys as tables."""
    result = {}
    for key, value in settings.items():
        *parents, last = key.split(".")
        inner = result
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return result


def sweep_file(text, tmp_path, points=(), settings=None, **top):
    """Write the base experiment with a `[[sweep]]` of points (or other top-level keys)."""
    base = tables(text, tmp_path / "runs", name="several", **(settings or {}))
    if base["model"]["hook"] is None:  # every point has its own
        del base["model"]["hook"]
    entries = {"sweep": [nested(one) for one in points]} if points else {}
    file = tmp_path / "several.toml"
    file.write_text(tomli_w.dumps({**base, **top, **entries}))
    return file


def sweep_of(text, tmp_path, points=(), settings=None, **top):
    """The sweep of such a file."""
    return load(sweep_file(text, tmp_path, points, settings, **top))


def alone(point, output):
    """The directory of the point's experiment, trained by itself."""
    return run(attrs.evolve(point.experiment, output=str(output))).directory

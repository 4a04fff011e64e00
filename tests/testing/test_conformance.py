"""Every installed plugin keeps its contract: what is registered later comes under it by itself."""

import pytest

from saecore.plugins.host import Host
from saecore.testing import CHECKS, check_component

SETTINGS = {
    "activation.abstopk": {"k": 4},
    "activation.batchtopk": {"k": 4},
    "activation.groupmax": {"k": 4},
    "activation.topk": {"k": 4},
    "architecture.abstopk": {"k": 4},
    "architecture.batchtopk": {"k": 4},
    "architecture.groupmax": {"k": 4},
    "architecture.matryoshka_batchtopk": {"k": 4, "matryoshka_widths": [5, 20]},
    "architecture.topk": {"k": 4},
    "dataset.cached": {"path": "none"},
    "dataset.huggingface": {"name": "none"},
    "dataset.mixture": {
        "source": [
            {"type": "text_files", "paths": ["text"], "weight": 1.0},
            {"type": "text_files", "paths": ["text/a.txt"], "weight": 2.0},
        ]
    },
    "dataset.synthetic": {"features": 20, "d_in": 6},
    "dataset.text_files": {"paths": ["text"]},
    "dataset.tokens": {"path": "none"},
    "dead_latents.resample": {"every_steps": 3},
    "evaluator.meta": {"steps": 3},
    "evaluator.scr_tpp": {"dataset": "none"},
    "evaluator.sparse_probing": {"dataset": "none"},
    "evaluator.stability": {"other": "none"},
    "model.huggingface": {"name": "none"},
    "model.transformer_lens": {"name": "none"},
    "schedule.exponential": {"start": 2.0},
    "schedule.linear": {"start": 2.0},
}
"""Settings of plugins that cannot do without; by full name."""

THRESHOLD = {"skip": ["inference"]}  # a choice over the batch becomes a threshold

OPTIONS = {
    "activation.jumprelu": {"straight_through": ["threshold"]},
    "architecture.batchtopk": THRESHOLD,
    "architecture.gated": {"straight_through": ["W_dec", "b_dec"]},  # held fixed in its second loss
    "architecture.jumprelu": {"straight_through": ["activation.threshold"]},
    "architecture.matryoshka_batchtopk": THRESHOLD,
}
"""What else a check needs to know, by full name: the promises that a plugin does not make."""

DECLARED = {
    "architecture.identity",
    "architecture.pca",
    "architecture.temporal",
    "dataset.cached",
    "dataset.huggingface",
    "dataset.synthetic",
    "dataset.tokens",
    "evaluator.absorption",
    "evaluator.ground_truth",
    "evaluator.scr_tpp",
    "evaluator.sparse_probing",
    "evaluator.stability",
}
"""What needs more than the kit has (data on disk, known directions) or sizes of its own: only the
declaration is checked here, the rest by tests of its own; so for releases (tests/releases)."""

NEEDS = {"optimizer.adam8bit": ["bitsandbytes"]}
"""Packages without which a plugin cannot be built."""

SLOW = {"logger.mlflow", "dataset.python_corpus"}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """Some text to read, in the current directory; no tracker's server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "text").mkdir()
    for name in ("a", "b"):
        (tmp_path / "text" / f"{name}.txt").write_text(f"words of {name}")


@pytest.mark.parametrize(
    "provider",
    [
        pytest.param(one, id=one.full_name, marks=[pytest.mark.slow] * (one.full_name in SLOW))
        for one in Host().providers
    ],
)
def test_conformance(provider):
    """The plugin passes the check of its kind."""
    name = provider.full_name
    settings = SETTINGS.get(name)
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)
    if provider.kind in CHECKS and name not in DECLARED and provider.kind != "release":
        CHECKS[provider.kind](provider.name, settings, **OPTIONS.get(name, {}))
    else:
        check_component(provider.kind, provider.name, settings)

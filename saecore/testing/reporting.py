"""Contract checks for loggers and evaluators."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import cast

import torch

from saecore.core.evaluator import LatentMetric, Metric, Metrics, NotApplicable
from saecore.core.logger import RunInfo
from saecore.core.model import ModelBackend
from saecore.evaluation.batches import HeldOut
from saecore.plugins.component import Component
from saecore.testing.component import Settings, check_component, fail
from saecore.testing.fakes import Backend, plain_sae


def check_logger(name: str, settings: Settings = None) -> None:
    """Check that a logger accepts all calls of a run, including metrics that are not finite.

    What it sends is for its own tests to check. The run directory is temporary.

    Args:
        name: name of the logger.
        settings: its settings.

    Raises:
        Nonconformance: a call fails; the message says what to change.
    """
    choice = check_component("logger", name, settings)
    component = choice.component
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root) / "kit" / "20000101-000000-0000"
        (directory / "sae").mkdir(parents=True)
        for file in ("evaluation.json", "sae/cfg.json"):
            (directory / file).write_text("{}\n")
        parameters = {"name": "kit", "seed": 0, "training.lr": 1e-3, "sae.k": 4, "model.hook": "h"}
        metrics = {
            "losses/overall_loss": 1.5,
            "metrics/l0": 4.0,
            "metrics/explained_variance": 0.5,
            "sparsity/dead_features": 0.0,
        }
        calls = [
            (
                "start",
                (
                    RunInfo(
                        name="kit",
                        id=directory.name,
                        directory=directory,
                        parameters=parameters,
                        steps=20,
                        batch_size=32,
                    ),
                ),
            ),
            ("scalars", (10, metrics)),
            ("scalars", (20, {**metrics, "losses/overall_loss": math.nan, "extra": math.inf})),
            ("scalars", (20, {"evaluation/ce_loss_score": 0.9})),
            ("artifact", (directory / "evaluation.json",)),
            ("artifact", (directory / "sae",)),
            ("close", ()),
        ]
        logger = choice.build(directory)
        for number, (method, arguments) in enumerate(calls):
            try:
                getattr(logger, method)(*arguments)
            except Exception as error:  # any exception would disable the logger in a run
                fail(
                    component,
                    f"{method} (call {number + 1} of {len(calls)}) raised "
                    f"{type(error).__name__}: {error}",
                    "accept metrics that are missing, NaN or infinite, files and directories; "
                    "signatures as in saecore.core.logger.Logger",
                )


def _comparable(metrics: Metrics) -> dict[str, object]:
    """Metrics as objects that compare by value, with NaN equal to itself."""
    return {
        name: metric
        if isinstance(metric, Metric)
        else (repr(metric.values.tolist()), metric.tokens)
        for name, metric in metrics.items()
    }


def check_evaluator(name: str, settings: Settings = None) -> None:
    """Check an evaluator on a tiny SAE and model: finite metrics, repeatable, no side effects.

    Args:
        name: name of the evaluator.
        settings: its settings.

    Raises:
        Nonconformance: the evaluator breaks its contract; the message says what to change.
    """
    choice = check_component("evaluator", name, settings)
    component = choice.component
    sae = plain_sae(torch.float32).eval()
    tokens = torch.arange(12 * 8).reshape(12, 8) % Backend.vocab_size
    held_out = HeldOut(model=cast(ModelBackend, Backend()), contexts=tokens)
    with torch.no_grad():
        first: Metrics | NotApplicable = choice.build()(sae, held_out)
        second: Metrics | NotApplicable = choice.build()(sae, held_out)
    if isinstance(first, NotApplicable) or isinstance(second, NotApplicable):
        reason = first.reason if isinstance(first, NotApplicable) else "in a second evaluation"
        fail(
            component,
            f"it does not apply to the kit's SAE: {reason}",
            "check it by tests of your own",
        )
    if not first:
        fail(component, "it gave no figures", "return metrics by name")
    for key, metric in first.items():
        _check_metric(component, key, metric, sae.cfg.d_sae, tokens.numel())
    if _comparable(first) != _comparable(second):
        fail(component, "a second evaluation gives other figures", "use no unseeded random numbers")
    for key, tensor in plain_sae(torch.float32).state_dict().items():
        if not torch.equal(sae.state_dict()[key], tensor):
            fail(component, f"it changes {key} of the SAE", "work on copies")


def _check_metric(component: Component, key: str, metric: object, d_sae: int, count: int) -> None:
    """Check one entry of an evaluator's result."""
    if not isinstance(metric, Metric | LatentMetric):
        fail(
            component,
            f"{key!r} is a {type(metric).__name__}",
            "return saecore.core.evaluator.Metric(value, tokens), or a LatentMetric",
        )
    if isinstance(metric, LatentMetric):
        if list(metric.values.shape) != [len(metric.labels) or d_sae]:
            fail(
                component,
                f"{key!r} has {list(metric.values.shape)} values",
                "give one number per label, or one per latent where there are no labels",
            )
    elif not (isinstance(metric.value, float) and math.isfinite(metric.value)):
        fail(
            component,
            f"{key!r} has the value {metric.value!r}",
            "give a finite Python float: float(tensor)",
        )
    least = 0 if component.requires == "weights" or isinstance(metric, LatentMetric) else 1
    if not isinstance(metric.tokens, int) or not least <= metric.tokens <= count:
        fail(
            component,
            f"{key!r} was measured on {metric.tokens!r} of {count} tokens",
            "count the tokens that the metric rests on, as an int",
        )

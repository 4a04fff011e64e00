"""The contracts of loggers and evaluators."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch

from saecore.figures import Figure, Figures, Vector
from saecore.testing.component import Settings, check_component, fail
from saecore.testing.fakes import Backend, plain_sae
from saecore.tracking import RunInfo


def check_logger(name: str, settings: Settings = None) -> None:
    """Check a logger: it takes a whole run, with figures that are not finite, and is closed.

    What it sent has to be checked by its author; the run's directory is a temporary one.

    Raises:
        Nonconformance: with what to change.
    """
    choice = check_component("logger", name, settings)
    subject = choice.component
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place) / "kit" / "20000101-000000-0000"
        (directory / "sae").mkdir(parents=True)
        for file in ("evaluation.json", "sae/cfg.json"):
            (directory / file).write_text("{}\n")
        parameters = {"name": "kit", "seed": 0, "training.lr": 1e-3, "sae.k": 4, "model.hook": "h"}
        figures = {
            "losses/overall_loss": 1.5,
            "metrics/l0": 4.0,
            "metrics/explained_variance": 0.5,
            "sparsity/dead_features": 0.0,
        }
        calls = [
            ("start", (RunInfo("kit", directory.name, directory, parameters, 20, 32),)),
            ("scalars", (10, figures)),
            ("scalars", (20, {**figures, "losses/overall_loss": math.nan, "extra": math.inf})),
            ("scalars", (20, {"evaluation/ce_loss_score": 0.9})),
            ("artifact", (directory / "evaluation.json",)),
            ("artifact", (directory / "sae",)),
            ("close", ()),
        ]
        logger = choice.build(directory)
        for number, (method, arguments) in enumerate(calls):
            try:
                getattr(logger, method)(*arguments)
            except Exception as error:  # whatever it raises costs the run its logger
                fail(
                    subject,
                    f"{method} (call {number + 1} of {len(calls)}) raised "
                    f"{type(error).__name__}: {error}",
                    "take figures that are missing, NaN or infinite, files and directories; "
                    "signatures as in saecore.tracking.Logger",
                )


def _plain(figures: Figures) -> dict[str, object]:
    """Figures as objects that can be compared, NaN equal to itself."""
    return {
        key: one if isinstance(one, Figure) else (repr(one.values.tolist()), one.tokens)
        for key, one in figures.items()
    }


def check_evaluator(name: str, settings: Settings = None) -> None:
    """Check an evaluator on a tiny SAE and model: finite figures, the same twice, no side effects.

    Raises:
        Nonconformance: with what to change.
    """
    choice = check_component("evaluator", name, settings)
    subject = choice.component
    sae, backend = plain_sae(torch.float32).eval(), Backend()
    tokens = torch.arange(12 * 8).reshape(12, 8) % Backend.vocab_size
    with torch.no_grad():
        first = choice.build()(sae, backend, tokens)
        second = choice.build()(sae, backend, tokens)
    if not first:
        fail(subject, "it gave no figures", "return figures by name")
    for key, figure in first.items():
        if not isinstance(figure, Figure | Vector):
            fail(
                subject,
                f"{key!r} is a {type(figure).__name__}",
                "return saecore.evaluation.Figure(value, tokens it was measured on), or a Vector",
            )
        if isinstance(figure, Vector):
            if list(figure.values.shape) != [len(figure.labels) or sae.cfg.d_sae]:
                fail(
                    subject,
                    f"{key!r} has {list(figure.values.shape)} values",
                    "give one number per label, or one per latent where there are no labels",
                )
        elif not (isinstance(figure.value, float) and math.isfinite(figure.value)):
            fail(
                subject,
                f"{key!r} has the value {figure.value!r}",
                "give a finite Python float: float(tensor)",
            )
        least = 0 if subject.needs == "weights" or isinstance(figure, Vector) else 1
        if not isinstance(figure.tokens, int) or not least <= figure.tokens <= tokens.numel():
            fail(
                subject,
                f"{key!r} was measured on {figure.tokens!r} of {tokens.numel()} tokens",
                "count the tokens that the figure rests on, as an int",
            )
    if _plain(first) != _plain(second):
        fail(subject, "a second evaluation gives other figures", "use no unseeded random numbers")
    for key, tensor in plain_sae(torch.float32).state_dict().items():
        if not torch.equal(sae.state_dict()[key], tensor):
            fail(subject, f"it changes {key} of the SAE", "work on copies")

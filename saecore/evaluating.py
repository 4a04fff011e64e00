"""`saecore.evaluate`: figures of an SAE, wherever it is from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
from torch import Tensor

from saecore.config.explain import to_tables
from saecore.config.sources import REASONS, available
from saecore.errors import nearest
from saecore.evaluation import Origin, measure
from saecore.figures import Figure, Measured
from saecore.held_out import (
    Chosen,
    HeldOut,
    check_keys,
    choose,
    evaluator,
    open_held_out,
    structured,
)
from saecore.plugins import Host, current_host
from saecore.subject import Subject, subject_of
from saecore.trust import remote_code

if TYPE_CHECKING:
    from saecore.sae import SAE

DEFAULT = ("reconstruction", "loss_recovered", "featurewise", "density", "geometry", "ground_truth")
"""Evaluators that need no settings; those that the data allow are run if none are named."""


@attrs.frozen(eq=False)
class Evaluation:
    """What `saecore.evaluate` gives."""

    sae: SAE
    """The SAE."""
    measured: Measured
    """Figures, vectors, and reasons to skip, by evaluator."""
    settings: Mapping[str, Any]
    """What was chosen: the tables [model], [dataset], [evaluation], and [NAME] of evaluators."""
    data: Mapping[str, Any]
    """Model, text and number of tokens, as found."""
    name: str
    """What the SAE was called."""
    run: Path | None = None
    """The directory of its run, if a run was evaluated."""

    def metrics(self) -> dict[str, dict[str, float]]:
        """The reference's figures in the reference's groups, as SAELens' `run_evals` gives them."""
        groups: dict[str, dict[str, float]] = {}
        for figures in self.measured.figures.values():
            for name, one in figures.items():
                groups.setdefault(one.group or "other", {})[name] = one.value
        stats = {
            key: float(self.figure(name).tokens)
            for key, name in TOKEN_STATS.items()
            if self.has(name)
        }
        return {**groups, **({"token_stats": stats} if stats else {})}

    def featurewise(self) -> dict[str, Tensor]:
        """Figures of single latents `[d_sae]`, as the second of what `run_evals` gives."""
        return {
            name: one.values
            for vectors in self.measured.vectors.values()
            for name, one in vectors.items()
            if one.group == "featurewise"
        }

    def has(self, name: str) -> bool:
        """Whether there is a figure of this name."""
        return any(name in figures for figures in self.measured.figures.values())

    def figure(self, name: str) -> Figure:
        """A figure by name.

        Raises:
            KeyError: there is none.
        """
        for figures in self.measured.figures.values():
            if name in figures:
                return figures[name]
        known = sorted({key for one in self.measured.figures.values() for key in one})
        raise KeyError(f"no figure {name!r}{nearest(name, known)}")


TOKEN_STATS = {
    "total_tokens_eval_reconstruction": "kl_div_with_sae",
    "total_tokens_eval_sparsity_variance": "l0",
}
"""The reference's counts of tokens, and the figures whose tokens they count."""


def evaluate(
    sae: SAE | str | Path,
    *,
    model: Any = None,
    dataset: str | Tensor | None = None,
    evaluators: Sequence[str] | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    trust_remote_code: bool = False,
) -> Evaluation:
    """Measure an SAE on held-out text.

    Args:
        sae: an SAE; or the directory of a run, whose experiment says the model and the text; or
            anything that `saecore convert` reads: a directory, a file, `RELEASE:SAE_ID`,
            `user/repo:path`.
        model: a name or path, a model plugin such as "tiny_lm", or a model that is loaded already
            (transformers, TransformerLens bridge, ModelBackend); default: the SAE's own.
        dataset: a name or path, or a dataset plugin; or tokens `[n, T]`; default: the SAE's own.
        evaluators: names; default: those of `DEFAULT` that the data allow, and those of the run.
        settings: `key=value` strings, or a mapping of keys to values: model.*, dataset.*,
            evaluation.tokens, and NAME.* of an evaluator NAME.
        trust_remote_code: let Python code that comes with the model run.

    Raises:
        SaecoreError: there is no such SAE, model or text, or they do not fit each other.
    """
    host = current_host()
    subject = subject_of(sae, host)
    source = subject.name
    layers = choose(subject, model, dataset, settings, host)
    given = {
        "model": None if isinstance(model, str) else model,
        "dataset": dataset if isinstance(dataset, Tensor) else None,
    }
    named = list(dict.fromkeys(evaluators or ()))
    parts = {name: evaluator(layers, name, host) for name in named}
    chosen = Chosen()
    held = HeldOut()
    if not named or any(one.component.needs != "weights" for one in parts.values()):
        chosen = structured(layers, host, given)
        if not named:
            named = _default(available(chosen), subject, host)
            parts = {name: evaluator(layers, name, host) for name in named}
    check_keys(layers, named)
    if any(one.component.needs != "weights" for one in parts.values()):
        with remote_code(trust_remote_code):
            tokens = given["dataset"]
            held = open_held_out(subject.sae, chosen, source, host, given["model"], tokens)
    needs = {name: one.component.needs for name, one in parts.items()}
    running = {name: one.build() for name, one in parts.items() if needs[name] in held.gives}
    if held.device is not None and subject.sae is not sae:  # what was loaded here goes to the model
        subject.sae.to(held.device)
    placed = held.placed(subject.sae)
    found = measure(placed, cast(Origin, held.origin), held.tokens, running)
    for name in parts:
        if name not in running:
            found.skipped[name] = REASONS[needs[name]].replace("this run", "this evaluation")
    tables = {name: to_tables(one.config) for name, one in parts.items()}
    return Evaluation(placed, found, {**_plain(chosen), **tables}, held.record, source, subject.run)


def _default(have: frozenset[str], subject: Subject, host: Host) -> list[str]:
    known = [one for one in DEFAULT if one in host.names("evaluator")]
    listed = [one for one in known if host.component("evaluator", one).needs in have]
    return list(dict.fromkeys([*listed, *subject.evaluators]))


def _plain(chosen: Chosen) -> dict[str, Any]:
    tables = {"model": chosen.model, "dataset": chosen.dataset}
    return {key: to_tables(one) for key, one in tables.items() if one is not None}

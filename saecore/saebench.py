"""Results in the form of SAEBench's JSON files."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import torch

from saecore import __version__
from saecore.figures import finite, numbers
from saecore.saved import FORMAT, cfg_dict

if TYPE_CHECKING:
    from saecore.evaluating import Evaluation

TYPES = {
    "reconstruction": "core",
    "loss_recovered": "core",
    "featurewise": "core",
    "density": "core",
    "geometry": "core",
    "absorption": "absorption_first_letter",
}
"""SAEBench's eval_type_id of an evaluator's figures; an evaluator that has none keeps its name."""

GROUP_TYPES = {"scr_metrics": "scr", "tpp_metrics": "tpp"}
"""The same where one evaluator gives figures of several."""


def results(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One result per SAEBench evaluation, or per evaluator that SAEBench does not have.

    The keys are those of SAEBench 0.6's files: eval_type_id, eval_config, eval_id,
    datetime_epoch_millis, eval_result_metrics (group → name → value), eval_result_details (a list,
    one entry per latent or label), sae_bench_commit_hash, sae_lens_id, sae_lens_release_id,
    sae_lens_version, sae_cfg_dict. One key is added: `saecore`, with intervals, tokens and reasons
    to skip. Numbers that are not finite are null.
    """
    kinds: dict[str, dict[str, Any]] = {}

    def entry(kind: str) -> dict[str, Any]:
        return kinds.setdefault(
            kind, {"metrics": {}, "vectors": {}, "config": {}, "figures": {}, "skipped": {}}
        )

    measured = evaluation.measured
    for name in (*measured.figures, *measured.skipped):
        kind = TYPES.get(name, name)
        for key, figure in measured.figures.get(name, {}).items():
            one = entry(GROUP_TYPES.get(figure.group, kind))
            one["metrics"].setdefault(figure.group or "metrics", {})[key] = finite(figure.value)
            one["figures"][key] = {"tokens": figure.tokens, "interval": figure.interval}
            one["config"][name] = evaluation.settings.get(name, {})
        for key, vector in measured.vectors.get(name, {}).items():
            one = entry(kind)
            one["vectors"][key] = vector
            one["config"][name] = evaluation.settings.get(name, {})
        if name in measured.skipped:
            entry(kind)["skipped"][name] = measured.skipped[name]
    if "core" in kinds:
        stats = evaluation.metrics().get("token_stats", {})
        kinds["core"]["metrics"]["token_stats"] = {key: int(one) for key, one in stats.items()}
    return [_result(kind, one, evaluation) for kind, one in kinds.items()]


def _result(kind: str, one: dict[str, Any], evaluation: Evaluation) -> dict[str, Any]:
    source = evaluation.sae.cfg.metadata.get("source") or {}
    text = {key: evaluation.settings[key] for key in ("model", "dataset")
            if key in evaluation.settings}  # fmt: skip
    return {
        "eval_type_id": kind,
        "eval_config": {**text, **one["config"]},
        "eval_id": str(uuid.uuid4()),
        "datetime_epoch_millis": int(time.time() * 1000),
        "eval_result_metrics": one["metrics"],
        "eval_result_details": _details(one["vectors"]),
        "sae_bench_commit_hash": f"saecore {__version__}",
        "sae_lens_id": source.get("sae_id") or evaluation.name,
        "sae_lens_release_id": source.get("release") or "none",
        "sae_lens_version": FORMAT,
        "sae_cfg_dict": cfg_dict(evaluation.sae),
        "saecore": {
            "data": dict(evaluation.data),
            "figures": one["figures"],
            "skipped": one["skipped"],
        },
    }


def _details(vectors: dict[str, Any]) -> list[dict[str, Any]]:
    """Vectors of one length and labels together, an entry for each place in them."""
    together: dict[tuple[int, tuple[str, ...]], dict[str, list[Any]]] = {}
    for name, one in vectors.items():
        values = numbers(torch.as_tensor(one.values))
        together.setdefault((len(values), one.labels), {})[name] = values
    return [
        {
            "index": place,
            **({"label": labels[place]} if labels else {}),
            **{name: values[place] for name, values in columns.items()},
        }
        for (size, labels), columns in together.items()
        for place in range(size)
    ]

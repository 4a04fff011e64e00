"""Results in the layout of SAEBench's JSON files."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import attrs

from saecore._version import __version__
from saecore.core.evaluator import LatentMetric, finite, finite_values
from saecore.releases.saelens_files import FORMAT, cfg_dict

if TYPE_CHECKING:
    from saecore.evaluation.evaluate import Evaluation

TYPES = {
    "reconstruction": "core",
    "loss_recovered": "core",
    "featurewise": "core",
    "density": "core",
    "geometry": "core",
    "absorption": "absorption_first_letter",
}
"""SAEBench's eval_type_id of each evaluator; others keep the evaluator's name."""

GROUP_TYPES = {"scr_metrics": "scr", "tpp_metrics": "tpp"}
"""eval_type_id of a group of metrics, where one evaluator measures several."""


@attrs.define
class _Entry:
    """The parts of one result that depend on evaluators."""

    metrics: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    vectors: dict[str, LatentMetric] = attrs.field(factory=dict)
    config: dict[str, Any] = attrs.field(factory=dict)
    figures: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    skipped: dict[str, str] = attrs.field(factory=dict)


def results(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One result per SAEBench evaluation, or per evaluator that SAEBench does not have.

    The keys are those of SAEBench 0.6's files: eval_type_id, eval_config, eval_id,
    datetime_epoch_millis, eval_result_metrics (group → name → value), eval_result_details (a list
    with one entry per latent or label), sae_bench_commit_hash, sae_lens_id, sae_lens_release_id,
    sae_lens_version, sae_cfg_dict. The key `saecore` is added, with intervals, numbers of tokens
    and reasons to skip. NaN and infinity become null.
    """
    entries: dict[str, _Entry] = {}

    def entry(kind: str) -> _Entry:
        return entries.setdefault(kind, _Entry())

    measured = evaluation.measured
    for name in (*measured.figures, *measured.skipped):
        kind = TYPES.get(name, name)
        for key, metric in measured.figures.get(name, {}).items():
            result = entry(GROUP_TYPES.get(metric.group, kind))
            result.metrics.setdefault(metric.group or "metrics", {})[key] = finite(metric.value)
            result.figures[key] = {"tokens": metric.tokens, "interval": metric.interval}
            result.config[name] = evaluation.settings.get(name, {})
        for key, vector in measured.vectors.get(name, {}).items():
            result = entry(kind)
            result.vectors[key] = vector
            result.config[name] = evaluation.settings.get(name, {})
        if name in measured.skipped:
            entry(kind).skipped[name] = measured.skipped[name]
    if "core" in entries:
        stats = evaluation.metrics().get("token_stats", {})
        entries["core"].metrics["token_stats"] = {key: int(count) for key, count in stats.items()}
    return [_result(kind, result, evaluation) for kind, result in entries.items()]


def _result(kind: str, entry: _Entry, evaluation: Evaluation) -> dict[str, Any]:
    source = evaluation.sae.cfg.metadata.get("source") or {}
    tables = {
        name: evaluation.settings[name]
        for name in ("model", "dataset")
        if name in evaluation.settings
    }
    return {
        "eval_type_id": kind,
        "eval_config": {**tables, **entry.config},
        "eval_id": str(uuid.uuid4()),
        "datetime_epoch_millis": int(time.time() * 1000),
        "eval_result_metrics": entry.metrics,
        "eval_result_details": _details(entry.vectors),
        "sae_bench_commit_hash": f"saecore {__version__}",
        "sae_lens_id": source.get("sae_id") or evaluation.name,
        "sae_lens_release_id": source.get("release") or "none",
        "sae_lens_version": FORMAT,
        "sae_cfg_dict": cfg_dict(evaluation.sae),
        "saecore": {
            "data": dict(evaluation.data),
            "figures": entry.figures,
            "skipped": entry.skipped,
        },
    }


def _details(vectors: dict[str, LatentMetric]) -> list[dict[str, Any]]:
    """Join vectors of equal size and labels; one entry per index."""
    tables: dict[tuple[int, tuple[str, ...]], dict[str, list[Any]]] = {}
    for name, vector in vectors.items():
        values = finite_values(vector.values)
        tables.setdefault((len(values), vector.labels), {})[name] = values
    return [
        {
            "index": index,
            **({"label": labels[index]} if labels else {}),
            **{name: values[index] for name, values in columns.items()},
        }
        for (size, labels), columns in tables.items()
        for index in range(size)
    ]

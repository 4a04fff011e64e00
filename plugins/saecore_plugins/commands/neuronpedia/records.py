"""Rows of the tables that Neuronpedia's import reads; `export` names the sources."""

from __future__ import annotations

import time
from typing import Any

import attrs
import torch

from saecore_plugins.commands.neuronpedia import dashboards
from saecore_plugins.commands.neuronpedia.sources import Source

NOBODY = "clkht01d40000jv08hvalcvly"
"""The default account in SAEDashboard's export."""


@attrs.frozen(kw_only=True)
class Release:
    """Description of the SAE for readers."""

    set: str
    """The set of SAEs it belongs to, such as res-jb."""
    creator: str
    """Its authors."""
    title: str
    """One-line description."""
    model: str
    """The language model's name on Neuronpedia, such as gpt2-small."""
    repository: str | None = None
    """Hub repository of the weights, `username/repo-name`."""
    path: str | None = None
    """The SAE's path in that repository."""


def records(
    release: Release, source: Source, text: str, contexts: torch.Tensor
) -> dict[str, dict[str, Any]]:
    """The row of each of the four tables above features, by table."""
    now, common = _now(), {"creatorId": NOBODY, "visibility": "PUBLIC"}
    urls = [f"https://huggingface.co/{release.repository}"] if release.repository else []
    return {
        "release": {
            "name": release.set,
            "description": release.title,
            "descriptionShort": release.title,
            "urls": urls,
            "creatorName": release.creator,
            "creatorNameShort": release.creator,
            "createdAt": now,
            **common,
        },
        "model": {
            "id": source.model,
            "instruct": source.model.endswith("-it"),
            "displayNameShort": source.model,
            "displayName": source.model,
            "createdAt": now,
            "updatedAt": now,
            **common,
        },
        "sourceset": {
            "modelId": source.model,
            "name": release.set,
            "description": release.title,
            "creatorName": release.creator,
            "releaseName": release.set,
            "hasDashboards": True,
            "createdAt": now,
            **common,
        },
        "source": {
            "id": source.name,
            "modelId": source.model,
            "setName": release.set,
            "hasDashboards": True,
            "dataset": text,
            "num_prompts": len(contexts),
            "num_tokens_in_prompt": contexts.shape[1],
            "hfRepoId": release.repository,
            "hfFolderId": release.path,
            "createdAt": now,
            **common,
        },
    }


def feature_rows(
    index: int,
    source: Source,
    sae: Any,
    activations: dashboards.Activations,
    matrix: torch.Tensor | None,
    tokenizer: Any,
    count: int,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row of a feature, and the rows of its examples."""
    values, _ = activations.of(index)
    heights, bars = dashboards.histogram(values)
    top = float(values.max()) if len(values) else 0.0
    key = {"modelId": source.model, "layer": source.name, "index": str(index),
             "creatorId": NOBODY, "createdAt": _now()}  # fmt: skip
    row = {
        **key,
        "maxActApprox": top,
        "frac_nonzero": len(values) / max(1, activations.tokens),
        "freq_hist_data_bar_heights": heights,
        "freq_hist_data_bar_values": bars,
        "sourceSetName": source.set,
        **(
            {} if matrix is None else _logits(matrix @ sae.W_dec[index].detach().float(), tokenizer)
        ),
    }
    examples = []
    for number, (context, acts) in enumerate(dashboards.examples(activations, index, count)):
        best = max(acts)
        examples.append({
            **key,
            "id": f"{source.model}-{source.name}-{index}-{number}",
            "tokens": [
                tokenizer.decode([token]) for token in activations.contexts[context].tolist()
            ],
            "values": acts,
            "maxValue": best,
            "maxValueTokenIndex": acts.index(best),
            "qualifyingTokenIndex": acts.index(best),
            "minValue": min(acts),
            "binMin": -1,
            "binMax": round(top, 3),
            "binContains": -1,
        })  # fmt: skip
    return row, examples


def _logits(logits: torch.Tensor, tokenizer: Any) -> dict[str, Any]:
    """The tokens with the largest and smallest logits, and a histogram of all logits."""
    heights, bars = dashboards.histogram(logits)
    ends = {}
    for key, sign in (("pos", 1), ("neg", -1)):
        best = (sign * logits).topk(min(dashboards.LOGITS, len(logits))).indices.tolist()
        ends[f"{key}_str"] = [tokenizer.decode([token]) for token in best]
        ends[f"{key}_values"] = [round(float(logits[token]), 3) for token in best]
    return {**ends, "logits_hist_data_bar_heights": heights, "logits_hist_data_bar_values": bars}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())

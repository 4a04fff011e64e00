"""Rows of the tables that Neuronpedia's import reads; see `export` for what they rest on."""

from __future__ import annotations

import time
from typing import Any

import attrs
import torch

from saecore_plugins.commands.neuronpedia import dashboards
from saecore_plugins.commands.neuronpedia.sources import Source

NOBODY = "clkht01d40000jv08hvalcvly"
"""The account that SAEDashboard's export names where nobody is named."""


@attrs.frozen
class Release:
    """What people are to read about the SAE."""

    set: str
    """The set of SAEs that it belongs to, such as res-jb."""
    creator: str
    """Who made it."""
    title: str
    """One line about the release."""
    model: str
    """Neuronpedia's name of the language model, such as gpt2-small."""
    repository: str | None = None
    """Where the weights are on the hub, `username/repo-name`."""
    path: str | None = None
    """The SAE's path in it."""


def records(
    release: Release, source: Source, text: str, contexts: torch.Tensor
) -> dict[str, dict[str, Any]]:
    """One row for each of the four tables above features."""
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
    found: dashboards.Activations,
    matrix: torch.Tensor | None,
    tokenizer: Any,
    count: int,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row of a feature, and those of its examples."""
    values, _ = found.of(index)
    heights, bars = dashboards.histogram(values)
    top = float(values.max()) if len(values) else 0.0
    named = {"modelId": source.model, "layer": source.name, "index": str(index),
             "creatorId": NOBODY, "createdAt": _now()}  # fmt: skip
    row = {
        **named,
        "maxActApprox": top,
        "frac_nonzero": len(values) / max(1, found.tokens),
        "freq_hist_data_bar_heights": heights,
        "freq_hist_data_bar_values": bars,
        "sourceSetName": source.set,
        **(
            {} if matrix is None else _logits(matrix @ sae.W_dec[index].detach().float(), tokenizer)
        ),
    }
    shown = []
    for number, (context, acts) in enumerate(dashboards.examples(found, index, count)):
        best = max(acts)
        shown.append({
            **named,
            "id": f"{source.model}-{source.name}-{index}-{number}",
            "tokens": [tokenizer.decode([one]) for one in found.contexts[context].tolist()],
            "values": acts,
            "maxValue": best,
            "maxValueTokenIndex": acts.index(best),
            "qualifyingTokenIndex": acts.index(best),
            "minValue": min(acts),
            "binMin": -1,
            "binMax": round(top, 3),
            "binContains": -1,
        })  # fmt: skip
    return row, shown


def _logits(logits: torch.Tensor, tokenizer: Any) -> dict[str, Any]:
    """Tokens at both ends, and the histogram of all."""
    heights, bars = dashboards.histogram(logits)
    ends = {}
    for key, sign in (("pos", 1), ("neg", -1)):
        best = (sign * logits).topk(min(dashboards.LOGITS, len(logits))).indices.tolist()
        ends[f"{key}_str"] = [tokenizer.decode([one]) for one in best]
        ends[f"{key}_values"] = [round(float(logits[one]), 3) for one in best]
    return {**ends, "logits_hist_data_bar_heights": heights, "logits_hist_data_bar_values": bars}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())

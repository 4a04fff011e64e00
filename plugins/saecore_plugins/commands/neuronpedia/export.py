"""Write the files that Neuronpedia's import reads, for an SAE.

Sources, and what was checked:

- Uploads are manual: Neuronpedia's authors ask to be contacted and import files of the layout below
  (README of hijohnnylin/neuronpedia, "Once dashboard files are generated …").
- Layout and fields: `{model}/{layer}-{set}/` with release.jsonl, model.jsonl, sourceset.jsonl,
  source.jsonl, features/batch-N.jsonl.gz and activations/batch-N.jsonl.gz, as written by
  `sae_dashboard/neuronpedia/neuronpedia_export.py` of SAEDashboard. Derived from that code, not
  tested against a server.
- `sae/`: the SAE in SAELens' format, from which SAEDashboard's runner makes dashboards.
  `python -m tests.bench.published` checks that SAELens 6.54.12 loads it. The runner takes model
  name, hook (`blocks.N.…`) and text from the metadata.
- Figures: examples are the contexts with the largest values, marked as SAEDashboard marks "top
  activations" (interval from -1, share -1); its samples of other intervals are not written.
  Correlated neurons and features are left empty. Logits are decoder row times unembedding, without
  the final norm.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from saecore.activations.build import read_tokens
from saecore.config.from_metadata import model_of, text_of
from saecore.core.model import layer_of
from saecore.core.sae import SAE
from saecore.core.sae_config import Metadata
from saecore.errors import ReleaseError
from saecore.evaluation.held_out import check_model
from saecore.models.device import pick_device
from saecore.releases.export_form import inference_form
from saecore.releases.load import Loaded
from saecore.releases.saelens_files import READABLE, write_sae
from saecore.storage.files import write_bytes
from saecore.storage.redact import shareable
from saecore_plugins.commands.neuronpedia import dashboards
from saecore_plugins.commands.neuronpedia.records import Release, feature_rows, records
from saecore_plugins.commands.neuronpedia.sources import Source

BATCH = 128
"""Features per file."""


def export(
    loaded: Loaded,
    release: Release,
    out: Path,
    *,
    features: range | None = None,
    tokens: int = 2**18,
    dataset: str | None = None,
    model: str | None = None,
    device: str = "auto",
    count: int = 20,
) -> Source:
    """Write the files of an upload.

    Args:
        loaded: the SAE and its sparsity.
        release: description of the SAE for readers.
        out: a new or empty directory.
        features: the features that get dashboards; default: all.
        tokens: number of tokens of text to collect examples from.
        dataset: name or path of the text; default: that of the metadata.
        model: name or path of the language model; default: that of the metadata.
        device: device of model and SAE.
        count: examples per feature.

    Returns:
        The SAE's name on Neuronpedia.

    Raises:
        ReleaseError: `out` is not empty, SAELens lacks the architecture, or the metadata do not
            name the layer.
        SaecoreError: model or text cannot be read or do not fit the SAE.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ReleaseError(f"{out}: already exists; choose a directory that is new or empty")
    sae = inference_form(loaded.sae)
    source = _source(sae, release)
    latents = range(sae.cfg.d_sae) if features is None else features
    if not latents or latents[-1] >= sae.cfg.d_sae:
        raise ReleaseError(f"features: expected a range within 0 to {sae.cfg.d_sae - 1}")
    model_choice, table = model_of(sae, model), text_of(sae, dataset)
    backend = model_choice.build(pick_device(device, "device"), torch.float32)
    check_model(backend, sae, table.context_size)
    held_out = read_tokens(table, backend, tokens).held_out
    contexts = torch.from_numpy(held_out[: max(1, tokens // table.context_size)].astype("int64"))
    activations = dashboards.collect(sae.to(backend.device), backend, contexts)

    sae = sae.to("cpu")
    metadata = shareable(dict(sae.cfg.metadata))
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata(metadata))
    write_sae(sae, out / "sae", loaded.sparsity)
    folder = out / source.model / source.name
    text = str(shareable(dataset or metadata.get("dataset_path")))
    for name, row in records(release, source, text, contexts).items():
        _write(folder / f"{name}.jsonl", [row])
    matrix = dashboards.unembedding(sae, backend)
    for number, start in enumerate(range(0, len(latents), BATCH)):
        pages = [
            feature_rows(latent, source, sae, activations, matrix, backend.tokenizer, count)
            for latent in latents[start : start + BATCH]
        ]
        _write(folder / f"features/batch-{number}.jsonl.gz", [row for row, _ in pages])
        examples = [example for _, rows in pages for example in rows]
        _write(folder / f"activations/batch-{number}.jsonl.gz", examples)
    return source


def _source(sae: SAE, release: Release) -> Source:
    """The SAE's name on Neuronpedia.

    Raises:
        ReleaseError: SAELens cannot load the SAE, or it does not read a layer.
    """
    architecture = sae.file_form.architecture_name(sae)
    if architecture not in READABLE:
        raise ReleaseError(
            f"architecture {architecture}: SAELens does not have it, and Neuronpedia "
            "works with SAELens"
        )
    hook = str(sae.cfg.metadata.get("hook_name"))
    layer = layer_of(hook)
    if layer is None:
        raise ReleaseError(
            f"hook {hook!r}: expected a hook in a layer, such as blocks.8.hook_mlp_out"
        )
    return Source.parse(f"{release.model}/{layer}-{release.set}")


def _write(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()
    write_bytes(file, gzip.compress(text, mtime=0) if file.suffix == ".gz" else text, "OUT")

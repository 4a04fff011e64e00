"""The files that Neuronpedia's import reads, for an SAE of ours.

What this rests on, and how far it was checked:

- An upload is by hand: its authors ask to be written to, and import files of the layout below (the
  README of hijohnnylin/neuronpedia, "Once dashboard files are generated …").
- Layout and fields: `{model}/{layer}-{set}/` with release.jsonl, model.jsonl, sourceset.jsonl,
  source.jsonl, features/batch-N.jsonl.gz and activations/batch-N.jsonl.gz, as
  `sae_dashboard/neuronpedia/neuronpedia_export.py` of SAEDashboard writes them. Read from that
  code, not tried against a server.
- `sae/`: the SAE in SAELens' form, from which SAEDashboard's own runner makes dashboards; that
  SAELens 6.54.12 loads it is checked by `python -m tests.bench.published`. The runner takes model
  name, hook (`blocks.N.…`) and text from the metadata.
- Figures: examples are the contexts with the largest values (their interval is written as
  SAEDashboard writes "top activations": from -1, share -1), not its samples of further intervals;
  correlated neurons and features are left empty; logits are decoder row times unembedding, without
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

from saecore.errors import ReleaseError
from saecore.files import write_bytes
from saecore.language_model.recorded import check_model, model_of, text_of
from saecore.reading import pick_device, read_tokens
from saecore.releases.load import Loaded
from saecore.releases.shareable import shareable
from saecore.releases.writing import published
from saecore.sae_config import Metadata
from saecore.saved import READABLE, write_sae
from saecore_plugins.commands.neuronpedia import dashboards
from saecore_plugins.commands.neuronpedia.records import Release, feature_rows, records
from saecore_plugins.commands.neuronpedia.sources import Source

BATCH = 128
"""Features in one file."""


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
    """Write everything below a directory.

    Args:
        loaded: the SAE.
        release: what people are to read.
        out: a directory that is new or empty.
        features: which features get dashboards; default: all.
        tokens: how many tokens of text they are made of.
        dataset: another text than that of the metadata.
        model: another name of the language model, or its directory.
        device: of model and SAE.
        count: examples of a feature.

    Returns:
        What the SAE would be called there.

    Raises:
        ReleaseError: `out` is not empty, SAELens has no such architecture, or the SAE does not say
            which layer it reads.
        SaecoreError: model or text cannot be read, or do not fit.
    """
    from saecore.language_model.names import layer_of

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ReleaseError(f"{out}: is there already; name a directory that is new or empty")
    sae = published(loaded.sae)
    hook = str(sae.cfg.metadata.get("hook_name"))
    layer = layer_of(hook)
    if sae.file_architecture not in READABLE:
        raise ReleaseError(
            f"architecture {sae.file_architecture}: SAELens has none of this name, and Neuronpedia "
            "works with its SAEs"
        )
    if layer is None:
        raise ReleaseError(f"hook {hook!r}: expected one of a layer, such as blocks.8.hook_mlp_out")
    wanted = range(sae.cfg.d_sae) if features is None else features
    if not wanted or wanted[-1] >= sae.cfg.d_sae:
        raise ReleaseError(f"features: expected some of 0 to {sae.cfg.d_sae - 1}")
    source = Source.parse(f"{release.model}/{layer}-{release.set}")

    chosen, table = model_of(sae, model), text_of(sae, dataset, "SAE")
    backend = chosen.build(pick_device(device, "--device", "device"), torch.float32)
    check_model(backend, sae, table, "SAE")
    held = read_tokens(table, backend, "SAE", tokens).held_out
    contexts = torch.from_numpy(held[: max(1, tokens // table.context_size)].astype("int64"))
    found = dashboards.collect(sae.to(backend.device), backend, contexts)

    place, sae = out / source.model / source.name, sae.to("cpu")
    metadata = shareable(dict(sae.cfg.metadata))
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata(metadata))
    write_sae(sae, out / "sae", loaded.sparsity)
    text = str(shareable(dataset or metadata.get("dataset_path")))
    for name, row in records(release, source, text, contexts).items():
        _write(place / f"{name}.jsonl", [row])
    matrix = dashboards.unembedding(sae, backend)
    for number, start in enumerate(range(0, len(wanted), BATCH)):
        rows = [
            feature_rows(one, source, sae, found, matrix, backend.tokenizer, count)
            for one in wanted[start : start + BATCH]
        ]
        _write(place / f"features/batch-{number}.jsonl.gz", [one for one, _ in rows])
        _write(
            place / f"activations/batch-{number}.jsonl.gz", [a for _, more in rows for a in more]
        )
    return source


def _write(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(one, allow_nan=False) + "\n" for one in rows).encode()
    write_bytes(file, gzip.compress(text, mtime=0) if file.suffix == ".gz" else text, "OUT")

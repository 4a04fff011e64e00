"""Models and datasets that Python code has loaded already, as the rest of saecore takes them."""

from __future__ import annotations

import os
import shutil
from typing import Any

from saecore.backend import ModelBackend
from saecore.data.tokens import cache_directory
from saecore.errors import DataError, ModelError
from saecore.files import explained
from saecore.plugins import Host


def backend_of(model: Any, host: Host) -> ModelBackend:
    """A `ModelBackend`: the model itself if it is one, else what a model plugin makes of it.

    Raises:
        ModelError: no plugin knows this kind of model.
    """
    if hasattr(model, "run_with") and hasattr(model, "vocab_size"):
        return model  # type: ignore[no-any-return]
    for name in host.names("model"):
        wrap = host.component("model", name).wrap
        backend: ModelBackend | None = None if wrap is None else wrap(model)
        if backend is not None:
            return backend
    raise ModelError(
        "model: expected a transformers model, a TransformerLens bridge or a ModelBackend, got "
        f"{type(model).__name__}"
    )


def path_of(dataset: Any) -> str:
    """The name or path of a dataset; a `datasets.Dataset` is written to the cache directory.

    Raises:
        DataError: it is neither.
        CheckpointError: the cache directory cannot be written.
    """
    if isinstance(dataset, str | os.PathLike):
        return os.fspath(dataset)
    if not hasattr(dataset, "save_to_disk") or not hasattr(dataset, "_fingerprint"):
        raise DataError(
            f"dataset: expected a datasets.Dataset, or a name or path, got {type(dataset).__name__}"
        )
    path = cache_directory() / "datasets" / dataset._fingerprint
    if not path.exists():
        temporary = path.with_name(f".{path.name}-{os.getpid()}")
        with explained(path, setting="the variable SAECORE_CACHE"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                dataset.save_to_disk(str(temporary))
                temporary.rename(path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return str(path)

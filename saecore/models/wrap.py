"""Adapting models and datasets that Python code has already loaded."""

from __future__ import annotations

import os
import shutil
from typing import Any

from saecore.core.model import ModelBackend
from saecore.errors import DataError, ModelError
from saecore.plugins.host import current_host
from saecore.storage.cache_directory import cache_directory
from saecore.storage.files import storage_errors


def backend_of(model: Any) -> ModelBackend:
    """The model itself if it is a `ModelBackend`, else the backend that a model plugin wraps it in.

    Raises:
        ModelError: no plugin supports this type of model.
    """
    if hasattr(model, "run_with") and hasattr(model, "vocab_size"):
        return model  # type: ignore[no-any-return]
    for name in current_host().names("model"):
        from_loaded = current_host().component("model", name).from_loaded
        backend: ModelBackend | None = None if from_loaded is None else from_loaded(model)
        if backend is not None:
            return backend
    raise ModelError(
        "model: expected a transformers model, a TransformerLens bridge or a ModelBackend, got "
        f"{type(model).__name__}"
    )


def path_of(dataset: Any) -> str:
    """The name or path of a dataset; a `datasets.Dataset` is saved to the cache directory first.

    Raises:
        DataError: it is neither a name, a path nor a `datasets.Dataset`.
        StorageError: the cache directory cannot be written.
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
        with storage_errors(path, setting="the variable SAECORE_CACHE"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                dataset.save_to_disk(str(temporary))
                temporary.rename(path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return str(path)

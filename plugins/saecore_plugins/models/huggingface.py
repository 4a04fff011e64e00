"""Causal language models in Hugging Face format, from a local directory or the hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.errors import ModelError
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    import torch

    from saecore.huggingface import HuggingFaceBackend


@attrs.frozen
class HuggingFaceConfig:
    """Which model."""

    name: str
    """Name on the hub, or a local directory."""
    revision: str | None = None
    """Branch, tag or commit on the hub; default: the main branch."""


def build(
    config: HuggingFaceConfig, device: torch.device, dtype: torch.dtype
) -> HuggingFaceBackend:
    """Load model and tokenizer; code that comes with a model is never run.

    Raises:
        ModelError: there is no such model, or it cannot be loaded.
    """
    from huggingface_hub.utils import logging as hub_logging
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from saecore.huggingface import HuggingFaceBackend

    logging.disable_progress_bar()
    hub_logging.set_verbosity_error()  # its retries would hide the one line that matters
    where = "directory" if Path(config.name).is_dir() else "hub"
    options = {} if config.revision is None else {"revision": config.revision}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            config.name, dtype=dtype, trust_remote_code=False, **options
        ).to(device)
        tokenizer = AutoTokenizer.from_pretrained(config.name, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"model.name: {config.name!r} cannot be loaded from the {where}: {reason} "
            "(expected the directory of a causal language model, or its name on the hub)"
        ) from error
    commit = getattr(model.config, "_commit_hash", None)
    identity = {"name": config.name, "revision": commit or config.revision, "dtype": str(dtype)}
    return HuggingFaceBackend(model, tokenizer, config.name, identity)


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the backend."""
    yield Component(
        kind="model",
        name="huggingface",
        config=HuggingFaceConfig,
        build=build,
        summary="a causal language model from a directory or the Hugging Face hub",
    )

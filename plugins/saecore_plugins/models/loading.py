"""Loading a model and its tokenizer with transformers, shared by the model plugins."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import attrs
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from huggingface_hub.utils import logging as hub_logging
from safetensors import SafetensorError
from transformers.models.auto import modeling_auto
from transformers.utils import logging

from saecore.errors import ModelError
from saecore.models.read_state import set_read_state
from saecore.storage.remote_code import remote_code_allowed
from saecore_plugins.models.fused import fuse_activations
from saecore_plugins.models.load_errors import describe_load_error, missing_weights

CANNOT_LOAD = (
    OSError, ValueError, ImportError, RuntimeError, SafetensorError, StrictDataclassError,
)  # fmt: skip
"""What `from_pretrained` raises for files that are missing, damaged or of an unknown type."""


@attrs.frozen
class Loaded:
    """A model on its device, with its tokenizer."""

    model: Any
    """A transformers model, with a language-model head if the files have one."""
    tokenizer: Any
    """A Hugging Face tokenizer."""
    identity: dict[str, Any]
    """What was loaded: name, commit or hash of the weights, dtype, …"""


def load(
    name: str,
    revision: str | None,
    device: torch.device,
    dtype: torch.dtype,
    attention: str | None = None,
    quantization: str | None = None,
) -> Loaded:
    """Load a model and its tokenizer, from a directory or the hub.

    Python code that comes with them runs only within
    `saecore.storage.remote_code.remote_code(True)`.

    Args:
        name: a directory, or a name on the hub.
        revision: branch, tag or commit on the hub; all files are taken from one commit.
        device: where the model goes.
        dtype: precision of its weights (with quantization, of those not quantized).
        attention: transformers' `attn_implementation`; default: chosen by transformers.
        quantization: "8bit", "4bit" or None.

    Raises:
        ModelError: there is no such model, it cannot be loaded, or it comes with the tokenizer of
            another model.
    """
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()  # its retry messages would hide the error
    directory = Path(name) if Path(name).is_dir() else None
    if directory is not None and not (directory / "config.json").is_file():
        raise ModelError(
            f"model.name: directory {name} has no config.json; expected a directory "
            "written by save_pretrained, with config.json, weights and tokenizer"
        )
    options: dict[str, Any] = {"trust_remote_code": remote_code_allowed()}
    if revision is not None:
        options["revision"] = revision
    try:
        config = transformers.AutoConfig.from_pretrained(name, **options)
        commit = getattr(config, "_commit_hash", None)
        if commit is not None:
            options["revision"] = commit  # a branch may move between two files
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
        settings = {"dtype": dtype, **_placement(device, dtype, attention, quantization)}
        model = _model(name, config, {**options, **settings})
    except CANNOT_LOAD as error:
        raise describe_load_error(name, revision, error) from error
    fuse_activations(model)
    if quantization is None:
        model = model.to(device)
    set_read_state(model)
    _check_tokenizer(name, tokenizer, model)
    identity = {
        "name": name,
        "revision": commit or revision,
        "sha256": None if directory is None else weights_hash(directory),
        "dtype": str(dtype),
        "attention": attention,
        "quantization": quantization,
    }
    return Loaded(
        model, tokenizer, {key: value for key, value in identity.items() if value is not None}
    )


def tokenizer_of(model: Any) -> Any:
    """The tokenizer from the files that a transformers model was loaded from.

    Raises:
        ModelError: the model does not say where that was, or has no tokenizer there.
    """
    name = model.name_or_path
    if not name:
        raise ModelError(
            "model: it does not say where it was loaded from, so there is no tokenizer; pass "
            "saecore.models.huggingface.HuggingFaceBackend(model, tokenizer, name, {})"
        )
    try:
        options = {"trust_remote_code": remote_code_allowed()}
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
    except CANNOT_LOAD as error:
        raise describe_load_error(name, None, error) from error
    _check_tokenizer(name, tokenizer, model)
    return tokenizer


def _placement(
    device: torch.device, dtype: torch.dtype, attention: str | None, quantization: str | None
) -> dict[str, Any]:
    """Arguments of `from_pretrained` for attention and quantization."""
    arguments: dict[str, Any] = {}
    if attention is not None:
        if attention == "flash_attention_2" and dtype == torch.float32:
            raise ModelError(
                'model.attention: "flash_attention_2" does not compute in float32; set '
                'model.dtype = "bfloat16", or model.attention = "sdpa"'
            )
        arguments["attn_implementation"] = attention
    if quantization is not None:
        missing = [name for name in ("bitsandbytes", "accelerate") if not _installed(name)]
        if missing:
            raise ModelError(
                f'model.quantization: "{quantization}" needs {" and ".join(missing)}; run '
                f"pip install {' '.join(missing)}, or remove the key"
            )
        bits = {f"load_in_{quantization}": True, "bnb_4bit_compute_dtype": dtype}
        arguments["quantization_config"] = transformers.BitsAndBytesConfig(**bits)
        arguments["device_map"] = {"": device}
    return arguments


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _model(name: str, config: Any, options: dict[str, Any]) -> Any:
    """Load the model, with its language-model head if the files have one."""
    if config.is_encoder_decoder:
        raise ModelError(
            f"model.name: {name} is an encoder-decoder ({config.model_type}); expected a causal "
            "language model or an encoder"
        )
    auto = _class_with_head(config)
    if auto is not None:
        model, report = auto.from_pretrained(name, output_loading_info=True, **options)
        missing = sorted(report["missing_keys"])
        if not missing:
            return model
        body = [key for key in missing if key.startswith(f"{model.base_model_prefix}.")]
        if body:
            raise missing_weights(name, body)
        del model  # a randomly initialized head is worse than none
    model, report = transformers.AutoModel.from_pretrained(
        name, output_loading_info=True, **options
    )
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise missing_weights(name, missing)
    return model


def _class_with_head(config: Any) -> Any:
    """The auto class that gives logits: masked for encoders, else causal; None if neither does."""
    kind, architecture = config.model_type, (config.architectures or [""])[0]
    auto_map = getattr(config, "auto_map", None) or {}
    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    masked = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.get(kind)
    is_causal = architecture == causal or getattr(config, "is_decoder", False)
    if (masked or "AutoModelForMaskedLM" in auto_map) and not (causal and is_causal):
        return transformers.AutoModelForMaskedLM
    if causal or "AutoModelForCausalLM" in auto_map:
        return transformers.AutoModelForCausalLM
    return None


def _check_tokenizer(name: str, tokenizer: Any, model: Any) -> None:
    """Raise if there is no tokenizer (transformers then returns an empty one) or another model's.

    Added tokens do not count: Gemma 3 has one more than its embedding has rows.
    """
    rows = int(model.get_input_embeddings().weight.shape[0])
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ModelError(
            f"model.name: {name} comes without a tokenizer; add the model's own, as written by "
            "tokenizer.save_pretrained (tokenizer.json and tokenizer_config.json)"
        )
    if tokenizer.vocab_size > rows:
        raise ModelError(
            f"model.name: the tokenizer of {name} has {tokenizer.vocab_size} tokens, the model's "
            f"embedding only {rows} rows; it belongs to another model; use the model's own"
        )


def weights_hash(directory: Path) -> str:
    """SHA-256 of a directory's weights; of several files, of their hashes sorted by file name."""
    files = sorted(directory.glob("*.safetensors")) or sorted(directory.glob("*.bin"))
    hashes = []
    for path in files:
        with path.open("rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()

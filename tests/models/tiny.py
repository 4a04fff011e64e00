"""Tiny random models of every family with a hook table, made without a hub."""

import torch
import transformers

from saecore.models.huggingface import HuggingFaceBackend
from saecore_plugins.models.loading import load
from saecore_plugins.models.tiny_lm import DIRECTORY

VOCABULARY = 61
TOKENS = torch.arange(40).view(2, 20)
_PLAIN = {
    "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 32, "vocab_size": VOCABULARY,
}  # fmt: skip
_GROUPED = {**_PLAIN, "num_key_value_heads": 2}
_WIDE_HEADS = {**_GROUPED, "head_dim": 6}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, "vocab_size": VOCABULARY}
_NEO = {
    "hidden_size": 32, "num_layers": 2, "num_heads": 4, "vocab_size": VOCABULARY,
    "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 32,
}  # fmt: skip
_NO_SPECIAL = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
_VISION = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 16, "patch_size": 8,
}  # fmt: skip

MODELS = {
    "bert": ("BertForMaskedLM", "BertConfig", _PLAIN),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", _WIDE_HEADS),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", _WIDE_HEADS),
    "gemma3_text": ("Gemma3ForCausalLM", "Gemma3TextConfig", _WIDE_HEADS),
    "gemma3": (
        "Gemma3ForConditionalGeneration",
        "Gemma3Config",
        {"text_config": _WIDE_HEADS, "vision_config": _VISION, "mm_tokens_per_image": 4},
    ),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {**_GPT2, **_NO_SPECIAL}),
    "gpt_neo": ("GPTNeoForCausalLM", "GPTNeoConfig", _NEO),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", _PLAIN),
    "gpt_neox, in sequence": (
        "GPTNeoXForCausalLM",
        "GPTNeoXConfig",
        {**_PLAIN, "use_parallel_residual": False},
    ),
    "llama": ("LlamaForCausalLM", "LlamaConfig", _WIDE_HEADS),
    "mistral": ("MistralForCausalLM", "MistralConfig", _WIDE_HEADS),
    "phi": ("PhiForCausalLM", "PhiConfig", _PLAIN),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", {**_GROUPED, **_NO_SPECIAL}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", _GROUPED),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", _WIDE_HEADS),
}
"""Class, class of its configuration, settings; the part of the name before a comma is the type."""


def make(name):
    """A model in which every weight is random: norms too, so that no two hooks are equal."""
    cls, config, settings = MODELS[name]
    model = getattr(transformers, cls)(getattr(transformers, config)(**settings)).eval()
    model.config.architectures = [cls]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def backend(name):
    """A tiny model in a `HuggingFaceBackend`, without a tokenizer."""
    return HuggingFaceBackend(make(name), None, name, {})


def tokenizer():
    """The embedded model's tokenizer."""
    return load(str(DIRECTORY), None, torch.device("cpu"), torch.float32).tokenizer

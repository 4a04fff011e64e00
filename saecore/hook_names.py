"""TransformerLens hook names for Hugging Face modules, one table a model family.

A place is a module path and a side: what the module gets ("in") or gives ("out"); `part` cuts
the last dimension in equal parts, `heads` says that it holds all heads one after another.
Any other module can be named by its path: `transformer.h.2` (its output) or
`transformer.h.2.mlp:in` (its input).
"""

from __future__ import annotations

import re
from typing import Literal

import attrs
import torch
from torch import Tensor


@attrs.frozen
class Place:
    """Where an activation is in a Hugging Face model."""

    path: str
    """Path of the module."""
    side: Literal["in", "out"] = "out"
    """Its first input or its (first) output."""
    part: tuple[int, int] | None = None
    """(i, n): the i-th of n equal parts of the last dimension."""
    heads: bool = False
    """The last dimension is heads · d_head."""

    def read(self, value: Tensor, n_heads: int) -> Tensor:
        """The activation in the module's tensor: `[B, T, d]` or `[B, T, heads, d_head]`."""
        if self.part is not None:
            value = value.chunk(self.part[1], dim=-1)[self.part[0]]
        return value.unflatten(-1, (n_heads, -1)) if self.heads else value

    def write(self, value: Tensor, new: Tensor) -> Tensor:
        """The module's tensor with the activation replaced."""
        new = (new.flatten(-2) if self.heads else new).to(value.dtype)
        if self.part is None:
            return new
        pieces = list(value.chunk(self.part[1], dim=-1))
        pieces[self.part[0]] = new
        return torch.cat(pieces, dim=-1)


_GPT2 = {
    "hook_embed": Place("transformer.wte"),
    "hook_pos_embed": Place("transformer.wpe"),
    "blocks.{}.hook_resid_pre": Place("transformer.h.{}", "in"),
    "blocks.{}.attn.hook_q": Place("transformer.h.{}.attn.c_attn", part=(0, 3), heads=True),
    "blocks.{}.attn.hook_k": Place("transformer.h.{}.attn.c_attn", part=(1, 3), heads=True),
    "blocks.{}.attn.hook_v": Place("transformer.h.{}.attn.c_attn", part=(2, 3), heads=True),
    "blocks.{}.attn.hook_z": Place("transformer.h.{}.attn.c_proj", "in", heads=True),
    "blocks.{}.hook_attn_out": Place("transformer.h.{}.attn"),
    "blocks.{}.hook_resid_mid": Place("transformer.h.{}.ln_2", "in"),
    "blocks.{}.mlp.hook_pre": Place("transformer.h.{}.mlp.c_fc"),
    "blocks.{}.mlp.hook_post": Place("transformer.h.{}.mlp.c_proj", "in"),
    "blocks.{}.hook_mlp_out": Place("transformer.h.{}.mlp"),
    "blocks.{}.hook_resid_post": Place("transformer.h.{}"),
}
_LLAMA = {
    "hook_embed": Place("model.embed_tokens"),
    "blocks.{}.hook_resid_pre": Place("model.layers.{}", "in"),
    "blocks.{}.attn.hook_z": Place("model.layers.{}.self_attn.o_proj", "in", heads=True),
    "blocks.{}.hook_attn_out": Place("model.layers.{}.self_attn"),
    "blocks.{}.hook_resid_mid": Place("model.layers.{}.post_attention_layernorm", "in"),
    "blocks.{}.mlp.hook_post": Place("model.layers.{}.mlp.down_proj", "in"),
    "blocks.{}.hook_mlp_out": Place("model.layers.{}.mlp"),
    "blocks.{}.hook_resid_post": Place("model.layers.{}"),
}
FAMILIES = {"gpt2": _GPT2, "llama": _LLAMA, "mistral": _LLAMA, "qwen2": _LLAMA}
"""Model types (as in config.json) to their tables; `{}` stands for the layer."""


def hook_names(model_type: str, n_layers: int) -> dict[str, Place]:
    """Every TransformerLens name of a model and its place."""
    places = {}
    for name, place in FAMILIES.get(model_type, {}).items():
        for layer in range(n_layers) if "{}" in name else (0,):
            path = place.path.format(layer)
            places[name.format(layer)] = attrs.evolve(place, path=path)
    return places


def module_place(hook: str) -> Place:
    """The place named by a module path, `path`, `path:in` or `path:out`."""
    match = re.fullmatch(r"(.+?)(?::(in|out))?", hook)
    assert match is not None
    return Place(match[1], "in" if match[2] == "in" else "out")

"""Where an activation is in a Hugging Face model."""

from __future__ import annotations

from typing import Literal

import attrs
from torch import Tensor


@attrs.frozen
class Place:
    """A module, its input or its output, and which part of that tensor."""

    path: str
    """Path of the module; in tables `{}` stands for the layer."""
    side: Literal["in", "out"] = "out"
    """Its first input or its (first) output."""
    heads: tuple[int, int, int] | None = None
    """(first, count, n): the last dimension is n · d_head; these `count` heads from `first` on."""
    part: tuple[int, int] | None = None
    """(i, n): the i-th of n equal parts of the last dimension (with `heads`: of each head)."""

    def read(self, value: Tensor) -> Tensor:
        """The activation, a view of the module's tensor: `[B, T, d]` or `[B, T, heads, d_head]`."""
        if self.heads is not None:
            first, count, n = self.heads
            value = value.unflatten(-1, (n, -1))[..., first : first + count, :]
        if self.part is not None:
            value = value.chunk(self.part[1], dim=-1)[self.part[0]]
        return value

    def write(self, value: Tensor, new: Tensor) -> Tensor:
        """The module's tensor with the activation replaced."""
        if self.part is None and (self.heads is None or self.heads[1] == self.heads[2]):
            return (new if self.heads is None else new.flatten(-2)).to(value.dtype)
        whole = value.clone()
        self.read(whole).copy_(new)
        return whole


Table = dict[str, Place]
"""TransformerLens names, with `{}` for the layer, to places below the model without its head."""


@attrs.frozen
class Sizes:
    """What a table needs to know of a model's configuration."""

    heads: int
    """Query heads; as many as hook_z has."""
    kv_heads: int
    """Key and value heads; fewer with grouped queries."""
    parallel: bool
    """Attention and MLP read the same residual stream (GPT-NeoX)."""


def attention(path: str, sizes: Sizes, q: str, k: str, v: str, z: str) -> Table:
    """Hooks of an attention that has a projection each for queries, keys, values and its output.

    Args:
        path: the attention's module.
        sizes: numbers of heads.
        q: name of the projection to queries; `k` and `v` likewise.
        k: see `q`.
        v: see `q`.
        z: name of the projection that reads the heads' outputs.
    """
    heads, kv_heads = sizes.heads, sizes.kv_heads
    return {
        "blocks.{}.attn.hook_q": Place(f"{path}.{q}", heads=(0, heads, heads)),
        "blocks.{}.attn.hook_k": Place(f"{path}.{k}", heads=(0, kv_heads, kv_heads)),
        "blocks.{}.attn.hook_v": Place(f"{path}.{v}", heads=(0, kv_heads, kv_heads)),
        "blocks.{}.attn.hook_z": Place(f"{path}.{z}", "in", heads=(0, heads, heads)),
    }


def joint_attention(path: str, sizes: Sizes, qkv: str, z: str) -> Table:
    """Hooks of an attention whose one projection gives all queries, then all keys, all values.

    Args:
        path: the attention's module.
        sizes: numbers of heads.
        qkv: name of the joint projection.
        z: name of the projection that reads the heads' outputs.
    """
    heads, kv_heads = sizes.heads, sizes.kv_heads
    n = heads + 2 * kv_heads
    return {
        "blocks.{}.attn.hook_q": Place(f"{path}.{qkv}", heads=(0, heads, n)),
        "blocks.{}.attn.hook_k": Place(f"{path}.{qkv}", heads=(heads, kv_heads, n)),
        "blocks.{}.attn.hook_v": Place(f"{path}.{qkv}", heads=(heads + kv_heads, kv_heads, n)),
        "blocks.{}.attn.hook_z": Place(f"{path}.{z}", "in", heads=(0, heads, heads)),
    }

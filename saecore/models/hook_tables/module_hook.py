"""A hook as a module of a Hugging Face model and a part of its input or output."""

from __future__ import annotations

from typing import Literal

import attrs
from torch import Tensor


@attrs.frozen(kw_only=True)
class ModuleHook:
    """A module, its input or output, and a part of that tensor."""

    path: str
    """Path of the module; in tables, `{}` stands for the layer."""
    side: Literal["in", "out"] = "out"
    """Its first input or its first output."""
    heads: tuple[int, int, int] | None = None
    """(first, count, n): `count` heads starting at `first`, of a last dimension n · d_head."""
    part: tuple[int, int] | None = None
    """(i, n): part i of n equal parts of the last dimension (with `heads`, of each head)."""

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


Table = dict[str, ModuleHook]
"""TransformerLens names, with `{}` for the layer, to hooks; paths begin below the head's model."""


@attrs.frozen
class HeadSizes:
    """The part of a model's configuration that decides its table."""

    heads: int
    """Query heads; hook_z has the same number."""
    kv_heads: int
    """Key and value heads; fewer with grouped queries."""
    parallel: bool
    """Attention and MLP read the same residual stream (GPT-NeoX)."""


def attention(path: str, sizes: HeadSizes, q: str, k: str, v: str, z: str) -> Table:
    """Hooks of an attention with separate projections for queries, keys and values.

    Args:
        path: the attention's module.
        sizes: numbers of heads.
        q: name of the query projection.
        k: name of the key projection.
        v: name of the value projection.
        z: name of the projection that reads the heads' outputs.
    """
    heads, kv_heads = sizes.heads, sizes.kv_heads
    return {
        "blocks.{}.attn.hook_q": ModuleHook(path=f"{path}.{q}", heads=(0, heads, heads)),
        "blocks.{}.attn.hook_k": ModuleHook(path=f"{path}.{k}", heads=(0, kv_heads, kv_heads)),
        "blocks.{}.attn.hook_v": ModuleHook(path=f"{path}.{v}", heads=(0, kv_heads, kv_heads)),
        "blocks.{}.attn.hook_z": ModuleHook(path=f"{path}.{z}", side="in", heads=(0, heads, heads)),
    }


def joint_attention(path: str, sizes: HeadSizes, qkv: str, z: str) -> Table:
    """Hooks of an attention with one projection for all queries, then all keys, then all values.

    Args:
        path: the attention's module.
        sizes: numbers of heads.
        qkv: name of the joint projection.
        z: name of the projection that reads the heads' outputs.
    """
    heads, kv_heads = sizes.heads, sizes.kv_heads
    n = heads + 2 * kv_heads
    return {
        "blocks.{}.attn.hook_q": ModuleHook(path=f"{path}.{qkv}", heads=(0, heads, n)),
        "blocks.{}.attn.hook_k": ModuleHook(path=f"{path}.{qkv}", heads=(heads, kv_heads, n)),
        "blocks.{}.attn.hook_v": ModuleHook(
            path=f"{path}.{qkv}", heads=(heads + kv_heads, kv_heads, n)
        ),
        "blocks.{}.attn.hook_z": ModuleHook(path=f"{path}.{z}", side="in", heads=(0, heads, heads)),
    }

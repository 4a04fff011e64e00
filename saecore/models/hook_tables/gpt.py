"""Models with LayerNorm and a plain MLP: GPT-2, GPT-Neo, GPT-NeoX (Pythia), Phi."""

from __future__ import annotations

from saecore.models.hook_tables.module_hook import (
    HeadSizes,
    ModuleHook,
    Table,
    attention,
    joint_attention,
)


def gpt2(sizes: HeadSizes) -> Table:
    """GPT-2: one projection computes queries, keys and values of all heads."""
    return {**_gpt2_block(), **joint_attention("h.{}.attn", sizes, "c_attn", "c_proj")}


def gpt_neo(sizes: HeadSizes) -> Table:
    """GPT-Neo: GPT-2's block, with the attention inside a wrapper."""
    path = "h.{}.attn.attention"
    return {**_gpt2_block(), **attention(path, sizes, "q_proj", "k_proj", "v_proj", "out_proj")}


def _gpt2_block() -> Table:
    return {
        "hook_embed": ModuleHook(path="wte"),
        "hook_pos_embed": ModuleHook(path="wpe"),
        "blocks.{}.hook_resid_pre": ModuleHook(path="h.{}", side="in"),
        "blocks.{}.hook_attn_out": ModuleHook(path="h.{}.attn"),
        "blocks.{}.hook_resid_mid": ModuleHook(path="h.{}.ln_2", side="in"),
        "blocks.{}.mlp.hook_in": ModuleHook(path="h.{}.mlp", side="in"),
        "blocks.{}.mlp.hook_pre": ModuleHook(path="h.{}.mlp.c_fc"),
        "blocks.{}.mlp.hook_post": ModuleHook(path="h.{}.mlp.c_proj", side="in"),
        "blocks.{}.hook_mlp_out": ModuleHook(path="h.{}.mlp"),
        "blocks.{}.hook_resid_post": ModuleHook(path="h.{}"),
    }


def gpt_neox(sizes: HeadSizes) -> Table:
    """GPT-NeoX: the joint projection interleaves query, key and value head by head.

    Where attention and MLP run in parallel (Pythia) there is no hook_resid_mid: that sum is never
    computed.
    """
    path, n = "layers.{}.attention", sizes.heads
    mid = ModuleHook(path="layers.{}.post_attention_layernorm", side="in")
    return {
        "hook_embed": ModuleHook(path="embed_in"),
        "blocks.{}.hook_resid_pre": ModuleHook(path="layers.{}", side="in"),
        "blocks.{}.attn.hook_q": ModuleHook(
            path=f"{path}.query_key_value", heads=(0, n, n), part=(0, 3)
        ),
        "blocks.{}.attn.hook_k": ModuleHook(
            path=f"{path}.query_key_value", heads=(0, n, n), part=(1, 3)
        ),
        "blocks.{}.attn.hook_v": ModuleHook(
            path=f"{path}.query_key_value", heads=(0, n, n), part=(2, 3)
        ),
        "blocks.{}.attn.hook_z": ModuleHook(path=f"{path}.dense", side="in", heads=(0, n, n)),
        "blocks.{}.hook_attn_out": ModuleHook(path=path),
        **({} if sizes.parallel else {"blocks.{}.hook_resid_mid": mid}),
        "blocks.{}.mlp.hook_in": ModuleHook(path="layers.{}.mlp", side="in"),
        "blocks.{}.mlp.hook_pre": ModuleHook(path="layers.{}.mlp.dense_h_to_4h"),
        "blocks.{}.mlp.hook_post": ModuleHook(path="layers.{}.mlp.dense_4h_to_h", side="in"),
        "blocks.{}.hook_mlp_out": ModuleHook(path="layers.{}.mlp"),
        "blocks.{}.hook_resid_post": ModuleHook(path="layers.{}"),
    }


def phi(sizes: HeadSizes) -> Table:
    """Phi 1 and 2: attention and MLP run in parallel, so there is no hook_resid_mid."""
    return {
        "hook_embed": ModuleHook(path="embed_tokens"),
        "blocks.{}.hook_resid_pre": ModuleHook(path="layers.{}", side="in"),
        **attention("layers.{}.self_attn", sizes, "q_proj", "k_proj", "v_proj", "dense"),
        "blocks.{}.hook_attn_out": ModuleHook(path="layers.{}.self_attn"),
        "blocks.{}.mlp.hook_in": ModuleHook(path="layers.{}.mlp", side="in"),
        "blocks.{}.mlp.hook_pre": ModuleHook(path="layers.{}.mlp.fc1"),
        "blocks.{}.mlp.hook_post": ModuleHook(path="layers.{}.mlp.fc2", side="in"),
        "blocks.{}.hook_mlp_out": ModuleHook(path="layers.{}.mlp"),
        "blocks.{}.hook_resid_post": ModuleHook(path="layers.{}"),
    }

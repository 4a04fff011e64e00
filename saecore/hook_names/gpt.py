"""Models with LayerNorm and a plain MLP: GPT-2, GPT-Neo, GPT-NeoX (Pythia), Phi."""

from __future__ import annotations

from saecore.hook_names.place import Place, Sizes, Table, attention, joint_attention


def gpt2(sizes: Sizes) -> Table:
    """GPT-2: one projection gives queries, keys and values of all heads."""
    return {**_gpt2_block(), **joint_attention("h.{}.attn", sizes, "c_attn", "c_proj")}


def gpt_neo(sizes: Sizes) -> Table:
    """GPT-Neo: GPT-2's block with an attention in a wrapper."""
    path = "h.{}.attn.attention"
    return {**_gpt2_block(), **attention(path, sizes, "q_proj", "k_proj", "v_proj", "out_proj")}


def _gpt2_block() -> Table:
    return {
        "hook_embed": Place("wte"),
        "hook_pos_embed": Place("wpe"),
        "blocks.{}.hook_resid_pre": Place("h.{}", "in"),
        "blocks.{}.hook_attn_out": Place("h.{}.attn"),
        "blocks.{}.hook_resid_mid": Place("h.{}.ln_2", "in"),
        "blocks.{}.mlp.hook_in": Place("h.{}.mlp", "in"),
        "blocks.{}.mlp.hook_pre": Place("h.{}.mlp.c_fc"),
        "blocks.{}.mlp.hook_post": Place("h.{}.mlp.c_proj", "in"),
        "blocks.{}.hook_mlp_out": Place("h.{}.mlp"),
        "blocks.{}.hook_resid_post": Place("h.{}"),
    }


def gpt_neox(sizes: Sizes) -> Table:
    """GPT-NeoX: query, key and value of one head stand side by side.

    There is no hook_resid_mid where attention and MLP run in parallel (Pythia): no such sum
    is ever formed.
    """
    path, n = "layers.{}.attention", sizes.heads
    mid = Place("layers.{}.post_attention_layernorm", "in")
    return {
        "hook_embed": Place("embed_in"),
        "blocks.{}.hook_resid_pre": Place("layers.{}", "in"),
        "blocks.{}.attn.hook_q": Place(f"{path}.query_key_value", heads=(0, n, n), part=(0, 3)),
        "blocks.{}.attn.hook_k": Place(f"{path}.query_key_value", heads=(0, n, n), part=(1, 3)),
        "blocks.{}.attn.hook_v": Place(f"{path}.query_key_value", heads=(0, n, n), part=(2, 3)),
        "blocks.{}.attn.hook_z": Place(f"{path}.dense", "in", heads=(0, n, n)),
        "blocks.{}.hook_attn_out": Place(path),
        **({} if sizes.parallel else {"blocks.{}.hook_resid_mid": mid}),
        "blocks.{}.mlp.hook_in": Place("layers.{}.mlp", "in"),
        "blocks.{}.mlp.hook_pre": Place("layers.{}.mlp.dense_h_to_4h"),
        "blocks.{}.mlp.hook_post": Place("layers.{}.mlp.dense_4h_to_h", "in"),
        "blocks.{}.hook_mlp_out": Place("layers.{}.mlp"),
        "blocks.{}.hook_resid_post": Place("layers.{}"),
    }


def phi(sizes: Sizes) -> Table:
    """Phi 1 and 2: attention and MLP in parallel, so no hook_resid_mid."""
    return {
        "hook_embed": Place("embed_tokens"),
        "blocks.{}.hook_resid_pre": Place("layers.{}", "in"),
        **attention("layers.{}.self_attn", sizes, "q_proj", "k_proj", "v_proj", "dense"),
        "blocks.{}.hook_attn_out": Place("layers.{}.self_attn"),
        "blocks.{}.mlp.hook_in": Place("layers.{}.mlp", "in"),
        "blocks.{}.mlp.hook_pre": Place("layers.{}.mlp.fc1"),
        "blocks.{}.mlp.hook_post": Place("layers.{}.mlp.fc2", "in"),
        "blocks.{}.hook_mlp_out": Place("layers.{}.mlp"),
        "blocks.{}.hook_resid_post": Place("layers.{}"),
    }

"""Models with RMSNorm and a gated MLP: Llama, Mistral, Qwen, Gemma, Phi 3."""

from __future__ import annotations

import attrs

from saecore.hook_names.place import Place, Sizes, Table, attention, joint_attention


def llama(sizes: Sizes) -> Table:
    """Llama, Mistral, Qwen 2 and 3, Gemma 1.

    hook_q and hook_k are what the projections give, before Qwen 3's norms and before rotation.
    """
    return {
        "hook_embed": Place("embed_tokens"),
        "blocks.{}.hook_resid_pre": Place("layers.{}", "in"),
        **attention("layers.{}.self_attn", sizes, "q_proj", "k_proj", "v_proj", "o_proj"),
        "blocks.{}.hook_attn_out": Place("layers.{}.self_attn"),
        "blocks.{}.hook_resid_mid": Place("layers.{}.post_attention_layernorm", "in"),
        "blocks.{}.mlp.hook_in": Place("layers.{}.mlp", "in"),
        "blocks.{}.mlp.hook_pre": Place("layers.{}.mlp.gate_proj"),
        "blocks.{}.mlp.hook_pre_linear": Place("layers.{}.mlp.up_proj"),
        "blocks.{}.mlp.hook_post": Place("layers.{}.mlp.down_proj", "in"),
        "blocks.{}.hook_mlp_out": Place("layers.{}.mlp"),
        "blocks.{}.hook_resid_post": Place("layers.{}"),
    }


def gemma2(sizes: Sizes) -> Table:
    """Gemma 2 and 3: a norm behind attention and MLP as well.

    What joins the residual stream comes out of those norms, so hook_attn_out and hook_mlp_out
    are behind them, and the stream between the two is the input of the norm before the MLP.
    """
    return {
        **llama(sizes),
        "blocks.{}.hook_attn_out": Place("layers.{}.post_attention_layernorm"),
        "blocks.{}.hook_resid_mid": Place("layers.{}.pre_feedforward_layernorm", "in"),
        "blocks.{}.hook_mlp_out": Place("layers.{}.post_feedforward_layernorm"),
    }


def gemma3(sizes: Sizes) -> Table:
    """Gemma 3 with its vision tower: the language model is one module further down."""
    return {
        name: attrs.evolve(place, path=f"language_model.{place.path}")
        for name, place in gemma2(sizes).items()
    }


def phi3(sizes: Sizes) -> Table:
    """Phi 3: Llama with joint projections in attention and MLP."""
    return {
        **llama(sizes),
        **joint_attention("layers.{}.self_attn", sizes, "qkv_proj", "o_proj"),
        "blocks.{}.mlp.hook_pre": Place("layers.{}.mlp.gate_up_proj", part=(0, 2)),
        "blocks.{}.mlp.hook_pre_linear": Place("layers.{}.mlp.gate_up_proj", part=(1, 2)),
    }

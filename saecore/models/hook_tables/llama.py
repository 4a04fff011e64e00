"""Models with RMSNorm and a gated MLP: Llama, Mistral, Qwen, Gemma, Phi 3."""

from __future__ import annotations

import attrs

from saecore.models.hook_tables.module_hook import (
    HeadSizes,
    ModuleHook,
    Table,
    attention,
    joint_attention,
)


def llama(sizes: HeadSizes) -> Table:
    """Llama, Mistral, Qwen 2 and 3, Gemma 1.

    hook_q and hook_k are the outputs of the projections, before Qwen 3's norms and rotation.
    """
    return {
        "hook_embed": ModuleHook(path="embed_tokens"),
        "blocks.{}.hook_resid_pre": ModuleHook(path="layers.{}", side="in"),
        **attention("layers.{}.self_attn", sizes, "q_proj", "k_proj", "v_proj", "o_proj"),
        "blocks.{}.hook_attn_out": ModuleHook(path="layers.{}.self_attn"),
        "blocks.{}.hook_resid_mid": ModuleHook(
            path="layers.{}.post_attention_layernorm", side="in"
        ),
        "blocks.{}.mlp.hook_in": ModuleHook(path="layers.{}.mlp", side="in"),
        "blocks.{}.mlp.hook_pre": ModuleHook(path="layers.{}.mlp.gate_proj"),
        "blocks.{}.mlp.hook_pre_linear": ModuleHook(path="layers.{}.mlp.up_proj"),
        "blocks.{}.mlp.hook_post": ModuleHook(path="layers.{}.mlp.down_proj", side="in"),
        "blocks.{}.hook_mlp_out": ModuleHook(path="layers.{}.mlp"),
        "blocks.{}.hook_resid_post": ModuleHook(path="layers.{}"),
    }


def gemma2(sizes: HeadSizes) -> Table:
    """Gemma 2 and 3: attention and MLP are also followed by norms.

    Those norms' outputs are added to the residual stream, so they are hook_attn_out and
    hook_mlp_out; the stream between the two is the input of the norm before the MLP.
    """
    return {
        **llama(sizes),
        "blocks.{}.hook_attn_out": ModuleHook(path="layers.{}.post_attention_layernorm"),
        "blocks.{}.hook_resid_mid": ModuleHook(
            path="layers.{}.pre_feedforward_layernorm", side="in"
        ),
        "blocks.{}.hook_mlp_out": ModuleHook(path="layers.{}.post_feedforward_layernorm"),
    }


def gemma3(sizes: HeadSizes) -> Table:
    """Gemma 3 with its vision tower: the language model is nested one module deeper."""
    return {
        name: attrs.evolve(hook, path=f"language_model.{hook.path}")
        for name, hook in gemma2(sizes).items()
    }


def phi3(sizes: HeadSizes) -> Table:
    """Phi 3: Llama with joint projections in attention and MLP."""
    return {
        **llama(sizes),
        **joint_attention("layers.{}.self_attn", sizes, "qkv_proj", "o_proj"),
        "blocks.{}.mlp.hook_pre": ModuleHook(path="layers.{}.mlp.gate_up_proj", part=(0, 2)),
        "blocks.{}.mlp.hook_pre_linear": ModuleHook(path="layers.{}.mlp.gate_up_proj", part=(1, 2)),
    }

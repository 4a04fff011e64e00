"""BERT, with post-norm layers: every norm follows the sum that it normalizes."""

from __future__ import annotations

from saecore.models.hook_tables.module_hook import HeadSizes, ModuleHook, Table, attention


def bert(sizes: HeadSizes) -> Table:
    """BERT, with the names that TransformerLens' bridge gives its modules.

    hook_embed is the sum of all embeddings after their norm; hook_attn_out is the stream after the
    norm that follows attention; hook_resid_mid is the input of the layer's last norm, which already
    includes the MLP's output.
    """
    layer = "encoder.layer.{}"
    return {
        "hook_embed": ModuleHook(path="embeddings.LayerNorm"),
        "hook_pos_embed": ModuleHook(path="embeddings.position_embeddings"),
        "blocks.{}.hook_resid_pre": ModuleHook(path=layer, side="in"),
        **attention(
            f"{layer}.attention", sizes, "self.query", "self.key", "self.value", "output.dense"
        ),
        "blocks.{}.hook_attn_out": ModuleHook(path=f"{layer}.attention"),
        "blocks.{}.hook_resid_mid": ModuleHook(path=f"{layer}.output.LayerNorm", side="in"),
        "blocks.{}.mlp.hook_in": ModuleHook(path=f"{layer}.intermediate", side="in"),
        "blocks.{}.mlp.hook_pre": ModuleHook(path=f"{layer}.intermediate.dense"),
        "blocks.{}.mlp.hook_post": ModuleHook(path=f"{layer}.output.dense", side="in"),
        "blocks.{}.hook_mlp_out": ModuleHook(path=f"{layer}.output.dense"),
        "blocks.{}.hook_resid_post": ModuleHook(path=layer),
    }

"""BERT: every norm stands behind the sum it normalises."""

from __future__ import annotations

from saecore.hook_names.place import Place, Sizes, Table, attention


def bert(sizes: Sizes) -> Table:
    """BERT, by the places that TransformerLens' bridge gives its names.

    hook_embed is the sum of all embeddings behind their norm; hook_attn_out is the stream behind
    the norm that follows attention; hook_resid_mid is what the layer's last norm reads, with the
    MLP's output already in it.
    """
    layer = "encoder.layer.{}"
    return {
        "hook_embed": Place("embeddings.LayerNorm"),
        "hook_pos_embed": Place("embeddings.position_embeddings"),
        "blocks.{}.hook_resid_pre": Place(layer, "in"),
        **attention(
            f"{layer}.attention", sizes, "self.query", "self.key", "self.value", "output.dense"
        ),
        "blocks.{}.hook_attn_out": Place(f"{layer}.attention"),
        "blocks.{}.hook_resid_mid": Place(f"{layer}.output.LayerNorm", "in"),
        "blocks.{}.mlp.hook_in": Place(f"{layer}.intermediate", "in"),
        "blocks.{}.mlp.hook_pre": Place(f"{layer}.intermediate.dense"),
        "blocks.{}.mlp.hook_post": Place(f"{layer}.output.dense", "in"),
        "blocks.{}.hook_mlp_out": Place(f"{layer}.output.dense"),
        "blocks.{}.hook_resid_post": Place(layer),
    }

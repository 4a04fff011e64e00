"""The recorded tiny GPT-2 in both kinds of model, and SAEs for it."""

import attrs
import torch
from transformers import AutoModelForCausalLM

from saecore import SAE, HookedSAETransformer, Shape
from saecore.core.sae_config import Metadata
from saecore.plugins.structure import structure_choice
from saecore.randomness import generator
from saecore_plugins.models.transformer_lens.backend import build_bridge
from tests.conftest import DATA
from tests.models.tiny import tokenizer

RECORDED = DATA / "oracle" / "model"
TOKENS = torch.arange(3 * 11).view(3, 11) * 7 % 61
HOOK = "blocks.1.hook_resid_pre"
MLP, MLP_IN = "blocks.1.hook_mlp_out", "blocks.1.mlp.hook_in"
Z = "blocks.1.attn.hook_z"


def plain(root=RECORDED):
    """The model as transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(root / "model")


def hooked(root=RECORDED):
    """The model behind TransformerLens' bridge, with room for SAEs."""
    bridge = build_bridge(plain(root), tokenizer(), "recorded", torch.float32, False)
    return HookedSAETransformer.from_bridge(bridge.requires_grad_(True))


def recorded(name, root=RECORDED, **options):
    """One of the recorded SAEs: resid, mlp or z."""
    return SAE.load_from_disk(root / f"sae_{name}", **options)


def random_sae(table, d_in=24, d_out=None, d_sae=72, hooks=1, reshape="none", norm="none", **meta):
    """An SAE with random weights and biases; `meta` is its metadata."""
    choice = structure_choice("architecture", table)
    sae = choice.build(Shape(d_in, d_out or d_in, d_sae, hooks=hooks))
    with torch.no_grad():
        for i, (name, one) in enumerate(sorted(sae.named_parameters())):
            size = 0.3 if one.dim() == 2 else 0.1
            one.copy_(size * torch.randn(one.shape, generator=generator(0, "random", i)))
            if "threshold" in name:
                one.abs_()
    if table["architecture"] == "clt":
        sae.after_step()
    sae.cfg = attrs.evolve(
        sae.cfg, normalize_activations=norm, reshape_activations=reshape, metadata=Metadata(meta)
    )
    return sae

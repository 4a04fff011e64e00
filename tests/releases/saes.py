"""A small SAE of every kind, and the formats that can express it."""

import attrs
import torch

from saecore import SAE
from saecore.core.sae_config import Metadata, Shape
from saecore.randomness import generator
from tests.conftest import DATA
from tests.saecore_plugins.architectures.build import choice, make

METADATA = {
    "model_name": "google/gemma-2-2b",
    "hook_name": "blocks.3.hook_resid_post",
    "dataset_path": "some/text",
    "context_size": 128,
}
"""Where they say that they come from."""

ALL = {"saelens", "dictionary_learning", "sparsify", "llamascopium", "gemma_scope"}
"""The formats that can be written."""


def opened(architecture, d_out=6, **activation):
    """An SAE of an architecture that leaves the activation open; weights are random."""
    table = {"architecture": architecture, "activation": {"type": "relu", **activation}}
    several = architecture in ("crosscoder", "clt")
    hooks = 2 if several else 1
    shape = Shape(6 * hooks, d_out * hooks, 20, hooks=hooks)
    sae = choice("architecture", table).build(shape)
    with torch.no_grad():
        for i, one in enumerate(sae.parameters()):
            one.copy_(0.4 * torch.randn(one.shape, generator=generator(1, "more", i)))
        if "threshold" in dict(sae.activation.named_parameters()):
            sae.activation.threshold.abs_()
        if architecture == "clt":
            sae.after_step()
    return sae


def changed(sae, **fields):
    """The SAE with another configuration."""
    sae.cfg = attrs.evolve(sae.cfg, **fields)
    return sae


def trained(name, **settings):
    """A BatchTopK SAE whose threshold has been learned."""
    sae = make(name, **settings)
    with torch.no_grad():
        sae.activation.topk_threshold.fill_(0.3)
        sae.activation.topk_updates.fill_(1e6)
    return sae


def temporal():
    """A temporal SAE that SAELens saved."""
    return SAE.load_from_disk(DATA / "temporal" / "untied_relu_scaled")


FLAT = ALL - {"sparsify"}
TOPK = ALL - {"gemma_scope"}
PLAIN = {"saelens", "dictionary_learning"}

KINDS = {
    "standard": (lambda: make("standard"), FLAT),
    "standard, not centered": (lambda: make("standard", apply_b_dec_to_input=False), FLAT),
    "gated": (lambda: make("gated"), PLAIN),
    "gated, not centered": (lambda: make("gated", apply_b_dec_to_input=False), PLAIN),
    "topk": (lambda: make("topk"), TOPK),
    "topk, not centered": (lambda: make("topk", apply_b_dec_to_input=False), TOPK),
    "topk, not rescaled": (lambda: make("topk", rescale_acts_by_decoder_norm=False), TOPK),
    "abstopk": (lambda: make("abstopk"), {"saelens"}),
    "groupmax": (lambda: make("groupmax"), {"sparsify"}),
    "batchtopk": (lambda: trained("batchtopk"), FLAT),
    "matryoshka_batchtopk": (lambda: trained("matryoshka_batchtopk"), FLAT),
    "jumprelu": (lambda: make("jumprelu"), FLAT),
    "jumprelu, not centered": (lambda: make("jumprelu", apply_b_dec_to_input=False), FLAT),
    "matching_pursuit": (lambda: make("matching_pursuit"), {"saelens"}),
    "identity": (lambda: make("identity"), set()),
    "pca": (lambda: make("pca"), {"saelens"}),
    "ranked topk": (
        lambda: make("topk", rescale_acts_by_decoder_norm=False, rank_by_decoder_norm=True),
        {"llamascopium"},
    ),
    "transcoder": (lambda: opened("transcoder"), {"saelens", "llamascopium"}),
    "transcoder of two sizes": (lambda: opened("transcoder", 4), {"saelens"}),
    "topk transcoder": (
        lambda: opened("transcoder", type="topk", k=3), {"sparsify", "llamascopium"}
    ),
    "topk transcoder of two sizes": (
        lambda: opened("transcoder", 4, type="topk", k=3), set()
    ),
    "jumprelu transcoder": (
        lambda: opened("transcoder", type="jumprelu"), {"saelens", "llamascopium"}
    ),
    "skip_transcoder": (lambda: opened("skip_transcoder", 4), {"saelens"}),
    "topk skip_transcoder": (lambda: opened("skip_transcoder", type="topk", k=3), {"sparsify"}),
    "groupmax skip_transcoder": (
        lambda: opened("skip_transcoder", type="groupmax", k=4), {"sparsify"}
    ),
    "jumprelu skip_transcoder": (
        lambda: opened("skip_transcoder", 4, type="jumprelu"), {"saelens"}
    ),
    "crosscoder": (lambda: opened("crosscoder"), set()),
    "clt": (lambda: opened("clt"), set()),
    "temporal": (temporal, {"saelens"}),
    "topk, layer_norm": (
        lambda: changed(make("topk"), normalize_activations="layer_norm"), {"saelens"}
    ),
    "standard, constant_norm_rescale": (
        lambda: changed(make("standard"), normalize_activations="constant_norm_rescale"),
        {"saelens", "llamascopium"},
    ),
    "standard, hook_z": (
        lambda: changed(make("standard"), reshape_activations="hook_z"),
        {"saelens", "gemma_scope"},
    ),
}  # fmt: skip
"""By name: how it is made, and the formats that can express it."""


def kind(name):
    """One of `KINDS`, with metadata."""
    sae = KINDS[name][0]().eval()
    metadata = dict(METADATA)
    if sae.separate_target:
        metadata |= {"hook_name": "blocks.3.mlp.hook_in", "hook_name_out": "blocks.3.hook_mlp_out"}
    if sae.cfg.reshape_activations == "hook_z":
        metadata["hook_name"] = "blocks.3.attn.hook_z"
    return changed(sae, metadata=Metadata(metadata))

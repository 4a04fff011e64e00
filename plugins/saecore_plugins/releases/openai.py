"""OpenAI's SAEs of GPT-2 small (openai/sparse_autoencoder): ReLU, or TopK over layer-normed inputs.

`…/{location}{_v4|_v5_32k|_v5_128k}/autoencoders/{layer}.pt` holds pre_bias (b_dec), latent_bias
(b_enc), encoder.weight `[d_sae, d]`, decoder.weight `[d, d_sae]` (decoder.linear.weight if it is
the encoder's transpose), training statistics, which are ignored, `activation` (default "ReLU") and
`activation_state_dict` {k, postact_fn}. The decoder's bias is subtracted from the input. Inputs are
normalized if and only if the activation is TopK. Only the path gives the hook.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from saecore.core.release import CatalogueFacts, Draft
from saecore.errors import ReleaseError
from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import SingleFiles
from saecore.releases.tensor_reader import Tensors, required
from saecore.storage.repository import Repository

HOOKS = {
    "mlp_post_act": "mlp.hook_post",
    "resid_delta_attn": "hook_attn_out",
    "resid_post_attn": "hook_resid_mid",
    "resid_delta_mlp": "hook_mlp_out",
    "resid_post_mlp": "hook_resid_post",
}
"""Hook names within a block, by location."""

PATH = re.compile(rf"\b({'|'.join(HOOKS)})(?:_v\d\w*)?/autoencoders/(\d+)\.pt$")
"""End of a path: location and layer."""

STATISTICS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")
"""Training statistics."""


class OpenAI(SingleFiles):
    """Reads files of az://openaipublic/sparse-autoencoder."""

    def recognize(self, files: Repository, path: str) -> bool:
        """Whether `path` is a file with such a path."""
        return files.has(path) and PATH.search(f"{files.name}/{path}") is not None

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read the file."""
        label = files.label(path)
        match, content = PATH.search(label), files.torch(path)
        if match is None:
            raise ReleaseError(
                f"{label}: the hook is unknown; it comes from the path, "
                "…/<location>/autoencoders/<layer>.pt; keep it"
            )
        table = dict(content) if isinstance(content, dict) else {}
        activation = table.pop("activation", "ReLU")
        state = {"state": table.pop("activation_state_dict", None)}
        tensors = Tensors(table if isinstance(content, dict) else content, label)
        tensors.drop(STATISTICS)
        encoder = tensors.take("encoder.weight", 2)
        tied = "decoder.linear.weight" in tensors.names  # shares the encoder's weight
        tensors.drop(["decoder.linear.weight"])
        weights = {
            "W_enc": encoder.t(),
            "W_dec": encoder if tied else tensors.take("decoder.weight", 2).t(),
            "b_enc": tensors.take("latent_bias", 1),
            "b_dec": tensors.take("pre_bias", 1),
        }
        tensors.end()
        architecture, settings = "standard", dict[str, Any]()
        if activation == "TopK":
            if required(state, "state.postact_fn", str, label) != "ReLU":
                raise ReleaseError(
                    f"{label}: activation_state_dict.postact_fn: only ReLU after TopK can be "
                    f"expressed, got {state['state']['postact_fn']!r}"
                )
            k = required(state, "state.k", int, label)
            architecture = "topk"
            settings = {
                "k": k,
                "normalize_activations": "layer_norm",
                "rescale_acts_by_decoder_norm": False,
            }
        elif activation != "ReLU":
            raise ReleaseError(f"{label}: activation: expected ReLU or TopK, got {activation!r}")
        metadata = {
            "model_name": "gpt2-small",
            "hook_name": f"blocks.{match[2]}.{HOOKS[match[1]]}",
            "hook_head_index": None,
        }
        return Draft.of(architecture, weights, metadata, apply_b_dec_to_input=True, **settings)


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="release",
        name="openai",
        build=OpenAI,
        summary="OpenAI's SAEs of GPT-2 small (autoencoders/<layer>.pt)",
    )

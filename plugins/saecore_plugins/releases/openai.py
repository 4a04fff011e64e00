"""OpenAI's SAEs of GPT-2 small (openai/sparse_autoencoder): ReLU, or TopK over layer-normed inputs.

`…/{location}{_v4|_v5_32k|_v5_128k}/autoencoders/{layer}.pt` holds pre_bias (our b_dec), latent_bias
(b_enc), encoder.weight `[d_sae, d]`, decoder.weight `[d, d_sae]` (decoder.linear.weight where it is
the encoder's transpose), statistics of training, which are left out, `activation` ("ReLU" where it
is missing) and `activation_state_dict` {k, postact_fn}. The decoder's bias is subtracted from the
input. Inputs are normalized if and only if the activation is TopK. The hook is in the path alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from saecore.components import Component
from saecore.errors import ReleaseError
from saecore.hookspecs import hookimpl
from saecore.releases.layout import Format
from saecore.releases.repository import Repository
from saecore.releases.source import Draft, Facts
from saecore.releases.tensors import Tensors, required

HOOKS = {
    "mlp_post_act": "mlp.hook_post",
    "resid_delta_attn": "hook_attn_out",
    "resid_post_attn": "hook_resid_mid",
    "resid_delta_mlp": "hook_mlp_out",
    "resid_post_mlp": "hook_resid_post",
}
"""Locations, and the ends of our hooks' names."""

PATH = re.compile(rf"\b({'|'.join(HOOKS)})(?:_v\d\w*)?/autoencoders/(\d+)\.pt$")
"""Ends of paths: location and layer."""

STATISTICS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")
"""Buffers of training."""


@attrs.frozen
class OpenAIConfig:
    """This format has no settings."""


class OpenAI(Format):
    """Reads files of az://openaipublic/sparse-autoencoder."""

    def recognise(self, files: Repository, path: str) -> bool:
        """Whether `path` is a file at such a place."""
        return files.has(path) and PATH.search(f"{files.name}/{path}") is not None

    def list(self, files: Repository) -> Sequence[str]:
        """Every file at such a place."""
        return [one for one in files.files if self.recognise(files, one)]

    def load(self, files: Repository, path: str, facts: Facts) -> Draft:
        """Read the file."""
        label = f"{files.name}/{path}"
        place, content = PATH.search(label), files.torch(path)
        if place is None:
            raise ReleaseError(
                f"{label}: which hook it reads is said by the path alone, …/<location>/"
                "autoencoders/<layer>.pt; keep it"
            )
        table = dict(content) if isinstance(content, dict) else {}
        activation = table.pop("activation", "ReLU")
        state = {"state": table.pop("activation_state_dict", None)}
        tensors = Tensors(table if isinstance(content, dict) else content, label)
        tensors.drop(STATISTICS)
        encoder = tensors.take("encoder.weight", 2)
        tied = "decoder.linear.weight" in tensors.names  # the encoder's, seen through the decoder
        tensors.drop(["decoder.linear.weight"])
        weights = {
            "W_enc": encoder.t(),
            "W_dec": encoder if tied else tensors.take("decoder.weight", 2).t(),
            "b_enc": tensors.take("latent_bias", 1),
            "b_dec": tensors.take("pre_bias", 1),
        }
        tensors.end()
        architecture, own = "standard", dict[str, Any]()
        if activation == "TopK":
            if required(state, "state.postact_fn", str, label) != "ReLU":
                raise ReleaseError(
                    f"{label}: activation_state_dict.postact_fn: only ReLU after TopK can be "
                    f"expressed, got {state['state']['postact_fn']!r}"
                )
            k = required(state, "state.k", int, label)
            architecture = "topk"
            own = {"k": k, "normalize_activations": "layer_norm",
                   "rescale_acts_by_decoder_norm": False}  # fmt: skip
        elif activation != "ReLU":
            raise ReleaseError(f"{label}: activation: expected ReLU or TopK, got {activation!r}")
        metadata = {
            "model_name": "gpt2-small",
            "hook_name": f"blocks.{place[2]}.{HOOKS[place[1]]}",
            "hook_head_index": None,
        }
        return Draft.of(architecture, weights, metadata, apply_b_dec_to_input=True, **own)


@hookimpl
def saecore_components() -> Iterable[Component]:
    """Offer the format."""
    yield Component(
        kind="release",
        name="openai",
        config=OpenAIConfig,
        build=OpenAI,
        summary="OpenAI's SAEs of GPT-2 small (autoencoders/<layer>.pt)",
    )

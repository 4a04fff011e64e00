"""Attention SAEs of GPT-2 small by Connor Kissane and Rob Krzyzanowski: ReLU, on hook_z.

`{name}.pt` holds W_enc `[d_in, d_sae]`, W_dec `[d_sae, d_in]`, b_enc and b_dec in float32;
`{name}_cfg.json` beside it holds act_name (the hook), act_size and dict_size. b_dec is subtracted
from the input; the heads of hook_z are concatenated.
"""

from __future__ import annotations

from collections.abc import Iterable

from saecore.core.release import CatalogueFacts, Draft
from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import SingleFiles
from saecore.releases.tensor_reader import Tensors, required, same_size, setting
from saecore.storage.repository import Repository


class ConnorRob(SingleFiles):
    """Reads SAEs of ckkissane/attn-saes-gpt2-small-all-layers."""

    def recognize(self, files: Repository, path: str) -> bool:
        """Whether `path` is a .pt file with its configuration beside it."""
        return path.endswith(".pt") and files.has(path) and files.has(_config(path))

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read both files."""
        label = files.label(path)
        tensors = Tensors(files.torch(path), label)
        weights = {name: tensors.take(name, 2) for name in ("W_enc", "W_dec")}
        weights |= {name: tensors.take(name, 1) for name in ("b_enc", "b_dec")}
        tensors.end()
        d_in, d_sae = weights["W_enc"].shape
        table, where = files.json(_config(path)), files.label(_config(path))
        same_size(label, "W_enc", d_in, "act_size", setting(table, "act_size", int, where))
        same_size(label, "W_enc", d_sae, "dict_size", setting(table, "dict_size", int, where))
        metadata = {
            "model_name": setting(table, "model_name", str, where) or "gpt2-small",
            "hook_name": required(table, "act_name", str, where),
            "hook_head_index": None,
            "prepend_bos": True,
            "dataset_path": "Skylion007/openwebtext",
            "context_size": setting(table, "seq_len", int, where) or 128,
        }
        return Draft.of("standard", weights, metadata, apply_b_dec_to_input=True)


def _config(path: str) -> str:
    """The configuration's name, from that of the .pt file."""
    return f"{path.removesuffix('.pt')}_cfg.json"


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="release",
        name="connor_rob_hook_z",
        build=ConnorRob,
        summary="ReLU SAEs of GPT-2 small's attention (<name>.pt, <name>_cfg.json)",
    )

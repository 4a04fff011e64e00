"""Attention SAEs of GPT-2 small by Connor Kissane and Rob Krzyzanowski: ReLU, on hook_z.

`{name}.pt` holds W_enc `[d_in, d_sae]`, W_dec `[d_sae, d_in]`, b_enc and b_dec in float32, and
`{name}_cfg.json` beside it act_name (the hook), act_size and dict_size. b_dec is subtracted from
the input; the heads of hook_z are joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from saecore.components import Component
from saecore.hookspecs import hookimpl
from saecore.releases.layout import Format
from saecore.releases.repository import Repository
from saecore.releases.source import Draft, Facts
from saecore.releases.tensors import Tensors, required, same_size, setting


@attrs.frozen
class ConnorRobConfig:
    """This format has no settings."""


class ConnorRob(Format):
    """Reads SAEs of ckkissane/attn-saes-gpt2-small-all-layers."""

    def recognise(self, files: Repository, path: str) -> bool:
        """Whether `path` is a .pt file with its configuration beside it."""
        return path.endswith(".pt") and files.has(path) and files.has(_config(path))

    def list(self, files: Repository) -> Sequence[str]:
        """Every such file."""
        return [one for one in files.files if self.recognise(files, one)]

    def load(self, files: Repository, path: str, facts: Facts) -> Draft:
        """Read both files."""
        label = f"{files.name}/{path}"
        tensors = Tensors(files.torch(path), label)
        weights = {name: tensors.take(name, 2) for name in ("W_enc", "W_dec")}
        weights |= {name: tensors.take(name, 1) for name in ("b_enc", "b_dec")}
        tensors.end()
        d_in, d_sae = weights["W_enc"].shape
        table, where = files.json(_config(path)), f"{files.name}/{_config(path)}"
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
    """The name of the configuration of a .pt file."""
    return f"{path.removesuffix('.pt')}_cfg.json"


@hookimpl
def saecore_components() -> Iterable[Component]:
    """Offer the format."""
    yield Component(
        kind="release",
        name="connor_rob_hook_z",
        config=ConnorRobConfig,
        build=ConnorRob,
        summary="ReLU SAEs of GPT-2 small's attention (<name>.pt, <name>_cfg.json)",
    )

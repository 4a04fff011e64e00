"""Cross-layer transcoders by mntss (circuit-tracer), one layer at a time: the path is its number N.

`W_enc_<N>.safetensors` has W_enc_N `[d_sae, d]`, b_enc_N and b_dec_N, `W_dec_<N>.safetensors` has
W_dec_N `[d_sae, layers - N, d]`: the directions written to layer N and to those after it;
`config.yaml` has the model and the hooks. With threshold_N `[d_sae]` the features are JumpReLU ones
(SAELens leaves it out), otherwise ReLU. Nothing is subtracted from the input.

One layer by itself gives right features. Its decoder is the sum over the layers that it writes to,
which is no reconstruction of any of them: a warning says so.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

import attrs

from saecore.components import Component
from saecore.errors import ReleaseError
from saecore.hookspecs import hookimpl
from saecore.releases.layout import Format
from saecore.releases.repository import Repository
from saecore.releases.source import Draft, Facts
from saecore.releases.tensors import Tensors, setting


@attrs.frozen
class MntssConfig:
    """This format has no settings."""


class Mntss(Format):
    """Reads layers of mntss/clt-*."""

    def recognise(self, files: Repository, path: str) -> bool:
        """Whether `path` ends with the number of a layer that has both files."""
        return re.fullmatch(r"\d+", posixpath.basename(path)) is not None and all(
            files.has(one) for one in _names(path)
        )

    def list(self, files: Repository) -> Sequence[str]:
        """The number of every layer."""
        found = [re.fullmatch(r"((?:.*/)?)W_enc_(\d+)\.safetensors", one) for one in files.files]
        paths = [f"{one[1]}{one[2]}" for one in found if one]
        return sorted((one for one in paths if self.recognise(files, one)), key=_order)

    def load(self, files: Repository, path: str, facts: Facts) -> Draft:
        """Read both files."""
        n = posixpath.basename(path)
        reads, writes = _names(path)
        tensors = Tensors(files.safetensors(reads), f"{files.name}/{reads}")
        decoder = Tensors(files.safetensors(writes), f"{files.name}/{writes}")
        weights = {
            "W_enc": tensors.take(f"W_enc_{n}", 2).t(),
            "b_enc": tensors.take(f"b_enc_{n}", 1),
            "b_dec": tensors.take(f"b_dec_{n}", 1),
            "W_dec": decoder.take(f"W_dec_{n}", 3).float().sum(1),
        }
        jumps = f"threshold_{n}" in tensors.names
        if jumps:
            weights["threshold"] = tensors.take(f"threshold_{n}", 1)
        tensors.end()
        decoder.end()
        name = posixpath.join(posixpath.dirname(path), "config.yaml")
        table, where = files.yaml(name) if files.has(name) else {}, f"{files.name}/{name}"
        kind = setting(table, "model_kind", str, where)
        if kind not in (None, "cross_layer_transcoder"):
            raise ReleaseError(f'{where}: model_kind: not "cross_layer_transcoder", but "{kind}"')
        read = setting(table, "feature_input_hook", str, where) or "hook_resid_mid"
        written = setting(table, "feature_output_hook", str, where) or "hook_mlp_out"
        metadata = {
            "model_name": setting(table, "model_name", str, where),
            "hook_name": f"blocks.{n}.{read}",
            "hook_name_out": f"blocks.{n}.{written}",
            "hook_head_index": None,
            "prepend_bos": True,
            "model_from_pretrained_kwargs": {"fold_ln": False},
        }
        warning = (
            f"{files.name}/{path}: one layer of a cross-layer transcoder: its features are right, "
            "its reconstruction is not, for other layers contribute to every target"
        )
        architecture = "jumprelu_transcoder" if jumps else "transcoder"
        d_out = weights["W_dec"].shape[1]
        return Draft.of(architecture, weights, metadata, [warning], d_out=d_out)


def _names(path: str) -> tuple[str, str]:
    """The files of encoder and decoder."""
    folder, n = posixpath.split(path)
    start = posixpath.join(folder, "W_")
    return f"{start}enc_{n}.safetensors", f"{start}dec_{n}.safetensors"


def _order(path: str) -> tuple[str, int]:
    folder, n = posixpath.split(path)
    return folder, int(n)


@hookimpl
def saecore_components() -> Iterable[Component]:
    """Offer the format."""
    yield Component(
        kind="release",
        name="mntss",
        config=MntssConfig,
        build=Mntss,
        summary="layers of mntss' cross-layer transcoders (W_enc_<n>.safetensors)",
    )

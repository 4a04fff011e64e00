"""Cross-layer transcoders by mntss (circuit-tracer), layer by layer: the path is the number N.

`W_enc_<N>.safetensors` has W_enc_N `[d_sae, d]`, b_enc_N and b_dec_N; `W_dec_<N>.safetensors` has
W_dec_N `[d_sae, layers - N, d]`, the directions written to layer N and each later one;
`config.yaml` has the model and the hooks. With threshold_N `[d_sae]` the activation is JumpReLU
(SAELens ignores it), otherwise ReLU. Nothing is subtracted from the input.

A single layer gives correct features. Its decoder is summed over the layers that it writes to; the
sum does not reconstruct any of them, and a warning says so.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

from saecore.core.release import CatalogueFacts, Draft
from saecore.errors import ReleaseError
from saecore.plugins import Component, hookimpl
from saecore.releases.file_patterns import Format, cross_layer_warning
from saecore.releases.tensor_reader import Tensors, setting
from saecore.storage.repository import Repository


class Mntss(Format):
    """Reads layers of mntss/clt-*."""

    def recognize(self, files: Repository, path: str) -> bool:
        """Whether `path` ends with the number of a layer that has both files."""
        return re.fullmatch(r"\d+", posixpath.basename(path)) is not None and all(
            files.has(name) for name in _names(path)
        )

    def list(self, files: Repository) -> Sequence[str]:
        """List the number of every layer."""
        matches = [
            re.fullmatch(r"((?:.*/)?)W_enc_(\d+)\.safetensors", name) for name in files.files
        ]
        paths = [f"{match[1]}{match[2]}" for match in matches if match]
        return sorted((path for path in paths if self.recognize(files, path)), key=_order)

    def load(self, files: Repository, path: str, facts: CatalogueFacts) -> Draft:
        """Read both files."""
        n = posixpath.basename(path)
        encoder_file, decoder_file = _names(path)
        tensors = Tensors(files.safetensors(encoder_file), files.label(encoder_file))
        decoder = Tensors(files.safetensors(decoder_file), files.label(decoder_file))
        weights = {
            "W_enc": tensors.take(f"W_enc_{n}", 2).t(),
            "b_enc": tensors.take(f"b_enc_{n}", 1),
            "b_dec": tensors.take(f"b_dec_{n}", 1),
            "W_dec": decoder.take(f"W_dec_{n}", 3).float().sum(1),
        }
        has_threshold = f"threshold_{n}" in tensors.names
        if has_threshold:
            weights["threshold"] = tensors.take(f"threshold_{n}", 1)
        tensors.end()
        decoder.end()
        name = posixpath.join(posixpath.dirname(path), "config.yaml")
        table, where = files.yaml(name) if files.has(name) else {}, files.label(name)
        kind = setting(table, "model_kind", str, where)
        if kind not in (None, "cross_layer_transcoder"):
            raise ReleaseError(
                f'{where}: model_kind: expected "cross_layer_transcoder", got "{kind}"'
            )
        hook = setting(table, "feature_input_hook", str, where) or "hook_resid_mid"
        hook_out = setting(table, "feature_output_hook", str, where) or "hook_mlp_out"
        metadata = {
            "model_name": setting(table, "model_name", str, where),
            "hook_name": f"blocks.{n}.{hook}",
            "hook_name_out": f"blocks.{n}.{hook_out}",
            "hook_head_index": None,
            "prepend_bos": True,
            "model_from_pretrained_kwargs": {"fold_ln": False},
        }
        architecture = "jumprelu_transcoder" if has_threshold else "transcoder"
        d_out = weights["W_dec"].shape[1]
        warnings = [cross_layer_warning(files.label(path))]
        return Draft.of(architecture, weights, metadata, warnings, d_out=d_out)


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
    yield Component(
        kind="release",
        name="mntss",
        build=Mntss,
        summary="layers of mntss' cross-layer transcoders (W_enc_<n>.safetensors)",
    )

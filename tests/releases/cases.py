"""The recorded repositories of `oracle/formats`: what is in them, and what they must give."""

import json
from pathlib import Path

import attrs
from safetensors.torch import load_file

from saecore.core.release import CatalogueFacts
from saecore.storage.repository import Directory

PLUGINS = {
    "sae_lens": "saelens",
    "gemma_2": "gemma_scope",
    "gemma_2_transcoder": "gemma_scope_transcoders",
    "gemma_3": "gemma_scope_2",
    "dictionary_learning_1": "dictionary_learning",
    "mwhanna_transcoder": "mwhanna",
    "mntss_clt_layer_transcoder": "mntss",
}
"""Plugins that have another name than the recording's format."""

SIZES = ("d_in", "d_sae", "d_out")
"""What the recording had to tell SAELens, which reads sizes from names; ours come from tensors."""


@attrs.frozen
class Case:
    """One repository and what was recorded of it."""

    root: Path
    """Its directory: repo/, expected.json, expected.safetensors."""
    record: dict
    """expected.json."""

    @property
    def name(self):
        """Format and case."""
        return f"{self.record['format']}/{self.record['case']}"

    @property
    def plugin(self):
        """The plugin that must recognize it."""
        return PLUGINS.get(self.record["format"], self.record["format"])

    @property
    def path(self):
        """Where the SAE is in the repository."""
        return str(self.record["folder_name"])

    @property
    def facts(self):
        """What a catalogue would know."""
        overrides = self.record["config_overrides"] or {}
        return CatalogueFacts(
            norm_scaling_factor=self.record["norm_scaling_factor"],
            neuronpedia=self.record["neuronpedia"],
            overrides={key: one for key, one in overrides.items() if key not in SIZES},
        )

    def files(self, root=None):
        """The repository (or a changed copy of it) under the name it has on the hub."""
        files = Directory(root or self.root / "repo")
        files.name = self.record["repo_id"]
        return files

    def tensors(self):
        """expected.safetensors, the right reading in the place of a wrong one."""
        found = load_file(self.root / "expected.safetensors")
        agrees = self.record.get("upstream_agrees") or {}
        wrong = [name for name in ("encode", "forward") if agrees.get(name) is False]
        for name in wrong:
            found[name] = found[f"upstream/{name}"]
        if wrong:  # recorded from the weights that were read wrongly
            found = {name: one for name, one in found.items()
                     if name != "decode" and not name.startswith("state/")}  # fmt: skip
        return found


def cases(oracle):
    """All cases below a directory of recordings."""
    root = oracle / "formats"
    index = json.loads((root / "index.json").read_text())
    folders = [root / one["format"] / one["case"] for one in index]
    return [Case(one, json.loads((one / "expected.json").read_text())) for one in folders]

"""The catalogue: complete, consistent, small, and quick to open."""

import subprocess
import sys

from saecore.hook_names import module_place
from saecore.releases import catalogue
from saecore.releases.names import find
from saecore_plugins.catalogues.published import FILE

FORMATS = {
    "connor_rob_hook_z": 12, "deepseek_r1": 1, "dictionary_learning": 838, "gemma_scope": 2833,
    "gemma_scope_2": 8784, "gemma_scope_transcoders": 26, "goodfire": 2, "llama_scope": 192,
    "llama_scope_r1_distill": 96, "mntss": 26, "mwhanna": 208, "qwen_scope": 544, "saelens": 292,
    "temporal": 3,
}  # fmt: skip
"""Number of SAEs by the plugin that reads them."""


def test_every_sae_resolves():
    """13,857 of 13,857: a plugin, a repository, a path, a hook and a model, without a network."""
    entries = list(catalogue.everything())
    counts = dict.fromkeys(FORMATS, 0)
    for one in entries:
        counts[one.source] += 1
        place = find(one.facts.release, one.facts.sae_id)
        assert (place.files.name, place.path) == (one.repository, one.path)
        assert place.source == one.source
        assert place.facts == one.facts
        assert one.facts.hook == "hook_embed" or one.layer is not None
        assert one.facts.model
    assert counts == FORMATS
    assert sum(counts.values()) == 13857
    assert len({one.facts.release for one in entries}) == 170
    assert len({(one.facts.release, one.facts.sae_id) for one in entries}) == 13857

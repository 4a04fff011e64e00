"""Write releases.jsonl.gz from the list of releases that SAELens keeps.

    python -m saecore_plugins.catalogues.published.make …/sae_lens/pretrained_saes.yaml

One line a release, sorted by name; a column holds a value for every SAE of the release, in the
list's order. Taken over are facts only: names, repositories, paths, models, published figures. The
hook and the width follow from names by each format's rule, where the list does not have them.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("releases.jsonl.gz")

FORMATS = {
    None: "saelens",
    "connor_rob_hook_z": "connor_rob_hook_z",
    "deepseek_r1": "deepseek_r1",
    "dictionary_learning_1": "dictionary_learning",
    "gemma_2": "gemma_scope",
    "gemma_2_transcoder": "gemma_scope_transcoders",
    "gemma_3": "gemma_scope_2",
    "goodfire": "goodfire",
    "llama_scope": "llama_scope",
    "llama_scope_r1_distill": "llama_scope_r1_distill",
    "mntss_clt_layer_transcoder": "mntss",
    "mwhanna_transcoder": "mwhanna",
    "qwen_scope": "qwen_scope",
    "temporal": "temporal",
}
"""From the list's name of a loader to the plugin that reads the format."""

KNOWN = {"id", "path", "l0", "variance_explained", "norm_scaling_factor", "neuronpedia"}
"""Keys of an SAE in the list; others are reported and left out."""

GEMMA = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
GEMMA_2 = {"resid_post": "hook_resid_post", "attn_out": "attn.hook_z", "mlp_out": "hook_mlp_out",
           "transcoder": "hook_mlp_in", "clt": "hook_mlp_in"}  # fmt: skip
LLAMA = {"R": "hook_resid_post", "M": "hook_mlp_out", "A": "hook_attn_out"}


def _found(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"{text!r}: expected something like {pattern}")
    return match


def _in_id(repository: str, path: str, sae_id: str) -> str:
    """The hook that the SAE is named after, which may be followed by its width."""
    end = r"(?:hook_resid_pre|hook_resid_mid|hook_resid_post|hook_mlp_out|hook_attn_out|hook_z)"
    return _found(rf"blocks\.\d+\.{end}", sae_id)[0].replace(".hook_z", ".attn.hook_z")


def _at_layer(end: str, pattern: str = r"layer_?(\d+)") -> Callable[[str, str, str], str]:
    return lambda repository, path, sae_id: f"blocks.{_found(pattern, path)[1]}.{end}"


def _gemma_scope(repository: str, path: str, sae_id: str) -> str:
    if path.startswith("embedding/"):
        return "hook_embed"
    end = GEMMA[_found(r"-(res|mlp|att)$", repository)[1]]
    return f"blocks.{_found(r'layer_([0-9]+)', path)[1]}.{end}"


def _gemma_scope_2(repository: str, path: str, sae_id: str) -> str:
    end = next(value for key, value in GEMMA_2.items() if path.startswith(key))
    return f"blocks.{_found(r'layer_([0-9]+)', path)[1]}.{end}"


def _llama_scope(repository: str, path: str, sae_id: str) -> str:
    match = _found(r"L(\d+)([RMA])(?:-\d+x)?$", path)
    return f"blocks.{match[1]}.{LLAMA[match[2]]}"


HOOKS: dict[str, Callable[[str, str, str], str]] = {
    "saelens": _in_id,
    "connor_rob_hook_z": _in_id,
    "deepseek_r1": _in_id,
    "dictionary_learning": _at_layer("hook_resid_post", r"resid_post_layer_(\d+)"),
    "gemma_scope": _gemma_scope,
    "gemma_scope_transcoders": _at_layer("ln2.hook_normalized"),
    "gemma_scope_2": _gemma_scope_2,
    "goodfire": _at_layer("hook_resid_post", r"-l(\d+)\.pth?$"),
    "llama_scope": _llama_scope,
    "llama_scope_r1_distill": _llama_scope,
    "mntss": _at_layer("hook_resid_mid", r"^(\d+)$"),
    "mwhanna": _at_layer("mlp.hook_in"),
    "qwen_scope": _at_layer("hook_resid_post"),
    "temporal": _at_layer("hook_resid_post"),
}
"""By format: the hook that is read, from repository, path and name."""

WIDTHS = (
    r"width-2pow(\d+)_",
    r"width[_-](\d+[km])(?:_|\b)",
    r"-W(\d+K)-",
    r"_ds(\d+)_",
    r"hook_[a-z_]+?_(\d{3,})(?:_anthropic|:v\d)?$",
    r"v5_(\d+k)_layer",
    r"-w-(\d+k)-",
    r"-res-(\d+k)(?:__|$)",
)
"""Where names hold the number of latents: the first that is found counts."""

ROUNDED = {"65k": 2**16, "131k": 2**17, "262k": 2**18, "524k": 2**19, "1m": 2**20}
"""Widths that names round to thousands; others count in 1024."""

SAID = {
    "goodfire-llama-3.1-8b-instruct": 65536,
    "goodfire-llama-3.3-70b-instruct": 65536,
    "gpt2-small-res-jb": 24576,
}
"""Widths that no name holds, as their authors say them."""


def _width(release: str, repository: str, one: Mapping[str, Any]) -> int | None:
    """The number of latents, as far as it is known."""
    if release in SAID:
        return SAID[release]
    if repository.startswith("fnlp/Llama3_1-8B-Base"):
        return 4096 * int(_found(r"-(\d+)x$", repository)[1])
    for pattern in WIDTHS:
        for text in (str(one["path"]), repository, str(one["id"]), str(one.get("neuronpedia"))):
            match = re.search(pattern, text)
            if match is None:
                continue
            number = match[1].lower()
            if "2pow" in pattern:
                return int(2 ** int(number))
            if number in ROUNDED:
                return ROUNDED[number]
            return int(number.removesuffix("k")) * (1024 if number.endswith("k") else 1)
    return None


def line(name: str, release: Mapping[str, Any]) -> dict[str, Any]:
    """A release as it is stored.

    Raises:
        SystemExit: a name does not follow its format's rule.
    """
    source, saes = FORMATS[release["conversion_func"]], release["saes"]
    repository = release["repo_id"]
    for one in saes:
        if strange := sorted(set(one) - KNOWN):
            print(f"{name}/{one['id']}: left out: {', '.join(strange)}", file=sys.stderr)
    columns: dict[str, list[Any]] = {
        "id": [str(one["id"]) for one in saes],
        "path": [str(one["path"]) for one in saes],
        "hook": [HOOKS[source](repository, str(one["path"]), str(one["id"])) for one in saes],
        "width": [_width(name, repository, one) for one in saes],
    }
    for key in ("l0", "variance_explained", "norm_scaling_factor", "neuronpedia"):
        columns[key] = [one.get(key) for one in saes]
    return {
        "release": name,
        "repository": repository,
        "model": release["model"],
        "source": source,
        "overrides": release.get("config_overrides") or {},
        "saes": {key: one for key, one in columns.items() if any(v is not None for v in one)},
    }


def main(listed: Path) -> None:
    """Write the file."""
    table = yaml.load(listed.read_text(encoding="utf-8"), yaml.CSafeLoader)
    rows = [line(name, table[name]) for name in sorted(table)]
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    FILE.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    saes = sum(len(row["saes"]["id"]) for row in rows)
    print(f"{FILE.name}: {len(rows)} releases, {saes} SAEs, {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Write releases.jsonl.gz from SAELens' list of releases.

    python -m saecore_plugins.catalogues.published.make …/sae_lens/pretrained_saes.yaml

One line per release, sorted by name; a column holds a value for every SAE of the release, in the
list's order. Only facts are copied: names, repositories, paths, models, published figures. Hook and
width are derived from names, by each format's rules, if the list does not have them.
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
"""Release plugins, by the list's name of a loader."""

KNOWN = {"id", "path", "l0", "variance_explained", "norm_scaling_factor", "neuronpedia"}
"""Keys of an SAE that are copied; others are reported."""

GEMMA = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
GEMMA_2 = {"resid_post": "hook_resid_post", "attn_out": "attn.hook_z", "mlp_out": "hook_mlp_out",
           "transcoder": "hook_mlp_in", "clt": "hook_mlp_in"}  # fmt: skip
LLAMA = {"R": "hook_resid_post", "M": "hook_mlp_out", "A": "hook_attn_out"}


def _search(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"{text!r}: expected something like {pattern}")
    return match


def _in_id(repository: str, path: str, sae_id: str) -> str:
    """The hook in the SAE's name, which may be followed by its width."""
    end = r"(?:hook_resid_pre|hook_resid_mid|hook_resid_post|hook_mlp_out|hook_attn_out|hook_z)"
    return _search(rf"blocks\.\d+\.{end}", sae_id)[0].replace(".hook_z", ".attn.hook_z")


def _at_layer(end: str, pattern: str = r"layer_?(\d+)") -> Callable[[str, str, str], str]:
    return lambda repository, path, sae_id: f"blocks.{_search(pattern, path)[1]}.{end}"


def _gemma_scope(repository: str, path: str, sae_id: str) -> str:
    if path.startswith("embedding/"):
        return "hook_embed"
    end = GEMMA[_search(r"-(res|mlp|att)$", repository)[1]]
    return f"blocks.{_search(r'layer_([0-9]+)', path)[1]}.{end}"


def _gemma_scope_2(repository: str, path: str, sae_id: str) -> str:
    end = next(value for key, value in GEMMA_2.items() if path.startswith(key))
    return f"blocks.{_search(r'layer_([0-9]+)', path)[1]}.{end}"


def _llama_scope(repository: str, path: str, sae_id: str) -> str:
    match = _search(r"L(\d+)([RMA])(?:-\d+x)?$", path)
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
"""Functions from repository, path and SAE id to the hook, by format."""

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
"""Patterns of the number of latents in names; the first match counts."""

ROUNDED = {"65k": 2**16, "131k": 2**17, "262k": 2**18, "524k": 2**19, "1m": 2**20}
"""Widths that names round to thousands; others are multiples of 1024."""

STATED = {
    "goodfire-llama-3.1-8b-instruct": 65536,
    "goodfire-llama-3.3-70b-instruct": 65536,
    "gpt2-small-res-jb": 24576,
}
"""Widths that are in no name, as stated by the authors."""


def _width(release: str, repository: str, sae: Mapping[str, Any]) -> int | None:
    """The number of latents, if it is known."""
    if release in STATED:
        return STATED[release]
    if repository.startswith("fnlp/Llama3_1-8B-Base"):
        return 4096 * int(_search(r"-(\d+)x$", repository)[1])
    for pattern in WIDTHS:
        for text in (str(sae["path"]), repository, str(sae["id"]), str(sae.get("neuronpedia"))):
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
    """Convert a release to its stored form.

    Raises:
        SystemExit: a name does not follow its format's rules.
    """
    source, saes = FORMATS[release["conversion_func"]], release["saes"]
    repository = release["repo_id"]
    for sae in saes:
        if ignored := sorted(set(sae) - KNOWN):
            print(f"{name}/{sae['id']}: ignored: {', '.join(ignored)}", file=sys.stderr)
    columns: dict[str, list[Any]] = {
        "id": [str(sae["id"]) for sae in saes],
        "path": [str(sae["path"]) for sae in saes],
        "hook": [HOOKS[source](repository, str(sae["path"]), str(sae["id"])) for sae in saes],
        "width": [_width(name, repository, sae) for sae in saes],
    }
    for key in ("l0", "variance_explained", "norm_scaling_factor", "neuronpedia"):
        columns[key] = [sae.get(key) for sae in saes]
    return {
        "release": name,
        "repository": repository,
        "model": release["model"],
        "source": source,
        "overrides": release.get("config_overrides") or {},
        "saes": {
            key: values
            for key, values in columns.items()
            if any(value is not None for value in values)
        },
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

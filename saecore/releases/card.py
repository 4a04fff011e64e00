"""The README of a published repository, made from what the files in it say of themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from saecore import __version__
from saecore.saved import READABLE

BEGIN = "<!-- saecore: the rows up to the next comment are written by it, one for every SAE -->"
END = "<!-- saecore: end -->"

COLUMNS = ("SAE", "architecture", "d_in", "d_sae", "hook", "model", "text", "training tokens",
           "L0", "explained variance", "loss recovered")  # fmt: skip

Configs = Mapping[str, Mapping[str, Any]]
"""cfg.json of every SAE, by its name in the repository."""
Evaluations = Mapping[str, Mapping[str, Any]]
"""Figures of evaluators by evaluator, as in evaluation.json, for SAEs that have some."""


def card_of_saes(
    repository: str,
    configs: Configs,
    evaluations: Evaluations,
    licence: str | None = None,
    old: str | None = None,
) -> str | None:
    """The README of a repository of SAEs.

    Args:
        repository: `username/repo-name`.
        configs: the SAEs that are published now.
        evaluations: their held-out figures.
        licence: what the hub calls it, such as "mit".
        old: the README that is there; SAEs in its table stay.

    Returns:
        The new one; None where the old one has no table of ours.
    """
    rows = {name: _row(name, cfg, evaluations.get(name, {})) for name, cfg in configs.items()}
    if old is not None:
        if BEGIN not in old or END not in old.partition(BEGIN)[2]:
            return None
        before, _, rest = old.partition(BEGIN)
        table, _, after = rest.partition(END)
        kept = {found[1]: line for line in table.splitlines()
                if (found := re.match(r"\| `([^`]+)` \|", line))}  # fmt: skip
        return f"{before}{BEGIN}\n{_table({**kept, **rows})}{END}{after}"
    readable = all(one.get("architecture") in READABLE for one in configs.values())
    head = _header(
        "saelens" if readable else "saecore",
        licence,
        [one.get("metadata", {}).get("model_name") for one in configs.values()],
        [one.get("metadata", {}).get("dataset_path") for one in configs.values()],
        ["sparse-autoencoder", "saecore"],
    )
    first = next(iter(configs))
    several = "s" if len(configs) > 1 else ""
    return (
        f"{head}\n# {repository.partition('/')[2]}\n\n"
        f"Sparse autoencoder{several} in SAELens 6's format, published with saecore "
        f"{__version__}.\n\n{BEGIN}\n{_table(rows)}{END}\n\n"
        "L0 (mean number of active latents) and explained variance are of held-out text where an "
        "`evaluation.json` stands beside the SAE, else as its authors recorded them.\n\n"
        f"## Load\n\nWith saecore:\n\n```python\nfrom saecore import SAE\n\n"
        f'sae, cfg_dict, sparsity = SAE.from_pretrained("{repository}", "{first}")\n```\n\n'
        + (
            "With SAELens 6:\n\n```python\nfrom sae_lens import SAE\n\n"
            f'sae = SAE.from_pretrained("{repository}", "{first}")\n```\n\n'
            if readable
            else "SAELens has no such architecture and refuses the files.\n\n"
        )
        + "## Files\n\nOf every SAE: `cfg.json` (its `metadata` says model, hook, text, context "
        "size, special tokens and how training went), `sae_weights.safetensors`, and where they "
        "are known `sparsity.safetensors` (log10 of each latent's firing frequency), "
        "`evaluation.json` (held-out figures) and `experiment.json` (what `saecore run` "
        f"repeats).\n\n{_licence(licence)}"
    )


def card_of_cache(
    repository: str,
    kind: str,
    facts: Mapping[str, Any],
    licence: str | None = None,
    old: str | None = None,
) -> str | None:
    """The README of a repository of activations or tokens; None where there is one.

    Args:
        repository: `username/repo-name`.
        kind: "cached" (activations) or "tokens", the dataset's type in an experiment.
        facts: what its manifest says, as it is to be printed; `model` and `dataset` too.
        licence: what the hub calls it.
        old: the README that is there.
    """
    if old is not None:
        return None
    what = "Activations" if kind == "cached" else "Tokens"
    tags = ["activations" if kind == "cached" else "tokens", "saecore"]
    head = _header("saecore", licence, [facts.get("model")], [facts.get("dataset")], tags)
    lines = "".join(f"| {key} | {_cell(one)} |\n" for key, one in facts.items() if one is not None)
    return (
        f"{head}\n# {repository.partition('/')[2]}\n\n"
        f"{what} to train sparse autoencoders on, written by saecore {__version__}.\n\n"
        f"| | |\n|---|---|\n{lines}\n"
        f'## Train on it\n\n```toml\n[dataset]\ntype = "{kind}"\nrepo = "{repository}"\n```\n\n'
        "Shards are downloaded as they are read, and their hashes compared.\n\n"
        f"{_licence(licence)}"
    )


def _header(
    library: str,
    licence: str | None,
    models: Sequence[Any],
    datasets: Sequence[Any],
    tags: Sequence[str],
) -> str:
    """What the hub reads: YAML between dashes."""
    import yaml

    table = {
        "library_name": library,
        **({"license": licence} if licence else {}),
        **({"base_model": found} if (found := _on_hub(models)) else {}),
        **({"datasets": found} if (found := _on_hub(datasets)) else {}),
        "tags": list(tags),
    }
    return f"---\n{yaml.safe_dump(table, sort_keys=False)}---\n"


def _on_hub(names: Sequence[Any]) -> list[str]:
    """Those that are names of repositories of the hub; others would be dead links."""
    part = r"[A-Za-z0-9][\w.-]*"
    return sorted({one for one in names if re.fullmatch(f"{part}/{part}", str(one), re.ASCII)})


def _licence(licence: str | None) -> str:
    said = f"`{licence}`." if licence else "The authors have named none; ask them."
    return f"## Licence\n\n{said}\n"


def _table(rows: Mapping[str, str]) -> str:
    head = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
    return head + "".join(f"{rows[name]}\n" for name in sorted(rows))


def _row(name: str, cfg: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    metadata = cfg.get("metadata", {})
    out = metadata.get("hook_name_out")
    hook = f"{metadata.get('hook_name')} → {out}" if out else metadata.get("hook_name")
    cells = (
        f"`{name}`",
        cfg.get("architecture"),
        cfg.get("d_in"),
        cfg.get("d_sae"),
        hook,
        metadata.get("model_name"),
        metadata.get("dataset_path"),
        metadata.get("training_tokens"),
        metadata.get("l0"),
        metadata.get("variance_explained"),
        figure(evaluation, "ce_loss_score"),
    )
    return f"| {' | '.join(map(_cell, cells))} |"


def figure(evaluation: Mapping[str, Any], name: str) -> float | None:
    """A figure of an evaluation, whichever evaluator gave it."""
    for figures in evaluation.values():
        if name in figures:
            return float(figures[name]["value"])
    return None


def _cell(value: Any) -> str:
    """A value in a table: nothing in it can end the cell or begin markup of its own."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = " ".join(str(value).split())
        return re.sub(r"[|<>]", lambda one: {"|": "\\|", "<": "&lt;", ">": "&gt;"}[one[0]], text)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"

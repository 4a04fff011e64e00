"""Write the README of a published repository from the files' own metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from saecore._version import __version__
from saecore.releases.saelens_files import READABLE

BEGIN = "<!-- saecore: the rows up to the next comment are written by it, one for every SAE -->"
END = "<!-- saecore: end -->"

COLUMNS = ("SAE", "architecture", "d_in", "d_sae", "hook", "model", "text", "training tokens",
           "L0", "explained variance", "loss recovered")  # fmt: skip

Configs = Mapping[str, Mapping[str, Any]]
"""cfg.json of every SAE, by its name in the repository."""
Evaluations = Mapping[str, Mapping[str, Any]]
"""Figures by evaluator, as in evaluation.json, for SAEs that have been evaluated."""


def card_of_saes(
    repository: str,
    configs: Configs,
    evaluations: Evaluations,
    license: str | None = None,
    old: str | None = None,
) -> str | None:
    """The README of a repository of SAEs.

    Args:
        repository: `username/repo-name`.
        configs: the SAEs to publish.
        evaluations: their held-out figures.
        license: the hub's name of a license, such as "mit".
        old: the current README; SAEs in its table stay.

    Returns:
        The new README; None if the current one has no table written by saecore.
    """
    rows = {name: _row(name, cfg, evaluations.get(name, {})) for name, cfg in configs.items()}
    if old is not None:
        if BEGIN not in old or END not in old.partition(BEGIN)[2]:
            return None
        before, _, rest = old.partition(BEGIN)
        table, _, after = rest.partition(END)
        old_rows = {
            match[1]: line
            for line in table.splitlines()
            if (match := re.match(r"\| `([^`]+)` \|", line))
        }
        return f"{before}{BEGIN}\n{_table({**old_rows, **rows})}{END}{after}"
    readable = all(cfg.get("architecture") in READABLE for cfg in configs.values())
    head = _header(
        "saelens" if readable else "saecore",
        license,
        [cfg.get("metadata", {}).get("model_name") for cfg in configs.values()],
        [cfg.get("metadata", {}).get("dataset_path") for cfg in configs.values()],
        ["sparse-autoencoder", "saecore"],
    )
    first = next(iter(configs))
    several = "s" if len(configs) > 1 else ""
    return (
        f"{head}\n# {repository.partition('/')[2]}\n\n"
        f"Sparse autoencoder{several} in SAELens 6's format, published with saecore "
        f"{__version__}.\n\n{BEGIN}\n{_table(rows)}{END}\n\n"
        "L0 (mean number of active latents) and explained variance are measured on held-out text "
        "if the SAE has an `evaluation.json`, and otherwise as recorded by its authors.\n\n"
        f"## Load\n\nWith saecore:\n\n```python\nfrom saecore import SAE\n\n"
        f'sae, cfg_dict, sparsity = SAE.from_pretrained("{repository}", "{first}")\n```\n\n'
        + (
            "With SAELens 6:\n\n```python\nfrom sae_lens import SAE\n\n"
            f'sae = SAE.from_pretrained("{repository}", "{first}")\n```\n\n'
            if readable
            else "SAELens has no such architecture and cannot load the files.\n\n"
        )
        + "## Files\n\nEach SAE has `cfg.json` (with model, hook, text, context size, "
        "special tokens and training details in `metadata`), `sae_weights.safetensors` and, if "
        "available, `sparsity.safetensors` (log10 of each latent's firing frequency), "
        "`evaluation.json` (held-out figures) and `experiment.json` (what `saecore run` read).\n\n"
        f"{_license(license)}"
    )


def card_of_cache(
    repository: str,
    keys: Mapping[str, Any],
    facts: Mapping[str, Any],
    license: str | None = None,
    old: str | None = None,
) -> str | None:
    """The README of a repository of activations or tokens; None if it already has a README.

    Args:
        repository: `username/repo-name`.
        keys: keys of [dataset] with which an experiment reads it; its type is "cached"
            (activations) or "tokens".
        facts: rows of the table, from the manifest; `model` and `dataset` also go to the header.
        license: the hub's name of a license.
        old: the current README.
    """
    if old is not None:
        return None
    import tomli_w

    cached = keys["type"] == "cached"
    what, tag = ("Activations", "activations") if cached else ("Tokens", "tokens")
    tags = [tag, "saecore"]
    head = _header("saecore", license, [facts.get("model")], [facts.get("dataset")], tags)
    lines = "".join(
        f"| {key} | {_cell(value)} |\n" for key, value in facts.items() if value is not None
    )
    return (
        f"{head}\n# {repository.partition('/')[2]}\n\n"
        f"{what} to train sparse autoencoders on, written by saecore {__version__}.\n\n"
        f"| | |\n|---|---|\n{lines}\n"
        f"## Train on it\n\n```toml\n{tomli_w.dumps({'dataset': dict(keys)})}```\n\n"
        "Shards are downloaded on demand, and their hashes are verified.\n\n"
        f"{_license(license)}"
    )


def _header(
    library: str,
    license: str | None,
    models: Sequence[Any],
    datasets: Sequence[Any],
    tags: Sequence[str],
) -> str:
    """The YAML front matter that the hub reads."""
    import yaml

    table = {
        "library_name": library,
        **({"license": license} if license else {}),
        **({"base_model": names} if (names := _on_hub(models)) else {}),
        **({"datasets": names} if (names := _on_hub(datasets)) else {}),
        "tags": list(tags),
    }
    return f"---\n{yaml.safe_dump(table, sort_keys=False)}---\n"


def _on_hub(names: Sequence[Any]) -> list[str]:
    """Only names of hub repositories; others would be dead links."""
    part = r"[A-Za-z0-9][\w.-]*"
    return sorted({name for name in names if re.fullmatch(f"{part}/{part}", str(name), re.ASCII)})


def _license(license: str | None) -> str:
    text = f"`{license}`." if license else "The authors have not named one; ask them."
    return f"## License\n\n{text}\n"


def _table(rows: Mapping[str, str]) -> str:
    head = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
    return head + "".join(f"{rows[name]}\n" for name in sorted(rows))


def _row(name: str, cfg: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    metadata = cfg.get("metadata", {})
    hook, hook_out = metadata.get("hook_name"), metadata.get("hook_name_out")
    hook = f"{hook} → {hook_out}" if hook_out else hook
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
    """A figure of an evaluation, from whichever evaluator has it; None if it is not finite."""
    for figures in evaluation.values():
        if name in figures:
            value = figures[name]["value"]
            return None if value is None else float(value)
    return None


def _cell(value: Any) -> str:
    """A value as a table cell, escaped so that it cannot end the cell or begin markup."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = " ".join(str(value).split())
        return re.sub(
            r"[|<>]", lambda match: {"|": "\\|", "<": "&lt;", ">": "&gt;"}[match[0]], text
        )
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"

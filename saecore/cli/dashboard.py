"""`saecore dashboard SAE_OR_RUN`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from saecore.cli._options import (
    dataset_option,
    model_option,
    out_option,
    set_option,
    title_option,
    trust_remote_code_option,
)
from saecore.errors import SaecoreError

DEFAULT_FEATURES = 64
"""Number of features of a dashboard without --features."""


@click.command("dashboard")
@click.argument("sae_or_run", metavar="SAE_OR_RUN")
@click.option(
    "--features",
    metavar="LIST",
    help="Features to show, such as 0-63 or 3,17,100-120. [default: the first 64]",
)
@out_option("HTML", default="dashboard.html")
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    default=1_000_000,
    show_default=True,
    help="Tokens of text to read.",
)
@model_option
@dataset_option
@set_option("model.* or dataset.*, such as model.device")
@trust_remote_code_option
@title_option("the name of the run or SAE")
def command(
    sae_or_run: str,
    features: str | None,
    out: Path,
    tokens: int,
    model: str | None,
    dataset: str | None,
    settings: tuple[str, ...],
    trust_remote_code: bool,
    title: str | None,
) -> None:
    """Write a page for browsing the features of an SAE: top contexts, logits, neighbors, search.

    SAE_OR_RUN is the directory of a run or of a checkpoint in it (RUN/checkpoints/step-…), the
    directory or file of an SAE, or RELEASE:SAE_ID of the catalogue or the hub. Model
    and text come from the run's experiment or the SAE's metadata: the text is the training text,
    for a run in the order of training. The page is one HTML file that loads nothing.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise SaecoreError(f"--out {out}: expected a file that ends in .html")
    from saecore.analysis.text import open_sae_with_text
    from saecore.storage.remote_code import remote_code

    opened = open_sae_with_text(sae_or_run, model, dataset, settings)
    sae = opened.sae
    latents = parse_features(features, sae.cfg.d_sae)
    with remote_code(trust_remote_code):
        text = opened.text()
    click.echo(f"{opened.name}: {len(latents):,} features, reading up to {tokens:,} tokens")
    from saecore.analysis import features as features_of
    from saecore.analysis.dashboard import write_dashboard

    statistics = features_of(sae, text, tokens, latents=latents)
    silent = int((statistics.density == 0).sum())
    note = f"; {silent:,} of the features never fired" if silent else ""
    click.echo(f"read {statistics.tokens:,} tokens in {statistics.contexts:,} contexts{note}")
    write_dashboard(out, statistics, sae, text.backend, title or opened.name)
    click.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB); open it in a browser")


def parse_features(text: str | None, d_sae: int) -> list[int]:
    """Features of a list of numbers and ranges, each once; without a list the first 64.

    Args:
        text: such as "3,17,100-120".
        d_sae: number of features of the SAE.

    Raises:
        SaecoreError: it is not such a list, or the SAE has fewer features.
    """
    if text is None:
        return list(range(min(DEFAULT_FEATURES, d_sae)))
    features: dict[int, None] = {}
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if ends is None:
            raise SaecoreError(
                f"--features {text}: expected numbers and ranges such as 3,17,100-120"
            )
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if not first <= last < d_sae:
            raise SaecoreError(
                f"--features {text}: expected features from 0 to {d_sae - 1}, got {part.strip()}"
            )
        features.update(dict.fromkeys(range(first, last + 1)))
    return list(features)

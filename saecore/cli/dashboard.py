"""`saecore dashboard SAE_OR_RUN`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from saecore.errors import SaecoreError

NUMBER = 64
"""Features of a dashboard if nothing is said."""


@click.command("dashboard")
@click.argument("given", metavar="SAE_OR_RUN")
@click.option(
    "--features",
    "chosen",
    metavar="LIST",
    help="Which features, such as 0-63 or 3,17,100-120. [default: the first 64]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    default=Path("dashboard.html"),
    show_default=True,
    help="The HTML file to write.",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    default=1_000_000,
    show_default=True,
    help="How much of the text to read.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Lay a value over the run's model and dataset, such as --set model.device=cuda. Can be "
    "given several times.",
)
@click.option("--title", help="Heading of the page; default: the name of the run or SAE.")
def command(
    given: str,
    chosen: str | None,
    out: Path,
    tokens: int,
    settings: tuple[str, ...],
    title: str | None,
) -> None:
    """Write a page on which the features of an SAE can be looked at.

    SAE_OR_RUN is the directory of a run, an SAE that was saved, or RELEASE:SAE_ID. The text is the
    one that the run trained on, in the same order; for an SAE without a run, name it with --set
    dataset.type=… The page is one HTML file that loads nothing.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise SaecoreError(f"--out {out}: expected a file that ends in .html")
    from saecore.opening import open_sae, open_text

    opened = open_sae(given, settings)
    latents = numbers(chosen, opened.sae.cfg.d_sae)
    text = open_text(opened)
    click.echo(f"{opened.name}: {len(latents):,} features, reading up to {tokens:,} tokens")
    from saecore.dashboard import write_dashboard
    from saecore.looking import features

    found = features(opened.sae, text, tokens, latents=latents)
    silent = int((found.density == 0).sum())
    note = f"; {silent:,} of the features never fired" if silent else ""
    click.echo(f"read {found.tokens:,} tokens in {found.contexts:,} contexts{note}")
    write_dashboard(out, found, opened.sae, text.backend, title or opened.name)
    click.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB); open it in a browser")


def numbers(text: str | None, d_sae: int) -> list[int]:
    """The features of a list of numbers and ranges.

    Raises:
        SaecoreError: it is no such list, or the SAE has fewer features.
    """
    if text is None:
        return list(range(min(NUMBER, d_sae)))
    found: dict[int, None] = {}
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
        found.update(dict.fromkeys(range(first, last + 1)))
    return list(found)

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
    "--model", metavar="MODEL", help="Name or path of the language model; default: the SAE's own."
)
@click.option(
    "--dataset",
    metavar="DATASET",
    help="Name or path of the text; default: what the SAE was trained on.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of model.* or dataset.*, such as model.device=cuda. Can be given several "
    "times.",
)
@click.option(
    "--trust-remote-code",
    is_flag=True,
    help="Run the Python code that comes with the model, if it has any.",
)
@click.option("--title", help="Heading of the page; default: the name of the run or SAE.")
def command(
    given: str,
    chosen: str | None,
    out: Path,
    tokens: int,
    model: str | None,
    dataset: str | None,
    settings: tuple[str, ...],
    trust_remote_code: bool,
    title: str | None,
) -> None:
    """Write a page on which the features of an SAE can be looked at.

    SAE_OR_RUN is the directory of a run, whose experiment says the model and the text; the
    directory or file of an SAE, whose metadata say them; or RELEASE:SAE_ID of the catalogue or the
    hub. The text is that of the training, a run's in the same order. The page is one HTML file that
    loads nothing.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise SaecoreError(f"--out {out}: expected a file that ends in .html")
    from saecore.opening import opened
    from saecore.trust import remote_code

    found = opened(given, model, dataset, settings)
    sae = found.sae
    latents = numbers(chosen, sae.cfg.d_sae)
    with remote_code(trust_remote_code):
        text = found.text()
    click.echo(f"{found.name}: {len(latents):,} features, reading up to {tokens:,} tokens")
    from saecore.dashboard import write_dashboard
    from saecore.looking import features

    seen = features(sae, text, tokens, latents=latents)
    silent = int((seen.density == 0).sum())
    note = f"; {silent:,} of the features never fired" if silent else ""
    click.echo(f"read {seen.tokens:,} tokens in {seen.contexts:,} contexts{note}")
    write_dashboard(out, seen, sae, text.backend, title or found.name)
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

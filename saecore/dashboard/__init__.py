"""The dashboard: features of an SAE as one HTML file."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from saecore.dashboard.data import payload
from saecore.files import write_bytes
from saecore.pages import page

if TYPE_CHECKING:
    from saecore.backend import ModelBackend
    from saecore.looking import Features
    from saecore.sae import SAE

BODY = Path(__file__).with_name("page.html")
STYLE = Path(__file__).with_name("page.css")
SCRIPT = Path(__file__).with_name("page.js")


def write_dashboard(
    file: Path, found: Features, sae: SAE, backend: ModelBackend, title: str
) -> None:
    """Write the dashboard of what was seen of some latents.

    Args:
        file: the HTML file; what is there is replaced.
        found: what `saecore.features` gave.
        sae: the SAE.
        backend: the model, for its unembedding.
        title: heading of the page.

    Raises:
        CheckpointError: it cannot be written.
    """
    data = payload(found, sae, backend)
    facts = (
        f"{sae.cfg.architecture} · {', '.join(data['hooks'])} of {backend.name} · "
        f"{len(found.latents):,} of {sae.cfg.d_sae:,} features · {found.tokens:,} tokens"
    )
    body = BODY.read_text(encoding="utf-8")
    body = body.replace("{{title}}", escape(title)).replace("{{facts}}", escape(facts))
    write_bytes(file, page(title, body, STYLE, SCRIPT, data), setting="--out")

"""Write the dashboard: features of an SAE in one HTML file."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from saecore.analysis.dashboard.data import payload
from saecore.reports.page import page
from saecore.storage.files import write_bytes

if TYPE_CHECKING:
    from saecore.analysis.features import Features
    from saecore.core.model import ModelBackend
    from saecore.core.sae import SAE

BODY = Path(__file__).with_name("page.html")
STYLE = Path(__file__).with_name("page.css")
SCRIPT = Path(__file__).with_name("page.js")


def write_dashboard(
    file: Path, features: Features, sae: SAE, backend: ModelBackend, title: str
) -> None:
    """Write the dashboard of some features.

    Args:
        file: the HTML file; replaced if it exists.
        features: the result of `saecore.features`.
        sae: the SAE.
        backend: the model, for its unembedding.
        title: heading of the page.

    Raises:
        StorageError: it cannot be written.
    """
    data = payload(features, sae, backend)
    facts = (
        f"{sae.cfg.architecture} · {', '.join(data['hooks'])} of {backend.name} · "
        f"{len(features.latents):,} of {sae.cfg.d_sae:,} features · {features.tokens:,} tokens"
    )
    body = BODY.read_text(encoding="utf-8")
    body = body.replace("{{title}}", escape(title)).replace("{{facts}}", escape(facts))
    write_bytes(file, page(title, body, STYLE, SCRIPT, data), setting="--out")

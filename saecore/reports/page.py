"""Self-contained HTML pages: one file each, light and dark, narrow and wide."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from typing import Any

BASE = Path(__file__).with_name("base.css")
"""Colors and type of every page."""


def page(title: str, body: str, style: Path, script: Path, data: Any = None) -> bytes:
    """An HTML file with its style, script and data inlined.

    The content security policy blocks every request and every other script.

    Args:
        title: the document title.
        body: HTML, with its text already escaped.
        style: a CSS file, appended to `base.css`.
        script: a JavaScript file.
        data: what the script reads as JSON from the element `data`.
    """
    css = BASE.read_text(encoding="utf-8") + style.read_text(encoding="utf-8")
    code = script.read_text(encoding="utf-8")
    policy = f"default-src 'none'; style-src {_hash(css)}; script-src {_hash(code)}"
    element = ""
    if data is not None:
        element = f'<script type="application/json" id="data">{_json(data)}</script>'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{css}</style></head>\n<body>{body}\n"
        f"{element}\n<script>{code}</script></body></html>\n"
    ).encode()


def _json(data: Any) -> str:
    """JSON that cannot close its element: ASCII without <, > and &."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

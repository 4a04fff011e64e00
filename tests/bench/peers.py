"""The environments that peers.sh made, and jobs done in SAELens' (see peer_saelens.py)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

NAMES = ("saelens", "sparsify", "dictionary_learning")
DIRECTORY = Path(".venv-peers")
"""Where peers.sh puts them unless it is told."""


def interpreter(peers: Path, name: str) -> Path | None:
    """The Python of a peer's environment, if there is one."""
    python = peers.absolute() / name / "bin" / "python"
    return python if python.exists() else None


def run_peer(peers: Path, command: str, job: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Run `peer_saelens.py COMMAND` and return its answer.

    Args:
        peers: the directory that peers.sh filled.
        command: "train", "roundtrip" or "published".
        job: what it is to do.
        directory: where the job and the answer may be written.
    """
    python = interpreter(peers, "saelens")
    if python is None:
        raise SystemExit(
            f"{peers}: has no environment saelens; make it with tests/bench/peers.sh {peers}"
        )
    file, answer = directory / f"{command}.json", directory / f"{command}-answer.json"
    file.write_text(json.dumps({**job, "answer": str(answer)}))
    script = Path(__file__).with_name("peer_saelens.py")
    subprocess.run([python, script, command, file], check=True)
    return dict(json.loads(answer.read_text()))

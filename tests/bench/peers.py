"""Running a job in the environment that make_peers.sh made."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def run_peer(
    peers: Path,
    command: str,
    job: dict[str, Any],
    directory: Path,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run `peer_saelens.py COMMAND` and return its answer.

    Args:
        peers: directory of SAELens' virtual environment.
        command: "train", "roundtrip" or "published".
        job: what it is to do.
        directory: where the job and the answer may be written.
        environment: variables beside those of this process.
    """
    python = peers / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"{python}: no such file; make it with tests/bench/make_peers.sh {peers}")
    file, answer = directory / f"{command}.json", directory / f"{command}-answer.json"
    file.write_text(json.dumps({**job, "answer": str(answer)}))
    script = Path(__file__).with_name("peer_saelens.py")
    environment = {**os.environ, **(environment or {})}
    subprocess.run([python.absolute(), script, command, file], check=True, env=environment)
    return dict(json.loads(answer.read_text()))

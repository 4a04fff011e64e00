"""What a fault test reports: one row of the table."""

from __future__ import annotations

import attrs


@attrs.define
class Row:
    """A fault, how often it was made, what must hold, and where it did not."""

    fault: str
    must_hold: str
    n: int = 0
    failures: list[str] = attrs.field(factory=list)
    notes: str = ""
    """What else was counted."""

    @property
    def result(self) -> str:
        """The last column."""
        if self.n == 0:
            return "not run"
        told = f"{len(self.failures)} failures" if self.failures else "held"
        return f"{told} ({self.notes})" if self.notes else told


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| fault | n | must hold | result |", "|---|---|---|---|"]
    lines += [f"| {one.fault} | {one.n:,} | {one.must_hold} | {one.result} |" for one in rows]
    return "\n".join(lines)

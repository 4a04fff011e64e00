"""Comparing finished runs: a table, and a report of one HTML file."""

from saecore.compare.html import write_report
from saecore.compare.runs import Compared, read_runs
from saecore.compare.seeds import Row, rows

__all__ = ["Compared", "Row", "read_runs", "rows", "write_report"]

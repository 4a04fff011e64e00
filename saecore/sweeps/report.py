"""The end of a sweep: its report, and a notice to trackers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from saecore.config.sweep import Sweep
from saecore.core.logger import SweepInfo, SweepLogger
from saecore.errors import SaecoreError, warn
from saecore.reports.html import write_report
from saecore.reports.runs import read_runs
from saecore.reports.seeds import rows

REPORT = "report.html"


def write_sweep_report(sweep: Sweep, finished: Mapping[str, Path]) -> Path | None:
    """Write <sweep>/report.html about the finished points; None if there are none."""
    if not finished:
        return None
    file = sweep.directory / REPORT
    try:
        write_report(file, rows(read_runs(finished.values())), sweep.name)
    except SaecoreError as error:  # the runs are complete; `saecore compare` can retry
        warn(f"no report: {error}")
        return None
    return file


def notify_loggers(sweep: Sweep, report: Path | None, finished: bool) -> None:
    """Tell each tracker of the points, once, that the sweep has ended."""
    notified = []
    for point in sweep.points:
        for choice in point.experiment.logger:
            if choice in notified:
                continue
            notified.append(choice)
            try:
                logger = choice.build(sweep.directory)
                if isinstance(logger, SweepLogger):
                    info = SweepInfo(sweep.name, sweep.directory)
                    logger.sweep_ended(info, report, finished)
            except Exception as error:  # a failing tracker must not end a sweep
                warn(f"logger {choice.name}: {type(error).__name__}: {error}")

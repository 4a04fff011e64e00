"""What a sweep leaves when it ends: its report, and word to trackers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from saecore.compare import read_runs, rows, write_report
from saecore.config.sweep import Sweep
from saecore.errors import SaecoreError
from saecore.tracking import SweepInfo, SweepLogger, warn

REPORT = "report.html"


def report_of(sweep: Sweep, finished: Mapping[str, Path]) -> Path | None:
    """Write <sweep>/report.html of the points that are finished; None if there are none."""
    if not finished:
        return None
    file = sweep.directory / REPORT
    try:
        write_report(file, rows(read_runs(finished.values())), sweep.name)
    except SaecoreError as error:  # the runs are there; `saecore compare` can be asked again
        warn(f"no report: {error}")
        return None
    return file


def tell(sweep: Sweep, report: Path | None, finished: bool) -> None:
    """Tell each tracker of the points, once, that the sweep has ended."""
    told = []
    for point in sweep.points:
        for one in point.experiment.logger:
            if one in told:
                continue
            told.append(one)
            try:
                logger = one.build(sweep.directory)
                if isinstance(logger, SweepLogger):
                    info = SweepInfo(sweep.name, sweep.directory)
                    logger.sweep_ended(info, report, finished)
            except Exception as error:  # a tracker must not cost a sweep
                warn(f"logger {one.name}: {type(error).__name__}: {error}")

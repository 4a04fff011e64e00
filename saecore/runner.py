"""From an experiment to a trained SAE on disk."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Literal

from saecore.config.experiment import Experiment
from saecore.errors import CheckpointError
from saecore.feed import make_feed
from saecore.lock import locked
from saecore.plugins import Host, current_host
from saecore.resume import RESULT, check_same, find, read_record, recorded
from saecore.sae import SAE
from saecore.session import RunResult, Session, writable
from saecore.signals import Interrupted, Signals
from saecore.trust import remote_code


def run(
    experiment: Experiment,
    host: Host | None = None,
    source: str = "experiment",
    trust_remote_code: bool = False,
    *,
    resume: Literal[True] | str | Path | None = None,
) -> RunResult:
    """Train, evaluate and save.

    Args:
        experiment: what to do.
        host: the plugins to use; default: all that are installed.
        source: where the experiment comes from, for error messages.
        trust_remote_code: let Python code that comes with the model run.
        resume: go on with a run that was stopped: True for the newest unfinished one of the
            experiment's name (a new one where there is none), or a run's directory or id.

    Raises:
        SaecoreError: the experiment cannot be run; nothing that was there before is changed.
        Interrupted: SIGINT or SIGTERM came; the run can be resumed.
    """
    host = host or current_host()
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(Signals())
        parent = writable(Path(experiment.output) / experiment.name)
        directory = find(experiment, resume) if resume else None
        old = experiment
        if resume and directory is None:
            print(f"no run of {parent} to resume; beginning one", flush=True)
        if directory is not None:
            stack.enter_context(locked(directory))
            old = recorded(read_record(directory), directory, host)
            check_same(old, experiment, directory)
            if (directory / RESULT).exists() and old.training.steps == experiment.training.steps:
                return finished(directory)

        with remote_code(trust_remote_code):
            feed = make_feed(experiment, source)
        session = Session(experiment, feed, host, source, signals, directory, old)
        stack.callback(session.close)
        try:
            session.begin()
            with signals.deferred():
                for _ in session.training.steps():
                    pass
            return session.finish()
        except Interrupted as stop:
            session.locate(stop)
            raise


def finished(directory: Path) -> RunResult:
    """The result of a run that had ended before.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        result = json.loads((directory / RESULT).read_text(encoding="utf-8"))
        seconds, evaluation = float(result["training"]["seconds"]), result["figures"]
        lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        figures = [one for line in lines if "metrics/l0" in (one := json.loads(line))]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{directory}: it has ended, but its results cannot be read: {error}; "
            f"`saecore verify {directory}` says what is damaged"
        ) from error
    sae = SAE.load_from_disk(directory / "sae")
    return RunResult(directory, sae, evaluation, figures[-1] if figures else {}, seconds, True)

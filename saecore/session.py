"""A run in hand: opened, begun, taken step by step, finished, closed."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from saecore import __version__
from saecore.assembly import make_sae, make_trainer
from saecore.checkpoint import checkpoints, step_of
from saecore.config.experiment import Experiment
from saecore.config.explain import chosen, flatten, to_tables
from saecore.evaluation import measure
from saecore.feed import Feed
from saecore.figures import Measured
from saecore.files import explained, sync, write_json
from saecore.lock import locked
from saecore.plan.machine import peak
from saecore.plugins import Host, versions
from saecore.publishing import published
from saecore.resume import (
    RECORD,
    RESULT,
    Saved,
    check_growth,
    check_same_data,
    fingerprint,
    newest,
    read_record,
)
from saecore.sae import SAE
from saecore.signals import Interrupted, Signals
from saecore.tracking import Logger, Loggers, MetricsFile, RunInfo, SweepInfo, warn
from saecore.training import Training, check_finite


@attrs.frozen
class RunResult:
    """What a run leaves."""

    directory: Path
    """The run's directory."""
    sae: SAE
    """The trained SAE in its published form."""
    evaluation: Mapping[str, Any]
    """Held-out figures, evaluator by evaluator."""
    metrics: Mapping[str, float]
    """The last line of metrics."""
    seconds: float
    """Wall time of training."""
    before: bool = False
    """Whether it was finished before: a resume that had nothing to do."""


class Session:
    """One run, from its feed to its result; several may be in hand, each a step at a time.

    `begin`, then all of `steps`, then `finish`; `close` in any case.

    Args:
        experiment: what to do.
        feed: what it trains on.
        host: the plugins.
        source: where the experiment comes from, for error messages.
        signals: whether to stop; they are deferred while steps are taken.
        directory: a run to go on with, whose lock the caller holds; None: a new one.
        old: the experiment of that run.
        sweep: the sweep that the run belongs to.
        shown: takes the place of the console.
    """

    def __init__(
        self,
        experiment: Experiment,
        feed: Feed,
        host: Host,
        source: str,
        signals: Signals,
        directory: Path | None = None,
        old: Experiment | None = None,
        *,
        sweep: SweepInfo | None = None,
        shown: Logger | None = None,
    ) -> None:
        self.experiment, self.feed, self._signals = experiment, feed, signals
        sae = make_sae(experiment, feed.d_in, feed.d_out, feed.device, source)
        self.trainer = make_trainer(experiment, sae, feed.source, source, feed.backend)
        self._stack = contextlib.ExitStack()
        self._saved: Saved | None = None
        try:
            self.directory = self._open(directory, old, self._record(host))
            self._watch(host, sweep, shown)
        except BaseException:
            self.close()
            raise

    def _record(self, host: Host) -> dict[str, Any]:
        used = (host.provider(one.kind, one.name) for one in chosen(self.experiment))
        return {
            "experiment": to_tables(self.experiment),
            **self.feed.record,
            "torch": torch.__version__,
            "device": str(self.feed.device),
            "plugins": versions(used),
        }

    def _open(
        self, directory: Path | None, old: Experiment | None, record: Mapping[str, Any]
    ) -> Path:
        """Make the run's directory, or take its newest checkpoint; write the record."""
        if directory is None:
            directory = _create(writable(Path(self.experiment.output) / self.experiment.name))
            self._stack.enter_context(locked(directory))
        else:
            for line in check_same_data(read_record(directory), record, directory):
                warn(f"{line}: bits may differ from here on")
            self._saved = newest(directory, fingerprint(self.experiment))
            if self._saved is not None:
                self.trainer.load_state_dict(self._saved.state)
                check_growth(self.trainer, old or self.experiment, self.experiment, directory)
            (directory / RESULT).unlink(missing_ok=True)
        write_json(directory / RECORD, record)
        self._versions = {"saecore": __version__, "torch": torch.__version__, **record["plugins"]}
        return directory

    def _watch(self, host: Host, sweep: SweepInfo | None, shown: Logger | None) -> None:
        """Open metrics.jsonl and the loggers."""
        experiment, trainer = self.experiment, self.trainer
        table = experiment.evaluation
        self._evaluators = (
            {one.name: one.build() for one in experiment.evaluator} if table.tokens else {}
        )
        self._info = RunInfo(
            experiment.name,
            self.directory.name,
            self.directory,
            dict(flatten(to_tables(experiment))),
            experiment.training.steps,
            experiment.training.batch_size,
            trainer.completed,
            sweep,
        )
        length = self._saved.metrics_length if self._saved else 0
        metrics = MetricsFile(self.directory / "metrics.jsonl", length)
        self._stack.callback(metrics.close)
        self._loggers = make_loggers(experiment, self.directory, host, shown)
        self._stack.callback(self._loggers.call, "close")
        stream = self.feed.stream
        self.training = Training(
            experiment,
            trainer,
            self.directory,
            {"experiment": fingerprint(experiment), "versions": self._versions},
            metrics,
            self._loggers,
            self._signals,
            self._during if self._evaluators else None,
            (lambda: stream.waited) if stream else (lambda: 0.0),
        )

    def begin(self) -> None:
        """Start the loggers; estimate what training needs first, or go on from the checkpoint."""
        self._loggers.call("start", self._info)
        if self._saved is None:
            self.trainer.prepare()
        else:
            self.training.restore(self._saved)
            self._saved = None  # the state is in the trainer now

    def finish(self) -> RunResult:
        """Publish, evaluate and record the trained SAE.

        Raises:
            NumericsError: its weights are not finite.
        """
        directory, trainer, training = self.directory, self.trainer, self.training
        sae = published(self.experiment, trainer, training.figures, self.feed)
        check_finite(sae, "after training")
        sae.save_model(directory / "sae", trainer.latents.sparsity())
        measured = self._measured(sae)
        evaluation = measured.tables()
        for name, reason in measured.skipped.items():
            warn(f"evaluator {name} skipped: {reason}")
        training.log(flat(evaluation))
        write_json(directory / RESULT, {"training": self._cost(), **measured.as_result()})
        for name in ("sae", RECORD, RESULT):
            self._loggers.call("artifact", directory / name)
        return RunResult(directory, sae, evaluation, training.figures, training.seconds)

    def close(self) -> None:
        """Close the loggers and give up the lock; what is not finished can be resumed."""
        self._stack.close()

    def locate(self, stop: Interrupted) -> None:
        """Let an interruption say where the run can be resumed."""
        done = checkpoints(self.directory / "checkpoints")
        stop.directory, stop.step = self.directory, step_of(done[-1]) if done else None

    def _cost(self) -> dict[str, Any]:
        """Tokens, time and memory.

        The seconds of a shared stream are those of all its runs together; each bears its part.
        """
        tokens, seconds = self.trainer.tokens, self.training.seconds
        stream = self.feed.stream
        shared = {} if stream is None else {
            "stream": {"runs": stream.runs, "seconds": round(stream.seconds, 3)}
        }  # fmt: skip
        part = stream.seconds / stream.runs if stream else 0.0
        return {
            "tokens": tokens,
            "seconds": round(seconds, 3),
            **shared,
            "tokens_per_second": round(tokens / max(1e-9, seconds + part), 1),
            "peak_memory": peak(self.feed.device),
        }

    def _measured(self, sae: SAE) -> Measured:
        return measure(sae, self.feed.origin, self.feed.held_out, self._evaluators)

    def _during(self, values: Mapping[str, float]) -> dict[str, float]:
        now = published(self.experiment, self.trainer, values, self.feed)
        return flat(self._measured(now).tables())


def writable(directory: Path) -> Path:
    """Make the directory of the runs of a name, before anything slow happens.

    Raises:
        SaecoreError: nothing can be written there.
    """
    with explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".probe-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    return directory


def _create(parent: Path) -> Path:
    """Make a new run's directory."""
    with explained(parent):
        while True:
            directory = parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
            try:
                directory.mkdir()
            except FileExistsError:
                continue
            sync(parent)
            return directory


def make_loggers(
    experiment: Experiment, directory: Path, host: Host, shown: Logger | None = None
) -> Loggers:
    """The loggers of an experiment, with the console unless something takes its place."""
    from saecore.config.structure import structure_choice

    listed = list(experiment.logger)
    if shown is not None:
        listed = [one for one in listed if one.name != "console"]
    elif all(one.name != "console" for one in listed) and "console" in host.names("logger"):
        listed.append(structure_choice("logger", "console", host))
    built: Sequence[tuple[str, Logger]] = [(one.name, one.build(directory)) for one in listed]
    return Loggers([*built, ("console", shown)] if shown is not None else built)


def flat(evaluation: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Figures by the names under which they are logged."""
    return {
        f"evaluation/{name}": float(figure["value"])
        for figures in evaluation.values()
        for name, figure in figures.items()
    }

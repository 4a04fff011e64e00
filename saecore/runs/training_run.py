"""One training run: create or resume, step, finish, close."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from saecore._version import __version__
from saecore.config.experiment import Experiment
from saecore.config.messages import chosen, flatten, to_tables
from saecore.core.evaluator import EvaluationResult
from saecore.core.logger import Logger, RunInfo, SweepInfo
from saecore.core.sae import SAE
from saecore.errors import warn
from saecore.evaluation.evaluate import run_evaluators
from saecore.plugins.host import current_host, versions
from saecore.runs.build import build_sae, build_trainer
from saecore.runs.export import export_sae
from saecore.runs.inputs import RunInputs
from saecore.runs.loggers import MetricsFile, build_loggers
from saecore.runs.loop import TrainLoop, check_finite
from saecore.runs.open_run import OpenRun
from saecore.runs.planning.machine import peak
from saecore.runs.resume import fingerprint
from saecore.runs.signals import Interrupted, Signals
from saecore.storage.checkpoint import step_of


@attrs.frozen(kw_only=True)
class RunResult:
    """The result of a run."""

    directory: Path
    """The run's directory."""
    sae: SAE
    """The trained SAE in its inference form."""
    evaluation: Mapping[str, Any]
    """Held-out metrics by evaluator."""
    metrics: Mapping[str, float]
    """The last training metrics."""
    seconds: float
    """Wall time of training."""
    before: bool = False
    """Whether an earlier process had finished the run, so that the resume had nothing to do."""


class TrainingRun:
    """One run, from its inputs to its result; several can be stepped alternately.

    Call `begin`, exhaust `steps`, then call `finish`; call `close` in any case.

    Args:
        experiment: the experiment.
        inputs: what the run trains on.
        signals: tells when to stop; the caller defers them while steps are taken.
        opened: the run's directory, new or to be resumed; `close` releases it.
        sweep: the sweep that the run belongs to.
        display: a logger that replaces the console.
    """

    def __init__(
        self,
        experiment: Experiment,
        inputs: RunInputs,
        signals: Signals,
        opened: OpenRun,
        *,
        sweep: SweepInfo | None = None,
        display: Logger | None = None,
    ) -> None:
        self.experiment, self.inputs = experiment, inputs
        self._stack = contextlib.ExitStack()
        self._stack.callback(opened.close)
        try:
            sae = build_sae(experiment, inputs.d_in, inputs.d_out, inputs.device)
            self.trainer = build_trainer(experiment, sae, inputs.store, inputs.backend)
            record = self._record()
            self._saved = opened.begin(self.trainer, record)
            self.directory = opened.directory
            self._loop = self._build_loop(signals, record["plugins"], sweep, display)
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """Start the loggers; initialize from the first activations, or restore the checkpoint."""
        self._loggers.call("start", self._info)
        if self._saved is None:
            self.trainer.prepare()
        else:
            self._loop.restore(self._saved)
            self._saved = None  # the state is in the trainer now

    def steps(self) -> Iterator[None]:
        """Train to the last step; yields after every step.

        Raises:
            Interrupted: a signal arrived; all completed steps are saved.
            NumericsError: a value is not finite.
        """
        return self._loop.steps()

    def finish(self) -> RunResult:
        """Save, evaluate and record the trained SAE.

        Raises:
            NumericsError: its weights are not finite.
        """
        directory, trainer, loop = self.directory, self.trainer, self._loop
        sae = export_sae(self.experiment, trainer, loop.metrics, self.inputs)
        check_finite(sae, "after training")
        sae.save_model(directory.sae_directory, trainer.latents.sparsity())
        result = self._evaluate(sae)
        evaluation = result.tables()
        for name, reason in result.skipped.items():
            warn(f"evaluator {name} skipped: {reason}")
        loop.log(flat(evaluation))
        directory.write_result({"training": self._cost(), **result.as_result()})
        for path in (directory.sae_directory, directory.record_file, directory.result_file):
            self._loggers.call("artifact", path)
        return RunResult(
            directory=directory.path,
            sae=sae,
            evaluation=evaluation,
            metrics=loop.metrics,
            seconds=loop.seconds,
        )

    def close(self) -> None:
        """Close the loggers and release the directory; an unfinished run can be resumed."""
        self._stack.close()

    def locate(self, stop: Interrupted) -> None:
        """Add to an interruption where the run can be resumed."""
        saved = self.directory.checkpoints()
        stop.directory, stop.step = self.directory.path, step_of(saved[-1]) if saved else None

    def _record(self) -> dict[str, Any]:
        """The content of experiment.json."""
        host = current_host()
        providers = (host.provider(c.kind, c.name) for c in chosen(self.experiment))
        return {
            "experiment": to_tables(self.experiment),
            **self.inputs.record,
            "torch": torch.__version__,
            "device": str(self.inputs.device),
            "plugins": versions(providers),
        }

    def _build_loop(
        self,
        signals: Signals,
        plugins: Mapping[str, str],
        sweep: SweepInfo | None,
        display: Logger | None,
    ) -> TrainLoop:
        """Open metrics.jsonl and the loggers."""
        experiment, directory, shared = self.experiment, self.directory, self.inputs.shared
        self._evaluators = (
            {choice.name: choice.build() for choice in experiment.evaluator}
            if experiment.evaluation.tokens
            else {}
        )
        self._info = RunInfo(
            name=experiment.name,
            id=directory.id,
            directory=directory.path,
            parameters=dict(flatten(to_tables(experiment))),
            steps=experiment.training.steps,
            batch_size=experiment.training.batch_size,
            resumed_at=self.trainer.completed,
            sweep=sweep,
        )
        length = self._saved.metrics_length if self._saved else 0
        metrics_file = MetricsFile(directory.metrics_file, length)
        self._stack.callback(metrics_file.close)
        self._loggers = build_loggers(experiment, directory.path, display)
        self._stack.callback(self._loggers.call, "close")
        return TrainLoop(
            experiment,
            self.trainer,
            directory.checkpoint_directory,
            manifest={
                "experiment": fingerprint(experiment),
                "versions": {"saecore": __version__, "torch": torch.__version__, **plugins},
            },
            metrics_file=metrics_file,
            loggers=self._loggers,
            signals=signals,
            evaluate=self._evaluate_now if self._evaluators else None,
            waited=(lambda: shared.waited) if shared else (lambda: 0.0),
        )

    def _cost(self) -> dict[str, Any]:
        """Tokens, time and memory.

        The seconds of a shared activation store are those of all its runs together; the rate
        charges each run with its part of them.
        """
        tokens, seconds = self.trainer.tokens, self._loop.seconds
        store = self.inputs.shared
        stream = {} if store is None else {
            "stream": {"runs": store.runs, "seconds": round(store.seconds, 3)}
        }  # fmt: skip
        part = store.seconds / store.runs if store else 0.0
        return {
            "tokens": tokens,
            "seconds": round(seconds, 3),
            **stream,
            "tokens_per_second": round(tokens / max(1e-9, seconds + part), 1),
            "peak_memory": peak(self.inputs.device),
        }

    def _evaluate(self, sae: SAE) -> EvaluationResult:
        return run_evaluators(sae, self.inputs.held_out, self._evaluators)

    def _evaluate_now(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Evaluate the SAE in the middle of training."""
        sae = export_sae(self.experiment, self.trainer, metrics, self.inputs)
        return flat(self._evaluate(sae).tables())


def flat(evaluation: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Flatten evaluation metrics to the names under which they are logged."""
    return {
        f"evaluation/{name}": float(metric["value"])
        for metrics in evaluation.values()
        for name, metric in metrics.items()
    }

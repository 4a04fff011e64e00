"""What a shared stream costs beyond one pass of the model and the SAEs' own steps.

    python -m tests.bench.sweep [FILE] [--tokens N] [--pairs N]

Interleaved pairs: the sweep's points trained side by side, against the sum of one pass of the
stream and each point's steps on rows that are there already. The target is a median of 1.10.
"""

from __future__ import annotations

import argparse
import statistics
import time

from saecore.config.load import load
from saecore.runs.build import build_sae, build_trainer
from saecore.runs.inputs import load_model
from saecore.runs.planning.profile import _ConstantStore
from saecore.sweeps.shared_inputs import SharedInputs


def trainers(points, feeds, again=None):
    """A trainer for each point, on its feed or on one batch again and again."""
    made = []
    for point in points:
        feed = feeds[point.name]
        sae = build_sae(point.experiment, feed.d_in, feed.d_out, feed.device)
        made.append(build_trainer(point.experiment, sae, again or feed.store))
    return made


def side_by_side(shared, points):
    """Seconds of all points on one stream."""
    feeds = shared.inputs(points)
    running = trainers(points, feeds)
    begin = time.perf_counter()
    while running:
        one = min(running, key=lambda trainer: trainer.source.position)
        one.step()
        if one.completed == one.settings.steps:
            one.source.leave()
            running.remove(one)
    return time.perf_counter() - begin


def apart(shared, points):
    """Seconds of one pass of the stream, and of each point's steps."""
    feeds = shared.inputs(points)
    reader = feeds[points[0].name].source
    for point in points[1:]:
        feeds[point.name].source.leave()
    training = points[0].experiment.training
    begin = time.perf_counter()
    for _ in range(training.steps):
        batch = reader.next(training.batch_size)
    seconds = [time.perf_counter() - begin]
    for one in trainers(points, feeds, _ConstantStore(batch)):
        begin = time.perf_counter()
        for _ in range(one.settings.steps):
            one.step()
        seconds.append(time.perf_counter() - begin)
    return seconds


def main():
    """Print every pair and the median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", default="experiments/sweeps/frontier.toml")
    parser.add_argument("--tokens", type=int, default=65_536)
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    settings = [f"training.tokens={given.tokens}", "buffer.tokens=16384", "evaluation.tokens=1024"]
    points = load(given.file, settings).points
    shared = SharedInputs(*load_model(points[0].experiment))
    ratios = []
    for _ in range(given.pairs):
        together, parts = side_by_side(shared, points), apart(shared, points)
        ratios.append(together / sum(parts))
        print(f"side by side {together:.1f} s; one pass {parts[0]:.1f} s + steps "
              f"{sum(parts[1:]):.1f} s; ratio {ratios[-1]:.3f}", flush=True)  # fmt: skip
    print(f"median of {given.pairs}: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()

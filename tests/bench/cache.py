"""What keeping activations on disk costs and saves.

python -m tests.bench.cache [--tokens 262144] [--rounds 5] [--steps 60]

Writing against the bare forward to the hook over the same contexts, with a small window: mixing
runs up to one fill more than there are rows, which counts in a short cache and not in a long one.
Reading against `read()` of the same files, in a process of its own: what training has left to the
allocator decides otherwise. Training on the cache against training live, both ends
of a run left out. Every round does each once, in turns; ratios are medians over the rounds. At the
end the explained variance of a TopK SAE trained on each precision.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from saecore.activations.cache.reader import ActivationCache
from saecore.activations.cache.writer import prepare
from saecore.config import structure_experiment
from saecore.config.experiment import Experiment
from saecore.models.hook_site import HookSite
from saecore.runs.build import build_sae, build_trainer
from saecore.runs.inputs import build_inputs
from saecore.runs.run import run
from saecore.storage.repository import Directory

HOOK = "blocks.2.hook_resid_post"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="activations on disk")
    parser.add_argument("--tokens", type=int, default=2**18)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60, help="training steps that are timed")
    parser.add_argument("--d-sae", type=int, default=2048)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        measure(Path(place), options)


def measure(place: Path, options: argparse.Namespace) -> None:
    """All parts, in turns."""
    live = experiment(options, {"type": "python_corpus"})
    writer = prepare(live, place / "kept")
    writer.write()
    print(f"{live.training.tokens:,} tokens, {size(place / 'kept') / 1e6:.0f} MB; "
          f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")  # fmt: skip
    from_cache = experiment(options, {"type": "cached", "path": str(place / "kept")})
    work: dict[str, Callable[[], float]] = {
        "forward": lambda: timed(lambda: forward(writer)),
        "write": lambda: written(live, place / "again"),
        "train live": lambda: trained(live, options.steps),
        "train cached": lambda: trained(from_cache, options.steps),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(options.rounds):
        for name in list(work)[:: 1 if number % 2 else -1]:
            seconds[name].append(work[name]())
    with get_context("spawn").Pool(1) as alone:
        seconds |= alone.apply(reading, (place / "kept", live.training.tokens))
    for name, times in seconds.items():
        print(f"{name:<14}{statistics.median(times):8.3f} s")

    def ratio(one: str, other: str) -> float:
        pairs = zip(seconds[one], seconds[other], strict=True)
        return statistics.median(a / b for a, b in pairs)

    print(f"\nwriting / bare forward {ratio('write', 'forward'):.2f} (at most 1.25)")
    print(f"live / cached training {ratio('train live', 'train cached'):.2f} (at least 3)")
    print(f"read() / reading rows  {ratio('read()', 'read rows'):.2f} (at least 0.8)")
    print(
        f"peak memory            {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB\n"
    )
    for dtype in ("float32", "bfloat16", "int8"):
        directory = place / dtype
        prepare(live, directory, dtype).write()  # type: ignore[arg-type]
        done = run(experiment(options, {"type": "cached", "path": str(directory)}, str(place)))
        figure = done.evaluation["reconstruction"]["explained_variance"]["value"]
        print(f"{dtype:<9}{size(directory) / 1e6:8.1f} MB  explained variance {figure:.4f}")


def experiment(
    options: argparse.Namespace, dataset: dict[str, Any], output: str = "runs"
) -> Experiment:
    """The run that is measured."""
    live = dataset["type"] != "cached"
    # Whatever the length, one fill more than rows is run.
    window = {"buffer": {"tokens": 16_384}} if live else {}
    return structure_experiment(
        {
            **window,
            "output": output,
            "model": {"type": "tiny_lm", "hook": HOOK, "device": "cpu"},
            "dataset": dataset,
            "sae": {"architecture": "topk", "d_sae": options.d_sae, "k": 32},
            "training": {"tokens": options.tokens, "batch_size": 2048, "lr": 1e-3},
            "evaluation": {"tokens": 8192},
            "evaluator": [{"type": "reconstruction"}],
        }
    )


def timed(work: Callable[[], object]) -> float:
    """Seconds of some work."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def forward(writer: Any) -> None:
    """The model alone over as many contexts as a cache has."""
    buffer, rows = writer.buffer, writer.manifest.rows
    contexts = buffer.contexts.read(0, 0, -(-rows // buffer.contexts.context_size), 0)
    for part in torch.from_numpy(contexts.astype("int64")).split(buffer.settings.model_batch_size):
        writer.backend.activations(part, (HOOK,))


def written(live: Experiment, directory: Path) -> float:
    """Seconds of writing, the model loaded."""
    writer = prepare(live, directory)
    seconds = timed(writer.write)
    shutil.rmtree(directory)
    return seconds


def reading(directory: Path, tokens: int) -> dict[str, list[float]]:
    """Seconds of both ways to read, in turns, after one of each."""
    work = {
        "read()": lambda: plain_read(directory),
        "read rows": lambda: read_rows(directory, tokens),
    }
    rounds = [{name: timed(one) for name, one in work.items()} for _ in range(10)]
    return {name: [one[name] for one in rounds[1:]] for name in work}


def plain_read(directory: Path) -> None:
    """Every shard, a MiB at a time into one buffer: fresh memory would cost more than reading."""
    buffer = bytearray(2**20)
    for file in sorted(directory.glob("train/*.safetensors")):
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):  # type: ignore[attr-defined]
                pass


def read_rows(directory: Path, tokens: int) -> None:
    """Every row as batches."""
    stream = ActivationCache(Directory(directory)).stream(HookSite(hooks=(HOOK,)))
    for _ in range(tokens // 2048):
        stream.next(2048)


def trained(one: Experiment, steps: int) -> float:
    """Seconds of some training steps, after the first three."""
    feed = build_inputs(one)
    sae = build_sae(one, feed.d_in, feed.d_out, feed.device)
    trainer = build_trainer(one, sae, feed.store, feed.backend)
    trainer.prepare()
    for _ in range(3):
        trainer.step()
    return timed(lambda: [trainer.step() for _ in range(steps)])


def size(directory: Path) -> int:
    """Bytes of the training shards."""
    return sum(one.stat().st_size for one in directory.glob("train/*.safetensors"))


if __name__ == "__main__":
    main()

"""saecore's TopK against SAELens' own, trained by its own trainer on the same activations.

python -m tests.bench.compare_saelens --peers .venv-peers [--tokens 1_000_000] [--run RUN_DIR]

Same batches in the same order, same hyperparameters; SAELens starts from its own initialization
(from ours with --same-init). Both are evaluated by saecore on the same held-out contexts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from safetensors.torch import save_file

from saecore import SAE
from saecore.activations.build import build_store, read_tokens, sizes
from saecore.config.experiment import Experiment
from saecore.config.load import load_experiment
from saecore.core.sae_config import DTYPES, Metadata
from saecore.evaluation.batches import HeldOut
from saecore.evaluation.evaluate import run_evaluators
from saecore.releases.build import weights
from saecore.runs import build, run
from tests.bench.peers import run_peer

SHOWN = ("explained_variance", "mse", "l0", "ce_loss_score", "dead_fraction")
FILES = {"activations": "activations.npy", "save": "theirs", "initial": "initial.st"}
READING = ("hook_name", "hook_head_index", "seqpos_slice", "exclude_special_tokens")


def main() -> None:
    """Train both, evaluate both, print."""
    parser = argparse.ArgumentParser(description="compare a TopK run with SAELens")
    parser.add_argument("--peers", type=Path, required=True, help="where peers.sh put them")
    parser.add_argument("--file", type=Path, default=Path("experiments/topk.toml"))
    parser.add_argument("--tokens", type=int, help="training.tokens; default: the file's")
    parser.add_argument("--run", "--sae", type=Path, help="take this run instead of training one")
    parser.add_argument("--same-init", action="store_true", help="start SAELens from our weights")
    parser.add_argument("--seed", type=int, default=0, help="torch seed of SAELens' half")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="compare-saelens-") as name:
        compare(options, Path(name))


def compare(options: argparse.Namespace, directory: Path) -> None:
    """Do it all, on the CPU; big files go to `directory`."""
    if options.run:
        experiment, _ = load_experiment(options.run / "experiment.json")
        job = peer_settings(experiment)
        ours = SAE.load_from_disk(options.run / "sae")
        seconds = json.loads((options.run / "evaluation.json").read_text())["training"]["seconds"]
    else:
        settings = [f"output={directory / 'runs'}", "logger=[]", 'model.device="cpu"']
        settings += [f"training.tokens={options.tokens}"] if options.tokens else []
        experiment, _ = load_experiment(options.file, settings)
        job = peer_settings(experiment)
        result = run.run(experiment)
        ours, seconds = result.sae, result.seconds
    device = torch.device("cpu")
    backend = experiment.model.backend.build(device, DTYPES[experiment.model.dtype])
    d_in, d_out = sizes(experiment, backend)
    evaluated = experiment.evaluation.tokens if experiment.evaluator else 0
    rows = read_tokens(experiment.dataset, backend, evaluated)
    first = build.build_sae(experiment, d_in, d_out, device)
    save_file({k: v.contiguous() for k, v in weights(first).items()}, directory / "initial.st")
    reading = dump(experiment, build_store(experiment, backend, rows), d_in, directory)

    job["sae"] |= {"d_in": d_in, "d_sae": first.cfg.d_sae}
    job |= {name: str(directory / file) for name, file in FILES.items()} | {"seed": options.seed}
    job["initial"] = job["initial"] if options.same_init else None
    answer = run_peer(options.peers, "train", job, directory)
    theirs = SAE.load_from_disk(directory / "theirs")
    where = {key: value for key, value in ours.cfg.metadata.items() if key in READING}
    theirs.cfg = attrs.evolve(theirs.cfg, metadata=Metadata({**theirs.cfg.metadata, **where}))

    contexts = max(1, experiment.evaluation.tokens // experiment.dataset.context_size)
    held_out = torch.from_numpy(rows.held_out[:contexts].astype("int64"))
    evaluators = {one.name: one.build() for one in experiment.evaluator}
    columns = []
    for sae in (ours, theirs):
        found = run_evaluators(sae, HeldOut(model=backend, contexts=held_out), evaluators).tables()
        columns.append({key: one["value"] for part in found.values() for key, one in part.items()})
    t = experiment.training
    print(f"\n{t.steps} steps of {t.batch_size} tokens, {held_out.numel()} held-out tokens; "
          f"SAELens {answer['sae_lens']}, torch {torch.__version__} / {answer['torch']}, "
          f"threads {torch.get_num_threads()} / {answer['threads']}, SAELens' start: "
          f"{'ours' if options.same_init else 'its own'}")  # fmt: skip
    print(f"{'':<28}{'saecore':>12}{'SAELens':>12}{'ours/theirs':>13}")
    lines = [(key, columns[0][key], columns[1][key]) for key in SHOWN]
    lines.append(("training seconds", seconds, answer["seconds"]))
    lines.append(("  without activations *", seconds - reading, answer["seconds"]))
    for key, mine, other in lines:
        ratio = f"{mine / other:.4f}" if other else "-"
        print(f"{key:<28}{mine:>12.4f}{other:>12.4f}{ratio:>13}")
    print(f"* ours made its activations, SAELens read a file; making them again: {reading:.1f} s")


def dump(experiment: Experiment, window: Any, d_in: int, directory: Path) -> float:
    """Write the run's batches one after another; returns the seconds that making them took."""
    t, seconds = experiment.training, 0.0
    shape = (t.steps * t.batch_size, d_in)
    file = np.lib.format.open_memmap(directory / "activations.npy", "w+", np.float32, shape)
    for at in range(0, shape[0], t.batch_size):
        began = time.monotonic()
        inputs = window.next(t.batch_size).inputs
        seconds += time.monotonic() - began
        file[at : at + t.batch_size] = inputs.numpy()
    file.flush()
    return seconds


def peer_settings(experiment: Experiment) -> dict[str, Any]:
    """The experiment in SAELens' words; what it cannot say is refused."""
    t, table, adam = experiment.training, experiment.sae, experiment.training.optimizer
    schedule, dead, sae = t.lr_schedule, table.dead_latents, table.architecture
    kinds = (sae.name, adam.name, schedule.name, dead.name, table.normalizer.name)
    fixed = (t.clip_norm, t.accumulate, adam.config.eps, adam.config.weight_decay, t.autocast)
    known = ("topk", "adam", "constant", "auxk", "none"), (1.0, 1, 1e-8, 0.0, False)
    if (kinds, fixed) != known or dead.config.k_aux or t.lr == "auto":
        raise SystemExit(f"SAELens' trainer cannot do this: {kinds}, {fixed}; expected {known}")
    if schedule.config.warm_up_steps + schedule.config.decay_steps > t.steps:
        raise SystemExit(f"{t.steps} steps are too few for warm-up and decay; give more --tokens")
    return {
        "sae": {
            "k": sae.config.k, "dtype": table.dtype,
            "apply_b_dec_to_input": sae.config.apply_b_dec_to_input,
            "rescale_acts_by_decoder_norm": sae.config.rescale_acts_by_decoder_norm,
            "aux_loss_coefficient": dead.config.coefficient,
            "decoder_init_norm": table.init.decoder_norm,
        },
        "trainer": {
            "total_training_samples": t.steps * t.batch_size,
            "train_batch_size_samples": t.batch_size,
            "lr": t.lr, "lr_end": t.lr / 10, "lr_scheduler_name": schedule.name,
            "lr_warm_up_steps": schedule.config.warm_up_steps,
            "lr_decay_steps": schedule.config.decay_steps,
            "adam_beta1": adam.config.betas[0], "adam_beta2": adam.config.betas[1],
            "dead_feature_window": dead.config.after_tokens // t.batch_size,  # both count "over"
            "feature_sampling_window": t.feature_sampling_window,
        },
    }  # fmt: skip


if __name__ == "__main__":
    main()

"""dictionary_learning's training step: its own `trainSAE` over our batches."""

from __future__ import annotations

from dictionary_learning.trainers.top_k import TopKTrainer
from dictionary_learning.training import trainSAE
from serve import Server, finisher, pool


def main() -> None:
    """Serve."""
    server = Server()
    job = server.job
    device = job.get("device", "cpu")
    batches = pool(job)
    steps = 100_000
    trainer = {
        "trainer": TopKTrainer,
        "activation_dim": job["d_in"],
        "dict_size": job["d_sae"],
        "k": job["sae"]["k"],
        "layer": 0,
        "lm_name": "none",
        "lr": job["lr"],
        "steps": steps,
        "device": device,
    }
    data = server.steps(lambda n: batches[n % len(batches)], finisher(job))
    trainSAE(data, [trainer], steps=steps, device=device)


if __name__ == "__main__":
    main()

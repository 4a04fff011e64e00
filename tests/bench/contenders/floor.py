"""The floor: the encoder's product alone and one fused Adam pass over both matrices.

The product goes through row chunks into one reused buffer: a fresh output of this size costs more
in page faults than the product itself. Chunks are as large as ours: fewer than 256 rows of a wide
dictionary would be bound by reading the encoder.
"""

from __future__ import annotations

import torch
from serve import Server, finisher, pool

CHUNK_BYTES, CHUNK_ROWS, WIDE_CHUNK_BYTES = 16 * 2**20, 256, 64 * 2**20


def main() -> None:
    """Serve."""
    server = Server()
    job = server.job
    d_in, d_sae, batch = job["d_in"], job["d_sae"], job["batch"]
    device = job.get("device", "cpu")
    encoder, decoder = (torch.nn.Parameter(torch.randn(d_sae, d_in, device=device)) for _ in "12")
    for one in (encoder, decoder):
        one.grad = torch.randn_like(one)
    adam = torch.optim.Adam([encoder, decoder], lr=1e-6, fused=True)
    wide = min(CHUNK_ROWS, WIDE_CHUNK_BYTES // (4 * d_sae))
    rows = batch if device == "cuda" else max(1, CHUNK_BYTES // (4 * d_sae), wide)
    buffer = torch.empty(min(rows, batch), d_sae, device=device)
    batches = pool(job)
    for x in server.steps(lambda n: batches[n % len(batches)], finisher(job)):
        with torch.no_grad():
            for at in range(0, batch, rows):
                part = x[at : at + rows]
                torch.mm(part, encoder.t(), out=buffer[: len(part)])
        adam.step()


if __name__ == "__main__":
    main()

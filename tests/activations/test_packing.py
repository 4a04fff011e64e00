"""Packing equals the recorded rows."""

import json

import numpy as np
import pytest

from saecore.activations.packing import Packing, pack


@pytest.mark.oracle
def test_recorded_rows(oracle):
    """All recorded combinations of prefix tokens, separators and concatenation."""
    record = json.loads((oracle / "model" / "packing.json").read_text())
    documents = [np.array(document, dtype=np.int64) for document in record["documents"]]
    for case in record["cases"]:
        packing = Packing(
            context_size=case["context_size"],
            begin_context=case["begin_batch_token_id"],
            begin_document=case["begin_sequence_token_id"],
            separator=case["sequence_separator_token_id"],
            concat=not case["disable_concat_sequences"],
        )
        assert [row.tolist() for row in pack(documents, packing)] == case["rows"]


def test_nothing_to_pack():
    """No documents, empty documents and too little text give no rows."""
    packing = Packing(context_size=8)
    for documents in ([], [[]], [[1, 2], [3]]):
        arrays = [np.array(document, dtype=np.int64) for document in documents]
        assert list(pack(arrays, packing)) == []

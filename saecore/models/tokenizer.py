"""A tokenizer's special tokens, and a hash of its behavior."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """Ids of the bos, eos, pad and sep tokens that a tokenizer has; CLS stands in for BOS."""
    ids = {}
    for name in ("bos", "eos", "pad", "sep"):
        token = getattr(tokenizer, f"{name}_token_id", None)
        if token is not None:
            ids[name] = int(token)
    if "bos" not in ids and getattr(tokenizer, "cls_token_id", None) is not None:
        ids["bos"] = int(tokenizer.cls_token_id)
    return ids


def special_token_ids(tokenizer: Any) -> tuple[int, ...]:
    """The ids of `special_tokens`, each once, sorted."""
    return tuple(sorted(set(special_tokens(tokenizer).values())))


def tokenizer_hash(tokenizer: Any) -> str:
    """A hash of everything that decides a tokenizer's output."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    state = fast.to_str() if fast is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(state.encode()).hexdigest()

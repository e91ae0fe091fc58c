"""What makes two encoders the same: weights, preprocessing, tokenizer. Precision does not."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Callable

import torch

# Case, punctuation, accents, scripts and length: what tokenizers and their cleaning differ in.
_PROBE_TEXTS = [
    "A photo of a Dog, running!",
    "naïve café — 12,345 km²  (double  spaces)",
    "一只狗在雪地里奔跑",
    "собака бежит",
    "word " * 200,
]


def fingerprint(
    model: torch.nn.Module, preprocessing: dict[str, Any], tokenize: Callable[[list[str]], torch.Tensor]
) -> str:
    """'weights-preprocessing-tokenizer' in hex; equal parts mean equal behaviour.

    The model must still be in the precision that it was loaded in.
    """
    return fingerprint_of(model.state_dict(), preprocessing, tokenize)


def fingerprint_of(
    state: dict[str, torch.Tensor], preprocessing: dict[str, Any], tokenize: Callable[[list[str]], torch.Tensor]
) -> str:
    """The fingerprint that a model with this state will have."""
    return "-".join(
        (_weights(state)[:16], _digest(_canonical(preprocessing))[:8], _tokens(tokenize)[:8])
    )


def _weights(state: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _tokens(tokenize: Callable[[list[str]], torch.Tensor]) -> str:
    return _digest(json.dumps(tokenize(_PROBE_TEXTS).tolist()))


def _canonical(preprocessing: dict[str, Any]) -> str:
    # JSON, so that (0.5, 0.5) and [0.5, 0.5] are the same
    return json.dumps(preprocessing, sort_keys=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

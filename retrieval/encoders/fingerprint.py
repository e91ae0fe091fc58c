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
    return "-".join(
        (_weights(model)[:16], _digest(_canonical(preprocessing))[:8], _tokens(tokenize)[:8])
    )


def _weights(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
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

"""Captions written by CoCa models, word by word. open_clip's own `generate` needs older transformers."""

from __future__ import annotations

from typing import Any, Sequence

import torch

MOST_TOKENS = 30


def can_write(model: torch.nn.Module, tokenizer: Any) -> bool:
    """Whether the model has a text decoder, and its tokenizer can read what that writes."""
    return hasattr(model, "text_decoder") and all(
        hasattr(tokenizer, name) for name in ("sot_token_id", "eot_token_id", "decode")
    )


@torch.inference_mode()
def write(model: torch.nn.Module, tokenizer: Any, pixels: torch.Tensor) -> list[str]:
    """A caption for each image: always the likeliest next token (greedy decoding), until the end token.

    pixels  (n, 3, height, width), normalised, on the model's device
    """
    start, end = tokenizer.sot_token_id, tokenizer.eot_token_id
    seen = model(pixels)  # no text: both kinds of image features
    images = {"image_latent": seen["image_features"], "image_embs": seen["image_embs"]}
    tokens = torch.full((len(pixels), 1), start, device=pixels.device)  # (n, length)
    ended = torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device)
    while tokens.shape[1] < min(MOST_TOKENS, model.context_length) and not ended.all():
        logits = model(None, tokens, **images, output_labels=False)["logits"][:, -1].float()  # (n, vocabulary)
        logits[:, [start, model.pad_id]] = -torch.inf
        if tokens.shape[1] == 1:
            logits[:, end] = -torch.inf  # a caption has a word
        following = logits.argmax(1).masked_fill(ended, end)
        ended |= following == end
        tokens = torch.cat([tokens, following[:, None]], 1)
    return [_text(tokenizer, row[1:], end) for row in tokens.tolist()]


def _text(tokenizer: Any, tokens: Sequence[int], end: int) -> str:
    words = tokens[: tokens.index(end)] if end in tokens else tokens
    return " ".join(tokenizer.decode(words).split())

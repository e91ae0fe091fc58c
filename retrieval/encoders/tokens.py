"""What the towers say before they are pooled: a vector per cell of the image, one per word piece."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel

from retrieval.encoders import preprocess
from retrieval.encoders.batches import images_at_once
from retrieval.encoders.openclip import OpenClipEncoder
from retrieval.errors import EncoderError

MOST_WORDS = 32  # word pieces; captions are shorter


class TowerTokens:
    """Tokens of an encoder with a convolutional timm image tower and a Hugging Face text tower.

    Raises EncoderError for other towers: where they keep their tokens is not known here.
    """

    def __init__(self, encoder: OpenClipEncoder):
        model = getattr(encoder, "_model", None)
        if not isinstance(getattr(model, "visual", None), TimmModel) or not isinstance(
            getattr(model, "text", None), HFTextEncoder
        ):
            raise EncoderError(
                f"{encoder.name} has towers whose tokens are not known here. A cross-encoder reads those of "
                "the built-in encoder, or of one that `retrieval train` made."
            )
        self._encoder, self._model = encoder, model

    def of_images(self, prepared: Sequence[Any]) -> torch.Tensor:
        """Of what the encoder's `prepare` returned: float32 (n, cells, width), row by row of the grid."""
        pixels = torch.stack(list(prepared)).to(self._encoder.device)
        if pixels.dtype == torch.uint8:
            pixels = preprocess.normalise(pixels, self._encoder._preprocessing)
        pixels = pixels.to(self._encoder.dtype, memory_format=torch.channels_last)
        with torch.inference_mode():
            parts = pixels.split(images_at_once(self._encoder.device))
            grid = torch.cat([self._model.visual.trunk.forward_features(part) for part in parts])  # (n, width, h, w)
        return grid.flatten(2).transpose(1, 2).float().cpu()

    def of_texts(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Float32 (n, w, width), zeros where a text has ended, and which are words: bool (n, w)."""
        tokens = self._encoder._tokenize(list(texts))[:, :MOST_WORDS]
        there = tokens != self._model.text.config.pad_token_id
        longest = int(there.sum(1).max())
        tokens, there = tokens[:, :longest], there[:, :longest]
        device = self._encoder.device
        with torch.inference_mode():
            states = self._model.text.transformer(
                input_ids=tokens.to(device), attention_mask=there.to(device, torch.long)
            ).last_hidden_state
        return states.float().cpu() * there[..., None], there

    def projections(self) -> tuple[np.ndarray, np.ndarray]:
        """The linear maps of pooled tokens into the shared space: float32 (d, image width), (d, text width)."""
        heads = self._model.visual.head.proj, self._model.text.proj
        return tuple(head.weight.detach().float().cpu().numpy() for head in heads)

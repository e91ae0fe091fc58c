"""Recurrent text towers: a GRU or LSTM over BPE tokens, in the place of open_clip's transformer.

open_clip has none, so a model folder with one loads through this package alone. Its
open_clip_config.json is open_clip's own but for "recurrent" in "text_cfg".
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any, Mapping

import open_clip
import torch
from open_clip.model import set_model_preprocess_cfg
from open_clip.transform import PreprocessCfg
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

WEIGHTS_FILE = "open_clip_model.safetensors"
CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}
POOLS = ("max", "last")
# open_clip must build some text tower before ours takes its place.
_PLACEHOLDER = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}


@dataclass(frozen=True)
class Recurrence:
    """What stands under "recurrent".

    pool  "max": the largest value of each unit over all tokens. Every word then reaches the sentence's
          vector, and its gradient the word, in one step; sentence encoders were better with it than with
          the last state (Conneau et al. 2017, arXiv 1705.02364, table 3).
          "last": the state behind the last token, as in VSE++ (Faghri et al. 2018)
    """

    cell: str = "gru"
    embedding: int = 300  # width of tokens
    width: int = 512  # of states, in each direction
    layers: int = 1
    bidirectional: bool = True
    pool: str = "max"
    dropout: float = 0.2  # of tokens' embeddings, of states between layers, and of the pooled state


class RecurrentText(nn.Module):
    """Tokens int64 (n, t) to (n, output_dim); zeros or anything else behind a text's end do not matter."""

    def __init__(self, recurrence: Recurrence, *, vocab_size: int, context_length: int, output_dim: int):
        """Raises ValueError for a cell or pool of unknown name."""
        super().__init__()
        if recurrence.cell not in CELLS or recurrence.pool not in POOLS:
            raise ValueError(
                f"no recurrent text tower with cell {recurrence.cell!r} and pool {recurrence.pool!r}: "
                f"cells are {', '.join(CELLS)}, pools {', '.join(POOLS)}"
            )
        self.recurrence = recurrence
        self.vocab_size, self.context_length, self.output_dim = vocab_size, context_length, output_dim
        self.embedding = nn.Embedding(vocab_size, recurrence.embedding)
        self.rnn = CELLS[recurrence.cell](
            recurrence.embedding, recurrence.width, recurrence.layers, batch_first=True,
            bidirectional=recurrence.bidirectional, dropout=recurrence.dropout if recurrence.layers > 1 else 0,
        )
        self.dropout = nn.Dropout(recurrence.dropout)
        self.proj = nn.Linear(recurrence.width * (1 + recurrence.bidirectional), output_dim, bias=False)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)  # as in VSE++

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        lengths = tokens.argmax(1) + 1  # (n,); no token has a larger number than the end of a text
        words = self.dropout(self.embedding(tokens[:, : int(lengths.max())]))  # (n, t, embedding)
        packed = pack_padded_sequence(words, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, last = self.rnn(packed)
        if self.recurrence.pool == "max":
            states, _ = pad_packed_sequence(states, batch_first=True, padding_value=-torch.inf)
            pooled = states.amax(1)  # (n, width of both directions)
        else:
            last = last[0] if isinstance(last, tuple) else last  # an LSTM has cells beside
            directions = 1 + self.recurrence.bidirectional
            pooled = last[-directions:].transpose(0, 1).flatten(1)
        return self.proj(self.dropout(pooled))


def text_config(recurrence: Recurrence, vocab_size: int = 49408, context_length: int = 77) -> dict[str, Any]:
    """The "text_cfg" of a model with this tower; sizes are those of open_clip's own tokenizer."""
    return {"context_length": context_length, "vocab_size": vocab_size, "recurrent": asdict(recurrence)}


def is_recurrent(config: dict[str, Any]) -> bool:
    """Whether an open_clip_config.json has a recurrent text tower."""
    return "recurrent" in config["model_cfg"]["text_cfg"]


def build(config: dict[str, Any]) -> open_clip.CustomTextCLIP:
    """The model of such a configuration, with random weights."""
    model_cfg = deepcopy(config["model_cfg"])
    model_cfg.pop("custom_text", None)  # says that the class is CustomTextCLIP
    text = model_cfg.pop("text_cfg")
    model = open_clip.CustomTextCLIP(**model_cfg, text_cfg=_PLACEHOLDER)
    sizes = {"vocab_size": text["vocab_size"], "context_length": text["context_length"]}
    model.text = RecurrentText(Recurrence(**text["recurrent"]), **sizes, output_dim=model_cfg["embed_dim"])
    model.vocab_size, model.context_length = sizes["vocab_size"], sizes["context_length"]
    preprocessing = {**asdict(PreprocessCfg()), **config["preprocess_cfg"], "size": model.visual.image_size}
    set_model_preprocess_cfg(model, preprocessing)
    return model


def load(config: dict[str, Any], state: Mapping[str, torch.Tensor]) -> open_clip.CustomTextCLIP:
    """The model of a folder that `retrieval train` wrote, and its weights. Raises what torch does."""
    model = build(config)
    model.load_state_dict(state)
    return model.eval()

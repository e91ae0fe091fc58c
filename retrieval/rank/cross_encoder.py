"""A small transformer that reads a text and an image together, word by word and place by place.

The towers of the dual encoder stay as they are. Their tokens, the states of the words and the cells of
the image tower's last grid, look at each other in layers of co-attention (Lu et al. 2019, "ViLBERT",
section 2.2), and one number says how well they match. It costs a pass per pair, hence only for reranking.

    FOLDER/match.json           shape, weight of its scores, and the fingerprint of the encoder whose towers it reads
    FOLDER/match.safetensors    weights, float16
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from retrieval.encoders.tokens import TowerTokens
from retrieval.errors import EncoderError, QueryError, RerankError
from retrieval.files import write_json
from retrieval.query import Query
from retrieval.rank.rerank import CONFIG_FILE, KeptImages, Stored
from retrieval.rank.vector_cache import VectorCache
from retrieval.types import Encoder

DEPTH = 20  # a pass for each image and query
WEIGHTS_FILE = "match.safetensors"


@dataclass(frozen=True)
class Shape:
    """places: cells of the image tower's grid; image_width, text_width: of the towers' tokens."""

    image_width: int
    text_width: int
    places: int
    width: int = 128
    heads: int = 4
    layers: int = 2


class CrossEncoder(nn.Module):
    """How well texts and images match: larger is better, without a scale of its own."""

    def __init__(self, shape: Shape, dropout: float = 0.0):
        super().__init__()
        self.shape = shape
        self.image = nn.Linear(shape.image_width, shape.width)
        self.text = nn.Linear(shape.text_width, shape.width)
        self.position = nn.Parameter(torch.zeros(shape.places, shape.width))
        self.layers = nn.ModuleList(
            CoAttention(shape.width, shape.heads, dropout) for _ in range(shape.layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(shape.width) for _ in range(2))
        self.score = nn.Sequential(nn.Linear(shape.width, shape.width), nn.GELU(), nn.Linear(shape.width, 1))

    def places(self, tokens: torch.Tensor) -> torch.Tensor:
        """An image's part that does not depend on the text: (n, places, image width) to (n, places, width)."""
        return self.image(F.normalize(tokens.float(), dim=-1) * tokens.shape[-1] ** 0.5) + self.position

    def words(self, tokens: torch.Tensor) -> torch.Tensor:
        """Likewise of a text: (n, w, text width) to (n, w, width)."""
        return self.text(F.normalize(tokens.float(), dim=-1) * tokens.shape[-1] ** 0.5)

    def forward(self, places: torch.Tensor, words: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """Scores (n,) of pairs.

        places  (n, p, width) as `places` made them
        words   (n, w, width) as `words` made them
        there   (n, w) bool: which are words, and no padding

        The two modalities meet at last in an elementwise product, as in ViLBERT (section 3.1).
        """
        for layer in self.layers:
            places, words = layer(places, words, there)
        share = there[..., None] / there.sum(1)[:, None, None]
        of_places, of_words = self.norms
        return self.score(of_places(places.mean(1)) * of_words((words * share).sum(1))).squeeze(-1)


class CoAttention(nn.Module):
    """Each modality looks at the other, then thinks by itself."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.of_places, self.of_words = (_Stream(width, heads, dropout) for _ in range(2))

    def forward(
        self, places: torch.Tensor, words: torch.Tensor, there: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        mask = there[:, None, None, :]  # (n, 1, 1, w)
        return self.of_places(places, words, mask), self.of_words(words, places, None)


class _Stream(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before, self.other, self.between = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.think = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, own: torch.Tensor, other: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        queries = self._split(self.query(self.before(own)))  # (n, heads, m, width / heads)
        keys, values = map(self._split, self.key_value(self.other(other)).chunk(2, -1))
        seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        own = own + F.dropout(self.out(seen.transpose(1, 2).flatten(2)), self.dropout, self.training)
        return own + F.dropout(self.think(self.between(own)), self.dropout, self.training)

    def _split(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class CrossReranker:
    """`retrieval.rank.rerank.Reranker` by a cross-encoder; of images it keeps what does not depend on texts.

    Its score is added to the dual encoder's (see `second_look`): either knows something that the
    other does not.
    """

    def __init__(
        self, name: str, model: CrossEncoder, own: Encoder, cache: VectorCache, *,
        weight: float = 1.0, depth: int = DEPTH,
    ):
        self.name, self.depth, self._weight = name, depth, weight
        self._model, self._tokens = model.eval(), TowerTokens(own)
        self._kept = KeptImages(cache, own, self._places)
        self.prepared = self._kept.prepared

    @torch.inference_mode()
    def scores(self, query: Query, images: Sequence[Stored], first: np.ndarray) -> np.ndarray:
        """As `Reranker.scores`. Raises QueryError for an image query, RerankError."""
        if query.image is not None:
            raise QueryError(
                f"{query.shown} is an image, and a cross-encoder reads a text with an image. Rerank by an encoder."
            )
        kept = self._kept.of(images)
        known = [place for place, one in enumerate(images) if one.path in kept]
        scores = np.full(len(images), np.nan, np.float32)
        if known:
            words, there = self._tokens.of_texts([query.shown])
            words = self._model.words(words)
            places = torch.from_numpy(np.stack([kept[images[place].path] for place in known]))
            n = len(known)
            again = self._model(places, words.expand(n, -1, -1), there.expand(n, -1)).numpy()
            scores[known] = second_look(again, first[known], self._weight)
        return scores

    def _places(self, prepared: list[Any]) -> np.ndarray:
        with torch.inference_mode():
            return self._model.places(self._tokens.of_images(prepared)).numpy()


def second_look(again: np.ndarray, first: np.ndarray, weight: float) -> np.ndarray:
    """Weight times the cross-encoder's scores plus the dual encoder's, each in units of its spread over a line.

    again, first  (..., n) of the same images
    """
    return weight * _in_spreads(again) + _in_spreads(first)


def _in_spreads(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.mean(-1, keepdims=True)) / np.maximum(scores.std(-1, keepdims=True), 1e-6)


def load_cross_encoder(folder: Path, own: Encoder, cache: Path) -> CrossReranker:
    """The cross-encoder in a folder.

    own    the dual encoder, which must be the one whose towers it was trained on
    cache  folder for what is kept of images

    Raises RerankError.
    """
    model, config = read_cross_encoder_of(folder, own.name, own.fingerprint)
    shape = (model.shape.places, model.shape.width)
    try:
        cached = VectorCache(cache, config["identity"], shape)
        return CrossReranker(str(folder), model, own, cached, weight=config["weight"])
    except EncoderError as error:
        raise RerankError(str(error)) from error


def read_cross_encoder(folder: Path) -> tuple[CrossEncoder, dict[str, Any]]:
    """What lies in a folder, and its match.json. Raises RerankError if it is none, or damaged."""
    if not (folder / CONFIG_FILE).is_file():
        raise RerankError(
            f"There is no cross-encoder in {folder} (no {CONFIG_FILE}). Train one: retrieval train IMAGES "
            f"--captions FILE --task match -o {folder}"
        )
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        config["weight"] = float(config.get("weight", 1.0))  # folders of earlier versions do without
        model = CrossEncoder(Shape(**config["shape"]))
        model.load_state_dict({name: one.float() for name, one in load_file(folder / WEIGHTS_FILE).items()})
        return model, {name: config[name] for name in ("encoder", "identity", "weight")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = str(error).partition("\n")[0].rstrip(":. ")  # torch goes on, parameter by parameter
        raise RerankError(f"The cross-encoder in {folder} is damaged: {reason}. Train it again.") from error


def read_cross_encoder_of(folder: Path, name: str, fingerprint: str) -> tuple[CrossEncoder, dict[str, Any]]:
    """As `read_cross_encoder`. Raises RerankError also if it reads the towers of another encoder than this one."""
    model, config = read_cross_encoder(folder)
    if config["encoder"] != fingerprint:
        raise RerankError(
            f"The cross-encoder in {folder} reads the towers of an encoder with fingerprint {config['encoder']}, "
            f"and this collection's is {name}, {fingerprint}. Train one for it with --task match."
        )
    return model, config


def save_cross_encoder(
    folder: Path, model: CrossEncoder, own: Encoder, identity: str, training: dict, weight: float = 1.0
) -> None:
    """Write it.

    identity  what tells its kept images from those of another
    weight    of its scores beside the dual encoder's

    Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: one.detach().half().contiguous() for name, one in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS_FILE)
    write_json(folder / CONFIG_FILE, {
        "shape": asdict(model.shape), "weight": weight, "encoder": own.fingerprint, "identity": identity, "training": training,
    })

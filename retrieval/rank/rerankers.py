"""From what `--rerank` names to what looks at results again."""

from __future__ import annotations

from pathlib import Path

from retrieval.encoders import load_encoder
from retrieval.files import cache_folder
from retrieval.rank.rerank import EncoderReranker, Reranker
from retrieval.rank.vector_cache import VectorCache
from retrieval.types import Encoder

FOLDER = "rerank"  # in the cache
MATCH = "match"  # the cross-encoder that comes with the built-in encoder
_MATCH_FOLDER = Path(__file__).with_name("match")


def load_reranker(name: str, own: Encoder, *, device: str = "auto", precision: str = "auto") -> Reranker:
    """The encoder or cross-encoder of that name.

    own  the collection's encoder, whose towers a cross-encoder reads

    Raises EncoderError, RerankError.
    """
    folder = _MATCH_FOLDER if name == MATCH else Path(name)
    if name == MATCH or (folder / "match.json").is_file():
        from retrieval.rank.cross_encoder import load_cross_encoder

        return load_cross_encoder(folder, own, cache_folder() / FOLDER)
    encoder = load_encoder(name, device=device, precision=precision)
    return EncoderReranker(encoder, VectorCache(cache_folder() / FOLDER, encoder.fingerprint, (encoder.dim,)))

"""From what `--rerank` names to what looks at results again."""

from __future__ import annotations

from pathlib import Path

from retrieval.encoders import check_name, load_encoder
from retrieval.errors import RerankError
from retrieval.files import cache_folder
from retrieval.rank.rerank import CONFIG_FILE, EncoderReranker, Reranker
from retrieval.rank.vector_cache import VectorCache
from retrieval.types import Encoder

FOLDER = "rerank"  # in the cache


def load_reranker(name: str, own: Encoder, *, device: str = "auto", precision: str = "auto") -> Reranker:
    """The encoder of that name, or the cross-encoder in that folder.

    own  the collection's encoder, whose towers a cross-encoder reads

    Raises EncoderError, RerankError.
    """
    if _is_cross_encoder(name):
        from retrieval.rank.cross_encoder import load_cross_encoder  # torch waits until it is needed

        return load_cross_encoder(Path(name), own, cache_folder() / FOLDER)
    check_reranker(name)
    encoder = load_encoder(name, device=device, precision=precision)
    return EncoderReranker(encoder, VectorCache(cache_folder() / FOLDER, encoder.fingerprint, (encoder.dim,)))


def check_reranker(name: str) -> None:
    """Raises EncoderError or RerankError if nothing of that name can look again, without loading an encoder."""
    if not name.strip():
        raise RerankError("The name of the model to rerank by is empty. Give an encoder's, or a cross-encoder's folder.")
    if _is_cross_encoder(name):
        from retrieval.rank.cross_encoder import read_cross_encoder

        read_cross_encoder(Path(name))
    else:
        check_name(name)


def check_reranker_fits(name: str, own: str, fingerprint: str) -> None:
    """Raises RerankError if it is a cross-encoder for another encoder than this one."""
    if _is_cross_encoder(name):
        from retrieval.rank.cross_encoder import read_cross_encoder_of

        read_cross_encoder_of(Path(name), own, fingerprint)


def _is_cross_encoder(name: str) -> bool:
    return (Path(name) / CONFIG_FILE).is_file()

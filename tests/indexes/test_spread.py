from __future__ import annotations

import logging

import faiss
import numpy as np
import pytest

from indexes import spread as spread_room
from indexes.build import build_index
from indexes.index import VectorIndex
from indexes.layers import is_in_parts, layers, parts
from indexes.spec import IndexSpec
from indexes.spread import spread

FACTORIES = ["Flat", "IVF16,Flat", "IVF16,SQfp16", "IVF16,SQ8", "IVF16,PQ8x4", "PCA24,IVF16,Flat", "PCA24,Flat"]


class Cards:
    """In place of GPUs: what goes to one stays in the CPU's memory, up to so many vectors."""

    def __init__(self) -> None:
        self.room = 600
        self.held: list[tuple[int, int]] = []

    def copied(self, index: faiss.Index, place: int, gpu: int) -> faiss.Index:
        if index.ntotal > self.room:
            raise RuntimeError("Error in GpuResources: cudaMalloc failed")
        self.held.append((gpu, index.ntotal))
        return faiss.clone_index(index)


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    cards = Cards()
    monkeypatch.setattr(spread_room, "_copied", cards.copied)
    return cards


def kind(index: faiss.Index) -> type:
    return next(type(layer) for layer in layers(index) if is_in_parts(layer))


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize(
    "room, held, spread_as",
    [
        (600, [(4, 600), (7, 600), (5, 600)], faiss.IndexReplicas),
        (200, [(4, 200), (7, 200), (5, 200)], faiss.IndexShards),
    ],
)
def test_several_cards_find_what_one_index_finds(
    factory: str, room: int, held: list[tuple[int, int]], spread_as: type, cards: Cards,
    corpus: np.ndarray, queries: np.ndarray, rows: np.ndarray | None,
) -> None:
    spec = IndexSpec(factory, nprobe=3 if "IVF" in factory else None)
    whole = build_index(corpus, spec, rows=rows, device="cpu")
    cards.room = room
    together = VectorIndex(spread(whole.faiss_index, [4, 7, 5]), spec)
    assert cards.held == held
    assert kind(together.faiss_index) is spread_as
    assert together.n == 600
    np.testing.assert_array_equal(together.rows, whole.rows)
    for part in (queries, queries[:1]):  # more queries than cards, and fewer
        for settings in ({}, {"nprobe": 16}) if "IVF" in factory else ({},):
            found, expected = together.search(part, 9, **settings), whole.search(part, 9, **settings)
            np.testing.assert_array_equal(found.rows, expected.rows)
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    everything = together.search(queries, 600, **({"nprobe": 16} if "IVF" in factory else {}))
    np.testing.assert_array_equal(np.sort(everything.rows), np.broadcast_to(whole.rows, (20, 600)))


@pytest.mark.skipif(not hasattr(faiss, "index_gpu_to_cpu"), reason="this build of FAISS knows no GPUs")
@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("room", [600, 200])
def test_what_is_spread_comes_back_as_it_was(
    factory: str, room: int, cards: Cards, corpus: np.ndarray, rows: np.ndarray | None
) -> None:
    whole = build_index(corpus, IndexSpec(factory), rows=rows, device="cpu").faiss_index
    cards.room = room
    back = faiss.index_gpu_to_cpu(spread(whole, [0, 1, 2]))
    np.testing.assert_array_equal(faiss.serialize_index(back), faiss.serialize_index(whole))


def test_one_search_leaves_no_nprobe_behind(cards: Cards, corpus: np.ndarray, queries: np.ndarray) -> None:
    spec = IndexSpec("IVF16,Flat")
    together = VectorIndex(spread(build_index(corpus, spec, device="cpu").faiss_index, [0, 1]), spec)
    first = together.search(queries, 5)
    assert (together.search(queries, 5, nprobe=99).rows >= 0).all()
    assert [part.nprobe for part in parts(together.faiss_index)] == [1, 1]
    np.testing.assert_array_equal(together.search(queries, 5).rows, first.rows)


def test_a_card_without_room_is_told_in_one_line(
    cards: Cards, corpus: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    whole = build_index(corpus, device="cpu").faiss_index
    cards.room = 599
    with caplog.at_level(logging.INFO, logger="indexes.spread"):
        spread(whole, [0, 1])
    assert caplog.messages == ["The vectors are shared out among 2 GPUs: one has no room for all."]
    cards.room = 299
    with pytest.raises(RuntimeError, match="cudaMalloc"):
        spread(whole, [0, 1])


def test_one_card_gets_the_index_itself(cards: Cards, corpus: np.ndarray) -> None:
    index = spread(build_index(corpus, device="cpu").faiss_index, [3])
    assert cards.held == [(3, 600)]
    assert parts(index) == [] and isinstance(index, faiss.IndexFlat)

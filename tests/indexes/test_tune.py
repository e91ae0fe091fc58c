import numpy as np
import pytest

from benchmarks.vectors_with_gap import vectors_with_gap
from indexes import (
    IndexSpec, LiveIndex, RefinedIndex, VectorIndexError, ann_recall_at_k, build_index, exact_search, tune_index,
)


@pytest.fixture(scope="module", params=[0, 1])
def made(request):
    return vectors_with_gap(6000, 3000, 32, rank=16, clusters=100, seed=request.param)


def recall(index, made, point):
    unseen = made.queries[1500:]
    return ann_recall_at_k(index.search(unseen, 10, **point).rows, exact_search(made.documents, unseen, 10), 10).mean()


@pytest.mark.parametrize("target", [0.9, 0.99])
def test_the_target_is_reached_on_unseen_queries_and_hardly_exceeded(made, target):
    """By 0.01 at most either way, or the next cheaper setting would miss."""
    index = build_index(made.documents, IndexSpec("IVF128,SQfp16"), device="cpu")
    tuning = tune_index(index, made.documents, made.queries[:1500], made.documents[:200], target=target)
    nprobe = tuning.spec.nprobe
    assert tuning.reached and tuning.complete and tuning.target == target
    found = recall(index, made, {"nprobe": nprobe})
    assert found >= target - 0.01
    assert found <= target + 0.01 or recall(index, made, {"nprobe": nprobe - 1}) < target
    assert tuning.text.queries == 500 and tuning.text.low < tuning.text.value < tuning.text.high
    assert tuning.text.value == pytest.approx(found, abs=0.02)
    assert tuning.image.queries == 200 and tuning.p50_ms > 0 and tuning.queries_per_second > 0


def test_width_and_lists_are_tuned_together(made):
    half = made.documents.astype(np.float16)
    codes = build_index(half, IndexSpec("IVF64,PQ8x4fs", refine=2), device="cpu")
    index = RefinedIndex(codes, half)
    tuning = tune_index(index, half, made.queries[:1500], target=0.95)
    point = {"nprobe": tuning.spec.nprobe, "refine": tuning.spec.refine}
    assert tuning.reached and tuning.image is None
    assert recall(index, made, point) >= 0.94
    for name, value in point.items():  # one less of either would miss, but for chance
        if value > 1:
            assert recall(index, made, {**point, name: value // 2}) < 0.95


def test_short_queries_stay_short_while_lists_are_tuned(made, monkeypatch):
    """Lists of 6: were they completed, a single one would reach any recall, and take the longest."""
    monkeypatch.setattr("indexes.index.scan", None)  # a call would fail
    index = build_index(made.documents, IndexSpec("IVF1000,Flat"), device="cpu")
    tuning = tune_index(index, made.documents, made.queries[:300], target=0.9)
    assert tuning.reached and tuning.spec.nprobe > 1


def test_a_graph_is_tuned_by_its_candidates(made):
    index = build_index(made.documents, IndexSpec("HNSW16"), device="cpu")
    tuning = tune_index(index, made.documents, made.queries[:600], target=0.9)
    assert tuning.spec.nprobe is None and 10 <= tuning.spec.ef_search <= 4096
    assert recall(index, made, {"ef_search": tuning.spec.ef_search}) >= 0.88


def test_rows_with_gaps(made):
    rows = np.arange(6000, dtype=np.int64) * 2 + 7
    index = build_index(made.documents, IndexSpec("IVF64,Flat"), rows=rows, device="cpu")
    tuning = tune_index(index, made.documents, made.queries[:300], target=1.0, rows=rows)
    assert tuning.reached and tuning.text.value == pytest.approx(1, abs=0.01)


def test_codes_that_cannot_reach_it_say_so(made):
    index = build_index(made.documents, IndexSpec("IVF16,PQ4x4fs"), device="cpu")
    tuning = tune_index(index, made.documents, made.queries[:300], target=0.99)
    assert not tuning.reached and tuning.text.value < 0.9


def test_without_time_it_tells_that_more_was_to_be_tried(made):
    index = build_index(made.documents, IndexSpec("IVF64,Flat"), device="cpu")
    ticks = iter(range(10**6))
    tuning = tune_index(
        index, made.documents, made.queries[:300], target=0.99, seconds=0.5, clock=lambda: float(next(ticks))
    )
    assert not tuning.complete and tuning.spec.nprobe == 1


def test_equal_vectors_may_stand_in_for_one_another():
    """Each vector fifteen times: which of them exact search names first is nobody's loss."""
    distinct = vectors_with_gap(200, 90, 16, rank=8, clusters=20, seed=3)
    vectors = np.repeat(distinct.documents, 15, axis=0)
    index = build_index(vectors[::-1].copy(), IndexSpec("Flat"), device="cpu")
    tuning = tune_index(index, vectors[::-1].copy(), distinct.queries, target=0.95)
    assert tuning.reached and tuning.text.value == 1


@pytest.mark.parametrize("target", [0, -0.5, 1.01, float("nan")])
def test_a_target_out_of_range_is_refused(made, target):
    index = build_index(made.documents[:100], IndexSpec("Flat"), device="cpu")
    with pytest.raises(VectorIndexError, match="above 0 and at most 1"):
        tune_index(index, made.documents[:100], made.queries[:10], target=target)


def test_two_queries_are_too_few(made):
    index = build_index(made.documents[:100], IndexSpec("Flat"), device="cpu")
    with pytest.raises(VectorIndexError, match="100 vectors, 2 queries"):
        tune_index(index, made.documents[:100], made.queries[:2], target=0.9)


def test_dead_rows_are_not_found_and_their_places_are_filled(made):
    live = np.ones(6000, bool)
    nearest = exact_search(made.documents, made.queries[:20], 30).rows
    live[nearest[:, :15].ravel()] = False
    index = LiveIndex(build_index(made.documents, IndexSpec("IVF16,Flat", nprobe=16), device="cpu"), live)
    found = index.search(made.queries[:20], 10)
    left = np.flatnonzero(live)
    expected = left[exact_search(made.documents[left], made.queries[:20], 10).rows]
    np.testing.assert_array_equal(found.rows, expected)
    np.testing.assert_array_equal(index.search_exhaustively(made.queries[:20], 10).rows, expected)
    assert index.n == live.sum()
    some = np.zeros(6000, bool)
    some[left[:500]] = True
    some[~live] = True
    allowed = index.search(made.queries[:20], 10, allowed=some).rows
    np.testing.assert_array_equal(allowed, left[:500][exact_search(made.documents[left[:500]], made.queries[:20], 10).rows])

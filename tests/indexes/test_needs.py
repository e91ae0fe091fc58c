import pytest

from indexes import IndexSpec, SpecError, build_index, has_small_codes, least_vectors, needed_memory


@pytest.mark.parametrize(
    ("factory", "least"), [("Flat", 1), ("HNSW16", 1), ("IVF40,Flat", 40), ("IVF40,PQ8", 256), ("PQ8x4fs", 16)]
)
def test_how_many_vectors_it_takes_to_train(factory, least):
    assert least_vectors(IndexSpec(factory), 32) == least


@pytest.mark.parametrize("factory", ["SQfp16", "IVF16,SQ8", "IVF16,PQ8x4fs", "HNSW16", "HNSW16,SQfp16", "IVF16,SQ8,RFlat"])
def test_the_memory_it_needs_is_about_what_it_takes(factory, unit_vectors):
    index = build_index(unit_vectors(4000), IndexSpec(factory), device="cpu")
    sample = 0 if IndexSpec(factory).empty_index(32).is_trained else 4000 * 4 * 32
    assert 0.8 < needed_memory(IndexSpec(factory), 4000, 32) / max(index.nbytes, sample) < 1.8


@pytest.mark.parametrize(
    ("factory", "nbytes"),
    [
        ("PQ4x4fs", 4 * 64 * 4096),  # at the least so many
        ("PQ8", 4 * 64 * 39 * 256),  # 39 a centroid
        ("IVF1000,PQ8", 4 * 64 * 39_000 + 4 * 64 * 1000),  # and the lists' centroids, which stay
        ("IVF1000,Flat", 100_000 * (4 * 64 + 8 + 8) + 4 * 64 * 1000),  # the index is larger
        ("PCA16,IVF1000,PQ8x4fs", 4 * 16 * 39_000 + 4 * 64 * 1000),  # as it is projected
        ("PCA16,IVF16,PQ8x4fs", 2 * 4 * 64 * 4096 + 4 * 64 * 16),  # PCA copies it
        ("OPQ8,IVF16,PQ8x4fs", 2 * 4 * 64 * 39 * 256 + 4 * 64 * 16),  # OPQ has centroids of its own
        ("PCA16,SQ8", 100_000 * (16 + 8)),
    ],
)
def test_a_sample_to_train_on_may_take_more_than_the_index(factory, nbytes):
    assert needed_memory(IndexSpec(factory), 100_000, 64) == nbytes


@pytest.mark.parametrize(
    ("factory", "small"),
    [("Flat", False), ("SQfp16", False), ("HNSW32", False), ("IVF16,Flat", False), ("IVF16,SQ8", True),
     ("IVF16,PQ8x4fs", True), ("HNSW16,SQ8", True), ("PCA8,IVF16,Flat", True), ("IVF16,SQ8,RFlat", False)],
)
def test_which_codes_are_smaller_than_the_vectors(factory, small):
    assert has_small_codes(IndexSpec(factory), 32) is small


def test_an_unknown_factory_string_is_refused():
    for ask in (least_vectors, has_small_codes, lambda spec, dim: needed_memory(spec, 10, dim)):
        with pytest.raises(SpecError, match='"Bogus" is not a FAISS factory string'):
            ask(IndexSpec("Bogus"), 32)

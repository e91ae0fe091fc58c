import numpy as np
import pytest

from indexes import IndexSpec, SpecError, build_index, free_memory, has_small_codes, least_vectors, needed_memory


@pytest.mark.parametrize(
    ("factory", "least"), [("Flat", 1), ("HNSW16", 1), ("IVF40,Flat", 40), ("IVF40,PQ8", 256), ("PQ8x4fs", 16)]
)
def test_how_many_vectors_it_takes_to_train(factory, least):
    assert least_vectors(IndexSpec(factory), 32) == least


@pytest.mark.parametrize("factory", ["SQfp16", "IVF16,SQ8", "IVF16,PQ8x4fs", "HNSW16", "HNSW16,SQfp16", "IVF16,SQ8,RFlat"])
def test_the_memory_it_needs_is_about_what_it_takes(factory, unit_vectors):
    index = build_index(unit_vectors(4000), IndexSpec(factory), device="cpu")
    assert 0.8 < needed_memory(IndexSpec(factory), 4000, 32) / index.nbytes < 1.8


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


def test_some_memory_is_free():
    assert np.inf > (free_memory() or 1) > 0

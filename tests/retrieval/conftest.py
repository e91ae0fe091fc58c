"""A collection of every sample photo, and brute force over what the encoder says of them to compare with."""

import shutil

import numpy as np
import pytest

# What storing float16 may change in a cosine: a component keeps 11 binary digits, so the rounding
# error of a unit vector is at most 2**-11 = 4.9e-4 long.
ROUNDING = 5e-4


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory, sample_photos):
    """A folder with every sample photo."""
    folder = tmp_path_factory.mktemp("samples") / "photos"
    folder.mkdir()
    for path in sample_photos:
        shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture(scope="session")
def sample_collection(sample_folder, tiny_encoder):
    from retrieval.maintain import Options, index_sources

    path = sample_folder.parent / "photos.collection"
    index_sources([sample_folder], path, Options(tiny_encoder.name, "cpu", "float32"))
    return path


@pytest.fixture
def sample_copy(sample_collection, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(sample_collection, tmp_path / "photos.collection")


@pytest.fixture(scope="session")
def truth(sample_folder, tiny_encoder):
    """id in that collection -> the encoder's own vector of that file."""
    from retrieval.images import open_image

    ids = sorted(path.name for path in sample_folder.iterdir())
    images = [open_image(sample_folder / id, at_least=tiny_encoder.input_size)[0] for id in ids]
    return dict(zip(ids, tiny_encoder.encode_images(images)))


@pytest.fixture(scope="session")
def assert_right():
    """assert_right(hits, truth, queries, vectors, k): they are what brute force finds, up to float16 rounding."""

    def check(hits, truth, queries, vectors, k):
        assert [(hit.query, hit.rank) for hit in hits] == [(q, r) for q in queries for r in range(1, k + 1)]
        for place, vector in enumerate(vectors):
            found = hits[place * k : (place + 1) * k]
            exact = {id: float(vector @ truth[id]) for id in truth}
            assert len({hit.id for hit in found}) == k
            np.testing.assert_allclose([hit.score for hit in found], [exact[hit.id] for hit in found], atol=ROUNDING)
            best = sorted(exact.values(), reverse=True)[:k]
            np.testing.assert_allclose([exact[hit.id] for hit in found], best, atol=2 * ROUNDING)
            assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)

    return check

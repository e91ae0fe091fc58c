import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps

from indexes import IndexSpec
from retrieval import calibration as room
from retrieval.calibration import Calibration, biases_of, calibration_of, text_hash
from retrieval.collection import Collection
from retrieval.compact import compact
from retrieval.errors import CollectionError
from retrieval.maintain import Options, index_sources
from retrieval.manifest import Manifest

TEXTS = [f"a {colour} {thing}" for colour in ("red", "blue", "old") for thing in ("car", "cat", "house", "boat")]
QUERIES = ["a cat looking at the camera", "a rocket at night", "a cup of coffee"]


def unit(rows):
    return np.array(rows, np.float64) / np.linalg.norm(rows, axis=1, keepdims=True)


class TestBiases:
    def test_by_hand(self):
        references = np.array([[1, 0], [0, 1], [-1, 0]], np.float16)
        calibration = Calibration(references, np.zeros(3, np.int64), weight=0.5, k=2)
        biases = calibration.biases(np.array([[1, 0], [0.6, 0.8], [0, -1]], np.float16))
        # nearest two of (1, 0, -1), (0.6, 0.8, -0.6), (0, -1, 0)
        np.testing.assert_allclose(biases, [0.25, 0.35, 0], atol=3e-4)
        assert biases.dtype == np.float32

    def test_none_is_below_the_floor(self):
        references = np.array([[1, 0], [0, 1], [-1, 0]], np.float16)
        calibration = Calibration(references, np.zeros(3, np.int64), weight=0.5, k=2, floor=0.3)
        biases = calibration.biases(np.array([[1, 0], [0.6, 0.8], [0, -1]], np.float16))
        np.testing.assert_allclose(biases, [0.3, 0.35, 0.3], atol=3e-4)
        assert biases.dtype == np.float32

    def test_more_nearest_than_references_are_all(self):
        calibration = Calibration(np.array([[1, 0], [0, 1]], np.float16), np.zeros(2, np.int64), 1.0, 128)
        np.testing.assert_allclose(calibration.biases(np.array([[1.0, 0.0]], np.float32)), [0.5])

    def test_block_by_block(self, monkeypatch):
        random = np.random.default_rng(0)
        vectors, references = (unit(random.standard_normal((n, 8))).astype(np.float16) for n in (50, 20))
        calibration = Calibration(references, np.zeros(20, np.int64), 0.75, 4)
        exact = unit(vectors.astype(np.float64)) @ references.astype(np.float64).T
        expected = 0.75 * np.sort(exact, axis=1)[:, -4:].mean(axis=1)
        monkeypatch.setattr(room, "_BLOCK_ROWS", 7)
        np.testing.assert_allclose(calibration.biases(vectors), expected, atol=1e-6)
        np.testing.assert_allclose(calibration.biases(vectors, 33), expected[33:], atol=1e-6)

    def test_only_new_rows_are_compared(self, tmp_path, monkeypatch):
        random = np.random.default_rng(0)
        vectors = unit(random.standard_normal((30, 8))).astype(np.float16)
        calibration = Calibration(vectors[:5], np.zeros(5, np.int64), 0.75, 2)
        first = biases_of(tmp_path, calibration, vectors[:20], 0, keep=True)
        asked = []
        compute = Calibration.biases
        monkeypatch.setattr(Calibration, "biases", lambda self, rows, start=0: (
            asked.append((start, len(rows))), compute(self, rows, start))[1])
        np.testing.assert_array_equal(biases_of(tmp_path, calibration, vectors[:20], 0), first)
        assert asked == []
        whole = biases_of(tmp_path, calibration, vectors, 0)
        assert asked == [(20, 30)]
        np.testing.assert_array_equal(whole[:20], first)
        np.testing.assert_allclose(whole, compute(calibration, vectors), atol=1e-6)
        biases_of(tmp_path, calibration, vectors, 1, keep=True)  # rewritten: other rows
        assert asked == [(20, 30), (0, 30)]
        assert [one.name for one in (tmp_path / "calibration").iterdir()] == [f"biases-{calibration.digest}-1.npy"]

    def test_a_damaged_file_is_computed_again(self, tmp_path):
        vectors = np.eye(4, dtype=np.float16)
        calibration = Calibration(vectors[:2], np.zeros(2, np.int64), 1.0, 1)
        biases_of(tmp_path, calibration, vectors, 0, keep=True)
        (file,) = (tmp_path / "calibration").iterdir()
        file.write_bytes(file.read_bytes()[:100])
        np.testing.assert_array_equal(biases_of(tmp_path, calibration, vectors, 0), [1, 1, 0, 0])


class TestFile:
    def test_comes_back_as_it_was(self, tmp_path):
        saved = Calibration(np.eye(3, dtype=np.float16), np.array([1, -2, 3]), 0.5, 7, "captions.csv", 0.125)
        saved.save(tmp_path / "calibration" / "references.safetensors")
        loaded = calibration_of(tmp_path, "anything")
        np.testing.assert_array_equal(loaded.references, saved.references)
        assert loaded.references.dtype == np.float16
        assert loaded.hashes.tolist() == [1, -2, 3]
        assert (loaded.weight, loaded.k, loaded.source, loaded.floor) == (0.5, 7, "captions.csv", 0.125)
        assert loaded.digest == saved.digest

    def test_other_settings_have_another_digest(self):
        references, hashes = np.eye(3, dtype=np.float16), np.zeros(3, np.int64)
        made = [Calibration(references, hashes, 0.5, 7), Calibration(references, hashes, 0.5, 8),
                Calibration(references, hashes, 0.75, 7), Calibration(references[:2], hashes, 0.5, 7),
                Calibration(references, hashes, 0.5, 7, floor=0.1)]
        assert len({one.digest for one in made}) == 5

    @pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"\x08\0\0\0\0\0\0\0{}      "])
    def test_a_damaged_one_says_what_to_do(self, tmp_path, content):
        file = tmp_path / "calibration" / "references.safetensors"
        file.parent.mkdir()
        file.write_bytes(content)
        with pytest.raises(CollectionError, match="references.safetensors is damaged .* --off"):
            calibration_of(tmp_path, "builtin")

    def test_switched_off_is_none_even_for_the_builtin_encoder(self, tmp_path):
        assert calibration_of(tmp_path, "builtin").source.endswith("train split")
        assert calibration_of(tmp_path, "ViT-B-32/openai") is None
        Calibration.off().save(tmp_path / "calibration" / "references.safetensors")
        assert calibration_of(tmp_path, "builtin") is None

    def test_what_ships_is_small_and_holds_no_text(self):
        assert room.BUILTIN_FILE.stat().st_size <= 2_100_000
        shipped = Calibration.load(room.BUILTIN_FILE)
        assert shipped.references.shape == (2000, 512)
        assert len(set(shipped.hashes.tolist())) == 2000
        lengths = np.linalg.norm(shipped.references.astype(np.float32), axis=1)
        np.testing.assert_allclose(lengths, 1, atol=1e-3)


def test_texts_are_the_same_without_case_and_spaces():
    assert text_hash("A dog  runs .") == text_hash("a dog runs . ") != text_hash("a dog runs")
    known = Calibration(np.eye(2, dtype=np.float16), np.array([text_hash("A dog"), text_hash("a cat")]))
    assert known.known_among(["a  Dog", "a bird", "A CAT", "a dog"]) == 3
    assert known.known_among([]) == 0


# --- collections ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory, sample_photos, tiny_encoder):
    folder = tmp_path_factory.mktemp("calibrated") / "photos"
    folder.mkdir()
    for path in sample_photos:
        shutil.copyfile(path, folder / path.name)
    collection = folder.parent / "photos.collection"
    index_sources([folder], collection, Options(tiny_encoder.name, "cpu", "float32"))
    return collection


@pytest.fixture
def copied(made, tmp_path):
    return shutil.copytree(made, tmp_path / "photos.collection")


@pytest.fixture
def calibration(tiny_encoder):
    hashes = np.array([text_hash(text) for text in TEXTS])
    # A weight so high that the order is another one
    return Calibration(tiny_encoder.encode_texts(TEXTS).astype(np.float16), hashes, weight=2.0, k=3)


@pytest.fixture
def calibrated(copied, calibration):
    calibration.save(copied / "calibration" / "references.safetensors")
    return copied


def expected(collection, vector, calibration):
    """id -> score, and id -> score less bias, by brute force over what is stored."""
    rows = dict(collection.catalog.indexed())
    stored = collection.vectors.take(np.array(list(rows.values())))
    near = np.sort(stored @ calibration.references.astype(np.float32).T, axis=1)[:, -calibration.k :]
    scores = stored @ vector
    less = scores - calibration.weight * near.mean(axis=1)
    return dict(zip(rows, scores.tolist())), dict(zip(rows, less.tolist()))


def assert_calibrated(path, encoder, calibration):
    with Collection.open(path, encoder=encoder) as collection:
        n = len(collection)
        for text, vector in zip(QUERIES, encoder.encode_texts(QUERIES)):
            hits = collection.search(text, n)
            scores, less = expected(collection, vector, calibration)
            order = [less[hit.id] for hit in hits]
            np.testing.assert_allclose(order, sorted(less.values(), reverse=True), atol=1e-5)
            np.testing.assert_allclose([hit.score for hit in hits], [scores[hit.id] for hit in hits], atol=1e-5)


def ids(hits):
    return [hit.id for hit in hits]


class TestCollection:
    @pytest.mark.parametrize("factory", ["Flat", "HNSW8", "SQfp16"])
    def test_texts_are_calibrated_through_any_index(self, factory, calibrated, calibration, tiny_encoder):
        manifest = Manifest.load(calibrated)
        replace(manifest, index=replace(manifest.index, spec=IndexSpec(factory), generation=-1)).save(calibrated)
        with Collection.open(calibrated, encoder=tiny_encoder) as collection:
            hits = collection.search(QUERIES[0], 8)
            _, less = expected(collection, tiny_encoder.encode_texts(QUERIES[:1])[0], calibration)
        best = sorted(less.values(), reverse=True)[:8]
        np.testing.assert_allclose([less[hit.id] for hit in hits], best, atol=2e-3)

    def test_scores_stay_cosines_and_the_order_is_another(self, calibrated, made, calibration, tiny_encoder):
        assert_calibrated(calibrated, tiny_encoder, calibration)
        with Collection.open(calibrated, encoder=tiny_encoder) as collection, \
                Collection.open(made, encoder=tiny_encoder) as plain:
            assert collection.search(QUERIES[0], 8) != plain.search(QUERIES[0], 8)
            assert collection.search(QUERIES[0], 8, calibrated=False) == plain.search(QUERIES[0], 8)

    def test_images_never_are_not_even_beside_texts(self, calibrated, made, sample_photos, tiny_encoder):
        asked = [QUERIES[0], str(sample_photos[0]), QUERIES[1]]
        with Collection.open(calibrated, encoder=tiny_encoder) as collection, \
                Collection.open(made, encoder=tiny_encoder) as plain:
            found, before = collection.search(asked, 5), plain.search(asked, 5)
            assert found[5:10] == before[5:10]
            assert ids(found[:5]) == ids(collection.search(QUERIES[0], 5)) != ids(before[:5])
            assert ids(found[10:]) == ids(collection.search(QUERIES[1], 5)) != ids(before[10:])

    def test_an_open_collection_takes_up_another_calibration(self, copied, calibration, tiny_encoder):
        file = copied / "calibration" / "references.safetensors"
        with Collection.open(copied, encoder=tiny_encoder) as collection:
            before = collection.search(QUERIES, 8)
            for other in (calibration, replace(calibration, weight=1.0), Calibration.off()):
                other.save(file)
                found = collection.search(QUERIES, 8)
                with Collection.open(copied, encoder=tiny_encoder) as anew:
                    assert found == anew.search(QUERIES, 8)
                assert (ids(found) == ids(before)) == (other.weight == 0)

    def test_new_images_and_compaction(self, calibrated, calibration, sample_photos, tiny_encoder, tmp_path, loaded_once):
        more = tmp_path / "more"
        more.mkdir()
        for path in sample_photos[:2]:
            ImageOps.mirror(Image.open(path).convert("RGB")).save(more / f"{path.stem}-mirrored.png")
        index_sources([more], calibrated, Options(tiny_encoder.name))
        (file,) = (calibrated / "calibration").glob("biases-*.npy")
        with Collection.open(calibrated, encoder=tiny_encoder) as collection:
            assert len(np.load(file)) == collection.vectors.n
        assert_calibrated(calibrated, tiny_encoder, calibration)
        (more / f"{sample_photos[0].stem}-mirrored.png").unlink()
        index_sources([more], calibrated, Options(tiny_encoder.name))
        compact(calibrated)
        assert_calibrated(calibrated, tiny_encoder, calibration)

    def test_a_rebuild_keeps_the_references(self, calibrated, calibration, made, tiny_encoder, loaded_once):
        index_sources([made.parent / "photos"], calibrated, Options(tiny_encoder.name), rebuild=True)
        assert_calibrated(calibrated, tiny_encoder, calibration)

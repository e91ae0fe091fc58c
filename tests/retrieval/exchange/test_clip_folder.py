import sys
from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import NOTICE, ExchangeError, MissingPackageError
from retrieval.exchange import entries
from retrieval.exchange.clip_folder import ClipFolder
from retrieval.images import ImageFacts


def read(folder, images="."):
    """(vectors (n, d), entries) of the whole folder."""
    batches = list(ClipFolder(folder, Path(images)).batches())
    return np.concatenate([batch.vectors for batch in batches]), [e for batch in batches for e in batch.entries]


@pytest.mark.parametrize("padded", [False, True])
def test_parts_are_in_order_of_their_numbers(write_part, random_vectors, padded):
    vectors = random_vectors(24)
    for number in range(12):
        rows = slice(2 * number, 2 * number + 2)
        folder = write_part(f"{number:04d}" if padded else number, vectors[rows],
                            {"image_path": [f"{row}.jpg" for row in range(24)[rows]]})
    source = ClipFolder(folder, Path())
    assert (source.n, source.dim, source.model) == (24, 32, None)
    found, names = read(folder)
    np.testing.assert_array_equal(found, vectors)
    assert [one.id for one in names] == [f"{row}.jpg" for row in range(24)]


def test_all_files_in_one_folder(write_part, random_vectors):
    folder = write_part(0, random_vectors(2), {"image_path": ["a.jpg", "b.jpg"]})
    for file in [*folder.glob("*/*")]:
        file.rename(folder / file.name)
    assert [one.id for one in read(folder)[1]] == ["a.jpg", "b.jpg"]


def test_batches_keep_vectors_and_metadata_together(write_part, random_vectors, monkeypatch):
    monkeypatch.setattr("retrieval.exchange.clip_folder.BATCH_ROWS", 3)
    vectors = random_vectors(8)
    folder = write_part(0, vectors, {"image_path": list("abcdefgh")})
    batches = list(ClipFolder(folder, Path()).batches())
    assert [len(batch.entries) for batch in batches] == [3, 3, 2]
    np.testing.assert_array_equal(batches[2].vectors, vectors[6:])
    assert [one.id for one in batches[2].entries] == ["g", "h"]


def test_what_a_row_says(write_part, random_vectors, photo_folder):
    folder = write_part(0, random_vectors(5).astype(np.float16), {
        "image_path": ["2019/beach/china.jpg", "000000001", None, None, "000000004"],
        "url": ["http://x/0.jpg", "http://x/1.jpg", "http://x/2.jpg", None, None],
        "key": ["0", "1", "2", "three", "4"],
        "caption": ["a temple", "", None, "two\nlines", "x"],
        "width": [640.0, 300.0, None, 0.0, float("nan")],
        "height": [427.0, 200.0, 5.0, 5.0, 5.0],
        "camera": [b"bytes", None, None, None, None],
        "NSFW": ["UNLIKELY"] * 5,
    })
    vectors, found = read(folder, photo_folder)
    assert vectors.dtype == np.float16
    china = photo_folder / "2019" / "beach" / "china.jpg"
    assert [one.file.path for one in found] == [
        str(china), "http://x/1.jpg", "http://x/2.jpg", "three", "000000004",
    ]
    assert [one.id for one in found] == [
        "2019/beach/china.jpg", "http://x/1.jpg", "http://x/2.jpg", "three", "000000004",
    ]
    assert [entries.is_at_hand(one.file) for one in found] == [True, False, False, False, False]
    assert found[0].file.mtime_ns == china.stat().st_mtime_ns
    assert [one.captions for one in found] == [("a temple",), (), (), ("two\nlines",), ("x",)]
    assert [one.facts for one in found] == [ImageFacts(640, 427), ImageFacts(300, 200), None, None, None]


class TestBadFolders:
    def refused(self, folder, *fragments):
        with pytest.raises(ExchangeError) as caught:
            ClipFolder(folder, Path())
        for fragment in fragments:
            assert str(fragment) in str(caught.value)

    @pytest.fixture
    def folder(self, write_part, random_vectors):
        write_part(0, random_vectors(3), {"image_path": ["a", "b", "c"]})
        return write_part(1, random_vectors(2), {"image_path": ["d", "e"]})

    def test_no_vectors(self, tmp_path):
        self.refused(tmp_path, f"{tmp_path} holds no embeddings", "img_emb_0.npy")

    def test_missing_metadata(self, folder):
        (folder / "metadata" / "metadata_1.parquet").unlink()
        self.refused(folder, "img_emb_1.npy has no metadata", "metadata_1.parquet")

    def test_metadata_without_vectors_is_left_out(self, folder, caplog):
        caplog.set_level(NOTICE, "retrieval")
        (folder / "img_emb" / "img_emb_0.npy").unlink()
        assert ClipFolder(folder, Path()).n == 2
        assert "1 files of metadata have no vectors" in caplog.text and "metadata_0.parquet" in caplog.text

    def test_differing_rows(self, folder, write_part, random_vectors):
        write_part(1, random_vectors(3), {"image_path": ["d", "e"]})
        self.refused(folder, folder / "img_emb" / "img_emb_1.npy", "holds 3 vectors",
                     folder / "metadata" / "metadata_1.parquet", "2 rows")

    def test_differing_dimensions(self, folder, write_part, random_vectors):
        write_part(1, random_vectors(2, dim=16), {"image_path": ["d", "e"]})
        self.refused(folder, "img_emb_0.npy holds 32-d", "img_emb_1.npy 16-d")

    def test_no_column_names_the_images(self, folder, write_part, random_vectors):
        write_part(1, random_vectors(2), {"caption": ["d", "e"], "NSFW": ["x", "y"]})
        self.refused(folder, "metadata_1.parquet does not name the images", "image_path, url, key", "caption, NSFW")

    @pytest.mark.parametrize("array", [np.zeros(3), np.zeros((3, 4), np.int64), np.zeros((3, 4, 5))])
    def test_not_embeddings(self, folder, array):
        np.save(folder / "img_emb" / "img_emb_0.npy", array)
        self.refused(folder, "img_emb_0.npy holds", str(array.shape), "(n, d)")

    @pytest.mark.parametrize("name", ["img_emb/img_emb_0.npy", "metadata/metadata_0.parquet"])
    @pytest.mark.parametrize("keep", [0, 60, 0.5])
    def test_truncated(self, folder, name, keep):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: keep if keep != 0.5 else len(content) // 2])
        self.refused(folder, folder / name, "cannot be read")

    def test_pickles_are_not_opened(self, folder):
        np.save(folder / "img_emb" / "img_emb_0.npy", np.array([["a", None]], object), allow_pickle=True)
        self.refused(folder, "img_emb_0.npy cannot be read")

    def test_two_files_of_one_number(self, folder, random_vectors):
        np.save(folder / "img_emb" / "img_emb_01.npy", random_vectors(2))
        self.refused(folder, "img_emb_01.npy", "img_emb_1.npy", "the same number")

    def test_damage_behind_the_header(self, folder, bring_in, path):
        file = folder / "metadata" / "metadata_1.parquet"
        content = bytearray(file.read_bytes())
        content[4:40] = b"\xff" * 36
        file.write_bytes(content)
        with pytest.raises(ExchangeError, match="metadata_1.parquet cannot be read"):
            bring_in(folder)
        assert not path.exists() and list(path.parent.glob(".*")) == []

    def test_without_pyarrow(self, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(MissingPackageError, match=r"pip install 'crossmodal-retrieval\[parquet\]'"):
            ClipFolder(folder, Path())

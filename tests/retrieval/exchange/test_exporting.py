import numpy as np
import pyarrow.parquet
import pytest

from retrieval.catalog import Catalog
from retrieval.collection import Collection
from retrieval.documents import Takeover
from retrieval.errors import CollectionError, CollectionNotFoundError, ExchangeError
from retrieval.exchange import exporting
from retrieval.exchange.exporting import export_collection
from retrieval.exchange.importing import import_embeddings
from retrieval.maintain import Options, index_sources


@pytest.fixture
def indexed(tmp_path, photo_folder, tiny_encoder, loaded_once):
    """A collection of six photos, one of which was dropped again: rows and documents differ."""
    path = tmp_path / "photos.collection"
    options = Options(tiny_encoder.name, "cpu", "float32", batch_size=2)
    index_sources([photo_folder], path, options)
    (photo_folder / "chelsea.png").unlink()
    index_sources([photo_folder], path, options)
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "embeddings"


def documents(path):
    """Of every document: (id, path, facts, captions), then all vectors as kept."""
    with Collection.open(path) as collection:
        rows = collection.catalog.described(0, len(collection.vectors))
        kept = collection.vectors[:][[row for row, _ in rows]]
        return [(one.id, one.file, one.facts, one.captions) for _, one in rows], kept


def test_the_files(indexed, folder):
    report = export_collection(indexed, folder)
    assert (report.images, report.files) == (5, 1)
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()) == [
        "img_emb/img_emb_0.npy", "metadata/metadata_0.parquet",
    ]
    expected, kept = documents(indexed)
    vectors = np.load(folder / "img_emb" / "img_emb_0.npy")
    assert vectors.dtype == np.float16 and vectors.tobytes() == kept.tobytes()
    table = pyarrow.parquet.read_table(folder / "metadata" / "metadata_0.parquet").to_pylist()
    assert [(row["id"], row["image_path"], row["width"], row["height"], row["caption"]) for row in table] == [
        (id, file.path, facts.width, facts.height, None) for id, file, facts, _ in expected
    ]


@pytest.mark.parametrize("part_rows", [1, 2, 5, 100])
@pytest.mark.parametrize("batch", [1, 3, 8192])
def test_out_and_in_again(indexed, folder, tmp_path, tiny_encoder, monkeypatch, part_rows, batch):
    monkeypatch.setattr(exporting, "BATCH_ROWS", batch)
    assert export_collection(indexed, folder, part_rows=part_rows).files == -(-5 // part_rows)
    again = tmp_path / "again.collection"
    report = import_embeddings(folder, again, tiny_encoder.name, device="cpu", precision="float32")
    assert (report.images, report.compared, report.renamed) == (5, 5, 0)
    (before, kept), (after, kept_again) = documents(indexed), documents(again)
    assert before == after
    assert kept.tobytes() == kept_again.tobytes()
    with Collection.open(indexed, encoder=tiny_encoder) as one, Collection.open(again, encoder=tiny_encoder) as other:
        assert one.search(["a cat", "a cup"], k=5) == other.search(["a cat", "a cup"], k=5)


def test_captions_go_out_and_in(tmp_path, write_part, random_vectors, bring_in, path, folder, tiny_encoder):
    columns = {"url": ["u", "v", "w"], "captions": [["one", "zwei"], ["drei"], None]}
    source = write_part("00", random_vectors(3), columns)
    source = source.rename(tmp_path / "source")
    bring_in(source)
    export_collection(path, folder)
    table = pyarrow.parquet.read_table(folder / "metadata" / "metadata_0.parquet")
    assert table["caption"].to_pylist() == ["one", "drei", None]
    again = tmp_path / "again.collection"
    import_embeddings(folder, again, tiny_encoder.name, device="cpu")
    assert [captions for *_, captions in documents(again)[0]] == [("one", "zwei"), ("drei",), ()]
    assert documents(again)[0] == documents(path)[0]


@pytest.mark.parametrize("part_rows", [2, 100])
def test_text_vectors_go_out_if_every_image_has_one(indexed, photo_folder, folder, tmp_path, tiny_encoder, part_rows):
    with Catalog.open(indexed, writable=True) as catalog:
        files, ids = catalog.known_files(), catalog.ids_by_path()
        said = {id: (f"this is {id}", "a photo") for id in ids.values()}
        catalog.commit((), (), [Takeover(file, files[file], id, said[id]) for file, id in ids.items()])
    assert export_collection(indexed, tmp_path / "not embedded").uncaptioned == 5
    assert not (tmp_path / "not embedded" / "text_emb").exists()
    index_sources([photo_folder], indexed, Options(captions=True, device="cpu", precision="float32"))
    assert export_collection(indexed, folder, part_rows=part_rows).uncaptioned == 0
    parts = sorted((folder / "text_emb").iterdir())
    assert [part.name for part in parts] == [f"text_emb_{number}.npy" for number in range(-(-5 // part_rows))]
    texts = [f"this is {id}" for id, *_ in documents(indexed)[0]]
    np.testing.assert_allclose(np.concatenate([np.load(part) for part in parts]), tiny_encoder.encode_texts(texts), atol=2**-11)
    again = tmp_path / "again.collection"
    import_embeddings(folder, again, tiny_encoder.name, device="cpu", precision="float32")
    assert documents(again)[0] == documents(indexed)[0]


def test_many_parts_sort_by_name_as_by_number(tmp_path, write_part, random_vectors, bring_in, path, folder):
    vectors = random_vectors(11)
    bring_in(write_part(0, vectors, {"key": list("abcdefghijk")}).rename(tmp_path / "source"))
    assert export_collection(path, folder, part_rows=1).files == 11
    names = sorted(file.name for file in folder.glob("img_emb/*"))
    assert (names[0], names[-1]) == ("img_emb_00.npy", "img_emb_10.npy")
    np.testing.assert_array_equal(
        np.concatenate([np.load(folder / "img_emb" / name) for name in names]), vectors.astype(np.float16)
    )


class TestRefusals:
    def test_a_folder_with_something_in_it(self, indexed, folder):
        folder.mkdir()
        (folder / "mine").write_text("mine")
        with pytest.raises(ExchangeError, match="is there already"):
            export_collection(indexed, folder)
        assert [file.name for file in folder.iterdir()] == ["mine"]

    def test_no_collection(self, tmp_path, folder):
        with pytest.raises(CollectionNotFoundError):
            export_collection(tmp_path / "nowhere", folder)
        assert not folder.exists()

    def test_a_damaged_collection_leaves_nothing(self, indexed, folder):
        shard = indexed / "vectors" / "00000.npy"
        shard.write_bytes(shard.read_bytes()[:200])
        with pytest.raises(CollectionError, match="damaged"):
            export_collection(indexed, folder)
        assert not folder.exists() and list(folder.parent.glob(".*")) == []

    def test_an_empty_collection(self, indexed, photo_folder, folder):
        for file in [file for file in photo_folder.rglob("*") if file.is_file()]:
            file.unlink()
        with Collection.open(indexed) as collection:
            paths = list(collection.catalog.known_files())
        with Catalog.open(indexed, writable=True) as catalog:
            catalog.forget(paths)
        with pytest.raises(ExchangeError, match="nothing to export"):
            export_collection(indexed, folder)

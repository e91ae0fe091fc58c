import json
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from indexes import IndexSpec
from retrieval import __version__
from retrieval.errors import CollectionError, CollectionNotFoundError, SchemaError
from retrieval.manifest import FILE_NAME, SCHEMA_VERSION, EncoderRecord, IndexChoice, IndexRecord, Manifest, TuningRecord

ENCODER = EncoderRecord("ViT-B-32/laion2b", 512, "0123-4567-89ab")


def change(folder, **changes):
    """Save a manifest, then rewrite some of its fields; ... leaves a field out."""
    Manifest(ENCODER).save(folder)
    content = {**json.loads((folder / FILE_NAME).read_text()), **changes}
    kept = {key: value for key, value in content.items() if value is not ...}
    (folder / FILE_NAME).write_text(json.dumps(kept))


def test_what_is_saved_is_loaded(tmp_path):
    manifest = Manifest(
        ENCODER,
        IndexRecord(
            IndexSpec("IVF256,Flat", nprobe=16, seed=3), 7, 41, IndexChoice("IVF256,Flat", 10**9, 0.9), 40, 132.5,
            TuningRecord(0.9, True, (0.91, 0.9, 0.92), (0.95, 0.94, 0.96), 0.5, 2100.0, 1000, "captions"),
        ),
        IndexRecord(IndexSpec("HNSW32"), generation=7, rows=205),
        {"images": 41, "failed": 2},
    )
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest


def test_a_new_manifest_says_when_and_by_what_it_was_made(tmp_path):
    before = datetime.now(timezone.utc).replace(microsecond=0)
    manifest = Manifest(ENCODER)
    assert before <= datetime.fromisoformat(manifest.created_at) <= datetime.now(timezone.utc)
    assert manifest.software == f"crossmodal-retrieval {__version__}"
    assert manifest.index == IndexRecord(IndexSpec("Flat"), generation=0, rows=0)


def test_a_person_can_read_the_file(tmp_path):
    replace(Manifest(EncoderRecord("local-dir:/modèle", 512, "f")), created_at="now", software="s").save(tmp_path)
    text = (tmp_path / FILE_NAME).read_text(encoding="utf-8")
    assert '\n  "encoder": {\n    "name": "local-dir:/modèle",\n    "dim": 512,' in text
    assert json.loads(text) == {
        "encoder": {"name": "local-dir:/modèle", "dim": 512, "fingerprint": "f"},
        "index": {
            "spec": {"factory": "Flat", "metric": "inner_product", "nprobe": None,
                     "ef_search": None, "seed": 0, "refine": None},
            "generation": 0,
            "rows": 0,
            "choice": None,
            "trained_rows": 0,
            "bytes_per_vector": 0.0,
            "tuning": None,
        },
        "captions": None,
        "counts": {},
        "created_at": "now",
        "software": "s",
        "schema_version": SCHEMA_VERSION,
    }


@pytest.mark.parametrize(("factory", "wanted"), [("Flat", None), ("HNSW32", "HNSW32")])
def test_an_index_of_schema_3_was_asked_for_in_so_many_words_unless_it_is_flat(tmp_path, factory, wanted):
    spec = {"factory": factory, "metric": "inner_product", "nprobe": None, "ef_search": None, "seed": 0}
    change(tmp_path, schema_version=3, index={"spec": spec, "generation": 4, "rows": 9})
    record = Manifest.load(tmp_path).index
    assert record == IndexRecord(IndexSpec(factory), 4, 9)
    assert record.wanted == IndexChoice(wanted, None, 0.95)


class TestRefusals:
    def refused(self, error, folder):
        with pytest.raises(error) as caught:
            Manifest.load(folder)
        assert type(caught.value) is error
        return str(caught.value)

    def test_no_folder(self, tmp_path):
        folder = tmp_path / "gone.collection"
        assert self.refused(CollectionNotFoundError, folder) == (
            f"There is no collection at {folder}. Make one with: retrieval index SOURCE -o {folder}"
        )

    def test_a_file(self, tmp_path):
        (tmp_path / "photo.jpg").touch()
        assert "is a file; a collection is a folder" in self.refused(CollectionNotFoundError, tmp_path / "photo.jpg")

    def test_another_folder(self, tmp_path):
        message = self.refused(CollectionNotFoundError, tmp_path)
        assert message.startswith(f"{tmp_path} is a folder but not a collection")

    def test_a_newer_schema(self, tmp_path):
        change(tmp_path, schema_version=SCHEMA_VERSION + 1, software="crossmodal-retrieval 9.1", novelty=[1])
        message = self.refused(SchemaError, tmp_path)
        assert "written by a newer version (crossmodal-retrieval 9.1, schema 5; this one reads up to 4)" in message
        assert "Please upgrade: pip install --upgrade crossmodal-retrieval" in message

    @pytest.mark.parametrize(
        "changes",
        [
            {"schema_version": ...},
            {"encoder": ...},
            {"encoder": {"name": "n", "dim": 3}},
            {"encoder": "ViT-B-32"},
            {"index": ...},
            {"index": {"generation": 0, "rows": 0}},
            {"index": {"spec": {"factory": 7}, "generation": 0, "rows": 0}},
            {"index": {"spec": {"lists": 7}, "generation": 0, "rows": 0}},
            {"unknown": 1},
        ],
        ids=str,
    )
    def test_fields_that_are_missing_or_wrong(self, tmp_path, changes):
        change(tmp_path, **changes)
        message = self.refused(CollectionError, tmp_path)
        assert message.startswith(f"{tmp_path / FILE_NAME} is damaged (")
        assert f"retrieval index --rebuild SOURCE -o {tmp_path}" in message

    @pytest.mark.parametrize("content", [b"", b'{"schema_version": 1', b"[1, 2]", b"null", b"\xff\xfe{}"])
    def test_what_is_no_manifest(self, tmp_path, content):
        (tmp_path / FILE_NAME).write_bytes(content)
        assert f"{tmp_path / FILE_NAME} is damaged (" in self.refused(CollectionError, tmp_path)

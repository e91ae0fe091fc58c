from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from indexes import persist
from indexes.build import build_index
from indexes.errors import IndexFileError
from indexes.index import VectorIndex
from indexes.matches import Matches
from indexes.persist import load_index, save_index
from indexes.spec import IndexSpec

FLAT = IndexSpec()
SPECS = [
    FLAT,
    IndexSpec("SQfp16"),
    IndexSpec("SQ8,RFlat"),
    IndexSpec("IVF16,SQfp16", nprobe=4),
    IndexSpec("HNSW32", ef_search=64),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.faiss"


@pytest.fixture
def saved(path: Path, corpus: np.ndarray) -> Path:
    """A saved Flat index over the first 100 rows."""
    save_index(build_index(corpus[:100], device="cpu"), path)
    return path


def assert_same(found: Matches, expected: Matches) -> None:
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("mmap", [False, True], ids=["read", "mapped"])
@pytest.mark.parametrize("rows", [None, np.arange(600) * 2 + 1], ids=["all rows", "rows left out"])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.factory)
def test_what_is_loaded_answers_as_what_was_saved(
    spec: IndexSpec,
    rows: np.ndarray | None,
    mmap: bool,
    path: Path,
    corpus: np.ndarray,
    queries: np.ndarray,
) -> None:
    index = build_index(corpus, spec, rows=rows, device="cpu")
    save_index(index, path)
    loaded = load_index(path, spec, dim=32, device="cpu", mmap=mmap)
    assert (loaded.n, loaded.dim, loaded.spec) == (600, 32, spec)
    assert_same(loaded.search(queries, 5), index.search(queries, 5))


def test_an_empty_index_can_be_saved(path: Path, queries: np.ndarray) -> None:
    save_index(build_index(np.zeros((0, 32), np.float32), device="cpu"), path)
    loaded = load_index(path, FLAT, device="cpu")
    assert loaded.n == 0
    assert loaded.search(queries[:1], 2).rows.tolist() == [[-1, -1]]


def test_a_mapped_index_can_be_saved_over_its_own_file(
    path: Path, corpus: np.ndarray, queries: np.ndarray
) -> None:
    spec = IndexSpec("IVF16,Flat", nprobe=16)
    save_index(build_index(corpus, spec, device="cpu"), path)
    mapped = load_index(path, spec, device="cpu", mmap=True)
    expected = mapped.search(queries, 5)
    save_index(mapped, path)
    assert_same(mapped.search(queries, 5), expected)
    assert_same(load_index(path, spec, device="cpu").search(queries, 5), expected)


def test_plain_faiss_reads_the_file(saved: Path, corpus: np.ndarray) -> None:
    index = faiss.read_index(os.fspath(saved))
    np.testing.assert_array_equal(index.reconstruct_n(0, 100), corpus[:100])


def test_other_search_parameters_may_be_asked_for_on_loading(
    path: Path, corpus: np.ndarray, queries: np.ndarray
) -> None:
    index = build_index(corpus, IndexSpec("IVF16,Flat", nprobe=1), device="cpu")
    save_index(index, path)
    loaded = load_index(path, IndexSpec("IVF16,Flat", nprobe=16), device="cpu")
    assert_same(loaded.search(queries, 5), index.search(queries, 5, nprobe=16))


# --- writing --------------------------------------------------------------------------------


def test_saving_leaves_one_file_and_replaces_the_old(saved: Path, corpus: np.ndarray) -> None:
    save_index(build_index(corpus[:200], device="cpu"), saved)
    assert [file.name for file in saved.parent.iterdir()] == ["index.faiss"]
    assert load_index(saved, FLAT, device="cpu").n == 200


def test_what_a_killed_run_left_behind_does_no_harm(saved: Path, corpus: np.ndarray) -> None:
    left = saved.with_name("index.faiss.tmp")
    left.write_bytes(b"half an index" * 100_000)
    assert load_index(saved, FLAT, device="cpu").n == 100
    save_index(build_index(corpus[:50], device="cpu"), saved)
    assert load_index(saved, FLAT, device="cpu").n == 50
    assert not left.exists()


@pytest.mark.parametrize("step", ["write_index", "_trailer", "fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_as_it_was(
    step: str, saved: Path, corpus: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def fails(*_: Any) -> None:
        raise RuntimeError("fwrite failed") if step == "write_index" else OSError(28, "No space")

    home: Any = {"write_index": faiss, "_trailer": persist}.get(step, os)
    monkeypatch.setattr(home, step, fails)
    reason = "FAISS could not write it" if step == "write_index" else "No space"
    with pytest.raises(IndexFileError, match=f"index.faiss: the index was not saved .*{reason}"):
        save_index(build_index(corpus[:200], device="cpu"), saved)
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == ["index.faiss"]


def test_a_kill_between_writing_and_replacing_leaves_the_old_file(
    saved: Path, corpus: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(Killed):
        save_index(build_index(corpus[:200], device="cpu"), saved)
    monkeypatch.undo()
    assert load_index(saved, FLAT, device="cpu").n == 100


def test_the_file_is_on_disk_before_it_takes_its_place(
    path: Path, corpus: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("replace"), replace(a, b))[1])
    save_index(build_index(corpus[:10], device="cpu"), path)
    assert steps == ["fsync", "replace", "fsync"]


def test_a_missing_folder_is_named(tmp_path: Path, corpus: np.ndarray) -> None:
    with pytest.raises(IndexFileError, match="no/index.faiss: .*Check that the folder exists"):
        save_index(build_index(corpus[:10], device="cpu"), tmp_path / "no" / "index.faiss")


# --- files that are not what they should be -------------------------------------------------


def refused(path: Path, spec: IndexSpec = FLAT, **options: Any) -> str:
    """Return the message with which the file is refused."""
    with pytest.raises(IndexFileError) as caught:
        load_index(path, spec, device="cpu", **options)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.endswith("An index can always be rebuilt from its vectors.")
    assert ".cpp" not in message
    return message


def test_a_missing_file(path: Path) -> None:
    assert "does not exist" in refused(path)


def test_a_folder(tmp_path: Path) -> None:
    assert "cannot be read: " in refused(tmp_path)


@pytest.mark.parametrize("lost", [1, 8, 31, 32, 100, 5000])
def test_a_file_that_lost_its_end(saved: Path, lost: int) -> None:
    saved.write_bytes(saved.read_bytes()[:-lost])
    assert "is cut short" in refused(saved)


def test_a_file_that_lost_its_middle(saved: Path) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[:5000] + whole[6000:])
    assert "is truncated" in refused(saved)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", b"PK\x03\x04" * 2000])
def test_a_foreign_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "is not an index file of this package" in refused(path)


def test_a_file_of_plain_faiss(path: Path) -> None:
    faiss.write_index(faiss.IndexFlatIP(4), os.fspath(path))
    assert "FAISS wrote it without this package" in refused(path)


def test_a_newer_file(saved: Path, monkeypatch: pytest.MonkeyPatch, corpus: np.ndarray) -> None:
    monkeypatch.setattr(persist, "FORMAT_VERSION", 2)
    save_index(build_index(corpus[:10], device="cpu"), saved)
    monkeypatch.undo()
    message = refused(saved)
    assert "version 2" in message and "up to version 1: upgrade the package" in message


@pytest.mark.parametrize("at", [0, 20, 4000, -33, -30, -20])
def test_a_byte_that_flipped_in_the_head_or_the_trailer(saved: Path, at: int) -> None:
    content = bytearray(saved.read_bytes())
    content[at] ^= 0x04
    saved.write_bytes(content)
    message = refused(saved)
    assert "is damaged" in message or "is truncated" in message


def test_bytes_that_faiss_cannot_read(path: Path) -> None:
    payload = b"IxXX" + b"\0" * 50
    description = {"factory": "Flat", "metric": "inner_product", "dim": 4, "n": 1}
    path.write_bytes(payload + persist._trailer(description, len(payload), payload))
    assert "is damaged: FAISS cannot read it" in refused(path)


@pytest.mark.parametrize("change", [{"n": 7}, {"dim": 64}])
def test_a_description_of_another_index(saved: Path, change: dict[str, int]) -> None:
    payload = faiss.serialize_index(faiss.read_index(os.fspath(saved))).tobytes()
    description = {"factory": "Flat", "metric": "inner_product", "dim": 32, "n": 100} | change
    saved.write_bytes(payload + persist._trailer(description, len(payload), payload[:4096]))
    assert "does not hold what it describes" in refused(saved)


def test_another_factory_string(saved: Path) -> None:
    message = refused(saved, IndexSpec("HNSW32"))
    assert "was built with factory string Flat, but HNSW32 is asked for" in message


def test_another_dimension(saved: Path) -> None:
    assert "was built with dimension 32, but 512 is asked for" in refused(saved, dim=512)


def test_another_metric(saved: Path) -> None:
    payload = b"IxF"
    description = {"factory": "Flat", "metric": "l2", "dim": 32, "n": 100}
    saved.write_bytes(payload + persist._trailer(description, len(payload), payload))
    assert "was built with metric l2, but inner_product is asked for" in refused(saved)


def test_a_loaded_index_is_a_vector_index(saved: Path) -> None:
    loaded = load_index(os.fspath(saved), FLAT)
    assert isinstance(loaded, VectorIndex) and loaded.spec == FLAT


def test_rows_of_another_source_are_refused(tmp_path: Path, corpus: np.ndarray) -> None:
    spec = IndexSpec("IVF4,Flat")
    save_index(build_index(corpus, spec, device="cpu"), tmp_path / "x.faiss", source="vectors-1")
    assert load_index(tmp_path / "x.faiss", spec, source="vectors-1").n == 600
    assert load_index(tmp_path / "x.faiss", spec).n == 600
    with pytest.raises(IndexFileError, match="built with source vectors-1, but vectors-2 is asked for"):
        load_index(tmp_path / "x.faiss", spec, source="vectors-2")

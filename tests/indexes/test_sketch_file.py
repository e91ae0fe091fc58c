from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.vectors_with_gap import vectors_with_gap
from indexes.errors import IndexFileError
from indexes.sketch import Sketch, sketch_of
from indexes.sketch_file import read_sketch, write_sketch


@pytest.fixture(scope="module")
def sketch() -> Sketch:
    made = sketch_of(vectors_with_gap(33000, 1, 64, rank=12, clusters=20).documents.astype(np.float16))
    assert made is not None
    return made


@pytest.fixture
def path(sketch: Sketch, tmp_path: Path) -> Path:
    write_sketch(sketch, tmp_path / "sketch")
    return tmp_path / "sketch"


def test_what_was_written_is_read(sketch: Sketch, path: Path) -> None:
    found = read_sketch(path, 64)
    for name in ("mean", "basis", "middle", "step", "errors", "codes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(sketch, name), strict=True)
    assert found.made_of == 33000 and found.errors.shape == (2, 3)
    assert not found.codes.flags.writeable and not found.codes.flags.owndata  # mapped


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:20], "not a sketch, or cut short"),
        (lambda content: b"", "not a sketch, or cut short"),
        (lambda content: b"IxF2" + content[4:], "not a sketch, or cut short"),
        (lambda content: content[:8] + b"\x09" + content[9:], "of version 9, not 1"),
        (lambda content: content[:-1], "not as long as it says"),
        (lambda content: content + b"\0", "not as long as it says"),
        (lambda content: content[:200] + b"\x55\x55" + content[202:], "its checksum is wrong"),
        (lambda content: content[:32] + b"\x01" + content[33:], "its checksum is wrong"),
    ],
)
def test_other_files_are_refused(path: Path, spoil: object, message: str) -> None:
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(IndexFileError, match=message):
        read_sketch(path, 64)


def test_rows_of_other_dimensions_and_no_file(path: Path) -> None:
    with pytest.raises(IndexFileError, match="is of 64-d rows, not of 32-d ones"):
        read_sketch(path, 32)
    os.remove(path)
    with pytest.raises(IndexFileError, match="cannot be read: No such file"):
        read_sketch(path, 64)

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from indexes.errors import DimensionError, VectorError
from indexes.vectors import as_queries, as_unit_rows, shape_of, unit_blocks

UNIT = np.array([[0.6, 0.8], [1.0, 0.0], [0.0, -1.0]], dtype=np.float32)


def test_unit_rows_come_back_as_they_are() -> None:
    np.testing.assert_array_equal(as_unit_rows(UNIT), UNIT)


def test_other_memory_layouts_become_c_contiguous() -> None:
    rows = as_unit_rows(np.asfortranarray(UNIT))
    assert rows.flags.c_contiguous
    np.testing.assert_array_equal(rows, UNIT)


def test_a_torch_tensor_is_read() -> None:
    tensor = torch.from_numpy(UNIT.copy()).requires_grad_()
    np.testing.assert_array_equal(as_unit_rows(tensor), UNIT)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, bool])
def test_other_dtypes_are_refused_with_the_conversion(dtype: Any) -> None:
    message = (
        rf"queries must be float32, got {np.dtype(dtype)}. Convert: queries.astype\(np.float32\)"
    )
    with pytest.raises(VectorError, match=message):
        as_queries(UNIT.astype(dtype), 2)


def test_a_dtype_numpy_lacks_is_refused() -> None:
    with pytest.raises(VectorError, match="(?s)must be a float32 array.*BFloat16"):
        as_unit_rows(torch.from_numpy(UNIT).bfloat16())


def test_a_ragged_list_is_refused() -> None:
    with pytest.raises(VectorError, match="must be a float32 array"):
        as_unit_rows([[1.0, 0.0], [1.0]])


def test_one_dimension_is_refused_with_the_shape_to_pass() -> None:
    with pytest.raises(VectorError, match=r"got shape \(2,\). Pass one vector as shape \(1, d\)"):
        as_unit_rows(UNIT[0])


def test_three_dimensions_are_refused() -> None:
    with pytest.raises(VectorError, match=r"must have shape \(n, d\), got shape \(1, 3, 2\)\.$"):
        as_unit_rows(UNIT[None])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_non_finite_row_is_named(value: float) -> None:
    rows = UNIT.copy()
    rows[1:, 0] = value
    with pytest.raises(VectorError, match="queries row 1 has a non-finite value"):
        as_queries(rows, 2)


@pytest.mark.parametrize(("factor", "norm"), [(2.0, "2"), (0.0, "0"), (1.002, "1.002")])
def test_the_first_row_off_unit_length_is_named_with_its_norm(factor: float, norm: str) -> None:
    rows = UNIT.copy()
    rows[2] *= factor
    with pytest.raises(VectorError, match=f"vectors row 102 has norm {norm}, not 1. Normalise: "):
        as_unit_rows(rows, first_row=100)


def test_rounding_is_no_fault() -> None:
    rows = UNIT * np.float32(1.0005)
    np.testing.assert_array_equal(as_unit_rows(rows), rows)


def test_queries_of_another_dimension_name_both() -> None:
    with pytest.raises(DimensionError, match="queries are 2-d, the index is 512-d"):
        as_queries(UNIT, 512)


def test_no_queries_at_all_are_fine() -> None:
    assert as_queries(np.zeros((0, 2), dtype=np.float32), 2).shape == (0, 2)


@pytest.mark.parametrize("vectors", [[[1.0, 0.0]], np.zeros(3), np.zeros((3, 0)), None])
def test_shape_of_refuses_what_has_no_rows_and_columns(vectors: Any) -> None:
    with pytest.raises(VectorError, match=r"must be an array of shape \(n, d\)"):
        shape_of(vectors)


def test_blocks_cover_the_rows_in_order() -> None:
    blocks = list(unit_blocks(UNIT, block_rows=2))
    assert [start for start, _ in blocks] == [0, 2]
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), UNIT)


def test_float16_blocks_are_widened_and_brought_back_to_unit_length(unit_vectors: Any) -> None:
    exact = unit_vectors(50, 64)
    stored = exact.astype(np.float16)
    assert np.abs(np.linalg.norm(stored.astype(np.float32), axis=1) - 1).max() > 2e-5
    [(_, block)] = unit_blocks(stored)
    assert block.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(block, axis=1), 1, atol=2e-7)
    np.testing.assert_allclose(block, exact, atol=5e-4)


def test_a_fault_in_a_later_block_is_named_by_its_own_row() -> None:
    rows = UNIT.astype(np.float16)
    rows[2] = np.nan
    with pytest.raises(VectorError, match="vectors row 2 has a non-finite value"):
        list(unit_blocks(rows, block_rows=2))

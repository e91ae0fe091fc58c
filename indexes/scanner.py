"""FAISS's fastest loops over codes, by pointer: it scans the lists of an IVF index so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

import faiss
import numpy as np

HALVES = faiss.ScalarQuantizer.QT_fp16
# A byte b stands for b - 128. Queries have to be of whole numbers from -128 to 127: some versions of
# FAISS multiply integers, and cut off what is behind the point.
BYTES = faiss.ScalarQuantizer.QT_8bit_direct_signed
_FOUND_AT_ONCE = 4096  # room for so many more; by itself FAISS takes megabytes, new from the system each time

_kept = local()


@contextmanager
def scanner(
    dim: int, selector: faiss.IDSelector | None = None, codes: int = HALVES, places: bool = False
) -> Iterator[Any]:
    """What scans blocks of codes (b, dim) for their inner products with a query, in float32.

    Each thread has its own, and keeps it where nothing is selected: to make one takes as long as some scans.

    places  it answers with places in blocks, as `scan_above` wants it, not with numbers of rows, which
            take as long to count as some of the scan
    """
    kept = vars(_kept) if selector is None else {}
    kind = dim, codes, places
    if kind not in kept:
        kept[kind] = _Scanner(*kind, selector)
    yield kept[kind].made


class _Scanner:
    """FAISS leaves it to the caller to free it."""

    def __init__(self, dim: int, codes: int, places: bool, selector: faiss.IDSelector | None = None) -> None:
        self._parts = faiss.ScalarQuantizer(dim, codes), faiss.IndexFlatIP(dim), selector
        quantizer, unused, _ = self._parts
        self.made = quantizer.select_InvertedListScanner(faiss.METRIC_INNER_PRODUCT, unused, places, selector, True)

    def __del__(self) -> None:
        faiss.InvertedListScanner.__swig_destroy__(self.made)


def scan_block(
    scanner: Any, query: np.ndarray, block: np.ndarray, heap: np.ndarray, rows: np.ndarray,
    first_row: int = 0, added: float = 0.0,
) -> None:
    """Put the block's (b, d) best scores for a query (d,) into a heap (w,), and their rows (w,).

    The heap may hold those of other blocks; a score has to be above the lowest in it.

    first_row  number of the block's first row; a selector goes by these numbers too
    added      to every score
    """
    numbers = np.arange(first_row, first_row + len(block))
    codes = faiss.swig_ptr(block.view(np.uint8).reshape(-1))
    scanner.set_list(0, added)
    scanner.set_query(faiss.swig_ptr(query))
    scanner.scan_codes(
        len(block), codes, faiss.swig_ptr(numbers), faiss.swig_ptr(heap), faiss.swig_ptr(rows), len(heap)
    )


def scan_each(
    scanner: Any, queries: np.ndarray, blocks: np.ndarray, heaps: np.ndarray, rows: np.ndarray
) -> None:
    """Do what `scan_block` does, for each query (q, d) with a block and a heap of its own.

    blocks (q, b, d); heaps, rows (q, w); all C-contiguous within a line. Rows are numbered from 0 in each block.
    """
    size, width = blocks.shape[1], heaps.shape[1]
    numbers = np.arange(size)
    of_block = faiss.swig_ptr(numbers)
    scanner.set_list(0, 0.0)
    for query, block, heap, row in zip(*map(_addresses, (queries, blocks, heaps, rows))):
        scanner.set_query(faiss.cast_integer_to_float_ptr(query))
        scanner.scan_codes(
            size, faiss.cast_integer_to_uint8_ptr(block), of_block,
            faiss.cast_integer_to_float_ptr(heap), faiss.cast_integer_to_idx_t_ptr(row), width,
        )


def _addresses(lines: np.ndarray) -> range:
    """Where each line of an array begins."""
    start, stride = lines.ctypes.data, lines.strides[0]
    return range(start, start + len(lines) * stride, stride)


def scan_above(
    scanner: Any, blocks: Iterable[tuple[np.ndarray, np.ndarray, int, float]], least: float, at_most: int | None = None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores (m,) float32 and rows (m,) of all that score more than `least`, block by block as they lie.

    scanner  with places, except where it selects
    blocks   (query, block, first_row, added) as `scan_block` takes them, which is slower where many rows are found
    at_most  None is the answer once there are more
    """
    found = faiss.RangeSearchResult(1)
    found.buffer_size = _FOUND_AT_ONCE
    partial = faiss.RangeSearchPartialResult(found)
    line = partial.new_result(0)
    places, ends = scanner.store_pairs, []  # ends: (first_row, how many were found up to the end of its block)
    for query, block, first_row, added in blocks:
        numbers = None if places else np.arange(first_row, first_row + len(block))
        codes = faiss.swig_ptr(block.view(np.uint8).reshape(-1))
        scanner.set_list(0, added)
        scanner.set_query(faiss.swig_ptr(query))
        scanner.scan_codes_range(len(block), codes, numbers if places else faiss.swig_ptr(numbers), least, line)
        ends.append((first_row, int(line.nres)))
        if at_most is not None and line.nres > at_most:
            return None
    count = int(line.nres)
    partial.finalize()
    if not count:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    rows = faiss.rev_swig_ptr(found.labels, count).copy()
    start = 0
    for first_row, end in ends if places else ():
        rows[start:end] += first_row
        start = end
    return faiss.rev_swig_ptr(found.distances, count).copy(), rows


def selecting(live: np.ndarray | None) -> faiss.IDSelector | None:
    """Passes over rows that do not count. live (b,) bool, or None"""
    if live is None:
        return None
    return faiss.IDSelectorBitmap(np.packbits(live, bitorder="little"))

"""Which stored rows may be among the best: found in little precision, with a bound on the error.

    scan      a query at a time, as fast as the rows can be read; products in float32
    multiply  a batch at a time, as one matrix product for each block of rows; in bfloat16 where
              the processor multiplies that natively, in float32 elsewhere
    compare   a query with the rows that are named for it; products in float32

All read float16 rows where they lie and take the rows as being of unit length, which rounding
has left them near. What that and the precision may do to a score is part of the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from indexes.matches import no_matches
from indexes.rows import Rows
from indexes.scanner import scan_block, scan_each, scanner, selecting
from indexes.threads import in_threads, threads
from indexes.vectors import UNIT_TOLERANCE

if TYPE_CHECKING:
    import torch

_SCAN_ROWS = 8192  # enough to make little of what a call costs, and to keep all threads busy
_BLOCK_ROWS = 8192
_WIDENED_ROWS = 2048  # that many in float32 stay in the processor's cache
_QUERIES_AT_ONCE = 1024
_COMPARED_AT_ONCE = 32  # queries: what is gathered for them stays in the processor's cache
_GROUP = 32  # columns whose maximum is looked at before they are
SCANNED_AT_MOST = 4  # queries; for more it is faster to convert the rows once and multiply

_FLOAT32 = 2.0**-24  # unit roundoff: what rounding changes, relative to a value
_BFLOAT16 = 2.0**-9
_SECOND_ORDER = 1.01  # products of two errors, which the sums below leave out


@dataclass(frozen=True, eq=False)
class Candidates:
    """The rows of highest rough score, as many for each query.

    scores  (q, w) float32, descending; -inf pads
    rows    (q, w) int64; -1 pads
    beyond  (q,) float32: no row that is missing has a higher rough score
    fixed   (q, 1) and share: a true score is at most fixed + share * |score| from a rough score

    Where rows have a bias, that has been taken from all scores.
    """

    scores: np.ndarray
    rows: np.ndarray
    beyond: np.ndarray
    fixed: np.ndarray
    share: float

    def possible(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which candidates may be among the k best, and whether no other row may.

        At least k rows reach the lowest that the k-th may truly score. (q, w) bool, (q,) bool
        """
        real = self.rows >= 0
        error = self.fixed + self.share * np.abs(np.where(real, self.scores, 0))  # (q, w)
        at_most = self.scores + error
        at_least = (self.scores - error)[:, k - 1, None]  # (q, 1)
        # Not ">=": what has no number for a score is possible too, and then found out.
        missing = np.where(np.isfinite(self.beyond), self.beyond, 0)
        missing = self.beyond + self.fixed[:, 0] + self.share * np.abs(missing)  # (q,)
        return real & ~(at_most < at_least), missing < at_least[:, 0]


def candidates(rows: Rows, queries: np.ndarray, width: int) -> Candidates:
    """Return the `width` candidates of each query, scanning or multiplying.

    queries  (q, d) float32, unit rows
    width    at most as many as there are live rows
    """
    if len(queries) <= SCANNED_AT_MOST:
        return scan(rows, queries, width)
    return multiply(rows, queries, width)


def scan(rows: Rows, queries: np.ndarray, width: int) -> Candidates:
    """Compare one query after the other with every row, on all of FAISS's threads."""

    def best_of(piece: range) -> tuple[np.ndarray, np.ndarray]:
        live = None if rows.live is None else rows.live[piece.start : piece.stop]
        return _scanned(rows.read(piece), piece.start, live, queries, width)

    found = in_threads(best_of, list(rows.pieces(_SCAN_ROWS)))
    scores, numbers = (np.concatenate(parts, axis=1) for parts in zip(*found))
    beyond = np.full(len(queries), -np.inf, np.float32)
    if rows.bias is not None:
        scores, beyond = _less_bias(rows, found, scores, numbers)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :width]
    last = np.take_along_axis(scores, order[:, -1:], axis=1)[:, 0]
    return _scanned_candidates(scores, numbers, order, np.maximum(beyond, last), rows)


def _less_bias(
    rows: Rows, found: list[Any], scores: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores (q, m) less the bias of their rows, and what rows left behind reach. (q,)

    found  (scores, rows) of each piece that was scanned, best of them in no order: a row left
           behind scores no more than the worst that was kept, less the lowest bias of its piece
    """
    beyond = np.full(len(scores), -np.inf, np.float32)
    for piece, (kept, of_rows) in zip(rows.pieces(_SCAN_ROWS), found):
        full = (of_rows >= 0).all(axis=1)
        lowest = rows.bias[piece.start : piece.stop].min()
        left = np.where(full & (kept.shape[1] < len(piece)), kept.min(axis=1) - lowest, -np.inf)
        beyond = np.maximum(beyond, left)
    return np.where(numbers >= 0, scores - rows.bias[numbers], -np.inf).astype(np.float32), beyond


def compare(rows: Rows, queries: np.ndarray, numbers: np.ndarray) -> Candidates:
    """Compare each query with rows of its own, on all of FAISS's threads.

    queries  (q, d) float32, unit rows
    numbers  (q, w) int64 rows, none twice in a line; -1 pads
    """
    scores, places = no_matches(*numbers.shape)
    width = numbers.shape[1]

    def compare_share(share: range) -> None:
        # Used again and again: memory that is new to the process takes a third of the time.
        room = np.empty((min(_COMPARED_AT_ONCE, len(share)) * width, rows.dim), np.float16)
        with scanner(rows.dim) as reader:
            for start in share[::_COMPARED_AT_ONCE]:
                part = slice(start, min(start + _COMPARED_AT_ONCE, share.stop))
                named = np.maximum(numbers[part], 0).reshape(-1)  # (p * w,)
                blocks = rows.gather(named, room[: len(named)]).reshape(-1, width, rows.dim)
                scan_each(reader, queries[part], blocks, scores[part], places[part])

    size = max(_COMPARED_AT_ONCE, -(-len(queries) // threads()))
    in_threads(compare_share, [range(len(queries))[start : start + size] for start in range(0, len(queries), size)])
    found = np.where(places >= 0, np.take_along_axis(numbers, places, axis=1), -1)
    scores[found < 0] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")
    beyond = np.full(len(queries), -np.inf, np.float32)
    return _scanned_candidates(scores, found, order, beyond, rows)


def _scanned_candidates(
    scores: np.ndarray, numbers: np.ndarray, order: np.ndarray, beyond: np.ndarray, rows: Rows
) -> Candidates:
    """Candidates in this order, with the error of products in float32. scores, numbers (q, m)"""
    fixed, share = float32_error(rows)
    return Candidates(
        np.take_along_axis(scores, order, axis=1),
        np.take_along_axis(numbers, order, axis=1),
        beyond,
        fixed=np.full((len(scores), 1), fixed),
        share=share,
    )


def float32_error(rows: Rows) -> tuple[float, float]:
    """(fixed, share) of candidates whose products are in float32."""
    fixed, share = _SECOND_ORDER * (rows.dim + 2) * _FLOAT32, _SECOND_ORDER * UNIT_TOLERANCE
    return fixed + (share + 2 * _FLOAT32) * rows.largest_bias, share


def _scanned(
    block: np.ndarray, first_row: int, live: np.ndarray | None, queries: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best of one block, in no order: scores, rows (q, w). block (b, d) float16"""
    scores, rows = no_matches(len(queries), min(width, len(block)))
    with scanner(block.shape[1], selecting(live)) as reader:
        for query, heap, numbers in zip(queries, scores, rows):
            scan_block(reader, query, block, heap, numbers)
    rows[rows >= 0] += first_row
    return scores, rows


def multiply(rows: Rows, queries: np.ndarray, width: int) -> Candidates:
    """Multiply all queries with one block of rows after the other."""
    import torch  # here, as a single query does without

    dtype = _fast_dtype()
    exact = torch.from_numpy(queries)  # (q, d)
    rough = exact.to(dtype)
    best = [_Best(part, width) for part in rough.split(_QUERIES_AT_ONCE)]
    bias = None if rows.bias is None else torch.from_numpy(rows.bias)
    for block, numbers in _blocks(rows, dtype):
        less = None if bias is None else bias[numbers].to(dtype)
        for part in best:
            part.add(block, numbers, less)
    rounding = 0.0 if dtype == torch.float32 else _BFLOAT16
    lost = np.linalg.norm((exact.double() - rough.double()).numpy(), axis=1, keepdims=True)
    scores = torch.cat([part.scores for part in best]).float().numpy()
    share = _SECOND_ORDER * (UNIT_TOLERANCE + rounding)
    fixed = _SECOND_ORDER * (lost + rounding + (rows.dim + 2) * _FLOAT32)
    return Candidates(
        scores,
        torch.cat([part.rows for part in best]).numpy(),
        beyond=scores[:, -1],
        fixed=fixed + (share + 2 * (rounding + _FLOAT32)) * rows.largest_bias,
        share=share,
    )


def _fast_dtype() -> torch.dtype:
    """bfloat16 where the processor multiplies it natively, else float32."""
    import torch

    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    native = any(getattr(torch.cpu, check, lambda: False)() for check in checks)
    return torch.bfloat16 if native else torch.float32


def _blocks(rows: Rows, dtype: torch.dtype) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield blocks (b, d) of rows that count, and their numbers (b,). The next one overwrites it."""
    import torch

    narrowed = torch.empty((min(_BLOCK_ROWS, rows.n), rows.dim), dtype=dtype)
    widened = torch.empty((min(_WIDENED_ROWS, rows.n), rows.dim))
    for piece in rows.pieces(_BLOCK_ROWS):
        halves, numbers = rows.read(piece), np.arange(piece.start, piece.stop)
        if rows.live is not None:
            counting = rows.live[piece.start : piece.stop]
            halves, numbers = halves[counting], numbers[counting]
        block = narrowed[: len(halves)]
        stored = torch.from_dlpack(halves)  # takes read-only memory without a warning
        for wide, part in zip(stored.split(_WIDENED_ROWS), block.split(_WIDENED_ROWS)):
            # By way of float32: torch has fast code for both steps, and none for the two in one.
            part.copy_(widened[: len(wide)].copy_(wide))
        yield block, torch.from_numpy(numbers)


class _Best:
    """The best rows of some queries (p, d), block by block: scores, rows (p, w), descending."""

    def __init__(self, queries: torch.Tensor, width: int) -> None:
        import torch

        self.queries = queries
        self.scores = queries.new_full((len(queries), width), -torch.inf)
        self.rows = torch.full(self.scores.shape, -1)
        self.empty = True

    def add(self, block: torch.Tensor, numbers: torch.Tensor, bias: torch.Tensor | None) -> None:
        """block (b, d) of rows with these numbers (b,), which ascend from block to block; bias (b,)."""
        import torch

        scores = self.queries @ block.T  # (p, b)
        if bias is not None:
            scores -= bias
        width = self.scores.shape[1]
        first, self.empty = self.empty, False
        if first and width <= len(block):
            self.scores, columns = scores.topk(width)
            self.rows = numbers[columns]
            return
        lines, columns, found = _above(scores, self.scores[:, -1:])  # (m,) each
        if not len(lines):
            return
        counts = torch.bincount(lines, minlength=len(scores))  # (p,)
        places = torch.arange(len(lines)) - (counts.cumsum(0) - counts)[lines]
        new = scores.new_full((len(scores), int(counts.max())), -torch.inf)
        rows = torch.full(new.shape, -1)
        new[lines, places] = found
        rows[lines, places] = numbers[columns]
        self.scores, order = torch.cat([self.scores, new], dim=1).topk(width)
        self.rows = torch.cat([self.rows, rows], dim=1).gather(1, order)


def _above(
    scores: torch.Tensor, least: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return line, column and value of what is above `least` (p, 1) in scores (p, b), by line.

    Looking at the maxima of groups of columns first leaves most of the scores alone.
    """
    import torch

    missing = -scores.shape[1] % _GROUP
    if missing:
        scores = torch.nn.functional.pad(scores, (0, missing), value=-torch.inf)
    groups = scores.view(len(scores), _GROUP, -1)  # (p, 32, g): strides are faster than runs
    lines, numbers = torch.nonzero(groups.amax(dim=1) > least, as_tuple=True)  # (h,)
    values = groups[lines, :, numbers]  # (h, 32)
    at, inside = torch.nonzero(values > least[lines], as_tuple=True)  # (m,)
    return lines[at], inside * groups.shape[2] + numbers[at], values[at, inside]

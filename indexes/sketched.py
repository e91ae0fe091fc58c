"""Candidates by way of a sketch: what no row can reach by its sketch is not read.

    probe   some rows all over: the k-th best of them is what has to be reached
    sweep   the sketches of all rows, for those that may reach it
    look    at these themselves: the likeliest first, as they raise what has to be reached
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from indexes.candidates import Candidates, float32_error, largest_bias, scan
from indexes.matches import no_matches
from indexes.rows import Rows
from indexes.scanner import BYTES, scan_above, scan_block, scanner, selecting
from indexes.sketch import BLOCK_ROWS, Sketch, sketch_pays
from indexes.threads import in_threads, threads

_PROBED = 4096  # rows of each block
_ROOM = 4  # one in so many rows may remain; where more do, the sketch says too little
_LARGEST = 64  # one in so many rows is the largest k
_SELECTIVE = 4  # where fewer than one in so many rows counts, they are as fast to read themselves
_SPARE = 64
_TOGETHER = 256  # rows that are gathered by one thread, as fast as others start
_SWEPT = 2**20  # bytes that are scanned by one thread, likewise
_ROUNDING = 2.0**-20  # amply what float32 does to scores near 1, and to how they tie

Scored = tuple[np.ndarray, np.ndarray]  # scores (m,) float32 less the bias, rows (m,) int64
_NONE = np.empty(0, np.float32), np.empty(0, np.int64)


def reached(rows: Rows, sketch: Sketch, query: np.ndarray, k: int) -> Candidates | None:
    """Return the rows that may be among the k best for one query, all of them, if they are few.

    rows    of which the sketch has the first sketch.n, or more than there are
    query   (1, d) float32, unit row

    None where the sketch leaves too many in question, or k is too large for it.
    """
    n = min(sketch.n, rows.n)
    first = replace(rows, n=n, live=None if rows.live is None else rows.live[:n])
    count = first.count()
    if not sketch_pays(count) or count < n // _SELECTIVE or k > count // _LARGEST:
        return None
    return _Search(first, sketch, query).candidates(rows, k)


class _Search:
    """One query, over rows that all have a sketch."""

    def __init__(self, rows: Rows, sketch: Sketch, query: np.ndarray) -> None:
        self.rows, self.query, self.sketch = rows, query, sketch
        self.blocks = list(sketch.blocks(rows.n))
        self.asked = sketch.asked(query[0])
        self.counting = selecting(rows.live)
        self.fixed, self.share = float32_error(rows)
        self.lowest = np.zeros(len(self.blocks))  # bias of each block
        if rows.bias is not None:
            self.lowest[:] = [rows.bias[piece.start : piece.stop].min() for _, piece in self.blocks]
        added = self.asked.added[: len(self.blocks)] - self.lowest
        self.added = added + _ROUNDING * (1 + largest_bias(rows.bias) + np.abs(added))

    def candidates(self, every: Rows, k: int) -> Candidates | None:
        """What `reached` returns. every: the rows, and those behind the sketch"""
        behind, beyond = _behind(every, self.rows.n, self.query, k)
        probed = self._looked_at(self._probe(2 * k + _SPARE))
        least = self._kth_at_least([probed, behind], k)
        found = self._sweep(least)
        if found is None:
            return None
        numbers, most = found
        order = np.argsort(-most, kind="stable")
        numbers, most = numbers[order], most[order]
        likely = 2 * k + _SPARE if len(numbers) > _TOGETHER else len(numbers)
        parts = [self._looked_at(numbers[:likely]), behind]
        least = max(least, self._kth_at_least(parts, k))
        parts.append(self._looked_at(numbers[likely:][most[likely:] >= least]))
        scores, numbers = (np.concatenate(part) for part in zip(*parts))
        order = np.argsort(-scores, kind="stable")
        fixed = np.full((1, 1), self.fixed)
        return Candidates(scores[order][None], numbers[order][None], beyond, fixed, self.share)

    def _probe(self, width: int) -> np.ndarray:
        """Row numbers (m,) of the likeliest among the first rows of each block."""
        heap, numbers = no_matches(1, width)
        with scanner(self.sketch.width, self.counting, BYTES) as reader:
            for number, piece in self.blocks:
                query, codes, at = self._asked_of(number, piece[:_PROBED])
                scan_block(reader, query, codes, heap[0], numbers[0], **at)
        return numbers[0][numbers[0] >= 0]

    def _sweep(self, least: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Row numbers (m,) that may reach as much, and what each scores at most; None if they are many."""
        n, unit = self.rows.n, self.asked.unit
        parts = min(threads(), 1 + n * self.sketch.width // _SWEPT)
        bounds = [n * part // parts for part in range(parts + 1)]
        enough = float(np.nextafter(np.float32(least / unit), np.float32(-np.inf)))  # what is as much gets in

        def sweep(part: range) -> list[tuple[np.ndarray, np.ndarray]] | None:
            found, count = [], 0
            with scanner(self.sketch.width, self.counting, BYTES) as reader:
                for number, block in self.blocks:
                    piece = range(max(block.start, part.start), min(block.stop, part.stop))
                    if not len(piece):
                        continue
                    query, codes, at = self._asked_of(number, piece)
                    found.append(scan_above(reader, query, codes, enough, **at))
                    count += len(found[-1][1])
                    if count > n // _ROOM:
                        return None
            return found

        swept = in_threads(sweep, [range(*pair) for pair in zip(bounds, bounds[1:])])
        if any(found is None for found in swept):
            return None
        most, numbers = (np.concatenate(part) for part in zip(*(pair for found in swept for pair in found)))
        most = most.astype(np.float64) * unit
        if self.rows.bias is not None:
            most += self.lowest[numbers // BLOCK_ROWS] - self.rows.bias[numbers]
        kept = most >= least
        return numbers[kept], most[kept]

    def _asked_of(self, number: int, piece: range) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """What scans take for rows of one block: they say what each may score, in units."""
        codes = self.sketch.codes[piece.start : piece.stop]
        added = float(self.added[number] / self.asked.unit)
        return self.asked.weights[number], codes, {"first_row": piece.start, "added": added}

    def _looked_at(self, numbers: np.ndarray) -> Scored:
        """The rows of these numbers (m,), by products in float32."""
        if not len(numbers):
            return _NONE
        numbers = np.sort(numbers)  # as they lie
        share = max(_TOGETHER, -(-len(numbers) // threads()))
        parts = [numbers[start : start + share] for start in range(0, len(numbers), share)]
        scores, numbers = (np.concatenate(part) for part in zip(*in_threads(self._compared, parts)))
        return (scores if self.rows.bias is None else scores - self.rows.bias[numbers]), numbers

    def _compared(self, numbers: np.ndarray) -> Scored:
        (scores,), (places,) = no_matches(1, len(numbers))
        with scanner(self.rows.dim) as reader:
            scan_block(reader, self.query[0], self.rows.gather(numbers), scores, places)
        return scores[places >= 0], numbers[places[places >= 0]]

    def _kth_at_least(self, parts: list[Scored], k: int) -> float:
        """What the k-th best of these scores at least; -inf if there are fewer."""
        scores = np.concatenate([scores for scores, _ in parts])
        if len(scores) < k:
            return -np.inf
        return float(np.partition(scores - self.fixed - self.share * np.abs(scores), -k)[-k])


def _behind(rows: Rows, n: int, query: np.ndarray, k: int) -> tuple[Scored, np.ndarray]:
    """The best of the rows from n on, which have no sketch, and what no others of them exceed. (1,)"""
    none = _NONE, np.full(1, -np.inf, np.float32)
    if n == rows.n:
        return none
    others = rows.only(np.arange(rows.n) >= n)
    count = others.count()
    if not count:
        return none
    found = scan(others, query, min(k + _SPARE, count))
    real = found.rows[0] >= 0
    return (found.scores[0, real], found.rows[0, real]), found.beyond

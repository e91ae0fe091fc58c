"""Candidates by way of a sketch: what no row can reach by its sketch is not read.

    probe   some rows all over: the k-th best of them is what has to be reached
    sweep   the sketches of all rows, for those that may reach it
    look    at these themselves: the likeliest first, as they raise what has to be reached
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from indexes.candidates import Candidates, Rows, compare, scan
from indexes.matches import no_matches
from indexes.scanner import BYTES, scan_block, scanner, selecting
from indexes.sketch import BLOCK_ROWS, Sketch, sketch_pays
from indexes.threads import in_threads, threads

_PROBED = 2048  # rows of each block
_ROOM = 4  # one in so many rows may remain; where more do, the sketch says too little
_LARGEST = 64  # one in so many rows is the largest k
_SELECTIVE = 4  # where fewer than one in so many rows counts, they are as fast to read themselves
_SPARE = 64
_TOGETHER = 4096  # rows that are gathered by one thread, as fast as others start
_SWEPT = 2**24  # bytes that are scanned by one thread, likewise
_ROUNDING = 2.0**-20  # amply what float32 does to scores near 1, and to how they tie


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
        most = 0.0 if rows.bias is None else float(np.abs(rows.bias).max(initial=0))
        self.lowest = np.zeros(len(self.blocks))  # bias of each block
        if rows.bias is not None:
            starts = [piece.start for _, piece in self.blocks]
            self.lowest = np.minimum.reduceat(rows.bias[: rows.n], starts).astype(np.float64)
        added = self.asked.added[: len(self.blocks)] - self.lowest
        self.added = added + _ROUNDING * (1 + most + np.abs(added))

    def candidates(self, every: Rows, k: int) -> Candidates | None:
        """What `reached` returns. every: the rows, and those behind the sketch"""
        behind = _behind(every, self.rows.n, self.query, k)
        least = _kth_at_least([self._looked_at(self._probe(2 * k + _SPARE)), *behind], k)
        found = self._sweep(least)
        if found is None:
            return None
        numbers, most = found
        order = np.argsort(-most, kind="stable")
        numbers, most = numbers[order], most[order]
        likely = 2 * k + _SPARE
        parts = [self._looked_at(numbers[:likely]), *behind]
        least = max(least, _kth_at_least(parts, k))
        parts.append(self._looked_at(numbers[likely:][most[likely:] >= least]))
        return _merged(parts)

    def _probe(self, width: int) -> np.ndarray:
        """Row numbers (m,) of the likeliest among the first rows of each block."""
        heap, numbers = no_matches(1, width)
        with scanner(self.sketch.width, self.counting, BYTES) as reader:
            for number, piece in self.blocks:
                self._scan(reader, number, piece[:_PROBED], heap[0], numbers[0])
        return numbers[0][numbers[0] >= 0]

    def _sweep(self, least: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Row numbers (m,) that may reach as much, and what each scores at most; None if they are many."""
        room, unit = self.rows.n // _ROOM, self.asked.unit
        parts = min(threads(), 1 + self.rows.n * self.sketch.width // _SWEPT)

        def sweep(part: int) -> tuple[np.ndarray, np.ndarray] | None:
            heap, numbers = no_matches(1, room)
            heap[:] = np.nextafter(np.float32(least / unit), np.float32(-np.inf))  # what is as much gets in
            with scanner(self.sketch.width, self.counting, BYTES) as reader:
                for number, piece in self.blocks[part::parts]:
                    self._scan(reader, number, piece, heap[0], numbers[0])
                    if numbers[0, 0] >= 0:  # the lowest in the heap: it is full
                        return None
            return numbers[0], heap[0]

        found = in_threads(sweep, list(range(parts)))
        if any(part is None for part in found):
            return None
        numbers, most = (np.concatenate(part) for part in zip(*found))
        numbers, most = numbers[numbers >= 0], most[numbers >= 0].astype(np.float64) * unit
        if self.rows.bias is not None:
            most += self.lowest[numbers // BLOCK_ROWS] - self.rows.bias[numbers]
        kept = most >= least
        return numbers[kept], most[kept]

    def _scan(self, reader: Any, number: int, piece: range, heap: np.ndarray, rows: np.ndarray) -> None:
        """Put what rows of one block may score into a heap (w,), in units, and their numbers (w,)."""
        codes = self.sketch.codes[piece.start : piece.stop]
        added = self.added[number] / self.asked.unit
        scan_block(reader, self.asked.weights[number], codes, heap, rows, piece.start, added)

    def _looked_at(self, numbers: np.ndarray) -> Candidates:
        """The rows of these numbers (m,), compared themselves."""
        share = max(_TOGETHER, -(-len(numbers) // threads()))
        numbers = np.sort(numbers)[None]  # as they lie
        parts = [numbers[:, start : start + share] for start in range(0, max(numbers.size, 1), share)]
        return _merged(in_threads(lambda part: compare(self.rows, self.query, part), parts))


def _behind(rows: Rows, n: int, query: np.ndarray, k: int) -> list[Candidates]:
    """The best of the rows from n on, which have no sketch."""
    if rows.n == n:
        return []
    live = np.ones(rows.n, bool)
    live[:n] = False
    others = rows.only(live)
    count = others.count()
    return [scan(others, query, min(k + _SPARE, count))] if count else []


def _kth_at_least(parts: list[Candidates], k: int) -> float:
    """What the k-th best of the candidates scores at least; -inf if there are fewer."""
    least = np.concatenate([
        (part.scores - part.fixed - part.share * np.abs(part.scores))[part.rows >= 0] for part in parts
    ])  # fmt: skip
    return float(np.partition(least, -k)[-k]) if len(least) >= k else -np.inf


def _merged(parts: list[Candidates]) -> Candidates:
    """Candidates of one query from several parts of the rows."""
    if len(parts) == 1:
        return parts[0]
    scores = np.concatenate([one.scores[0] for one in parts])
    rows = np.concatenate([one.rows[0] for one in parts])
    order = np.argsort(-scores, kind="stable")
    return Candidates(
        scores[order][None],
        rows[order][None],
        beyond=np.max([one.beyond for one in parts], axis=0),
        fixed=np.max([one.fixed for one in parts], axis=0),
        share=parts[0].share,
    )

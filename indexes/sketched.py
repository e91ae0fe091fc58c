"""Candidates by way of a sketch: what no row can reach by its sketch is not read.

    guess   what the k-th best will reach, from what it reached in the last searches
    probe   where nothing was seen yet, some rows all over: the k-th best of them is what has to be reached
    sweep   the sketches of all rows, for those that may reach it
    look    at these themselves: the likeliest first, as they raise what has to be reached

Where fewer than k rows reach what was guessed, the k-th best of those that were looked at is what has
to be reached, and all are swept once more.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import replace
from typing import Any

import numpy as np

from indexes.candidates import float32_error, scan
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
_SEEN = 64  # searches that are remembered
_SEEN_AT_LEAST = 8  # to guess from
_BELOW = 1.5  # standard deviations below their mean
_ROUNDING = 2.0**-20  # amply what float32 does to scores near 1, and to how they tie

Scored = tuple[np.ndarray, np.ndarray]  # scores (m,) float32 less the bias, rows (m,) int64
_NONE = np.empty(0, np.float32), np.empty(0, np.int64)


class Reached:
    """What the k-th best of the last searches scored, as so many times the spread above the centre."""

    def __init__(self) -> None:
        self._seen: dict[object, deque[float]] = defaultdict(lambda: deque(maxlen=_SEEN))

    def guess(self, kind: object, centre: float, spread: float) -> float | None:
        """What the k-th best is likely to score, or somewhat less; None if too little was seen of the kind."""
        seen = list(self._seen[kind])  # searches may run in several threads
        if len(seen) < _SEEN_AT_LEAST:
            return None
        mean = sum(seen) / len(seen)
        deviation = (sum((one - mean) ** 2 for one in seen) / len(seen)) ** 0.5
        return centre + (mean - _BELOW * deviation) * spread

    def note(self, kind: object, centre: float, spread: float, score: float) -> None:
        self._seen[kind].append((score - centre) / spread)


def reached(rows: Rows, sketch: Sketch, query: np.ndarray, k: int, past: Reached) -> np.ndarray | None:
    """Return the rows that may be among the k best for one query, all of them, if they are few. (m,) int64

    rows    of which the sketch has the first sketch.n, or more than there are
    query   (d,) float32, unit row
    past    searches of these rows; this one is added

    None where the sketch leaves too many in question, or k is too large for it.
    """
    n = min(sketch.n, rows.n)
    first = rows if n == rows.n else replace(rows, n=n, live=None if rows.live is None else rows.live[:n])
    count = first.count()
    if not sketch_pays(count) or count < n // _SELECTIVE or k > count // _LARGEST:
        return None
    return _Search(first, sketch, query).candidates(rows, k, past)


class _Search:
    """One query, over rows that all have a sketch."""

    def __init__(self, rows: Rows, sketch: Sketch, query: np.ndarray) -> None:
        self.rows, self.query, self.sketch = rows, query, sketch
        self.blocks = list(sketch.blocks(rows.n))
        self.asked = sketch.asked(query)
        self.counting = selecting(rows.live)
        self.fixed, self.share = float32_error(rows)
        self.lowest = rows.lowest_bias(BLOCK_ROWS)
        added = self.asked.added[: len(self.blocks)] - self.lowest
        self.added = added + _ROUNDING * (1 + rows.largest_bias + np.abs(added))

    def candidates(self, every: Rows, k: int, past: Reached) -> np.ndarray | None:
        """What `reached` returns. every: the rows, and those behind the sketch"""
        behind, beyond = _behind(every, self.rows.n, self.query, k)
        kind, centre = (k, self.rows.bias is None), self.asked.centre - self.rows.mean_bias
        least = past.guess(kind, centre, self.asked.spread)
        found = None if least is None else self._found(least, behind, k)
        if found is None or not found[1] >= least:
            least = self._probe(behind, k) if found is None or found[1] == -np.inf else found[1]
            found = self._found(least, behind, k)
        if found is None:
            return None
        (scores, numbers), least = found
        past.note(kind, centre, self.asked.spread, least)
        if beyond > -np.inf and not self._at_most(beyond) < least:
            return None
        return numbers[~(self._at_most(scores) < least)]  # what has no number for a score is found out later

    def _at_most(self, scores: Any) -> Any:
        """What these scores may truly be."""
        return scores + self.fixed + self.share * np.abs(scores)

    def _found(self, least: float, behind: Scored, k: int) -> tuple[Scored, float] | None:
        """All rows that may reach as much, with those behind the sketch; what the k-th best scores at least.

        None if they are many.
        """
        found = self._sweep(least)
        if found is None:
            return None
        numbers, most = found
        parts, likely = [behind], 2 * k + _SPARE
        if len(numbers) > max(likely, _TOGETHER):
            order = np.argpartition(-most, likely)
            numbers, most = numbers[order], most[order]
            parts.append(self._looked_at(numbers[:likely]))
            numbers = numbers[likely:][most[likely:] >= self._kth_at_least(parts, k)]
        parts.append(self._looked_at(numbers))
        return tuple(np.concatenate(part) for part in zip(*parts)), self._kth_at_least(parts, k)

    def _probe(self, behind: Scored, k: int) -> float:
        """What the k-th best of some rows scores at least: the likeliest among the first of each block."""
        heap, numbers = no_matches(1, 2 * k + _SPARE)
        with scanner(self.sketch.width, self.counting, BYTES) as reader:
            for number, piece in self.blocks:
                query, codes, first_row, added = self._asked_of(number, piece[:_PROBED])
                scan_block(reader, query, codes, heap[0], numbers[0], first_row, added)
        return self._kth_at_least([self._looked_at(numbers[0][numbers[0] >= 0]), behind], k)

    def _sweep(self, least: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Row numbers (m,) that may reach as much, and what each scores at most; None if they are many."""
        n, unit = self.rows.n, self.asked.unit
        parts = min(threads(), 1 + n * self.sketch.width // _SWEPT)
        bounds = [n * part // parts for part in range(parts + 1)]
        enough = float(np.nextafter(np.float32(least / unit), np.float32(-np.inf)))  # what is as much gets in

        def sweep(part: range) -> Scored | None:
            overlaps = ((number, range(max(block.start, part.start), min(block.stop, part.stop)))
                        for number, block in self.blocks)
            asked = (self._asked_of(number, piece) for number, piece in overlaps if len(piece))
            with scanner(self.sketch.width, self.counting, BYTES, places=self.counting is None) as reader:
                return scan_above(reader, asked, enough, n // _ROOM)

        swept = in_threads(sweep, [range(*pair) for pair in zip(bounds, bounds[1:])])
        if any(found is None for found in swept):
            return None
        most, numbers = (np.concatenate(part) for part in zip(*swept))
        most = most.astype(np.float64) * unit
        if self.rows.bias is not None:
            most += self.lowest[numbers // BLOCK_ROWS] - self.rows.bias[numbers]
        kept = most >= least
        return numbers[kept], most[kept]

    def _asked_of(self, number: int, piece: range) -> tuple[np.ndarray, np.ndarray, int, float]:
        """What scans take for rows of one block: they say what each may score, in units."""
        codes = self.sketch.codes[piece.start : piece.stop]
        return self.asked.weights[number], codes, piece.start, float(self.added[number] / self.asked.unit)

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
            scan_block(reader, self.query, self.rows.gather(numbers), scores, places)
        return scores[places >= 0], numbers[places[places >= 0]]

    def _kth_at_least(self, parts: list[Scored], k: int) -> float:
        """What the k-th best of these scores at least; -inf if there are fewer."""
        scores = np.concatenate([scores for scores, _ in parts])
        if len(scores) < k:
            return -np.inf
        return float(np.partition(scores - self.fixed - self.share * np.abs(scores), -k)[-k])


def _behind(rows: Rows, n: int, query: np.ndarray, k: int) -> tuple[Scored, float]:
    """The best of the rows from n on, which have no sketch, and what no others of them exceed."""
    none = _NONE, -np.inf
    if n == rows.n:
        return none
    others = rows.only(np.arange(rows.n) >= n)
    count = others.count()
    if not count:
        return none
    found = scan(others, query[None], min(k + _SPARE, count))
    real = found.rows[0] >= 0
    return (found.scores[0, real], found.rows[0, real]), float(found.beyond[0])

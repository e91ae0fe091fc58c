"""Does an index tuned with texts reach its target on texts it has not seen?

Made-up vectors with a modality gap; half of the text-like queries are for tuning, the others are not
seen. A seed is a hit if their recall@10 is at most 0.01 below the target, and at most 0.01 above it
unless one list less would miss. autofaiss tunes to a time, with vectors of the index as its queries:
it gets the same factory string, and the time that our settings take for a query.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.case import Case, Contender, LeftOut, Measure, Metrics

SHOWN = ("recall_mean", "recall_least", "image_recall_mean", "seconds")
PEER = "RETRIEVAL_BENCH_AUTOFAISS_PYTHON"
K, SLACK = 10, 0.01
TARGETS = (0.9, 0.95, 0.99)


def cases(quick: bool) -> list[Case]:
    n, queries, seeds = (3_000, 400, 1) if quick else (100_000, 4_000, 10)
    factory = f"IVF{256 if quick else 1024},Flat"
    return [
        Case(
            name=f"tune to a recall of {target}",
            settings={"n": n, "dim": 64, "queries": queries, "seeds": seeds, "factory": factory,
                      "target": target, "k": K},
            contenders={
                "ours": Contender(tune_ours, ours=True),
                "autofaiss": Contender(tune_autofaiss),
            },
            unit="hits", better="higher", baseline="autofaiss", warm_up=0, most_repeats=1,
        )
        for target in TARGETS
    ]


def tune_ours(settings: Mapping[str, Any], work: Path) -> Measure:
    return lambda: _over_seeds(settings, lambda seed, made: _ours(settings, seed, made))


def tune_autofaiss(settings: Mapping[str, Any], work: Path) -> Measure:
    python = os.environ.get(PEER)
    if not python:
        raise LeftOut(f"{PEER} names no Python that has autofaiss")
    folder = work / "autofaiss"
    folder.mkdir(parents=True, exist_ok=True)

    def one(seed: int, made: Any) -> tuple[Any, Any]:
        import numpy as np

        ours_ms = _tuned(settings, seed, made)[1].p50_ms
        half = len(made.queries) // 2
        for name, rows in (("documents", made.documents), ("text", made.queries[half:]),
                           ("image", made.documents[:_images(settings)])):
            np.save(folder / f"{name}.npy", rows)
        asked = {"factory": settings["factory"], "ms": ours_ms, "k": settings["k"]}
        script = Path(__file__).with_name("_autofaiss.py")
        done = subprocess.run(
            [python, str(script), str(folder), json.dumps(asked)], capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"autofaiss failed: {done.stderr.strip().splitlines()[-1:]}")
        return np.load(folder / "found_text.npy"), np.load(folder / "found_image.npy")

    return lambda: _over_seeds(settings, one)


def _ours(settings: Mapping[str, Any], seed: int, made: Any) -> tuple[Any, Any, Any]:
    """What is found for unseen texts and for images, and for texts with one list less."""
    index, tuning = _tuned(settings, seed, made)
    half, nprobe = len(made.queries) // 2, tuning.spec.nprobe
    text, image = made.queries[half:], made.documents[: _images(settings)]
    found = [index.search(queries, settings["k"], nprobe=nprobe).rows for queries in (text, image)]
    cheaper = index.search(text, settings["k"], nprobe=nprobe - 1).rows if nprobe > 1 else None
    return *found, cheaper


def _tuned(settings: Mapping[str, Any], seed: int, made: Any) -> tuple[Any, Any]:
    from indexes import IndexSpec, build_index, tune_index

    index = build_index(made.documents, IndexSpec(settings["factory"], seed=seed), device="cpu")
    half = len(made.queries) // 2
    return index, tune_index(index, made.documents, made.queries[:half], target=settings["target"])


def _over_seeds(settings: Mapping[str, Any], find: Any) -> Metrics:
    from benchmarks import timing
    from benchmarks.vectors_with_gap import vectors_with_gap
    from indexes import ann_recall_at_k, exact_search

    hits, texts, images, seconds = 0, [], [], 0.0
    for seed in range(settings["seeds"]):
        made = vectors_with_gap(
            settings["n"], settings["queries"], settings["dim"], rank=24, clusters=200, seed=seed
        )
        results: list[Any] = []
        seconds += timing.seconds(lambda: results.extend(find(seed, made)))
        text, image = made.queries[len(made.queries) // 2 :], made.documents[: _images(settings)]

        def recall(rows: Any, queries: Any) -> float:
            exact = exact_search(made.documents, queries, 2 * settings["k"])
            return float(ann_recall_at_k(rows, exact, settings["k"]).mean())

        reached, less = recall(results[0], text), 0.0
        if len(results) > 2 and results[2] is not None:
            less = recall(results[2], text)
        hits += hit(settings["target"], reached, less if len(results) > 2 else None)
        texts.append(reached)
        images.append(recall(results[1], image))
    return {
        "hits": float(hits), "recall_mean": sum(texts) / len(texts), "recall_least": min(texts),
        "recall_most": max(texts), "image_recall_mean": sum(images) / len(images), "seconds": seconds,
    }


def hit(target: float, reached: float, cheaper: float | None) -> bool:
    """Whether a recall is near its target. cheaper: with the next cheaper setting; None if unknown."""
    if reached < target - SLACK:
        return False
    return reached <= target + SLACK or (cheaper is not None and cheaper < target)


def _images(settings: Mapping[str, Any]) -> int:
    return settings["queries"] // 4

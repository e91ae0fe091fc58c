"""What is on record of an index, for programs and for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrieval.manifest import IndexRecord


def index_facts(record: IndexRecord) -> dict[str, Any]:
    """For --json. Recalls are at 10: value, low and high end of the 95 % interval."""
    spec, tuning = record.spec, record.tuning
    return {
        "index": spec.factory,
        "index_settings": {
            name: value for name in ("nprobe", "ef_search", "refine")
            if (value := getattr(spec, name)) is not None
        },
        "index_asked": record.wanted.factory or "auto",
        "index_memory": record.wanted.memory,
        "index_bytes_per_vector": record.bytes_per_vector,
        "index_rows": record.rows,
        "index_rows_since_training": record.rows - record.trained_rows if record.trained_rows else 0,
        "target_recall": record.wanted.target_recall,
        "tuning": None if tuning is None else {
            "target_recall": tuning.target, "reached": tuning.reached,
            "text_recall": list(tuning.text), "image_recall": tuning.image and list(tuning.image),
            "p50_ms": tuning.p50_ms, "queries_per_second": tuning.queries_per_second,
            "text_queries": tuning.queries, "texts": tuning.texts,
        },
    }


def index_table(record: IndexRecord) -> dict[str, Any]:
    """For people. An exact index has little to tell."""
    facts, tuning = index_facts(record), record.tuning
    table: dict[str, Any] = {"index": " ".join(
        [facts["index"], *(f"{name}={value}" for name, value in facts["index_settings"].items())]
    )}
    if not record.trained_rows:
        return {**table, "text recall": "1 (exact search)"}
    table["bytes per vector"] = record.bytes_per_vector
    table["rows since training"] = f"{facts['index_rows_since_training']:+} of {record.rows}"
    if tuning is None:
        return {**table, "text recall": "not measured; `retrieval index --retune -o COLLECTION` does"}
    missed = "" if tuning.reached else "; not reached"
    table["text recall"] = f"{_interval(tuning.text)} (target {tuning.target:g}{missed})"
    if tuning.image is not None:
        table["image recall"] = _interval(tuning.image)
    table["latency"] = f"{tuning.p50_ms:.2f} ms, {tuning.queries_per_second:.0f} queries/s in a batch"
    table["tuned with"] = f"{tuning.queries} {tuning.texts}"
    return table


def _interval(recall: tuple[float, float, float]) -> str:
    value, low, high = recall
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"

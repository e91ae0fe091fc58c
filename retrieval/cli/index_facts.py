"""What there is to say of an index, for programs and for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrieval.indexed import Indexed
    from retrieval.manifest import IndexRecord


def index_facts(indexed: Indexed, record: IndexRecord) -> dict[str, Any]:
    """For --json. Recalls are at 10: value, low and high end of the 95 % interval."""
    spec, tuning = record.spec, record.tuning
    added, dead = indexed.changed(record)
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
        "index_rows_since_training": added,
        "index_dead_rows": dead,
        "index_current": indexed.is_current(record),
        "target_recall": record.wanted.target_recall,
        "tuning": None if tuning is None else {
            "target_recall": tuning.target, "reached": tuning.reached,
            "text_recall": list(tuning.text), "image_recall": tuning.image and list(tuning.image),
            "p50_ms": tuning.p50_ms, "queries_per_second": tuning.queries_per_second,
            "text_queries": tuning.queries, "texts": tuning.texts,
        },
    }


def index_table(facts: dict[str, Any], of: str = "") -> dict[str, Any]:
    """For people: what `index_facts` found. An exact index has little to tell.

    of  stands before each name, where it is not the images' index
    """
    current = "up to date" if facts["index_current"] else "out of date; `retrieval index` renews it"
    settings = [f"{name}={value}" for name, value in facts["index_settings"].items()]
    table: dict[str, Any] = {"index": f"{' '.join([facts['index'], *settings])} ({current})"}
    tuning = facts["tuning"]
    if facts["index"] == "Flat":
        table["text recall"] = "1 (exact search)"
    else:
        if facts["index_bytes_per_vector"]:
            table["bytes per vector"] = facts["index_bytes_per_vector"]
        if facts["index_rows_since_training"] is not None:
            added, dead = facts["index_rows_since_training"], facts["index_dead_rows"]
            table["rows since training"] = f"{added} added, {dead} dead; {facts['index_rows']} to find"
        table["text recall"] = "not measured; `retrieval index --retune -o COLLECTION` does"
    if tuning is not None:
        missed = "" if tuning["reached"] else "; not reached"
        table["text recall"] = f"{_interval(tuning['text_recall'])} (target {tuning['target_recall']:g}{missed})"
        if tuning["image_recall"] is not None:
            table["image recall"] = _interval(tuning["image_recall"])
        table["latency"] = f"{tuning['p50_ms']:.2f} ms, {tuning['queries_per_second']:.0f} queries/s in a batch"
        table["tuned with"] = f"{tuning['text_queries']} {tuning['texts']}"
    return {f"{of} {name}".strip(): value for name, value in table.items()}


def _interval(recall: list[float]) -> str:
    value, low, high = recall
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"

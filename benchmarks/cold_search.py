"""Where the seconds of a cold `retrieval search` go.

    python -m benchmarks.cold_search photos.collection "a dog in the snow"

Each repeat is a fresh process that times its own stages, and the whole command beside it.
Prints one JSON line: medians in seconds. The files are in the page cache after the first,
uncounted run.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time

STAGES = """
import json, sys, time
marks = [("start", time.perf_counter())]
def mark(name): marks.append((name, time.perf_counter()))
import torch; mark("import torch")
import open_clip; mark("import open_clip")
from retrieval.collection import Collection
from retrieval.query import embed, parse
mark("import faiss and the rest")
collection = Collection.open(sys.argv[1]); mark("open the collection")
encoder = collection.load_encoder(); mark("load the encoder")
vectors = embed([parse(sys.argv[2])], encoder); mark("encode the query")
index = collection.index(); mark("load the index")
hits = collection.search_vectors([sys.argv[2]], vectors, collection.checked_k(None)); mark("search")
print(json.dumps({name: after - before for (_, before), (name, after) in zip(marks, marks[1:])}))
"""


def main(collection: str, query: str, repeats: int = 5) -> None:
    commands = {
        "stages": [sys.executable, "-c", STAGES, collection, query],
        "retrieval search": [sys.executable, "-m", "retrieval", "search", collection, query],
        "retrieval --help": [sys.executable, "-m", "retrieval", "--help"],
        "python -c 'import torch'": [sys.executable, "-c", "import torch"],
    }
    walls: dict[str, list[float]] = {name: [] for name in commands}
    stages: list[dict[str, float]] = []
    for repeat in range(repeats + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            if repeat:  # the first one warms the page cache
                walls[name].append(time.perf_counter() - start)
                if name == "stages":
                    stages.append(json.loads(done.stdout))
    print(json.dumps({
        "benchmark": "cold_search", "machine": platform.machine(), "repeats": repeats,
        "seconds": {name: round(statistics.median(wall), 3) for name, wall in walls.items()},
        "stages": {name: round(statistics.median(run[name] for run in stages), 3) for name in stages[0]},
    }))


if __name__ == "__main__":
    main(*sys.argv[1:3])

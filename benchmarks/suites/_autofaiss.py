"""Run by autofaiss's own Python: build and tune an index of FOLDER/documents.npy, search, save the rows."""

import json
import sys
from pathlib import Path

import autofaiss
import faiss
import numpy as np

folder, asked = Path(sys.argv[1]), json.loads(sys.argv[2])
faiss.omp_set_num_threads(2)
index, _ = autofaiss.build_index(
    np.load(folder / "documents.npy"), index_key=asked["factory"], metric_type="ip", save_on_disk=False,
    max_index_query_time_ms=asked["ms"], min_nearest_neighbors_to_retrieve=asked["k"],
)
for name in ("text", "image"):
    np.save(folder / f"found_{name}.npy", index.search(np.load(folder / f"{name}.npy"), asked["k"])[1])

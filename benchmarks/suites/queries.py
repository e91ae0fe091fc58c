"""A text query, from the words to the ranked files.

Cold is a fresh process with its files in the page cache, beside processes that import torch, or torch
and open_clip, and stop: what embeds with open_clip cannot be sooner; a query that was asked before is
not embedded. Warm is Collection.search, one new query at a time; the peer embeds with open_clip in
float32 and multiplies with the matrix of vectors in numpy. Over 100,000 vectors, which are made up from
those of captions, it stands beside the text tower alone: the built-in encoder's, which is small, and that
of ViT-B-32. The latter's weights are random, so what is searched with are vectors of the built-in one.
"Times tower" is how many times as long as its own tower a query takes, both within one process. There the
tower may be slower than alone, as a search takes room in the processor's caches from it.

    python -m benchmarks.suites.queries photos.collection "a dog in the snow"

prints where the seconds of a cold search of that collection go.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import timing, worker
from benchmarks.case import Case, Contender, Measure, Metrics
from benchmarks.collections import indexed, make_up
from benchmarks.kept import edition, kept
from benchmarks.models import BUILTIN, CAPTIONS, VIT_B_32, name_for_us, plain_open_clip
from benchmarks.photos import photos

SHOWN = ("p95_ms", "p99_ms", "p50_times_tower", "p99_times_tower")
QUERY = "a dog in the snow"
FLOOR, TORCH = "import torch and open_clip", "import torch"
TOWER = "the text tower alone"

STAGES = """
import json, sys, time
marks = [("start", time.perf_counter())]
def mark(name): marks.append((name, time.perf_counter()))
from retrieval.collection import Collection
from retrieval.query import embed, parse
mark("imports")
collection = Collection.open(sys.argv[1]); mark("open_collection")
queries = [parse(sys.argv[2])]
encoder = collection.encoder_for(queries); mark("load_encoder")
vectors = embed(queries, encoder); mark("encode_query")
index = collection.index(); mark("load_index")
hits = collection.search_vectors([sys.argv[2]], vectors, collection.checked_k(None)); mark("search")
taken = {name + "_seconds": after - before for (_, before), (name, after) in zip(marks, marks[1:])}
print(json.dumps(taken | {"seconds": marks[-1][1] - marks[0][1]}))
"""


def cases(quick: bool) -> list[Case]:
    settings = {"images": 48 if quick else 1000, "width": 224, "height": 224, "model": BUILTIN}
    searches = 16 if quick else 512
    return [
        Case(
            name="cold search, as a command",
            settings=settings,
            contenders={
                "ours": Contender(search, ours=True),
                "ours, asked before": Contender(partial(search, remembered=True), ours=True),
                "ours, a server running": Contender(command_with_server, ours=True),
                TORCH: Contender(partial(command, line=("-c", "import torch"))),
                FLOOR: Contender(partial(command, line=("-c", "import torch, open_clip"))),
            },
            unit="seconds", better="lower", baseline=TORCH,
        ),
        Case(
            name="cold search, stage by stage",
            settings=settings, contenders={"ours": Contender(stages, ours=True)},
            unit="seconds", better="lower", headline=False,
        ),
        Case(
            name="retrieval --help",
            settings={},
            contenders={
                "ours": Contender(partial(command, line=("-m", "retrieval", "--help")), ours=True),
                "python -c pass": Contender(partial(command, line=("-c", "pass"))),
            },
            unit="seconds", better="lower", baseline="python -c pass", headline=False,
        ),
        Case(
            name="warm search",
            settings={**settings, "k": 10, "searches": searches},
            contenders={
                "ours": Contender(warm, ours=True),
                "open_clip and numpy": Contender(open_clip_and_numpy),
            },
            unit="p50_ms", better="lower", baseline="open_clip and numpy",
        ),
        *(
            Case(
                name=f"warm search, made-up vectors, {name}",
                settings={
                    "vectors": 2_000 if quick else 100_000, "index": index, "k": 10, "tower": tower,
                    "searches": searches if tower == BUILTIN else searches // 4,
                },
                contenders={"ours": Contender(warm_made_up, ours=True), TOWER: Contender(tower_alone)},
                unit="p50_ms", better="lower", baseline=TOWER,
            )
            for name, index, tower in (
                ("Flat", "Flat", BUILTIN),
                ("IVF1024", "IVF32,SQfp16" if quick else "IVF1024,SQfp16", BUILTIN),
                ("Flat, ViT-B-32", "Flat", VIT_B_32),
            )
        ),
    ]


def search(settings: Mapping[str, Any], work: Path, remembered: bool = False) -> Measure:
    """As a command. remembered: the query was asked before, and its vector is in the collection."""
    line = ("-m", "retrieval", "search", "--no-server", str(_collection(settings, work)), QUERY)
    if remembered:
        _python(*line)
    return command(settings, work, line if remembered else (*line, "--no-cache"))


def command(settings: Mapping[str, Any], work: Path, line: Sequence[str]) -> Measure:
    """A fresh process each time. line: arguments of python."""

    def measure() -> Metrics:
        taken = timing.seconds(lambda: _python(*line))
        return {"seconds": taken, "peak_mib": worker.peak_mib_of_children()}

    return measure


def command_with_server(settings: Mapping[str, Any], work: Path) -> Measure:
    from retrieval.serve import serve

    path, ready = _collection(settings, work), threading.Event()
    threading.Thread(
        target=serve, args=(path,), daemon=True,
        kwargs={"port": 0, "stop": threading.Event(), "on_ready": lambda address, images: ready.set()},
    ).start()
    if not ready.wait(120):
        raise RuntimeError("the server did not start")
    return command(settings, work, ("-m", "retrieval", "search", str(path), QUERY))


def stages(settings: Mapping[str, Any], work: Path) -> Measure:
    collection = str(_collection(settings, work))
    return lambda: json.loads(_python("-c", STAGES, collection, QUERY))


def warm(settings: Mapping[str, Any], work: Path) -> Measure:
    from retrieval.collection import Collection

    collection = Collection.open(_collection(settings, work), remember_queries=False)
    return _one_by_one(settings, lambda text: collection.search(text, settings["k"]))


def warm_made_up(settings: Mapping[str, Any], work: Path) -> Measure:
    from retrieval.query import parse

    collection = _made_up(settings, work)
    tower: Any = collection.encoder_for([parse(QUERY)])
    tower.encode_texts, in_tower = timing.noted(tower.encode_texts)
    whole = _one_by_one(settings, lambda text: collection.search(text, settings["k"]))

    def measure() -> Metrics:
        in_tower.clear()
        taken = whole()
        times = {f"p{percent}_times_tower": taken[f"p{percent}_ms"] / timing.percentile(in_tower, percent)
                 for percent in (50, 99)}
        return taken | times

    return measure


def tower_alone(settings: Mapping[str, Any], work: Path) -> Measure:
    from retrieval.query import parse

    encoder = _made_up(settings, work).encoder_for([parse(QUERY)])
    return _one_by_one(settings, lambda text: encoder.encode_texts([text]))


def open_clip_and_numpy(settings: Mapping[str, Any], work: Path) -> Measure:
    import numpy as np
    import torch

    model, _, tokenize = plain_open_clip(settings["model"], work)
    device = next(model.parameters()).device

    @torch.no_grad()
    def embed(text: str) -> np.ndarray:
        features = model.encode_text(tokenize([text]).to(device))
        return torch.nn.functional.normalize(features, dim=-1).cpu().numpy()[0]

    random = np.random.default_rng(0)  # which vectors they are makes no difference to the time
    vectors = random.standard_normal((settings["images"], len(embed("a"))), dtype=np.float32)
    return _one_by_one(settings, lambda text: np.argsort(-(vectors @ embed(text)))[: settings["k"]])


def _one_by_one(settings: Mapping[str, Any], search: Any) -> Measure:
    texts = [CAPTIONS[number % len(CAPTIONS)] for number in range(settings["searches"])]
    return lambda: timing.latencies(search, texts)


def _collection(settings: Mapping[str, Any], work: Path) -> Path:
    folder = photos(work, settings["width"], settings["height"], settings["images"])
    return indexed(folder, work / f"queries-{settings['images']}-{edition()}.collection", settings["model"])


def _made_up(settings: Mapping[str, Any], work: Path) -> Any:
    """Opened: as if the built-in encoder had made its vectors, which are mixtures of its captions'."""
    from indexes import IndexSpec
    from retrieval.calibration import BUILTIN_FILE, Calibration
    from retrieval.collection import Collection
    from retrieval.encoders.text_tower import load_text_tower, published
    from retrieval.manifest import EncoderRecord

    encoder = EncoderRecord(BUILTIN, 512, published()["fingerprint"])
    name = f"queries-{settings['vectors']}-{settings['index']}-mixtures-by-texts-{edition()}.collection"
    spec, like = IndexSpec(settings["index"]), Calibration.load(BUILTIN_FILE).references

    def encode(texts: list[str]) -> Any:
        return load_text_tower(encoder.fingerprint).encode_texts(texts)

    made = kept(work / name, lambda folder: make_up(folder, settings["vectors"], encoder, spec, like, encode))
    tower = None if settings["tower"] == BUILTIN else _TextTower(settings["tower"], encoder.fingerprint, work)
    return Collection.open(made, encoder=tower, remember_queries=False)


class _TextTower:
    """An encoder that takes as long as that of a model, and has the built-in one's vectors for captions."""

    name, dim = BUILTIN, 512

    def __init__(self, model: str, fingerprint: str, work: Path) -> None:
        from retrieval.encoders import load_encoder
        from retrieval.encoders.text_tower import load_text_tower

        self.fingerprint = fingerprint
        self._encode = load_encoder(name_for_us(model, work)).encode_texts
        texts = [QUERY, *CAPTIONS]
        self._vectors = dict(zip(texts, load_text_tower(fingerprint).encode_texts(texts)))

    def encode_texts(self, texts: Sequence[str]) -> Any:
        import numpy as np

        self._encode(texts)
        return np.stack([self._vectors[text] for text in texts])


def _python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"python {arguments[1]} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("Usage: python -m benchmarks.suites.queries COLLECTION QUERY")
    for _ in range(2):  # the first one warms the page cache
        taken = json.loads(_python("-c", STAGES, *sys.argv[1:]))
    for stage, value in taken.items():
        print(f"{stage.removesuffix('_seconds')}\t{value:.3f}")

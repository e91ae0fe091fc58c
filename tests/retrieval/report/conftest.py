"""A benchmark run over real photos with difficult names, small enough to look into."""

from __future__ import annotations

import shutil
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from indexes import IndexSpec, exact_search, measure_index
from retrieval.corpus.layouts import Caption
from retrieval.evaluate.evaluation import Evaluation, score_directions
from retrieval.evaluate.benchmark import BenchmarkReport
from retrieval.evaluate.compare import differences
from retrieval.evaluate.failures import worst_failures
from retrieval.evaluate.index_losses import IndexScores
from retrieval.evaluate.published import PublishedCheck
from retrieval.bootstrap import Estimate
from retrieval.evaluate.scores import Sampling, r_sum
from retrieval.evaluate.task import Problems, Task
from retrieval.metrics import Relevance
from retrieval.report.page import write_report

SAMPLING = Sampling(resamples=200)
SOURCES = {  # name of the copy -> photo of `photo_folder`; None: magenta, a colour that no photo has
    "a folder/astro naut.png": "astronaut.png",
    """it's a "cat".png""": "chelsea.png",
    "<b>coffee</b> & more.png": "coffee.png",
    "ракета 火箭.jpg": "rocket.jpg",
    "flower.jpg": "flower.jpg",
    "china.jpg": "2019/beach/china.jpg",
    "magenta.png": None,
}
GONE = "gone.jpg"
NOT_AN_IMAGE = "notes <1>.jpg"
SENTENCES = {
    "en": ["an astronaut & her <suit>", """a "ginger" cat""", "a cup of coffee", "a rocket at night",
           "a flower's petals", "a temple in China", "nothing but magenta", "a photo that is gone", "some notes"],
    "de": ["eine Astronautin", "eine Katze", "eine Tasse Kaffee", "eine Rakete", "eine Blüte", "ein Tempel",
           "nichts als Magenta", "ein Foto, das fehlt", "Notizen"],
}


@pytest.fixture
def images(photo_folder, tmp_path):
    """image id -> path, in order: seven that can be read, one that is gone and one that is no image."""
    folder = tmp_path / "with <odd> names"
    paths = {}
    for name, source in SOURCES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if source:
            shutil.copyfile(photo_folder / source, path)
        else:
            Image.new("RGB", (300, 200), (255, 0, 255)).save(path)
        paths[name] = str(path)
    (folder / NOT_AN_IMAGE).write_text("not an image")
    return paths | {GONE: str(folder / GONE), NOT_AN_IMAGE: str(folder / NOT_AN_IMAGE)}


def make_task(ids, languages):
    """One caption per image and language, the languages one after the other."""
    captions = [Caption(id, text, language=language)
                for language in languages for id, text in zip(ids, SENTENCES[language or "en"])]
    own = np.tile(np.arange(len(ids)), len(languages))
    return Task(
        list(ids), captions, own,
        Relevance.from_pairs(np.arange(len(captions)), own, n_queries=len(captions)),
        Relevance.from_pairs(own, np.arange(len(captions)), n_queries=len(ids)),
        Problems(missing=[f"lost & <found> {number}.jpg" for number in range(7)], empty=2),
        ("first caption of each image",),
    )


def make_evaluation(model, task, noise):
    """Vectors whose captions lie near their image: the more noise, the further away."""
    random = np.random.default_rng(7)

    def unit(rows):
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    vectors = unit(random.normal(size=(len(task.ids), 16)))
    texts = unit(vectors[task.images] + noise * random.normal(size=(len(task.captions), 16)))
    directions, r_sums = [], {}
    for language in task.languages:
        part, chosen = task.in_language(language)
        pair = score_directions(part, texts[chosen], vectors, language=language, ks=(1, 3), sampling=SAMPLING)
        directions += pair
        r_sums[language] = r_sum(pair, SAMPLING)
    return Evaluation(model, f"{model}, weights of <someone>", task, directions, r_sums, vectors, texts)


def make_index(measured, model, factory, nprobe, found, p50, size):
    """An index that loses a point of 90 percent in its codes, and the rest in its search."""

    def near(value):
        return {k: Estimate(value, value - 0.02, value + 0.02) for k in (1, 3)}

    latency = replace(measured.latency, p50=p50, p95=2 * p50, p99=3 * p50, queries_per_second=1000 / p50,
                      threads=1)
    one = replace(measured, factory=factory, nprobe=nprobe, ef_search=None, ann_recall=found, latency=latency,
                  bytes_per_vector=size, build_seconds=1.5)
    return IndexScores(model, one, exact=near(0.9), codes=near(0.89), found=near(found),
                       quantisation_loss=near(0.01), search_loss=near(0.89 - found))


@pytest.fixture
def one_model(images):
    """The least that a report can hold: one model, no language, no indexes, no failures."""
    task = make_task(images, [""])
    return BenchmarkReport("photos", [], [make_evaluation("only", replace(task, problems=Problems()), 0.3)])


@pytest.fixture
def full(images):
    """Everything that a report can hold."""
    task = make_task(images, ["en", "de"])
    good, bad = (make_evaluation(f"{name} <model>", task, noise) for name, noise in (("good", 0.2), ("bad", 3.0)))
    exact = exact_search(good.images, good.texts, 3)
    [measured, *_] = measure_index(good.images, IndexSpec("Flat"), good.texts, exact, 3, device="cpu")
    indexes = [
        make_index(measured, model, factory, nprobe, found - worse, p50, size)
        for model, worse in ((good.model, 0), (bad.model, 0.2))
        for factory, nprobe, found, p50, size in (
            ("Flat", None, 0.89, 4.0, 64.0), ("IVF2,Flat", 1, 0.70, 0.04, 65.5), ("IVF2,Flat", 2, 0.88, 0.4, 65.5),
            ("SQ8", None, 0.80, 2.0, 16.0),
        )
    ]
    return BenchmarkReport(
        subject="Photos & <friends>",
        rules=["ranks are exact", "right answers are <those> of the file"],
        evaluations=[good, bad],
        differences=differences(bad.model, bad.directions, good.model, good.directions, SAMPLING),
        indexes=indexes,
        failures={one.model: worst_failures(one, images, 4) for one in (good, bad)},
        published=[
            PublishedCheck(good.model, "photos", "text_to_image", 1, 0.912, 0.9, True, "table 3 of <the paper>"),
            PublishedCheck(good.model, "photos", "image_to_text", 1, 0.5, 0.75, False, "table 3 of <the paper>"),
        ],
        settings={"ks": [1, 3], "versions": {"numpy": "2.0"}, "seed": 0},
        paths=images,
        unreadable=[("broken <1>.jpg", "damaged & truncated")],
    )


@pytest.fixture
def body():
    """Write a report and parse what it shows: a page that is no well-formed XML fails."""

    def written(path, report):
        write_report(path, report)
        page = path.read_text(encoding="utf-8")
        return ElementTree.fromstring(page[page.index("<body>") : page.index("</body>") + len("</body>")])

    return written

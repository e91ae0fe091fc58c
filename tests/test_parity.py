"""The same numbers as other people's programs: CLIP_benchmark, trec_eval, and CLIP's own vectors."""

import csv
from pathlib import Path

import numpy as np
import pytest

from retrieval import metrics
from retrieval.corpus.captions import Caption, CaptionSet, read_captions
from retrieval.demo import CAPTIONS as DEMO_CAPTIONS
from retrieval.evaluate.evaluation import score_directions
from retrieval.evaluate.scores import Sampling
from retrieval.evaluate.task import make_task
from retrieval.images import open_image
from retrieval.metrics import Relevance, ranks_in_results, relevant_ranks

GOLDEN = Path(__file__).parents[2] / "shared" / "data" / "clip-golden"
K = (1, 5, 10)


@pytest.fixture(scope="module")
def golden():
    """(images (100, 512), captions (500, 512), image of each caption) of OpenAI's ViT-B/32."""
    if not GOLDEN.is_dir():
        pytest.skip("golden CLIP vectors are not beside the checkout")
    with open(GOLDEN / "metadata.csv", encoding="utf-8", newline="") as lines:
        names = [row["image_id"] for row in csv.DictReader(lines)]
    distinct = list(dict.fromkeys(names))
    images = np.load(GOLDEN / "image_embeddings.npy")[[names.index(name) for name in distinct]]
    captions = np.load(GOLDEN / "text_embeddings.npy")
    assert images.shape == (100, 512) and captions.shape == (500, 512)
    return images, captions, np.array([distinct.index(name) for name in names])


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def random_pairs(counts, seed=0):
    """Images, captions near them, and the image of each caption; counts: captions of each image."""
    generator = np.random.default_rng(seed)
    owners = np.repeat(np.arange(len(counts)), counts)
    images = generator.standard_normal((len(counts), 24))
    captions = images[owners] + 1.5 * generator.standard_normal((len(owners), 24))
    order = generator.permutation(len(owners))
    return unit(images), unit(captions[order]), owners[order]


def scored(images, captions, owners):
    """Both directions by the evaluation itself: names of images are their numbers."""
    read = CaptionSet([Caption(str(owner), f"text {at}") for at, owner in enumerate(owners)], "table", 0, Path("c.tsv"))
    task = make_task(read, [str(number) for number in range(len(images))])
    return score_directions(task, captions, images, sampling=Sampling(resamples=10))


def test_golden_numbers(golden):
    by_text, by_image = scored(*golden)
    assert by_text.hit_rates == {1: 0.832, 5: 0.990, 10: 0.998}
    assert by_image.hit_rates == {1: 0.93, 5: 1.00, 10: 1.00}
    assert (by_text.queries, by_text.documents, by_image.queries, by_image.documents) == (500, 100, 100, 500)


class TestClipBenchmark:
    def check(self, images, captions, owners):
        theirs = pytest.importorskip("clip_benchmark.metrics.zeroshot_retrieval")
        import torch

        scores = torch.from_numpy(captions) @ torch.from_numpy(images).T  # (c, n)
        right = torch.zeros(scores.shape, dtype=torch.bool)
        right[torch.arange(len(owners)), torch.from_numpy(owners)] = True
        directions = [(scores, right), (scores.T, right.T)]
        for ours, (score, positive) in zip(scored(images, captions, owners), directions, strict=True):
            for k in K:
                found = theirs.batchify(theirs.recall_at_k, score, positive, 64, "cpu", k=k)
                np.testing.assert_allclose(ours.per_query[f"recall@{k}"], found.numpy(), atol=1e-6)
                assert ours.estimates[f"recall@{k}"].value == pytest.approx(found.mean().item(), abs=1e-6)
                # What CLIP_benchmark reports, as its `evaluate` makes it of the above.
                assert ours.hit_rates[k] == pytest.approx((found > 0).float().mean().item(), abs=1e-6)
        return ours

    def test_five_captions_an_image(self):
        by_image = self.check(*random_pairs([5] * 120))
        assert 0.1 < by_image.hit_rates[1] < 0.99  # neither hopeless nor perfect: there is something to compare

    @pytest.mark.parametrize("seed", range(3))
    def test_uneven_captions(self, seed):
        counts = np.random.default_rng(seed).integers(1, 9, 90)
        self.check(*random_pairs(counts, seed))

    def test_golden(self, golden):
        self.check(*golden)

    def test_its_whole_evaluation_of_the_built_in_encoder(self, builtin_encoder, sample_photos):
        """Its loop, its metrics, its averages; our encoder, real photos and captions."""
        theirs = pytest.importorskip("clip_benchmark.metrics.zeroshot_retrieval")
        import torch

        texts = {path.name: [] for path in sample_photos}
        for caption in read_captions(DEMO_CAPTIONS).captions:
            if caption.image in texts:
                texts[caption.image].append(caption.text)
        photos = [path for path in sample_photos if texts[path.name]]
        pixels = torch.stack([builtin_encoder.prepare(open_image(path)[0]) for path in photos])
        words = []

        class Model:
            def encode_image(self, batch):
                return torch.from_numpy(builtin_encoder.encode_prepared(list(batch)))

            def encode_text(self, tokens):
                return torch.from_numpy(builtin_encoder.encode_texts([words[token] for token in tokens.tolist()]))

        def tokenize(batch):
            words.extend(batch)
            return torch.arange(len(words) - len(batch), len(words))

        batches = [(pixels[at : at + 8], [texts[path.name] for path in photos[at : at + 8]])
                   for at in range(0, len(photos), 8)]
        found = theirs.evaluate(Model(), batches, tokenize, "cpu", amp=False, recall_k_list=list(K))
        owners = np.repeat(np.arange(len(photos)), [len(texts[path.name]) for path in photos])
        by_text, by_image = scored(
            builtin_encoder.encode_prepared(list(pixels)), builtin_encoder.encode_texts(words), owners)
        for k in K:
            assert by_text.hit_rates[k] == pytest.approx(found[f"image_retrieval_recall@{k}"], abs=1e-6)
            assert by_image.hit_rates[k] == pytest.approx(found[f"text_retrieval_recall@{k}"], abs=1e-6)
        assert 0.3 < by_text.hit_rates[1] < 1  # not a case that any program gets right


class TestTrecEval:
    """By way of ir_measures, on judgements with grades, and queries with one relevant document and with many."""

    DOCUMENTS = 150

    @pytest.fixture(params=range(3))
    def judged(self, request):
        """Queries, documents, and (query, document, grade) entries; grade 0 is a judgement, too."""
        generator = np.random.default_rng(request.param)
        queries, documents = unit(generator.standard_normal((40, 16))), unit(generator.standard_normal((self.DOCUMENTS, 16)))
        entries = [
            (query, int(row), int(generator.integers(0, 4)) if at else 1)
            for query in range(40)
            for at, row in enumerate(generator.choice(self.DOCUMENTS, generator.choice([1, 3, 12, 70]), replace=False))
        ]
        return queries, documents, entries

    MEASURES = {
        "AP": metrics.average_precision,
        "RR": metrics.reciprocal_rank,
        **{f"{name}@{k}": lambda ranks, metric=metric, k=k: metric(ranks, k)
           for name, metric in (("nDCG", metrics.ndcg), ("P", metrics.precision), ("R", metrics.recall),
                                ("Success", metrics.hit_rate))
           for k in (*K, 100)},
    }

    def theirs(self, scores, rows, entries):
        """Measure -> (q,) values."""
        ir_measures = pytest.importorskip("ir_measures")
        qrels = [ir_measures.Qrel(str(query), str(row), grade) for query, row, grade in entries]
        run = [
            ir_measures.ScoredDoc(str(query), str(row), float(score))
            for query in range(len(rows)) for row, score in zip(rows[query], scores[query])
        ]
        measures = [ir_measures.parse_measure(name) for name in self.MEASURES]
        found = {name: np.full(len(rows), np.nan) for name in self.MEASURES}
        for value in ir_measures.iter_calc(measures, qrels, run):
            found[str(value.measure)][int(value.query_id)] = value.value
        return found

    def best_first(self, queries, documents):
        scores = queries @ documents.T
        rows = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(scores, rows, axis=1), rows

    def test_exact_ranks(self, judged):
        queries, documents, entries = judged
        relevance = Relevance.from_pairs(*map(list, zip(*entries)), n_queries=len(queries))
        ranks = relevant_ranks(queries, documents, relevance)
        for name, values in self.theirs(*self.best_first(queries, documents), entries).items():
            np.testing.assert_allclose(self.MEASURES[name](ranks), values, atol=1e-6, err_msg=name)

    def test_ranks_in_what_a_search_returned(self, judged):
        queries, documents, entries = judged
        relevance = Relevance.from_pairs(*map(list, zip(*entries)), n_queries=len(queries))
        scores, rows = (one[:, :20] for one in self.best_first(queries, documents))
        ranks = ranks_in_results(rows, relevance)
        for name, values in self.theirs(scores, rows, entries).items():
            np.testing.assert_allclose(self.MEASURES[name](ranks), values, atol=1e-6, err_msg=name)

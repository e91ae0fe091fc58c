import csv
import io
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from retrieval.corpus.captions import Caption
from retrieval.corpus.qrels import match_judgements, read_judgements
from retrieval.errors import EvaluationError, ExportError
from retrieval.evaluate import export as room
from retrieval.evaluate.export import KINDS, check_targets, export, export_csv, export_trec, export_webdataset

IMAGES = {"a.png": 0, "b.png": 40, "two words.png": 80}
CAPTIONS = {Caption("a.png", "an ant"): 10, Caption("b.png", "a bee,\nbuzzing"): 75, Caption("a.png", "again"): 30}
# Scores of "an ant", at 10, and so on: cosines of the angles between.
COSINES = {degrees: float(np.cos(np.radians(degrees))) for degrees in range(0, 91, 5)}


def lines(path):
    return [line.split() for line in path.read_text(encoding="utf-8").splitlines()]


def rows(path):
    with open(path, encoding="utf-8", newline="") as content:
        return list(csv.DictReader(content))


class TestTrec:
    def test_runs(self, compared, tmp_path):
        found = export_trec(tmp_path / "trec", compared(IMAGES, CAPTIONS, model="my model"))
        assert [path.name for path in found] == [
            "text_to_image.run.txt", "text_to_image.qrels.txt", "image_to_text.run.txt", "image_to_text.qrels.txt",
        ]
        run = lines(found[0])
        assert [(query, document, rank) for query, _, document, rank, _, _ in run] == [
            ("a.png#0", "a.png", "1"), ("a.png#0", "b.png", "2"), ("a.png#0", "two%20words.png", "3"),
            ("b.png#0", "two%20words.png", "1"), ("b.png#0", "b.png", "2"), ("b.png#0", "a.png", "3"),
            ("a.png#1", "b.png", "1"), ("a.png#1", "a.png", "2"), ("a.png#1", "two%20words.png", "3"),
        ]
        assert {(zero, tag) for _, zero, _, _, _, tag in run} == {("Q0", "my%20model")}
        degrees = [10, 30, 70, 5, 35, 75, 10, 30, 50]
        assert [float(line[4]) for line in run] == pytest.approx([COSINES[one] for one in degrees], abs=1e-6)
        # Images without captions do not ask.
        assert [line[0] for line in lines(found[2])] == ["a.png"] * 3 + ["b.png"] * 3

    def test_judgements(self, compared, tmp_path):
        found = export_trec(tmp_path / "trec", compared(IMAGES, CAPTIONS))
        assert lines(found[1]) == [
            ["a.png#0", "0", "a.png", "1"], ["b.png#0", "0", "b.png", "1"], ["a.png#1", "0", "a.png", "1"],
        ]
        assert lines(found[3]) == [
            ["a.png", "0", "a.png#0", "1"], ["a.png", "0", "a.png#1", "1"], ["b.png", "0", "b.png#0", "1"],
        ]

    def test_grades(self, compared, tmp_path):
        judged = tmp_path / "qrels.txt"
        judged.write_text("a.png#0 0 b.png 3\na.png#0 0 a.png 1.5\n")
        found = export_trec(tmp_path / "trec", compared(IMAGES, CAPTIONS, judgements=judged))
        assert lines(found[1]) == [["a.png#0", "0", "a.png", "1.5"], ["a.png#0", "0", "b.png", "3"]]

    def test_captions_by_ids_of_their_own(self, compared, tmp_path):
        named = {Caption("a.png", "an ant", "ant 1"): 10, Caption("b.png", "a bee", "100%"): 75}
        found = export_trec(tmp_path / "trec", compared(IMAGES, named))
        assert [line[0] for line in lines(found[1])] == ["ant%201", "100%25"]

    def test_ids_that_are_not_of_every_caption_are_not_used(self, compared, tmp_path):
        for folder, second in (("missing", ""), ("repeated", "1")):
            named = {Caption("a.png", "an ant", "1"): 10, Caption("b.png", "a bee", second): 75}
            found = export_trec(tmp_path / folder, compared(IMAGES, named))
            assert [line[0] for line in lines(found[1])] == ["a.png#0", "b.png#0"]

    def test_languages(self, compared, tmp_path):
        captions = {
            Caption("a.png", "an ant", language="en"): 10, Caption("a.png", "蚂蚁", language="zh"): 12,
            Caption("b.png", "蜜蜂", language="zh"): 39,
        }
        found = export_trec(tmp_path / "trec", compared(IMAGES, captions))
        assert [path.name for path in found[:4]] == [
            "text_to_image.en.run.txt", "text_to_image.en.qrels.txt",
            "image_to_text.en.run.txt", "image_to_text.en.qrels.txt",
        ]
        chinese = {path.name: lines(path) for path in found[4:]}
        assert [line[0] for line in chinese["text_to_image.zh.qrels.txt"]] == ["a.png#1", "b.png#0"]
        assert [line[2] for line in chinese["image_to_text.zh.run.txt"]] == ["a.png#1", "b.png#0", "b.png#0", "a.png#1"]

    def test_depth(self, compared, tmp_path):
        found = export_trec(tmp_path / "trec", compared(IMAGES, CAPTIONS), depth=2)
        assert [len(lines(path)) for path in found] == [3 * 2, 3, 2 * 2, 3]

    def test_equal_scores_keep_their_order_in_single_precision(self, compared, tmp_path):
        images = {f"{angle + number}.png": angle for angle in (0, 40, 90) for number in range(9)}
        found = export_trec(tmp_path / "trec", compared(images, {Caption("0.png", "east"): 0}))
        run = lines(found[0])
        assert [line[2] for line in run] == list(images)
        scores = np.array([line[4] for line in run], np.float32)
        assert (np.diff(scores) < 0).all()
        expected = np.repeat([1, COSINES[40], 0], 9)
        assert np.abs(scores - expected).max() < 1e-5

    def test_this_program_reads_its_judgements(self, compared, tmp_path):
        evaluation = compared({"a.png": 0, "b.png": 40}, CAPTIONS)
        _, by_text, _, by_image = export_trec(tmp_path / "trec", evaluation)
        task = evaluation.task
        for path in (by_text, by_image):
            found = match_judgements(read_judgements(path), task.captions, task.images, task.ids)
            assert found.unmatched == []
            assert sorted(zip(found.captions.tolist(), found.images.tolist())) == [(0, 0), (1, 1), (2, 0)]


@pytest.fixture
def random_evaluation(compared):
    """Two hundred captions of forty images in the plane, which is crowded: many ranks are poor."""
    generator = np.random.default_rng(0)
    images = {f"image {number}.jpg": float(angle) for number, angle in enumerate(generator.uniform(0, 180, 40))}
    captions = {
        Caption(name, f"caption {number} of {name}"): float(angle + generator.normal(0, 15))
        for name, angle in images.items() for number in range(5)
    }
    return compared(images, captions)


class TestReadByIrMeasures:
    """The numbers of trec_eval are ours."""

    NAMES = {"R@1": "Success@1", "R@5": "Success@5", "R@10": "Success@10", "recall@5": "R@5", "recall@10": "R@10",
             "precision@5": "P@5", "precision@10": "P@10", "nDCG@10": "nDCG@10", "MRR": "RR", "mAP": "AP"}

    def of_trec(self, run, qrels, names):
        ir_measures = pytest.importorskip("ir_measures")
        measures = {ir_measures.parse_measure(name): ours for ours, name in names.items()}
        values = ir_measures.calc_aggregate(
            list(measures), list(ir_measures.read_trec_qrels(str(qrels))), list(ir_measures.read_trec_run(str(run))))
        return {measures[measure]: value for measure, value in values.items()}

    def test_every_metric(self, random_evaluation, tmp_path):
        files = export_trec(tmp_path / "trec", random_evaluation, depth=200)
        for scores, run, qrels in zip(random_evaluation.directions, files[::2], files[1::2]):
            theirs = self.of_trec(run, qrels, self.NAMES)
            ours = {name: scores.estimates[name].value for name in self.NAMES}
            assert theirs == pytest.approx(ours, abs=1e-6)
            assert 0 < ours["R@1"] < 0.5  # crowded, so that there is something to agree on

    def test_a_shallow_run_has_the_metrics_at_its_depth(self, random_evaluation, tmp_path):
        files = export_trec(tmp_path / "trec", random_evaluation, depth=10)
        names = {ours: theirs for ours, theirs in self.NAMES.items() if "@" in ours}
        for scores, run, qrels in zip(random_evaluation.directions, files[::2], files[1::2]):
            ours = {name: scores.estimates[name].value for name in names}
            assert self.of_trec(run, qrels, names) == pytest.approx(ours, abs=1e-6)

    def test_ties(self, compared, tmp_path):
        images = {f"{number}.png": 0 for number in range(9)}
        evaluation = compared(images, {Caption(name, f"what {name} is"): 0 for name in images})
        files = export_trec(tmp_path / "trec", evaluation)
        names = {"R@1": "Success@1", "R@5": "Success@5", "MRR": "RR"}
        for run, qrels in zip(files[::2], files[1::2]):
            assert self.of_trec(run, qrels, names) == pytest.approx(
                {"R@1": 1 / 9, "R@5": 5 / 9, "MRR": sum(1 / rank for rank in range(1, 10)) / 9})


class TestCsv:
    def test_queries(self, compared, tmp_path):
        by_text, by_image = export_csv(tmp_path / "csv", compared(IMAGES, CAPTIONS, ks=(1, 2)))
        assert (by_text.name, by_image.name) == ("text_to_image.csv", "image_to_text.csv")
        table = rows(by_text)
        assert list(table[0]) == [
            "query", "image", "text", "language", "first_rank", "R@1", "R@2", "recall@1", "recall@2",
            "precision@1", "precision@2", "F1@1", "F1@2", "nDCG@1", "nDCG@2", "MRR", "mAP",
            *(f"result_{rank}" for rank in range(1, 11)),
        ]
        assert [(one["query"], one["image"], one["text"], one["first_rank"]) for one in table] == [
            ("a.png#0", "a.png", "an ant", "1"), ("b.png#0", "b.png", "a bee,\nbuzzing", "2"),
            ("a.png#1", "a.png", "again", "2"),
        ]
        assert [table[1][name] for name in ("R@1", "R@2", "precision@2", "nDCG@2", "MRR")] == [
            "0", "1", "0.5", "0.630929754", "0.5",
        ]
        assert [table[1][f"result_{rank}"] for rank in (1, 2, 3)] == ["two words.png", "b.png", "a.png"]
        images = rows(by_image)
        assert [(one["query"], one["image"], one["text"], one["first_rank"]) for one in images] == [
            ("a.png", "a.png", "", "1"), ("b.png", "b.png", "", "3"),
        ]
        assert [images[1][f"result_{rank}"] for rank in (1, 2, 3)] == ["a.png#1", "a.png#0", "b.png#0"]

    def test_no_more_than_ten_results(self, random_evaluation, tmp_path):
        by_text, _ = export_csv(tmp_path / "csv", random_evaluation)
        table = rows(by_text)
        assert len(table) == 200
        assert all(len(one) == 5 + 3 * 5 + 2 + 10 for one in table)
        expected = random_evaluation.text_to_image.per_query["R@10"]
        for one, hit in zip(table, expected):
            assert (one["image"] in [one[f"result_{rank}"] for rank in range(1, 11)]) == bool(hit) == (one["R@10"] == "1")

    def test_languages_follow_each_other(self, compared, tmp_path):
        captions = {Caption("a.png", "an ant", language="en"): 10, Caption("a.png", "蚂蚁", language="zh"): 12}
        by_text, by_image = export_csv(tmp_path / "csv", compared(IMAGES, captions))
        assert [(one["language"], one["text"]) for one in rows(by_text)] == [("en", "an ant"), ("zh", "蚂蚁")]
        assert [(one["language"], one["result_1"]) for one in rows(by_image)] == [("en", "a.png#0"), ("zh", "a.png#1")]

    def test_queries_without_a_right_answer(self, compared, tmp_path):
        judged = tmp_path / "qrels.txt"
        judged.write_text("a.png#0 0 b.png 1\n")
        by_text, by_image = export_csv(tmp_path / "csv", compared(IMAGES, CAPTIONS, judgements=judged))
        assert [(one["first_rank"], one["R@1"], one["mAP"]) for one in rows(by_text)] == [
            ("2", "0", "0.5"), ("", "", ""), ("", "", ""),
        ]
        assert [one["query"] for one in rows(by_image)] == ["b.png"]


@pytest.fixture
def pictures(tmp_path):
    """Small real images in four formats, the last two of which webdataset readers do not know."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    paths = {}
    for name in ("a.jpeg", "b.png", "c.webp", "d.bmp", "e.tiff", "f.JPG"):
        pixels = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
        paths[name] = str(folder / name)
    return paths


@pytest.fixture
def task(compared, pictures):
    captions = {Caption(name, f"{name} {number}"): 10 * number for name in pictures for number in range(2)}
    captions |= {Caption("a.jpeg", "three\nlines\u2028of text"): 20}
    del captions[Caption("e.tiff", "e.tiff 0")], captions[Caption("e.tiff", "e.tiff 1")]
    return compared({name: 30 * row for row, name in enumerate(pictures)}, captions).task


class TestWebdataset:
    CAPTIONS = [
        ["a.jpeg 0", "a.jpeg 1", "three lines of text"], ["b.png 0", "b.png 1"], ["c.webp 0", "c.webp 1"],
        ["d.bmp 0", "d.bmp 1"], ["f.JPG 0", "f.JPG 1"],
    ]

    def test_layout(self, pictures, task, tmp_path):
        (shard,) = export_webdataset(tmp_path / "wds", pictures, task)
        assert shard == tmp_path / "wds" / "test" / "0.tar"
        assert (tmp_path / "wds" / "dataset_type.txt").read_text().strip() == "retrieval"
        assert int((tmp_path / "wds" / "test" / "nshards.txt").read_text()) == 1
        with tarfile.open(shard) as archive:
            content = {member.name: archive.extractfile(member).read() for member in archive}
        assert list(content) == [
            "s0000000.jpg", "s0000000.txt", "s0000001.png", "s0000001.txt", "s0000002.webp", "s0000002.txt",
            "s0000003.png", "s0000003.txt", "s0000004.jpg", "s0000004.txt",  # e.tiff has no captions
        ]
        assert content["s0000000.txt"] == b"a.jpeg 0\na.jpeg 1\nthree lines of text"
        for member, name in (("s0000000.jpg", "a.jpeg"), ("s0000001.png", "b.png"), ("s0000002.webp", "c.webp"),
                             ("s0000004.jpg", "f.JPG")):
            assert content[member] == Path(pictures[name]).read_bytes()
        with Image.open(io.BytesIO(content["s0000003.png"])) as copied, Image.open(pictures["d.bmp"]) as original:
            np.testing.assert_array_equal(np.asarray(copied), np.asarray(original))

    # Of CLIP_benchmark's call, and of webdataset's reading.
    @pytest.mark.filterwarnings(r"ignore:WebDataset\(shardshuffle:UserWarning", "ignore:unclosed file:ResourceWarning")
    @pytest.mark.parametrize(("samples", "size"), [(10_000, 10**9), (2, 10**9), (10_000, 500), (1, 1)])
    def test_clip_benchmark_reads_it(self, pictures, task, tmp_path, monkeypatch, samples, size):
        builder = pytest.importorskip("clip_benchmark.datasets.builder")
        monkeypatch.setattr(room, "SAMPLES_A_SHARD", samples)
        monkeypatch.setattr(room, "BYTES_A_SHARD", size)
        shards = export_webdataset(tmp_path / "wds", pictures, task, split="val")
        assert [path.name for path in shards] == [f"{number}.tar" for number in range(len(shards))]
        assert len(shards) == {(10_000, 10**9): 1, (2, 10**9): 3}.get((samples, size), len(shards))
        dataset = builder.build_wds_dataset("mine", np.asarray, split="val", data_dir=str(tmp_path / "wds"))
        found = list(dataset)
        assert [captions for _, captions in found] == self.CAPTIONS
        for (pixels, _), name in zip(found, ("a.jpeg", "b.png", "c.webp", "d.bmp", "f.JPG")):
            with Image.open(pictures[name]) as original:
                np.testing.assert_array_equal(pixels, np.asarray(original))

    def test_shards_are_no_larger_than_they_may_be(self, pictures, task, tmp_path, monkeypatch):
        monkeypatch.setattr(room, "BYTES_A_SHARD", 1200)
        shards = export_webdataset(tmp_path / "wds", pictures, task)
        sizes = []
        for shard in shards:
            with tarfile.open(shard) as archive:
                sizes.append(sum(member.size for member in archive))
        assert len(shards) > 1 and max(sizes) <= 1200

    @pytest.mark.parametrize(("damage", "reason"), [(None, "cannot be exported: cannot be read"), (b"no picture", "cannot be exported")])
    def test_images_that_are_gone_or_damaged(self, pictures, task, tmp_path, damage, reason):
        path = Path(pictures["d.bmp"])
        path.unlink()
        if damage:
            path.write_bytes(damage)
        with pytest.raises(ExportError, match=f"d.bmp {reason}"):
            export_webdataset(tmp_path / "wds", pictures, task)
        assert not (tmp_path / "wds" / "test" / "nshards.txt").exists()


class TestFolders:
    @pytest.fixture
    def report(self, compared, pictures):
        images = {name: 30 * row for row, name in enumerate(pictures)}
        captions = {Caption(name, f"{name} {number}"): 10 * number for name in pictures for number in range(2)}
        models = [compared(images, captions, model=model) for model in ("ViT-B-32/openai", "builtin")]
        return SimpleNamespace(evaluations=models, paths=pictures)

    @pytest.mark.parametrize("write", [
        lambda folder, one, pictures: export_trec(folder, one),
        lambda folder, one, pictures: export_csv(folder, one),
        lambda folder, one, pictures: export_webdataset(folder, pictures, one.task),
    ], ids=KINDS)
    def test_nothing_is_overwritten(self, report, pictures, tmp_path, write):
        target = tmp_path / "out"
        target.mkdir()
        write(target, report.evaluations[0], pictures)  # an empty folder is fine
        before = sorted(path.name for path in target.rglob("*"))
        with pytest.raises(ExportError, match=r"out already holds files.* Give another folder\."):
            write(target, report.evaluations[0], pictures)
        assert sorted(path.name for path in target.rglob("*")) == before
        (tmp_path / "file").write_text("")
        with pytest.raises(EvaluationError, match="file is a file"):
            write(tmp_path / "file", report.evaluations[0], pictures)

    def test_below_a_file(self, report, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ExportError, match="cannot be written"):
            export_csv(tmp_path / "file" / "csv", report.evaluations[0])

    def test_every_kind_of_several_models(self, report, tmp_path):
        out = tmp_path / "out"
        assert export(out, report, KINDS) == [out / "trec", out / "csv", out / "clip-benchmark"]
        assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == [
            "clip-benchmark/dataset_type.txt", "clip-benchmark/test/0.tar", "clip-benchmark/test/nshards.txt",
            *(f"csv/{model}/{direction}.csv" for model in ("ViT-B-32_openai", "builtin")
              for direction in ("image_to_text", "text_to_image")),
            *(f"trec/{model}/{direction}.{what}.txt" for model in ("ViT-B-32_openai", "builtin")
              for direction in ("image_to_text", "text_to_image") for what in ("qrels", "run")),
        ]

    def test_one_model_needs_no_folder_of_its_own(self, report, tmp_path):
        del report.evaluations[1]
        assert export(tmp_path, report, ["csv"]) == [tmp_path / "csv"]
        assert (tmp_path / "csv" / "text_to_image.csv").is_file()

    def test_languages_are_data_sets_of_their_own(self, compared, pictures, tmp_path):
        captions = {Caption("b.png", "a bee", language="en"): 0, Caption("b.png", "蜜蜂", language="zh"): 1}
        one = compared({"b.png": 0}, captions)
        export(tmp_path, SimpleNamespace(evaluations=[one], paths=pictures), ["clip-benchmark"])
        with tarfile.open(tmp_path / "clip-benchmark" / "zh" / "test" / "0.tar") as archive:
            assert archive.extractfile("s0000000.txt").read().decode() == "蜜蜂"
        assert (tmp_path / "clip-benchmark" / "en" / "dataset_type.txt").is_file()

    def test_captions_without_a_language_beside_others(self, compared, pictures, tmp_path):
        captions = {Caption("b.png", "a bee", language="en"): 0, Caption("b.png", "buzz"): 1}
        one = compared({"b.png": 0}, captions)
        export(tmp_path, SimpleNamespace(evaluations=[one], paths=pictures), ["clip-benchmark"])
        assert sorted(path.name for path in (tmp_path / "clip-benchmark").iterdir()) == ["en", "und"]

    def test_models_of_one_name_and_hidden_ones(self, compared, report, tmp_path):
        for models, folders in ((["my model", "my_model"], ["1_my_model", "2_my_model"]),
                                (["../tiny", "."], ["tiny", "model"])):
            report.evaluations = [compared({"b.png": 0}, {Caption("b.png", "a bee"): 0}, model=one) for one in models]
            export(tmp_path / folders[0], report, ["csv", "csv"])
            assert sorted(path.name for path in (tmp_path / folders[0] / "csv").iterdir()) == sorted(folders)

    def test_targets_can_be_checked_before(self, report, tmp_path):
        check_targets(tmp_path, KINDS)
        export(tmp_path, report, ["csv"])
        check_targets(tmp_path, ["trec", "clip-benchmark"])
        with pytest.raises(ExportError, match="csv already holds files"):
            check_targets(tmp_path, KINDS)
        with pytest.raises(ExportError, match="csv already holds files"):
            export(tmp_path, report, ["trec", "csv"])
        assert not (tmp_path / "trec").exists()
        (tmp_path / "file").write_text("")
        with pytest.raises(ExportError, match="out/trec cannot be written: .*file is a file. Give another folder."):
            check_targets(tmp_path / "file" / "out", ["trec"])

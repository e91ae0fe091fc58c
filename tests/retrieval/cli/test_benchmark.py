"""`retrieval benchmark` with real photos, real captions and small real models."""

import csv
import json
import math
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest

CAPTIONS = (
    ("chelsea.png", "a cat looking at you"), ("chelsea.png", "the face of a cat"),
    ("coffee.png", "a cup of coffee"), ("astronaut.png", "a woman in a space suit"),
    ("rocket.jpg", "a rocket at night"), ("flower.jpg", "an orange flower"),
)


@pytest.fixture
def captions(tmp_path):
    path = tmp_path / "captions.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *CAPTIONS])
    return path


def values(done):
    """(model, index, language, direction, metric) -> value, of the long table."""
    header, *rows = done.rows
    assert header == ["model", "index", "language", "direction", "metric", "value", "low", "high"]
    return {tuple(row[:5]): float(row[5]) for row in rows}


def test_a_collection_by_its_own_encoder(run, collection, captions, tiny_encoder):
    done = run("benchmark", collection, "--captions", captions, "--json")
    assert done.status == 0, done.err
    (result,) = done.objects
    (model,) = result["models"]
    assert (model["encoder"], model["images"], model["captions"]) == (tiny_encoder.name, 6, 6)
    assert model["problems"] == {"images without a caption": {"count": 1, "names": ["2019/beach/china.jpg"]}}
    texts, images = model["results"]
    assert (texts["queries"], texts["documents"], images["queries"], images["documents"]) == (6, 6, 5, 6)
    assert texts["metrics"]["R@10"] == [1.0, round(0.025 ** (1 / 5), 6), 1.0]  # six captions of five photos
    assert texts["metrics"]["precision@10"][0] == 0.1
    assert set(texts["metrics"]) == {
        f"{name}@{k}" for name in ("R", "recall", "precision", "F1", "nDCG") for k in (1, 5, 10)
    } | {"MRR", "mAP", "median_rank", "mean_rank"}
    assert result["rules"][0] == "6 images compete, 5 of them are queries; 6 captions."
    assert result["settings"]["ks"] == [1, 5, 10] and result["settings"]["versions"]["numpy"]


def test_piped_values_equal_the_json(run, collection, captions):
    (result,) = run("benchmark", collection, "--captions", captions, "--json").objects
    done = run("benchmark", collection, "--captions", captions)
    found = values(done)
    (model,) = result["models"]
    for one in model["results"]:
        for metric, (value, _, _) in one["metrics"].items():
            key = (model["model"], "", "", one["direction"], metric)
            assert found[key] == pytest.approx(value, rel=1e-4), key
    assert found[(model["model"], "", "", "both", "R-sum")] == pytest.approx(model["R-sum"][""][0], rel=1e-5)
    assert found[(model["model"], "Flat", "", "text_to_image", "ann_recall@6")] == 1.0
    assert "1 images without a caption: 2019/beach/china.jpg" in done.err
    assert "Ranks are exact" in done.err and "1,000 resamples, seed 0" in done.err


def test_the_model_of_the_environment_is_for_folders(run, collection, photo_folder, captions, tiny_model, monkeypatch):
    """A collection has an encoder already, and whoever asks did not name another."""
    monkeypatch.setenv("RETRIEVAL_MODEL", "builtin")
    assert run("benchmark", collection, "--captions", captions, "--json").status == 0
    monkeypatch.setenv("RETRIEVAL_MODEL", f"local-dir:{tiny_model}")
    (result,) = run("benchmark", photo_folder, "--captions", captions, "--json").objects
    assert result["models"][0]["encoder"] == f"local-dir:{tiny_model}"


def test_cutoffs_are_the_users(run, collection, captions):
    (result,) = run("benchmark", collection, "--captions", captions, "-k", "3,2", "--json").objects
    metrics = result["models"][0]["results"][0]["metrics"]
    assert [name for name in metrics if name.startswith("R@")] == ["R@2", "R@3"]
    for wrong, reason in (("0,1", "at least 1"), ("a", "whole numbers"), ("", "whole numbers"),
                          ("1,9999999999", "up to 2147483647")):
        done = run("benchmark", collection, "--captions", captions, "-k", wrong)
        assert done.status == 2 and reason in done.err


def test_a_folder_with_two_models_and_three_indexes(
    run, photo_folder, captions, tiny_model, other_model, tmp_path
):
    arguments = ("benchmark", photo_folder, "--captions", captions, "--model", tiny_model, "--model", other_model,
                 "--index", "Flat", "--index", "SQ8", "--index", "IVF2,Flat", "--json")
    done = run(*arguments)
    assert done.status == 0, done.err
    (result,) = done.objects
    assert [model["model"] for model in result["models"]] == [str(tiny_model), str(other_model)]
    first, second = (model["results"][0]["metrics"] for model in result["models"])
    difference = next(one for one in result["differences"]
                      if (one["direction"], one["metric"]) == ("text_to_image", "MRR"))
    assert (difference["model"], difference["reference"]) == (str(other_model), str(tiny_model))
    value, low, high = difference["difference"]
    assert value == pytest.approx(second["MRR"][0] - first["MRR"][0], abs=2e-6) and low <= value <= high
    settings = [(one["model"], one["index"], one["nprobe"]) for one in result["indexes"]]
    assert settings == [(str(model), *index) for model in (tiny_model, other_model)
                        for index in (("Flat", None), ("SQ8", None), ("IVF2,Flat", 1), ("IVF2,Flat", 2))]
    for one in result["indexes"]:
        for k in ("R@1", "R@5", "R@10"):
            exact, codes, found = (one[what][k][0] for what in ("exact", "codes", "found"))
            assert one["quantisation_loss"][k][0] == pytest.approx(exact - codes, abs=2e-6)
            assert one["search_loss"][k][0] == pytest.approx(codes - found, abs=2e-6)
    every_list = result["indexes"][3]
    assert every_list["ann_recall@6"] == 1.0 and every_list["found"] == every_list["exact"]
    again = run(*arguments).objects[0]
    assert [model["results"] for model in again["models"]] == [model["results"] for model in result["models"]]


def test_a_tar_of_images(run, photo_folder, captions, tiny_model, tmp_path):
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(photo_folder, arcname=".")
    options = ("--captions", captions, "--model", tiny_model, "--json")
    from_tar = run("benchmark", tmp_path / "photos.tar", *options)
    assert from_tar.status == 0, from_tar.err
    (packed,), (plain,) = from_tar.objects, run("benchmark", photo_folder, *options).objects
    assert packed["models"][0]["results"] == plain["models"][0]["results"]


def test_a_data_set_by_name(run, photo_folder, captions, tiny_model):
    captions.rename(photo_folder / "captions.csv")
    done = run("benchmark", "csv", "--root", photo_folder, "--model", tiny_model, "--json")
    assert done.status == 0, done.err
    assert done.objects[0]["subject"].startswith("csv")
    assert done.objects[0]["models"][0]["captions"] == 6


def test_graded_judgements(run, collection, captions, tmp_path):
    """Right answers from a file: the cat is also a little right for the coffee."""
    (tmp_path / "qrels.csv").write_text(
        "caption,image,grade\na cup of coffee,coffee.png,2\na cup of coffee,chelsea.png,1\n"
        "an orange flower,coffee.png,0\nan orange flower,flower.jpg,1\n"
    )
    (result,) = run("benchmark", collection, "--captions", captions, "--qrels", tmp_path / "qrels.csv", "--json").objects
    texts, images = result["models"][0]["results"]
    assert (texts["queries"], images["queries"]) == (2, 3)
    assert texts["metrics"]["recall@10"][0] == 1.0
    assert texts["metrics"]["precision@10"][0] == pytest.approx((2 + 1) / 2 / 10)
    (result,) = run(
        "benchmark", collection, "--captions", captions, "--extra-qrels", tmp_path / "qrels.csv", "--json").objects
    texts, images = result["models"][0]["results"]
    assert (texts["queries"], images["queries"]) == (6, 5)
    assert texts["metrics"]["precision@10"][0] == pytest.approx(7 / 6 / 10, abs=1e-6)


def test_languages_side_by_side(run, collection, tmp_path):
    path = tmp_path / "captions.tsv"
    path.write_text("image\tlanguage\tcaption\n" + "".join(
        f"{image}\t{language}\t{text} {language}\n" for image, text in CAPTIONS for language in ("en", "zh")))
    (result,) = run("benchmark", collection, "--captions", path, "--json").objects
    rows = [(one["language"], one["direction"], one["documents"]) for one in result["models"][0]["results"]]
    assert rows == [("en", "text_to_image", 6), ("en", "image_to_text", 6),
                    ("zh", "text_to_image", 6), ("zh", "image_to_text", 6)]
    (only,) = run("benchmark", collection, "--captions", path, "--language", "zh", "--json").objects
    assert only["models"][0]["results"] == result["models"][0]["results"][2:]
    unknown = run("benchmark", collection, "--captions", path, "--language", "fr")
    assert unknown.status == 1 and "'en', 'zh'" in unknown.err


def test_failures_and_report(run, collection, captions, tmp_path):
    done = run("benchmark", collection, "--captions", captions, "--failures", 2, "--html", tmp_path / "r.html", "--json")
    assert done.status == 0, done.err
    (failures,) = done.objects[0]["failures"].values()
    ranks = [one["rank"] for one in failures if one["direction"] == "text_to_image"]
    assert len(ranks) <= 2 and ranks == sorted(ranks, reverse=True) and min(ranks) > 1
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert all(one["text"] in page for one in failures if one["text"]) and "<script" not in page


@pytest.mark.parametrize("format", ["trec", "csv", "clip-benchmark"])
def test_exports(run, collection, captions, tmp_path, format):
    done = run("benchmark", collection, "--captions", captions, "--export", format, "-o", tmp_path / "out")
    assert done.status == 0, done.err
    assert any((tmp_path / "out").rglob("*.*")) and "Wrote " in done.err
    again = run("benchmark", collection, "--captions", captions, "--export", format, "-o", tmp_path / "out")
    assert again.status == 1 and str(tmp_path / "out") in again.err


def test_strict_names_what_does_not_fit(run, collection, captions):
    done = run("benchmark", collection, "--captions", captions, "--strict")
    assert done.status == 1 and done.out == ""
    assert "1 images without a caption (2019/beach/china.jpg)" in done.err


@pytest.mark.parametrize(("arguments", "status", "said"), [
    (["no-such-thing"], 1, "neither a collection, a folder"),
    (["", "--captions", "{captions}"], 1, "The target is empty"),
    (["no-such-thing", "--root", "{photos}", "--captions", "{captions}"], 1, "no data set 'no-such-thing'"),
    (["{collection}", "--captions", "{captions}", "--html", "{photos}"], 1, "is a folder. Name the file"),
    (["{collection}", "--captions", "{captions}", "--html", "{captions}/r.html"], 1, "captions.csv is a file"),
    (["{collection}", "--captions", "{captions}", "--export", "csv", "-o", "{captions}"], 1, "cannot be written"),
    (["flikr8k"], 1, "Did you mean the data set flickr8k"),
    (["flickr8k"], 1, "--root FOLDER"),
    (["{photos}"], 1, "--captions FILE"),
    (["{collection}", "--captions", "{captions}", "--model", "builtin"], 1, "give the folder of images"),
    (["{collection}", "--captions", "{captions}", "--index", "IVF0,Flat"], 1, "too few lists"),
    (["{collection}", "--captions", "{captions}", "--export", "trec"], 2, "needs --output"),
    (["{collection}", "--captions", "{captions}", "-o", "x"], 2, "--export"),
    (["flickr8k", "--root", "{photos}", "--captions", "{captions}"], 1, "captions of its own"),
    (["flickr8k", "--root", "{photos}"], 1, "Expected for flickr8k"),
    (["{collection}", "--captions", "{captions}", "--check-published"], 1, "coco"),
    (["{collection}", "--captions", "{captions}", "--rerank", ""], 1, "to rerank by is empty"),
    (["{collection}", "--captions", "{captions}", "--rerank", "ViT-B-23"], 1, "ViT-B-32"),
])
def test_bad_requests(run, collection, photo_folder, captions, arguments, status, said):
    names = {"photos": photo_folder, "collection": collection, "captions": captions}
    done = run("benchmark", *(argument.format(**names) for argument in arguments))
    assert done.status == status and done.out == "" and said in done.err, done.err
    assert "Traceback" not in done.err


def test_json_has_no_nan(run, collection, tmp_path):
    """One caption, one photo: everything is known or null, and JSON stays JSON."""
    path = tmp_path / "one.csv"
    path.write_text("image,caption\nchelsea.png,a cat\n")
    text = run("benchmark", collection, "--captions", path, "--json").out
    def refuse(name):
        raise AssertionError(name)
    (result,) = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert math.isfinite(result["models"][0]["results"][0]["metrics"]["MRR"][0])


@pytest.fixture
def karpathy(tmp_path, photo_folder):
    """Six photos laid out as Flickr30k, so that a published model could be checked against them."""
    root = tmp_path / "flickr30k"
    photo_folder.rename(root)
    images = [{"filename": image, "split": "test", "sentids": [at], "sentences": [{"raw": text, "sentid": at}]}
              for at, (image, text) in enumerate(CAPTIONS[1:])]
    (root / "dataset_flickr30k.json").write_text(json.dumps({"images": images, "dataset": "flickr30k"}))
    return root


def test_published_numbers_that_do_not_match(run, karpathy, tiny_model, tiny_encoder, monkeypatch):
    """The tiny model is not in the table, so it takes the place of one that is."""
    from retrieval.evaluate import published

    monkeypatch.setitem(published._table(), tiny_encoder.name, published._table()["ViT-B-32-quickgelu/openai"])
    monkeypatch.setattr(published, "_numbers_of", lambda model: published._table()[tiny_encoder.name])
    done = run("benchmark", "flickr30k", "--root", karpathy, "--model", tiny_model, "--check-published", "--json")
    assert done.status == 1, done.err
    assert done.objects[0]["settings"]["exact_preprocess"] is True  # as what is published was measured
    checks = done.objects[0]["published"]
    assert [(one["direction"], one["k"]) for one in checks] == [
        (direction, k) for direction in ("text_to_image", "image_to_text") for k in (1, 5, 10)]
    measured = {one["direction"]: one["metrics"] for one in done.objects[0]["models"][0]["results"]}
    for one in checks:
        assert one["measured"] == measured[one["direction"]][f"R@{one['k']}"][0]
        assert one["matches"] == (abs(one["measured"] - one["published"]) <= 0.00205)


def test_what_is_not_published_is_said_before_embedding(run, karpathy, tiny_model):
    done = run("benchmark", "flickr30k", "--root", karpathy, "--model", "builtin", "--check-published")
    assert done.status == 1 and "No numbers are published for the model 'builtin'" in done.err


def test_help_names_every_data_set_and_export(run):
    """Written out there, since help must not wait for the modules that know."""
    from retrieval.corpus.datasets import DATASETS
    from retrieval.evaluate.export import KINDS

    words = " ".join(run("benchmark", "--help").out.split())
    assert f"or, with --root, a data set: {', '.join(DATASETS)}." in words
    assert f"--export [{'|'.join(KINDS)}]" in words


@pytest.mark.parametrize(("options", "said"), [
    (["--model", "no-such-model"], "no model named 'no-such-model'"),
    (["--qrels", "no-such-file"], "no judgements file"),
    (["--extra-qrels", "{captions}"], "names no query"),
])
def test_mistakes_are_said_before_embedding(run, photo_folder, captions, tiny_model, tmp_path, monkeypatch, options, said):
    captions.write_text(captions.read_text() + "flower.jpg,\n")
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "cache"))
    options = [option.format(captions=captions) for option in options]
    done = run("benchmark", photo_folder, "--captions", captions, "--model", tiny_model, *options)
    assert done.status == 1 and said in done.err and not (tmp_path / "cache").exists()


def test_a_root_in_the_environment_leaves_ones_own_images_alone(run, photo_folder, captions, tiny_model, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_DATA", str(photo_folder))
    done = run("benchmark", photo_folder, "--captions", captions, "--model", tiny_model, "--json")
    assert done.status == 0 and done.objects[0]["subject"] == photo_folder.name


def test_files_are_written_though_nobody_reads_on(run, collection, captions, tmp_path, monkeypatch):
    from retrieval.cli import benchmark_tables

    def closed(report):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(benchmark_tables, "print_values", closed)
    run("benchmark", collection, "--captions", captions, "--html", tmp_path / "r.html",
        "--export", "csv", "--export", "csv", "-o", tmp_path / "out")
    assert (tmp_path / "r.html").exists() and (tmp_path / "out" / "csv" / "text_to_image.csv").exists()


def test_the_auto_threshold_is_measured_on_request(run, collection, captions):
    (plain,) = run("benchmark", collection, "--captions", captions, "--json").objects
    assert plain["auto_threshold"] == []
    (result,) = run("benchmark", collection, "--captions", captions, "--min-score", "auto", "--json").objects
    (found,) = result["auto_threshold"]
    assert (found["images"], found["queries"]) == (3, 6)
    table = values(run("benchmark", collection, "--captions", captions, "--min-score", "auto"))
    for name in ("precision", "recall", "rejected"):
        share = table[(found["model"], "", "", "text_to_image", f"auto threshold {name}")]
        assert math.isnan(share) if found[name][0] is None else share == pytest.approx(found[name][0], rel=1e-4)
    assert found["recall"][0] is not None


def test_a_second_look_is_measured_as_search_takes_it(run, collection, captions, other_model, tmp_path):
    """The ranks behind the shares are those of `search --rerank`, caption by caption."""
    page = tmp_path / "report.html"
    arguments = ("benchmark", collection, "--captions", captions, "-k", "1,2,3", "--rerank", other_model)
    done = run(*arguments, "--json", "--html", page)
    assert done.status == 0, done.err
    (result,) = done.objects
    (model,) = result["models"]
    (again,) = result["reranked"].values()
    name = f"local-dir:{other_model}"
    assert list(result["reranked"]) == [model["model"]] and (again["by"], again["depth"], again["unreadable"]) == (name, 6, 0)
    ranks = []
    for image, text in CAPTIONS:
        found = [hit["id"] for hit in run("search", collection, text, "--rerank", other_model, "--json").objects]
        ranks.append(1 + found.index(image))
    (scores,) = again["results"]
    for k in (1, 2, 3):
        assert scores["metrics"][f"R@{k}"][0] == pytest.approx(np.mean([rank <= k for rank in ranks]), abs=1e-6)
    assert scores["metrics"]["mean_rank"][0] == pytest.approx(np.mean(ranks), abs=1e-5)

    table = values(run(*arguments))
    plain = model["model"]
    for metric, (value, _, _) in scores["metrics"].items():
        assert table[(plain, "", "", "text_to_image reranked", metric)] == pytest.approx(value, rel=1e-4)
        if metric != "median_rank":
            before = table[(plain, "", "", "text_to_image", metric)]
            lift = table[(f"{plain}, reranked - {plain}", "", "", "text_to_image", metric)]
            assert lift == pytest.approx(value - before, abs=1e-4)
    assert table[(plain, "", "", "text_to_image reranked", "p50_ms")] > 0
    assert f"Searches of {plain} are reranked by {name}: the best 6 of each are looked at again" in done.err
    written = page.read_text()
    assert f"{plain}, reranked" in written and f"Difference to {plain}" in written


def test_the_lift_of_each_model_is_told_on_a_terminal(run, photo_folder, captions, tiny_model, other_model, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    page = tmp_path / "report.html"
    done = run("benchmark", photo_folder, "--captions", captions, "--model", tiny_model, "--model", other_model,
               "--rerank", other_model, "--html", page)
    assert done.status == 0, done.err
    names = [str(tiny_model), str(other_model)]
    said, written = "".join(done.out.split()), page.read_text()  # titles are wrapped anywhere
    assert f"Difference:{names[1]},rerankedless{names[1]},overthesamequeries" in said
    assert f"Differenceto{names[0]},overthesamequeries" in said  # of the other model, and of itself reranked
    assert f"Difference to {names[1]}" in written and f"{names[0]}, reranked" in written
    (result,) = run("benchmark", photo_folder, "--captions", captions, "--model", tiny_model, "--model", other_model,
                    "--rerank", other_model, "--json").objects
    unchanged = result["reranked"][names[1]]["results"][0]["metrics"]
    assert unchanged["mean_rank"][0] == result["models"][1]["results"][0]["metrics"]["mean_rank"][0]  # by itself


def test_a_cross_encoder_of_other_towers_is_refused_before_captions_are_embedded(
    run, collection, captions, tiny_encoder, tmp_path, monkeypatch,
):
    from retrieval.rank.cross_encoder import CrossEncoder, Shape, save_cross_encoder

    folder = tmp_path / "match"
    other = SimpleNamespace(fingerprint="of another")
    save_cross_encoder(folder, CrossEncoder(Shape(8, 8, 4, width=8)), other, "one", {})
    monkeypatch.setattr("retrieval.evaluate.benchmark.evaluate_task", None)
    done = run("benchmark", collection, "--captions", captions, "--rerank", folder)
    assert done.status == 1 and "reads the towers of an encoder with fingerprint of another" in done.err
    (folder / "match.safetensors").write_bytes(b"no weights")
    monkeypatch.setattr("retrieval.evaluate.benchmark._collections", None)
    done = run("benchmark", collection, "--captions", captions, "--rerank", folder)
    assert done.status == 1 and "is damaged" in done.err


def test_without_a_second_look_there_is_none(run, collection, captions):
    (result,) = run("benchmark", collection, "--captions", captions, "--json").objects
    assert result["reranked"] == {} and result["differences"] == []

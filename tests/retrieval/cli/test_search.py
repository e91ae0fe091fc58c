"""Composed queries, filters and batches from the command line."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from retrieval.catalog import Catalog
from retrieval.collection import Collection
from retrieval.images import open_image


@pytest.fixture(autouse=True)
def loaded(loaded_once):
    """Once for all tests here."""


def ids(done):
    return [hit["id"] for hit in done.objects]


def unit(vector):
    return vector / np.linalg.norm(vector)


def ranking(collection, vector, where=lambda id: True):
    """[(id, score)] by brute force over the stored vectors."""
    with Collection.open(collection) as opened:
        listed = opened.catalog.indexed()
        scores = opened.vectors.take(np.array([row for _, row in listed])) @ vector
    found = [(id, score) for (id, _), score in zip(listed, scores.tolist()) if where(id)]
    return sorted(found, key=lambda one: -one[1])


class TestComposed:
    def test_arguments_and_one_string_are_the_same_query(self, run, collection, photo_folder, tiny_encoder):
        rocket = photo_folder / "rocket.jpg"
        apart = run("search", collection, "red car", "+", rocket, "-", "truck", "--weight", "2", "--json")
        whole = run("search", collection, f"2:red car + {rocket} - truck", "--json")
        assert apart.status == whole.status == 0, apart.err + whole.err
        car, truck = tiny_encoder.encode_texts(["red car", "truck"])
        image = tiny_encoder.encode_images([open_image(rocket, at_least=tiny_encoder.input_size)[0]])[0]
        expected = ranking(collection, unit(2 * car + image - truck))
        assert ids(apart) == ids(whole) == [id for id, _ in expected]
        np.testing.assert_allclose([hit["score"] for hit in apart.objects], [one for _, one in expected], atol=2e-3)
        assert {hit["query"] for hit in apart.objects} == {f"red car + {rocket} - truck"}

    def test_stored_ids(self, run, collection):
        done = run("search", collection, "id:2019/beach/china.jpg", "-k", "1", "--json")
        assert ids(done) == ["2019/beach/china.jpg"] and done.objects[0]["score"] == pytest.approx(1, abs=1e-3)

    def test_fusion(self, run, collection, tiny_encoder):
        done = run("search", collection, "3:a cat + a rocket", "--fusion", "slerp", "--json")
        cat, rocket = tiny_encoder.encode_texts(["a cat", "a rocket"]).astype(float)
        angle = np.arccos(cat @ rocket)
        between = (np.sin(0.75 * angle) * cat + np.sin(0.25 * angle) * rocket) / np.sin(angle)
        np.testing.assert_allclose(
            [hit["score"] for hit in done.objects], [one for _, one in ranking(collection, between)], atol=2e-3
        )

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (['"cat'], "The quote at position 1 of the query is not closed"),
            (["a", "+"], "The query ends with +"),
            (["-", "a"], "Argument 1 is -"),
            (["id:coffee.jpeg"], "There is no image with the id coffee.jpeg"),
            (["id:caf\udce9.jpg"], "There is no image with the id caf\\udce9.jpg"),
            (["id:beach/china.jpg"], "Did you mean id:2019/beach/china.jpg?"),
            (["a - a"], "cancel each other out"),
            (["nan:a + b"], "no finite number"),
            (["a + b", "--weight", "nan"], "Weight 1 is nan"),
            (["a", "b", "--weight", "2"], "Weights are for the terms of one query"),
            (["a - b", "--fusion", "product"], "A product cannot subtract"),
            (["a", "+", "./no.jpg"], "There is no image file ./no.jpg"),
        ],
    )
    def test_refused_in_a_sentence(self, run, collection, arguments, said):
        done = run("search", collection, *arguments)
        assert (done.status, done.out) == (1, "")
        assert said in done.err and done.err.startswith("Error: ") and len(done.err.splitlines()) == 1

    def test_an_unreadable_image_among_terms(self, run, collection, tmp_path):
        (tmp_path / "bad.png").write_text("no image")
        done = run("search", collection, "a", "+", tmp_path / "bad.png")
        assert done.status == 1 and "bad.png: not an image" in done.err


class TestFilters:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (["--where", "path ~ 'BEACH'"], {"2019/beach/china.jpg"}),
            (["--where", "width > 500 and width < 641 and height < 500"],
             {"rocket.jpg", "2019/beach/china.jpg", "flower.jpg", "coffee.png"}),
            (["--in-folder", "2019"], {"2019/beach/china.jpg"}),
            (["--in-folder", "2019", "--where", "id = 'rocket.jpg'"], set()),
        ],
    )
    def test_only_what_passes_is_found(self, run, collection, photo_folder, monkeypatch, options, expected):
        monkeypatch.chdir(photo_folder)
        done = run("search", collection, "a cat", *options, "--json")
        assert done.status == 0, done.err
        assert set(ids(done)) == expected and len(done.objects) == len(expected)
        assert [hit["rank"] for hit in done.objects] == list(range(1, len(expected) + 1))

    def test_the_best_of_what_passes(self, run, collection, tiny_encoder):
        where = "not id in (chelsea.png, rocket.jpg)"
        done = run("search", collection, "a cat", "--where", where, "-k", "3", "--json")
        [cat] = tiny_encoder.encode_texts(["a cat"])
        expected = ranking(collection, cat, lambda id: id not in ("chelsea.png", "rocket.jpg"))
        assert ids(done) == [id for id, _ in expected][:3]

    def test_nothing_passes(self, run, collection):
        for more in ([], ["--json"]):
            done = run("search", collection, "a cat", "--where", "width > 100000", *more)
            assert done.status == 0 and done.err == f"No image of {collection} passes the filter.\n"
            assert done.out == ("" if more else "query\trank\tscore\tpath\n")

    def test_dates_cameras_and_places(self, run, photo_folder, tiny_model, tmp_path):
        for name, taken, camera, lat in (
            ("a.jpg", "2023:05:01 10:00:00", "Pixel 8", 48), ("b.jpg", "2024:06:30 23:59:00", "EOS", 51),
        ):
            exif = Image.Exif()
            exif[0x0110] = camera
            exif.get_ifd(0x8769)[0x9003] = taken
            exif.get_ifd(0x8825).update({1: "N", 2: (lat, 0, 0), 3: "E", 4: (2, 0, 0)})
            Image.new("RGB", (60, 40), "red" if name == "a.jpg" else "blue").save(photo_folder / name, exif=exif)
        path = tmp_path / "c.collection"
        assert run("index", photo_folder, "-o", path, "-m", tiny_model).status == 0
        for options, expected in (
            (["--after", "2024-06", "--before", "2024-07"], ["b.jpg"]), (["--before", "2024"], ["a.jpg"]),
            (["--camera", "pixel"], ["a.jpg"]), (["--near", "51,2.1,10"], ["b.jpg"]),
            (["--where", "taken = 2023-05 or camera = EOS"], ["a.jpg", "b.jpg"]),
        ):
            done = run("search", path, "a cat", *options, "--json")
            assert sorted(ids(done)) == expected, (options, done.err)

    def test_captions_of_images_that_pass(self, run, photo_folder, tiny_model, tmp_path):
        table = tmp_path / "captions.csv"
        said = {"rocket.jpg": "the same", "coffee.png": "the same", "chelsea.png": "a cat"}
        table.write_text("image,caption\n" + "".join(f"{name},{text}\n" for name, text in said.items()))
        path = tmp_path / "c.collection"
        run("index", table, "--images", photo_folder, "-o", path, "-m", tiny_model, "--with-captions")
        done = run("search", path, "a cat", "--in", "captions", "--where", "id != rocket.jpg", "--json")
        found = {(hit["id"], hit["caption"]) for hit in done.objects}
        assert found == {("coffee.png", "the same"), ("chelsea.png", "a cat")}

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--where", "foo = 1"], "at position 1: there is no field foo"),
            (["--where", "camera ~ 'x"], "The quote at position 10 of the filter is not closed"),
            (["--after", "2024-02-30"], "there is no date 2024-02-30"),
            (["--near", "1,2"], "is no place and distance"),
        ],
    )
    def test_refused_in_a_sentence(self, run, collection, options, said):
        done = run("search", collection, "a", *options)
        assert done.status == 1 and said in done.err and len(done.err.splitlines()) == 1


class TestBatches:
    def test_bytes_that_are_no_text_spoil_their_line_alone(self, run, collection):
        done = run("search", collection, "-", "-k", "1", "--json", stdin=b"a dog\n\xff\na cat\n")
        assert (done.status, done.err) == (0, "")
        assert [hit["query"] for hit in done.objects] == ["a dog", "\ufffd", "a cat"]

    def test_records_say_which_line_asked(self, run, collection):
        done = run("search", collection, "-", "-k", "2", "--json", stdin='a cat\n\n{"query": "a cat", "k": 1}\n')
        assert [(hit["query"], hit["line"], hit["rank"]) for hit in done.objects] == [
            ("a cat", 1, 1), ("a cat", 1, 2), ("a cat", 3, 1),
        ]
        assert all("line" not in hit for hit in run("search", collection, "a cat", "--json").objects)

    def test_files_and_stdin_answer_alike(self, run, collection, tmp_path):
        lines = 'a cat\n\n{"query": "a dog", "k": 1}\na cat - a dog\n'
        (tmp_path / "queries.txt").write_text(lines)
        from_file = run("search", collection, "--queries", tmp_path / "queries.txt", "-k", "2", "--json")
        from_stdin = run("search", collection, "-", "-k", "2", "--json", stdin=lines)
        assert from_file.status == 0, from_file.err
        assert from_file.out == from_stdin.out
        assert [hit["query"] for hit in from_file.objects] == ["a cat"] * 2 + ["a dog"] + ["a cat - a dog"] * 2
        assert run("search", collection, "-", "-k", "2", stdin=lines).rows[0] == ["query", "rank", "score", "path"]

    def test_what_cannot_be_asked_is_named_and_the_rest_answered(self, run, collection):
        done = run("search", collection, "-", "-k", "1", "--json", stdin='a cat\n"b\nid:nowhere\na dog\n')
        assert [hit["query"] for hit in done.objects] == ["a cat", "a dog"]
        first, second, last = done.err.splitlines()
        assert first.startswith("Line 2: The quote at position 1 of the query is not closed")
        assert second.startswith("Line 3: There is no image with the id nowhere")
        assert done.status == 1 and last == "Error: 2 of 4 queries could not be asked; they are named above."
        table = run("search", collection, "-", "-k", "1", stdin='a cat\n"b\na dog\n')
        assert [row[0] for row in table.rows] == ["query", "a cat", "a dog"] and table.status == 1

    @pytest.mark.parametrize(
        ("arguments", "status", "said"),
        [
            (["-", "--weight", "2"], 2, "in lines write 2:term"),
            (["a", "--queries", "{file}"], 2, "not both"),
            (["--queries", "{file}"], 1, "There are no queries in the file"),
            (["--queries", "no-such-file"], 1, "no-such-file: No such file"),
            (["-", "-k", "99"], 1, "k is 99"),
            ([], 2, "There is no query."),
        ],
    )
    def test_refused(self, run, collection, tmp_path, arguments, status, said):
        (tmp_path / "empty").write_text("\n")
        done = run("search", collection, *(one.format(file=tmp_path / "empty") for one in arguments), stdin="a\n")
        assert done.status == status and said in done.err and "Traceback" not in done.err


class TestRemembered:
    def test_what_was_asked_before_needs_no_torch(self, run, collection, photo_folder):
        arguments = [str(collection), "a cat + id:rocket.jpg", str(photo_folder / "coffee.png"), "--json"]
        first = run("search", *arguments)
        probe = (
            "import sys, runpy; sys.argv[0] = 'retrieval'\n"
            "try: runpy.run_module('retrieval', run_name='__main__')\n"
            "finally: print([one for one in ('torch', 'open_clip') if one in sys.modules], file=sys.stderr)"
        )
        again = subprocess.run(
            [sys.executable, "-c", probe, "search", *arguments], capture_output=True, text=True,
            env={**os.environ, "RETRIEVAL_PRECISION": "float32"},
        )
        assert again.stdout == first.out and len(first.objects) == 12
        assert again.stderr == "[]\n"

    def test_not_if_it_is_not_wanted(self, run, collection):
        run("search", collection, "a cat", "--no-cache")
        assert not (collection / "queries.sqlite").exists()
        run("search", collection, "a cat")
        assert (collection / "queries.sqlite").exists()

    def test_deleted_or_damaged_it_is_only_slower(self, run, collection):
        expected = run("search", collection, "a cat", "--json").out
        (collection / "queries.sqlite").write_bytes(b"rubbish" * 500)
        for _ in range(2):
            done = run("search", collection, "a cat", "--json")
            assert (done.status, done.out, done.err) == (0, expected, "")
        (collection / "queries.sqlite").unlink()
        assert run("search", collection, "a cat", "--json").out == expected

    def test_a_rebuild_forgets(self, run, collection, photo_folder, other_model):
        run("search", collection, "a cat")
        done = run("index", photo_folder, "-o", collection, "--rebuild", "-m", other_model)
        assert done.status == 0, done.err
        assert not (collection / "queries.sqlite").exists()

    def test_a_copy_takes_it_along(self, run, collection, tmp_path):
        run("search", collection, "a cat")
        copy = shutil.copytree(collection, tmp_path / "copy.collection")
        with Catalog.open(copy) as catalog:
            assert catalog.count("indexed") == 6
        assert json.loads(run("search", copy, "a cat", "-k", "1", "--json").out)["rank"] == 1

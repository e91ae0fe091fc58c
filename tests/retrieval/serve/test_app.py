"""What is answered over real HTTP, beside what `Collection.search` finds."""

import threading
import time
from base64 import b64encode
from pathlib import Path

import pytest

from retrieval.collection import Collection
from retrieval.encoders.openclip import OpenClipEncoder
from retrieval.manifest import Manifest
from retrieval.serve import app as room

TEXTS = [f"{what} {where}" for what in ("a cat", "a rocket", "a cup of coffee", "an astronaut", "coins")
         for where in ("at night", "on a table", "seen from above", "in black and white")]


@pytest.fixture(scope="module")
def collection(served_collection, builtin_encoder):
    with Collection.open(served_collection, encoder=builtin_encoder) as opened:
        yield opened


def assert_same(answered, expected):
    """Hits as JSON are those of `Collection.search`, up to float32 rounding of the score."""
    assert [{**hit, "score": 0} for hit in answered] == [{**hit.as_json(), "score": 0} for hit in expected]
    assert [hit["score"] for hit in answered] == pytest.approx([hit.score for hit in expected], abs=2e-6)


def assert_alike(answered, expected):
    """The same where hits have a relevance, which is rounded, too."""
    assert [{**hit, "relevance": 0} for hit in answered] == [
        {**hit.as_json(), "relevance": 0, "score": pytest.approx(hit.score, abs=2e-6)} for hit in expected]
    assert [hit.get("relevance") for hit in answered] == [
        hit.relevance and pytest.approx(hit.relevance, abs=1e-3) for hit in expected]


class TestSearch:
    def test_by_a_text(self, server, collection, served_photos):
        hits = server.search("a cat", k=3)
        assert_same(hits, collection.search("a cat", 3))
        assert (hits[0]["id"], hits[0]["path"]) == ("chelsea.png", str(served_photos / "chelsea.png"))
        assert list(hits[0]) == ["query", "rank", "score", "id", "path"]

    def test_by_several(self, server, collection):
        asked = ["a cat", "собака & 一只狗?", "  a cat "]
        assert_same(server.search(*asked, k=2), collection.search(asked, 2))

    def test_k_is_ten_unless_told(self, server, collection):
        assert_same(server.search("coffee"), collection.search("coffee"))
        assert len(server.search("coffee")) == 10

    def test_by_an_image(self, server, collection, served_photos):
        for name in ("rocket.jpg", "chelsea.png"):
            expected = collection.search(str(served_photos / name), 4)
            hits = server.search_by(served_photos / name, k=4)
            assert {hit["query"] for hit in hits} == {"(uploaded)"} and hits[0]["id"] == name
            assert_same([{**hit, "query": str(served_photos / name)} for hit in hits], expected)

    def test_by_a_filter(self, server, collection, served_photos):
        where = "id in (rocket.jpg, 'coffee.png') and width > 10"
        expected = collection.search("a cat", 10, where=where)
        assert {hit.id for hit in expected} == {"rocket.jpg", "coffee.png"}
        assert_same(server.search("a cat", k=10, where=where), expected)
        assert server.search("a cat", where="width > 1000000") == []
        assert server.ask("/search?q=a&where=foo+=+1")[0] == 400
        assert "there is no field foo" in server.ask("/search?q=a&where=foo+=+1")[1]["error"]

    def test_many_at_once_each_get_their_own_answer(self, server, collection, served_photos):
        expected = {text: collection.search(text, 1 + number % 4) for number, text in enumerate(TEXTS)}
        answered, start = {}, threading.Barrier(len(TEXTS) + 1)

        def ask(number, text):
            start.wait()
            answered[text] = [server.search(text, k=1 + number % 4) for _ in range(3)]

        def ask_by_image():
            start.wait()
            answered["image"] = [server.search_by(served_photos / "rocket.jpg", k=1) for _ in range(3)]

        threads = [threading.Thread(target=ask, args=one) for one in enumerate(TEXTS)]
        threads.append(threading.Thread(target=ask_by_image))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [hits[0]["id"] for hits in answered.pop("image")] == ["rocket.jpg"] * 3
        assert answered.keys() == expected.keys()
        for text, answers in answered.items():
            for hits in answers:
                assert_same(hits, expected[text])

    def test_a_text_is_never_a_file(self, server, collection, served_photos, tmp_path):
        """Neither one that is there nor one that is not can be told from any other words."""
        for text in (str(served_photos / "rocket.jpg"), str(tmp_path / "secret.jpg"), "sofa.jpg", "a\0b"):
            [hit] = server.search(text, k=1)
            assert hit["query"] == text and hit["score"] < 0.9


RED = "2:a red motorcycle + id:coffee.png - a person"


def terms(*weighted):
    return [{"weight": weight, **one} for weight, one in weighted]


RED_TERMS = terms((2, {"text": "a red motorcycle"}), (1, {"id": "coffee.png"}), (-1, {"text": "a person"}))


class TestSearchInJson:
    @pytest.mark.parametrize(("query", "same", "said"), [
        ({"text": "a cat"}, "a cat", {}),
        ({"text": "a cat"}, "a cat", {"k": 15, "calibrated": False}),
        ({"text": "cat"}, "cat", {"templates": "on"}),
        ({"text": "cat"}, "cat", {"templates": "off"}),
        ({"text": "cat"}, "cat", {"templates": "auto"}),
        ({"id": "rocket.jpg"}, "id:rocket.jpg", {"k": 5}),
        ({"terms": RED_TERMS, "shown": RED}, RED, {}),
        *(({"terms": terms((2, {"text": "a cat"}), (1, {"text": "a rocket"})), "shown": "2:a cat + a rocket"},
           "2:a cat + a rocket", {"fusion": fusion}) for fusion in ("sum", "product", "slerp")),
        ({"text": "a cat"}, "a cat", {"where": "width > 500 and height < 500"}),
        ({"text": "a cat"}, "a cat", {"where": "width > 1000000"}),
        ({"text": "a cat"}, "a cat", {"where": "width > 1000000", "min_score": "auto", "dedup": 0.9, "diverse": 0.5}),
        ({"text": "a cat"}, "a cat", {"in": "captions", "k": 12}),
        ({"id": "coffee.png"}, "id:coffee.png", {"in": "captions", "where": "id ~ coffee"}),
        ({"text": "a cat"}, "a cat", {"k": 15, "min_score": 0.1}),
        ({"text": "a cat"}, "a cat", {"min_score": "auto"}),
        ({"text": "a cat"}, "a cat", {"dedup": 0.8, "diverse": 0.2, "k": 6}),
        ({"text": "a cat"}, "a cat", {"diverse": 0}),
    ])
    def test_what_is_wanted_is_what_collection_search_finds(self, server, collection, query, same, said):
        within = {"within" if name == "in" else name: value for name, value in said.items()}
        [hits] = server.search_for(query, **said)
        assert_alike(hits, collection.search(same, **within))

    def test_each_of_these_ways_matters(self, server):
        """Or the test above would not notice one that is not heeded."""
        def order(query, **said):
            return [(hit["id"], hit["score"]) for hit in server.search_for(query, k=15, **said)[0]]

        cat, both = {"text": "cat"}, {"terms": terms((2, {"text": "a cat"}), (1, {"text": "a rocket"}))}
        plain = order(cat, templates="off")
        ways = [{"calibrated": False}, {"templates": "on"}, {"min_score": 0.1}, {"min_score": "auto"}, {"diverse": 0.2}]
        assert [way for way in ways if order(cat, **{"templates": "off", **way}) == plain] == []
        assert len({tuple(order(both, fusion=fusion)) for fusion in ("sum", "product", "slerp")}) == 3

    def test_images_alone_and_as_terms(self, server, collection, served_photos):
        cat, rocket = (str(served_photos / name) for name in ("chelsea.png", "rocket.jpg"))
        images = [{"image": b64encode(Path(one).read_bytes()).decode(), "shown": one} for one in (cat, rocket)]
        both = f"{cat} + 0.5:{rocket} - id:coffee.png"
        bare = [{"image": one["image"]} for one in images]
        mixed = terms((1, bare[0]), (0.5, bare[1]), (-1, {"id": "coffee.png"}))
        found = server.search_for(*images, {"terms": mixed, "shown": both}, {"text": "a cat"}, k=4)
        for hits, same in zip(found, (cat, rocket, both, "a cat"), strict=True):
            assert_alike(hits, collection.search(same, 4))
        [hits] = server.search_for(bare[0], k=1)
        assert (hits[0]["query"], hits[0]["id"]) == ("(uploaded)", "chelsea.png")

    def test_within_folders(self, server, collection, served_photos):
        [hits] = server.search_for({"text": "a cat"}, folders=[f"{served_photos}/"], k=2)
        assert_alike(hits, collection.search("a cat", 2))
        assert server.search_for({"text": "a cat"}, folders=[f"{served_photos}/2019/"]) == [[]]

    def test_each_query_has_an_answer_of_its_own(self, server, collection):
        """Two of the same words, and one without hits between two with."""
        texts = ["a cat", "tax law of 1871", "a rocket", "a cat"]
        best = [hit.score for hit in collection.search(texts, 1)]
        least = (best[1] + min(best[0], best[2])) / 2
        assert best[1] < least
        status, content = server.ask_json({"queries": [{"text": text} for text in texts], "k": 2, "min_score": least})
        answers = content["answers"]
        assert status == 200 and [answer["query"] for answer in answers] == texts
        assert answers[1]["hits"] == [] and answers[0] == answers[3] != answers[2]
        for text, answer in zip(texts, answers):
            assert_alike(answer["hits"], collection.search(text, 2, min_score=least))

    @pytest.mark.parametrize(("said", "sentence"), [
        ({"queries": [{"id": "no.jpg"}]}, "There is no image with the id no.jpg in "),
        ({"queries": [{"terms": terms((1, {"text": "a"}), (-1, {"text": "a"}))}]},
         "1:a + -1:a: The terms of the query cancel each other out. Give them other weights."),
        ({"queries": [{"terms": terms((-1, {"text": "a"}))}], "fusion": "product"}, "-1:a: A product cannot subtract."),
        ({"queries": [{"id": "coffee.png"}], "min_score": "auto"}, "id:coffee.png is not of words alone"),
        ({"queries": [{"text": "a"}], "in": "texts"}, "There is nothing called 'texts' to search in"),
        ({"queries": [{"text": "a"}], "in": "captions", "dedup": 0.9}, "Captions are not reranked"),
        ({"queries": [{"text": "a"}], "k": 0}, "k is 0; ask for at least 1 result."),
        ({"queries": [{"text": "a"}], "k": 900}, "k is 900, but "),
        ({"queries": [{"image": "YSBkb2c="}]}, "The query image (uploaded): not an image in a format that can be read."),
        ({"queries": [{"terms": terms((1, {"image": ""}))}]}, "The query image (uploaded): the file is empty."),
        ({"queries": [{"text": "a"}], "file": "/etc/passwd"}, "There is nothing called 'file' to a search; use "),
    ])
    def test_what_was_asked_wrongly(self, server, said, sentence):
        status, content = server.ask_json(said)
        assert status == 400 and content["error"].startswith(sentence)

    def test_a_text_is_never_a_file(self, server, served_photos, tmp_path):
        for text in (str(served_photos / "rocket.jpg"), str(tmp_path / "secret.jpg"), "id:no.jpg", "a - a", "a\0b"):
            [[hit]] = server.search_for({"text": text}, k=1)
            assert hit["query"] == text and hit["score"] < 0.9

    def test_all_of_it_stands_in_the_body(self, server):
        asked = server.ask("/search?k=3", "POST", '{"queries": [{"text": "a"}]}', Content_Type="application/json")
        assert asked == (400, {"error": "Of a search in JSON everything stands in the body, and nothing behind /search."})
        asked = server.ask("/search", "POST", '{"queries"', Content_Type="Application/JSON; charset=utf-8")
        assert asked[0] == 400 and asked[1]["error"].startswith("The body is no JSON: ")

    def test_too_much_to_hold_in_memory(self, server, served_photos, monkeypatch):
        monkeypatch.setenv("RETRIEVAL_MAX_MEGAPIXELS", "0.5")
        image = {"image": b64encode((served_photos / "chelsea.png").read_bytes()).decode()}  # 0.135 megapixels
        assert len(server.search_for(*[image] * 3, k=1)) == 3
        status, content = server.ask_json({"queries": [{"terms": [image] * 2}, image, image]})
        assert status == 400 and content["error"].endswith("more than 0.5 megapixels together; send fewer.")
        asked = server.ask("/search", "POST", Content_Type="application/json", Content_Length=str(room.MAX_BODY + 1))
        assert asked == (413, {"error": "The body is too large; send a search of at most 32 MiB."})


class TestInfo:
    def test_what_is_searched(self, server, served_collection, sample_photos):
        manifest = Manifest.load(served_collection)
        assert server.ask("/info") == (200, {
            "collection": str(served_collection), "images": len(sample_photos), "encoder": "builtin", "index": "Flat",
            "fingerprint": manifest.encoder.fingerprint, "created_at": manifest.created_at,
            "generation": manifest.index.generation,
        })

    def test_health(self, server):
        assert server.ask("/health") == (200, {"status": "ok"})


class TestRefusals:
    @pytest.mark.parametrize(("target", "status", "sentence"), [
        ("/search", 400, "There is no query. Say what to look for: /search?q=a+dog&q=a+cat&k=10"),
        ("/search?q=", 400, "The query is empty. Say what to look for, or give an image file."),
        ("/search?q=a&q=+", 400, "The query is empty. Say what to look for, or give an image file."),
        ("/search?q=a&k=ten", 400, "k is 'ten'; it has to be a whole number."),
        ("/search?q=a&k=0", 400, "k is 0; ask for at least 1 result."),
        ("/search?q=a&k=1001", 400, "k is 1001; this server gives at most 1000 results a query."),
        ("/search?" + "&".join(["q=a"] * 65), 400, "These are 65 queries; ask at most 64 at once."),
        ("/", 404, "There is nothing of that name; there are /search, /info and /health."),
        ("/info/", 404, "There is nothing of that name; there are /search, /info and /health."),
        ("/../../../etc/passwd", 404, "There is nothing of that name; there are /search, /info and /health."),
    ])
    def test_what_was_asked_wrongly(self, server, target, status, sentence):
        assert server.ask(target) == (status, {"error": sentence})

    def test_more_results_than_images(self, server, served_collection, sample_photos):
        n = len(sample_photos)
        assert server.ask(f"/search?q=a&k={n + 1}") == (400, {
            "error": f"k is {n + 1}, but {served_collection} holds {n} images; ask for at most {n}.",
        })

    def test_another_method(self, server):
        assert server.ask("/info", "POST", b"") == (405, {"error": "POST is not answered here."})

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
    def test_a_body_that_is_not_said_to_be_an_image(self, server, kind):
        status, content = server.ask("/search", "POST", b"a dog", Content_Type=kind)
        assert status == 415 and content["error"].startswith("Send an image as the body")

    @pytest.mark.parametrize(("body", "reason"), [
        (b"Dear Sir or Madam", "not an image in a format that can be read"), (b"", "the file is empty"),
    ])
    def test_an_image_that_cannot_be_read(self, server, body, reason):
        asked = server.ask("/search", "POST", body, Content_Type="image/jpeg")
        assert asked == (400, {"error": f"The query image (uploaded): {reason}."})

    def test_a_body_too_large_is_refused_by_its_header(self, server):
        asked = server.ask("/search", "POST", Content_Type="image/jpeg", Content_Length=str(room.MAX_BODY + 1))
        assert asked == (413, {"error": "The body is too large; send an image of at most 32 MiB."})

    def test_and_without_one_by_what_came(self, server, monkeypatch):
        monkeypatch.setattr(room, "MAX_BODY", 1000)
        asked = server.ask("/search", "POST", iter([b"x" * 600] * 2), Content_Type="image/jpeg")
        assert asked[0] == 413

    def test_somebody_who_goes_away_disturbs_nobody(self, server, capfd):
        connection = server.connect()
        connection.request("POST", "/search", b"half", {"Content-Type": "image/jpeg", "Content-Length": "1000"})
        connection.close()
        assert len(server.search("a cat", k=1)) == 1
        assert capfd.readouterr().err == ""

    @pytest.mark.parametrize("error", [RuntimeError("secret"), None])
    def test_a_failure_of_ours_is_told_in_the_log_alone(self, server, monkeypatch, error, caplog):
        from retrieval.errors import EncoderError

        def fail(*_):
            raise error or EncoderError("secret")

        with monkeypatch.context() as patch:
            patch.setattr(OpenClipEncoder, "encode_texts", fail)
            asked = server.ask("/search?q=a")
        assert asked == (500, {"error": "The search failed; the server's log says why."})
        while "secret" not in caplog.text:  # a traceback is written after the answer
            time.sleep(0.01)
        assert len(server.search("a cat", k=1)) == 1

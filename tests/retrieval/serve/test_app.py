"""What is answered over real HTTP, beside what `Collection.search` finds."""

import threading
import time

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

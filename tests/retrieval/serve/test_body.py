"""What a client writes and a server reads: the same queries, and the same of them wanted."""

import json
from base64 import b64encode

import pytest

from retrieval.errors import QueryError
from retrieval.query import Query, parse
from retrieval.serve import body as room
from retrieval.serve.body import UPLOADED, bodies, read
from retrieval.wanted import AUTO, Refinement, Wanted
from retrieval.where import Filters


def there_and_back(queries, wanted=Wanted(), filters=Filters()):
    """[(queries, wanted)] of each body."""
    return [read(body) for body in bodies(queries, wanted, filters)]


def reading(**said):
    return read(json.dumps({"queries": [{"text": "a dog"}], **said}).encode())


class TestWhatAClientWrites:
    def test_queries_of_each_kind(self, tmp_path):
        sofa = tmp_path / "sofa.jpg"
        sofa.write_bytes(b"of a sofa")
        image = Query(str(sofa), b"of a sofa")
        assert there_and_back([
            parse("a dog"), parse("id:2019/rex.jpg"), parse(str(sofa)), parse('"salt - pepper"'),
            parse(f'2:red car + {sofa} - id:a.jpg + 0.5:"x - y"'), parse("-1:a + b", [3]),
        ]) == [([
            Query("a dog"), Query("id:2019/rex.jpg", document="2019/rex.jpg"), image, Query("salt - pepper"),
            Query(f'2:red car + {sofa} - id:a.jpg + 0.5:"x - y"', terms=(
                (2.0, Query("red car")), (1.0, Query(UPLOADED, b"of a sofa")),
                (-1.0, Query("id:a.jpg", document="a.jpg")), (0.5, Query("x - y")))),
            Query("-1:a + b", terms=((-3.0, Query("a")), (1.0, Query("b")))),
        ], Wanted())]

    @pytest.mark.parametrize(("wanted", "filters"), [
        (Wanted(3, "captions", None, "slerp", "on", False), Filters()),
        (Wanted(100, refinement=Refinement(AUTO, 0.8, 0)), Filters()),
        (Wanted(refinement=Refinement(-1, diverse=1.0)), Filters()),
        (None, Filters("width > 100 or id = 'it''s'")),
        (None, Filters(near="48.858,2.294,5")),
        (None, Filters(near=[48.858, 2.294, 5])),
        (None, Filters("lat = none", after="2024-06", before="2025", camera="50%", folders=("/a b/", "/ü.zip#"))),
    ])
    def test_all_that_may_be_wanted(self, wanted, filters):
        wanted = wanted or Wanted(where=filters.condition())
        assert there_and_back([Query("a")], wanted, filters) == [([Query("a")], wanted)]

    def test_a_condition_is_never_sent(self):
        filters = Filters("width > 100", near="48,2,5")
        [body] = bodies([Query("a")], Wanted(2, where=filters.condition()), filters)
        assert json.loads(body) == {
            "queries": [{"text": "a"}], "k": 2, "in": "images", "where": "width > 100", "near": "48,2,5",
            "fusion": "sum", "templates": "auto", "calibrated": True,
        }

    def test_what_it_cannot_tell_in_full(self, tmp_path):
        width = Filters("width > 100")
        for queries, wanted, filters in (
            ([Query("a")], Wanted(where=width.condition()), Filters()),
            ([Query("a")], Wanted(), width),
            ([Query("a")], Wanted(refinement=Refinement(rerank=object())), Filters()),
            ([Query("a", image=object())], Wanted(), Filters()),
            ([Query("a", terms=((1, Query("b")),), fusion="sum")], Wanted(), Filters()),
        ):
            with pytest.raises(ValueError):
                list(bodies(queries, wanted, filters))
        with pytest.raises(OSError):
            list(bodies([Query("a", tmp_path / "gone.jpg")], Wanted()))

    def test_no_more_at_once_than_a_server_takes(self):
        texts = [Query(f"{number} coins") for number in range(130)]
        pictures = [Query(str(number), bytes([number])) for number in range(17)]
        composed = [Query(str(number), terms=((1.0, Query("a")),) * 100) for number in range(3)]
        for queries, sizes in ((texts, [64, 64, 2]), (pictures, [16, 1]), (composed, [2, 1])):
            read_again = there_and_back(queries)
            assert [len(some) for some, _ in read_again] == sizes
            assert [query for some, _ in read_again for query in some] == queries
        large = [Query("large", bytes(15 * 2**20))] * 2  # 20 MiB in base64
        assert [len(body) <= room.MAX_BODY for body in bodies(large, Wanted())] == [True, True]
        assert list(bodies([], Wanted())) == []


class TestWhatAServerReads:
    def test_the_least(self):
        assert reading() == ([Query("a dog")], Wanted())
        assert reading(queries=[{"text": "  a dog "}] * 2) == ([Query("a dog")] * 2, Wanted())

    def test_queries_that_say_no_name(self):
        image = b64encode(b"an image").decode()
        [by_image, composed], _ = reading(queries=[
            {"image": image}, {"terms": [{"text": "a"}, {"id": "b.jpg", "weight": -0.5}, {"image": image, "weight": 2}]},
        ])
        assert by_image == Query("(uploaded)", b"an image")
        assert composed.shown == "1:a + -0.5:id:b.jpg + 2:(uploaded)"
        assert [weight for weight, _ in composed.terms] == [1, -0.5, 2]

    def test_a_text_is_never_a_file_nor_grammar(self, tmp_path):
        file = tmp_path / "sofa.jpg"
        file.write_bytes(b"an image")
        texts = [str(file), "a - b", "id:sofa.jpg", "no.jpg"]
        assert reading(queries=[{"text": text} for text in texts])[0] == [Query(text) for text in texts]

    @pytest.mark.parametrize(("said", "sentence"), [
        ({"foo": 1}, "There is nothing called 'foo' to a search; use queries, k, in, where, near, after, before, camera, "
                     "folders, fusion, templates, calibrated, min_score, dedup, diverse."),
        ({"queries": []}, "queries is []; it has to be a list that is not empty."),
        ({"queries": "a dog"}, "queries is 'a dog'; it has to be a list that is not empty."),
        ({"queries": ["a dog"]}, "queries[0] is 'a dog'; it has to be an object."),
        ({"queries": [{"text": "a"}, {}]}, "queries[1] needs one of text, id, image, terms, and has none."),
        ({"queries": [{"text": "a", "id": "b"}]}, "queries[0] needs one of text, id, image, terms, and has text and id."),
        ({"queries": [{"path": "/etc/passwd"}]},
         "There is nothing called 'path' to queries[0]; use text, id, image, terms, shown."),
        ({"queries": [{"text": " "}]}, "The query is empty. Say what to look for, or give an image file."),
        ({"queries": [{"text": None}]},
         "queries[0].text is None; it has to be a text of at most 8192 characters of Unicode."),
        ({"queries": [{"id": "\ud800"}]},
         "queries[0].id is '\\ud800'; it has to be a text of at most 8192 characters of Unicode."),
        ({"queries": [{"text": "a", "shown": "b"}]}, "queries[0] is a text, which is shown as it is; leave out shown."),
        ({"queries": [{"image": "a dog"}]}, "queries[0].image is no base64: "),
        ({"queries": [{"image": "ü"}]}, "queries[0].image is no base64: "),
        ({"queries": [{"image": 1}]}, "queries[0].image is 1; it has to be a text in base64."),
        ({"queries": [{"terms": []}]}, "queries[0].terms is []; it has to be a list that is not empty."),
        ({"queries": [{"terms": [{"terms": [{"text": "a"}]}]}]},
         "There is nothing called 'terms' to queries[0].terms[0]; use text, id, image, weight."),
        ({"queries": [{"terms": [{"text": "a"}, {"weight": 2}]}]},
         "queries[0].terms[1] needs one of text, id, image, and has none."),
        ({"queries": [{"terms": [{"text": "a", "weight": "2"}]}]},
         "queries[0].terms[0].weight is '2'; it has to be a number."),
        ({"queries": [{"terms": [{"text": "a", "weight": float("nan")}]}]},
         "queries[0].terms[0].weight is nan; it has to be a number."),
        ({"queries": [{"terms": [{"text": "a", "weight": float("inf")}]}]},
         "queries[0].terms[0].weight is inf; it has to be a number."),
        ({"queries": [{"terms": [{"text": "a", "weight": 10**400}]}]}, "queries[0].terms[0].weight is 1000"),
        ({"queries": [{"text": "a"}] * 65}, "These are 65 queries; ask at most 64 at once."),
        ({"queries": [{"terms": [{"text": "a"}] * 257}]}, "These are 257 terms in all; ask at most 256 at once."),
        ({"queries": [{"image": ""}] * 17}, "These are 17 images; ask at most 16 at once."),
        ({"k": "10"}, "k is '10'; it has to be a whole number."),
        ({"k": 1.5}, "k is 1.5; it has to be a whole number."),
        ({"k": True}, "k is True; it has to be a whole number."),
        ({"k": 1001}, "k is 1001; this server gives at most 1000 results a query."),
        ({"k": 101, "dedup": 0.9}, "k is 101; this server gives at most 100 results a query with dedup or diverse."),
        ({"k": 101, "diverse": 0.9}, "k is 101; this server gives at most 100 results a query with dedup or diverse."),
        ({"in": ["images"]}, "in is ['images']; it has to be a text of at most 8192 characters of Unicode."),
        ({"where": {"sql": "1"}}, "where is {'sql': '1'}; it has to be a text of at most 8192 characters of Unicode."),
        ({"where": "width > 1" + " " * 8192}, "where is 'width > 1 "),
        ({"where": "foo = 1"}, "The filter cannot be understood at position 1: there is no field foo; the fields are id"),
        ({"near": [48, 2]}, "near is [48, 2]; it has to be latitude, longitude and kilometres."),
        ({"near": [48, 2, True]}, "near is [48, 2, True]; it has to be latitude, longitude and kilometres."),
        ({"near": [48, 2, -1]}, "The place cannot be searched: the distance -1 km has to be positive."),
        ({"near": "here"}, "'here' is no place and distance; write latitude,longitude,kilometres: 48.858,2.294,5"),
        ({"after": "soon"}, "The date of after cannot be used: 'soon' is no date"),
        ({"camera": 8}, "camera is 8; it has to be a text of at most 8192 characters of Unicode."),
        ({"folders": ["/photos"]}, "folders is ['/photos']; it has to be a list of 1 to 100 texts, each ending in / or #."),
        ({"folders": [""]}, "folders is ['']; it has to be a list of 1 to 100 texts, each ending in / or #."),
        ({"folders": "/photos/"}, "folders is '/photos/'; it has to be a list of 1 to 100 texts, each ending in / or #."),
        ({"folders": ["/"] * 101}, "folders is ['/', "),
        ({"fusion": "mean"}, "fusion is 'mean'; choose one of sum, product, slerp."),
        ({"templates": "ON"}, "templates is 'ON'; choose one of on, off, auto."),
        ({"calibrated": 0}, "calibrated is 0; it has to be true or false."),
        ({"min_score": "high"}, "min_score is 'high'; it has to be a number or auto."),
        ({"min_score": 2}, "min_score is 2; give a number from -1 to 1 or auto."),
        ({"dedup": True}, "dedup is True; it has to be a number."),
        ({"dedup": 1.1}, "dedup is 1.1; give a number from 0 to 1."),
        ({"dedup": 0.5}, "dedup is 0.5; this server takes 0.8 and more."),
        ({"diverse": "auto"}, "diverse is 'auto'; it has to be a number."),
        ({"rerank": "ViT-B-32"}, "There is nothing called 'rerank' to a search; use queries, "),
    ])
    def test_what_is_wrong_in_a_sentence(self, said, sentence):
        with pytest.raises(QueryError) as caught:
            reading(**said)
        told = str(caught.value)
        assert told == sentence if sentence.endswith(".") else told.startswith(sentence) and len(told) < 300

    @pytest.mark.parametrize(("content", "sentence"), [
        (b"", "The body is no JSON: Expecting value: line 1 column 1 (char 0)."),
        (b"a dog", "The body is no JSON: Expecting value: line 1 column 1 (char 0)."),
        (b'{"queries": ', "The body is no JSON: Expecting value"),
        (b"\xff\xfe\xff", "The body is no JSON: "),
        (b"[" * 90_000, "The body is no JSON: "),
        (b"[" + b"[]," * 60_000, "The body holds too many values; 100000 are read."),
        (b"[]", "The body is []; it has to be an object."),
        (b"null", "The body is None; it has to be an object."),
        (b'{"k": 3}', 'There are no queries. Say what to look for: {"queries": [{"text": "a dog"}], "k": 10}'),
    ])
    def test_bodies_that_are_none(self, content, sentence):
        with pytest.raises(QueryError) as caught:
            read(content)
        assert str(caught.value).startswith(sentence)

"""Filters over a real catalogue; which of its images pass is worked out by hand."""

import os
import time

import pytest

from retrieval.catalog import Catalog
from retrieval.documents import Document, FileState
from retrieval.errors import QueryError
from retrieval.images import ImageFacts
from retrieval.where import Filters, every, near, parse

PARIS, LONDON, FIJI, POLE = (48.8584, 2.2945), (51.5007, -0.1246), (-17.0, 179.9), (89.9, 0.0)
# id: size, local time of the file, width, height, taken, camera, place, captions
IMAGES = {
    "2019/beach.jpg": (
        2_000_000, "2019-07-01 10:00", 4000, 3000, "2019-06-30T23:59:59", "Google Pixel 4", FIJI, ["Sea at dusk"],
    ),
    "2024/Tower.jpg": (
        10_000_000, "2024-06-02 10:00", 800, 600, "2024-06-01T12:30:00", "Google pixel 8", PARIS, ["A tower", "Iron"],
    ),
    "2024/bridge.jpg": (10_000_001, "2024-07-02 10:00", 1000, 600, "2024-07-01T00:00:00", "Canon EOS", LONDON, []),
    "drawing_100%.png": (500, "2020-01-01 10:00", 1001, 20, None, None, (None, None), ["Größe"]),
    "pole.jpg": (501, "2020-01-01 10:00", 10, 20, "2025-01-01T00:00:00", "Ни́кон", POLE, []),
}
FAILED = "broken.jpg"
ALL = set(IMAGES)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("where")
    with Catalog.create(folder) as catalog:
        catalog.commit([
            Document(
                FileState(f"/photos/{id}", size, int(time.mktime(time.strptime(modified, "%Y-%m-%d %H:%M"))) * 10**9),
                id, id, ImageFacts(width, height, taken, camera, *place), captions=tuple(captions),
            )
            for id, (size, modified, width, height, taken, camera, place, captions) in IMAGES.items()
        ] + [Document(FileState(f"/photos/{FAILED}", 5, 0), FAILED, error="no image")], range(len(IMAGES)))
    with Catalog.open(folder) as catalog:
        yield catalog


def passing(catalog, condition):
    ids = list(IMAGES)
    return {ids[row] for row in catalog.rows_where(condition).tolist()}


BEACH, TOWER, BRIDGE, DRAWING, NORTH = IMAGES


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        # numbers and sizes
        ("width > 1000", {BEACH, DRAWING}),
        ("width >= 1000 and height != 600", {BEACH, DRAWING}),
        ("width = 1e3", {BRIDGE}),
        ("width in (10, '800', 801)", {TOWER, NORTH}),
        ("width not in (10, 800)", {BEACH, BRIDGE, DRAWING}),
        ("size > 10MB", {BRIDGE}),
        ("size >= 10000kB", {TOWER, BRIDGE}),
        ("size <= 0.5k", {DRAWING}),
        ("size < 1.91MiB", {BEACH, DRAWING, NORTH}),
        # texts
        ("camera ~ 'pixel'", {BEACH, TOWER}),
        ("camera !~ pixel", {BRIDGE, DRAWING, NORTH}),
        ("not camera ~ pixel", {BRIDGE, DRAWING, NORTH}),
        ("camera = 'Google Pixel 4'", {BEACH}),
        ("camera = 'google pixel 4'", set()),
        ("camera != 'Canon EOS'", ALL - {BRIDGE}),
        ("camera ~ 'ни́КОН'", {NORTH}),
        ("camera = none", {DRAWING}),
        ("camera != none", ALL - {DRAWING}),
        ("camera = 'none'", set()),
        ("path ~ '/2024/'", {TOWER, BRIDGE}),
        ("path ~ '100%'", {DRAWING}),
        ("path ~ '%'", {DRAWING}),
        ("path ~ g_1", {DRAWING}),
        ("path ~ 'e_b'", set()),
        ("id = 2019/beach.jpg", {BEACH}),
        ("id = \"it's\" or id = 'it''s'", set()),
        # dates
        ("taken = 2024", {TOWER, BRIDGE}),
        ("taken > 2024-06", {BRIDGE, NORTH}),
        ("taken >= 2024-06 and taken <= 2024-06", {TOWER}),
        ("taken < 2024-07-01", {BEACH, TOWER}),
        ("taken <= 2024-07-01", {BEACH, TOWER, BRIDGE}),
        ("taken = '2024-06-01 12:30'", {TOWER}),
        ("taken > 2024-06-01T12:30", {BRIDGE, NORTH}),
        ("taken != 2024", {BEACH, DRAWING, NORTH}),
        ("taken in (2019, 2025-01)", {BEACH, NORTH}),
        ("taken = none", {DRAWING}),
        ("taken < 9999", ALL - {DRAWING}),
        ("modified = 2024-06-02", {TOWER}),
        ("modified > 2024-06", {BRIDGE}),
        ("modified <= 9999 and modified > 0001", ALL),
        # places, and what is known of them
        ("lat < 0", {BEACH}),
        ("lat = none and lon = none", {DRAWING}),
        ("not (lat > 0)", {BEACH, DRAWING}),
        # captions
        ("caption ~ 'TOWER'", {TOWER}),
        ("caption = 'Iron'", {TOWER}),
        ("caption ~ 'GRÖSSE'", {DRAWING}),
        ("caption = none", {BRIDGE, NORTH}),
        ("caption !~ e", {BRIDGE, NORTH}),
        # and, or, not
        ("width = 10 or width = 800 and height = 20", {NORTH}),
        ("(width = 10 or width = 800) and height = 600", {TOWER}),
        ("not width = 10 and not not width = 800", {TOWER}),
        ("NOT (width = 10 OR width = 800)", {BEACH, BRIDGE, DRAWING}),
        ("  ( ( width==10 ) )  ", {NORTH}),
    ],
)
def test_what_passes(catalog, where, expected):
    assert passing(catalog, parse(where)) == expected


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ((*PARIS, 1), {TOWER}),
        ((*PARIS, 339), {TOWER}),  # London is 340.6 km away
        ((*PARIS, 342), {TOWER, BRIDGE}),
        ((-17.0, -179.9, 22), {BEACH}),  # 21.3 km across the date line
        ((-17.0, -179.9, 21), set()),
        ((89.9, 180, 23), {NORTH}),  # 22.2 km across the pole
        ((89.9, 180, 22), set()),
        ((0, 0, 20_020), ALL - {DRAWING}),  # the whole Earth; nothing is nowhere
    ],
)
def test_near(catalog, place, expected):
    assert passing(catalog, near(*place)) == expected


def test_all_options_together(catalog):
    together = every("width < 2000", near_to="48.85,2.29,500", after="2024-06", before="2024-07")
    assert passing(catalog, together) == {TOWER}
    assert passing(catalog, every(camera="PIXEL", folders=(f"/photos{os.sep}2024{os.sep}",))) == {TOWER}
    assert passing(catalog, every(folders=("/photos/2024/", "/photos/2019/"))) == {BEACH, TOWER, BRIDGE}
    assert passing(catalog, every(after="2024-07-01", before="2025")) == {BRIDGE}
    assert passing(catalog, every(parse("width = 10"), near_to=(89, 0, 200))) == {NORTH}
    assert every() is None
    said = Filters("width < 2000", (48.85, 2.29, 500), "2024-06", "2024-07", "pixel", ("/photos/",))
    assert passing(catalog, said.condition()) == {TOWER} and Filters().condition() is None


@pytest.mark.parametrize(("names", "filter", "expected"), [
    (["cafe\u0301.jpg", "caf\u00e9.jpg", "cafe.jpg"], "caf\u00e9", [0, 1]),
    (["cafe\u0301.jpg", "caf\u00e9.jpg", "cafe.jpg"], "CAFE\u0301", [0, 1]),
    (["cafe\u0301.jpg", "caf\u00e9.jpg", "CAFE.jpg"], "cafe", [2]),
    (["Hauptstra\u00dfe.jpg", "HAUPTSTRASSE.jpg", "Hauptweg.jpg"], "strasse", [0, 1]),
    (["Hauptstra\u00dfe.jpg", "HAUPTSTRASSE.jpg", "Hauptweg.jpg"], "Stra\u00dfe", [0, 1]),
    (["\u00e9 100%.jpg", "\u00e9 1000.jpg"], "100%", [0]),
])
def test_letters_are_the_same_however_they_are_written(tmp_path, names, filter, expected):
    with Catalog.create(tmp_path) as catalog:
        catalog.commit([Document(FileState(name, 1, 1), name, captions=(name,)) for name in names], range(len(names)))
    with Catalog.open(tmp_path) as catalog:
        for field in ("path", "caption"):
            assert catalog.rows_where(parse(f"{field} ~ '{filter}'")).tolist() == expected
            others = [row for row in range(len(names)) if row not in expected]
            assert catalog.rows_where(parse(f"{field} !~ '{filter}'")).tolist() == others


@pytest.mark.parametrize("value", ["x' OR 1=1 --", "'; DROP TABLE documents; --", "\\", "?"])
def test_nothing_typed_is_ever_sql(catalog, value):
    quoted = value.replace("'", "''")
    assert passing(catalog, parse(f"id = '{quoted}' or path ~ '{quoted}'")) == set()
    assert parse(f"id = '{quoted}'").sql == parse("id = rex").sql


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("", "The filter is empty."),
        ("widht > 3", "position 1: there is no field widht. Did you mean width? The fields are id, path, taken,"),
        ("width > 1 or foo = 1", "position 14: there is no field foo; the fields are"),
        ("camera ~ 'Pix", "The quote at position 10 of the filter is not closed: 'Pix"),
        ("taken = 2024-02-30", "position 9: there is no date 2024-02-30"),
        ("taken > soon", "position 9: 'soon' is no date"),
        ("width > wide", "position 9: 'wide' is no number"),
        ("width = nan", "position 9: 'nan' is no number"),
        ("size > 10XB", "position 8: '10XB' is no size"),
        ("width ~ 3", "position 9: width cannot be compared with ~; use one of = != < <= > >="),
        ("camera < 3", "position 10: camera cannot be compared with <; use one of = != ~ !~"),
        ("id = none", "position 6: every image has an id"),
        ("width >", "at its end: expected a value behind >"),
        ("width 3", "position 7: expected one of = != < <= > >= ~ !~ or in, behind width, found 3"),
        ("width not 3", "position 11: expected in, found 3"),
        ("width in 3", "position 10: expected a list, such as (1, 2), found 3"),
        ("width in (3", "at its end: the list is not closed"),
        ("(width > 1", "at its end: the parenthesis at position 1 is not closed"),
        ("width > 1)", "position 10: expected and, or, or the end, found )"),
        ("width > 1 height > 2", "position 11: expected and, or, or the end, found height"),
        ("and", "position 1: expected a field, such as taken, found and"),
        ("width ! 3", "position 7: ! 3"),
        ("(" * 60 + "width > 1" + ")" * 60, "position 51: parentheses and nots are nested more than 50 deep"),
        (" or ".join(["width = 1"] * 501), "more than 500 comparisons"),
        (f"width = 1 or path ~ '{'x' * 60_000}'", "position 21: the value has 60,000 characters, and 10,000 can be compared"),
    ],
)
def test_refused(where, said):
    with pytest.raises(QueryError) as caught:
        parse(where)
    assert said in str(caught.value)


def test_the_longest_filter_is_answered(catalog):
    assert passing(catalog, parse(" or ".join(["width = 10"] * 500))) == {NORTH}
    assert passing(catalog, parse("(" * 50 + "width = 10" + ")" * 50)) == {NORTH}
    assert passing(catalog, parse(f"path ~ '{'%' * 10_000}' or width = 10")) == {NORTH}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"near_to": "48.85"}, "'48.85' is no place and distance; write latitude,longitude,kilometres"),
        ({"near_to": "a,b,c"}, "is no place and distance"),
        ({"near_to": "91,0,1"}, "91, 0 is no place: latitudes go from -90 to 90"),
        ({"near_to": "nan,0,1"}, "is no place"),
        ({"near_to": "0,181,1"}, "longitudes from -180 to 180"),
        ({"near_to": (0, 0, 0)}, "the distance 0 km has to be positive"),
        ({"near_to": (0, 0, float("inf"))}, "has to be positive"),
        ({"near_to": 5}, "near is 5; it has to be (latitude, longitude, kilometres)"),
        ({"near_to": (0, 0)}, "near is (0, 0); it has to be (latitude, longitude, kilometres)"),
        ({"after": "2024-13"}, "The date of after cannot be used: there is no date 2024-13"),
        ({"before": "now"}, "The date of before cannot be used: 'now' is no date"),
        ({"camera": "\udc80"}, "is not valid Unicode"),
        ({"camera": "x" * 60_000}, "The camera cannot be used: the value has 60,000 characters"),
    ],
)
def test_options_refused(options, said):
    with pytest.raises(QueryError) as caught:
        every(**options)
    assert said in str(caught.value)

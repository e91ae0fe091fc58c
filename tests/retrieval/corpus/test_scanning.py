import io

import pytest

from retrieval.corpus.scanning import expanded, scan, source_name
from retrieval.errors import CorpusError


def found(*sources):
    return [image.relative for image in scan(sources).images]


def test_sources_of_every_kind_in_their_order(lay_out, tar, zipped, jpeg):
    root = lay_out({"photos/b.jpg": None, "one.jpg": None, "t.csv": "image,caption\nphotos/b.jpg,a hen\none.jpg,an owl\n"})
    tar(root / "x.tar", {"t.jpg": jpeg()})
    zipped(root / "x.zip", {"z.jpg": jpeg()})
    listed = io.BytesIO(f"{root}/x.tar#t.jpg\n".encode())
    result = scan([root / "x.zip", str(root / "x.tar"), root / "photos", root / "one.jpg", listed, root / "t.csv"])
    assert [image.relative for image in result.images] == ["z.jpg", "t.jpg", "b.jpg", "one.jpg"]
    assert [image.captions for image in result.images] == [None, None, ("a hen",), ("an owl",)]
    assert result.roots == [str(root / name) for name in ("x.zip", "x.tar", "photos", "one.jpg")]


def test_a_file_uri_is_a_path(lay_out):
    root = lay_out({"a b.jpg": None})
    [image] = scan([f"file://{root}/a%20b.jpg"]).images
    assert image.state.path == str(root / "a b.jpg")


def test_captions_beside_images_of_a_folder(lay_out):
    root = lay_out({
        "x/a.jpg": None, "x/a.txt": "a hen\na bird", "b.jpg": None, "b.json": {"caption": "an owl"}, "a.txt": "not of x/a.jpg",
        "c.jpg": None, "c.jpg.json": {"title": "c.jpg", "caption": "as photo services write"},
    })
    expected = {"b.jpg": ("an owl",), "c.jpg": None, "x/a.jpg": ("a hen", "a bird")}
    assert {image.relative: image.captions for image in scan([root]).images} == expected
    assert [image.captions for image in scan([root / "x" / "a.jpg"]).images] == [("a hen", "a bird")]


@pytest.mark.parametrize("beside", ["", "0 0.5 0.5 0.1 0.2\n"], ids=["empty", "boxes"])
def test_captions_of_a_table_where_none_lie_beside_the_image(lay_out, beside):
    root = lay_out({"x/a.jpg": None, "x/a.txt": beside, "t.csv": "image,caption\nx/a.jpg,a hen\n"})
    assert [image.captions for image in scan([root / "x", root / "t.csv"]).images] == [("a hen",)]


@pytest.mark.parametrize(("pattern", "names"), [
    ("{000..002}.tar", ["000.tar", "001.tar", "002.tar"]),
    ("x/{8..11}-{a,b}.tar", [f"x/{number}-{letter}.tar" for number in (8, 9, 10, 11) for letter in "ab"]),
    ("{08..10}.tar", ["08.tar", "09.tar", "10.tar"]),
    ("{plain}.tar", ["{plain}.tar"]),
    ("s3://bucket/{a,b}", ["s3://bucket/a", "s3://bucket/b"]),
])
def test_several_written_as_one(pattern, names):
    assert list(expanded(pattern)) == names


def test_a_name_with_braces_is_a_name_first(lay_out):
    root = lay_out({"{a,b}.jpg": None, "{1..2}/c.jpg": None})
    assert found(root / "{a,b}.jpg", root / "{1..2}") == ["{a,b}.jpg", "c.jpg"]


@pytest.mark.parametrize("part", ["{9..1}", "{0..9999999}"])
def test_ranges_that_are_none(part):
    with pytest.raises(CorpusError, match="is no range from a lower to a higher number"):
        scan([f"{part}.tar"])


def test_one_damaged_archive_of_several(tmp_path, tar, jpeg):
    for number in range(3):
        tar(tmp_path / f"{number}.tar", {f"{number}.jpg": jpeg()})
    (tmp_path / "1.tar").write_bytes(b"gone bad")
    result = scan([tmp_path / "{0..2}.tar"])
    assert [image.relative for image in result.images] == ["0.jpg", "2.jpg"]
    [(place, reason)] = result.unreadable
    assert place == str(tmp_path / "1.tar") and reason.startswith("not an uncompressed tar file")


@pytest.mark.parametrize(("name", "fragment"), [
    ("gone", "gone does not exist. Give"), ("gone.tar", "gone.tar does not exist. Give"),
    ("{1..3}.tar", "1.tar does not exist"),
    ("notes.txt", "notes.txt is neither an image nor a video by its name"), ("notes.txt", "nor an archive or a table (.tar, .zip, .csv"),
])
def test_what_cannot_be_a_source(lay_out, name, fragment):
    root = lay_out({"notes.txt": "x"})
    with pytest.raises(CorpusError) as caught:
        scan([root / name])
    assert fragment in str(caught.value)


@pytest.mark.parametrize("uri", ["https://host/photos.tar", "s3://bucket/a.zip", "https://host/part.parquet"])
def test_archives_and_tables_elsewhere(uri):
    with pytest.raises(CorpusError, match=f"^{uri} is read from a disk of this machine only. Fetch it"):
        scan([uri])


@pytest.mark.parametrize(("sources", "name"), [
    (["Photos"], "Photos"), (["x/photos.tar"], "photos"), (["x/photos.tar.gz"], "photos"), (["t.parquet"], "t"),
    (["x/shards/{00..99}.tar"], "shards"), (["x/shards/0.tar", "x/shards/1.tar"], "shards"), (["s3://b/x/flowers"], "flowers"),
    (["https://host/a.jpg"], "a"), (["s3://bucket"], "bucket"), (["-"], None), (["Photos", "-"], None), (["/"], "images"),
])
def test_what_a_collection_of_sources_is_called(sources, name):
    assert source_name(sources) == name

import json
import re
import struct

import pyarrow
import pyarrow.parquet
import pytest

from retrieval.corpus.tables import TableOptions, scan
from retrieval.errors import CaptionsError, CorpusError


def captions(result):
    return {image.relative: image.captions for image in result.images}


@pytest.fixture
def table(lay_out):
    """table("captions.csv", text) lies beside x/hen.jpg and owl.jpg."""
    def table(name, content):
        root = lay_out({"x/hen.jpg": None, "owl.jpg": None, **({} if isinstance(content, dict) else {name: content})})
        if isinstance(content, dict):
            pyarrow.parquet.write_table(pyarrow.table(content), root / name)
        return root / name

    return table


ROWS = [("x/hen.jpg", "a hen"), ("owl.jpg", "an owl"), ("./x/hen.jpg", "a brown hen")]


@pytest.mark.parametrize(("name", "content"), [
    ("t.csv", "image,caption\n" + "".join(f"{image},{text}\n" for image, text in ROWS)),
    ("t.tsv", "id\tFILENAME\tText\n" + "".join(f"7\t{image}\t{text}\n" for image, text in ROWS)),
    ("t.jsonl", "".join(json.dumps({"path": image, "caption": text}) + "\n" for image, text in ROWS)),
    ("t.json", [{"image": "x/hen.jpg", "caption": ["a hen", "a brown hen"]}, {"image": "owl.jpg", "caption": "an owl"}]),
    ("t.parquet", {"Image": [image for image, _ in ROWS], "TEXT": [text for _, text in ROWS]}),
])
def test_images_with_all_their_captions(table, name, content):
    result = scan(str(table(name, content)))
    assert captions(result) == {"x/hen.jpg": ("a hen", "a brown hen"), "owl.jpg": ("an owl",)}
    assert (result.unreadable, result.roots) == ([], [])


def test_links_as_laion_has_them(table):
    path = table("part.parquet", {
        "SAMPLE_ID": [1, 2, 3], "URL": ["https://host/a.jpg", "https://host/b?x=1", None], "TEXT": ["a hen", None, "gone"],
        "NSFW": ["UNLIKELY"] * 3,
    })
    images = scan(str(path)).images
    assert [(image.state.path, image.captions) for image in images] == [
        ("https://host/a.jpg", ("a hen",)), ("https://host/b?x=1", ()),
    ]


def test_lists_of_captions_in_parquet(table):
    path = table("t.parquet", {"image": ["owl.jpg", "x/hen.jpg"], "caption": [["an owl", " ", "a bird"], None]})
    assert captions(scan(str(path))) == {"owl.jpg": ("an owl", "a bird"), "x/hen.jpg": ()}


def test_relative_paths_below_another_folder(table, tmp_path):
    path = table("t.csv", "image,caption\nhen.jpg,a hen\n")
    assert captions(scan(str(path), TableOptions(images=path.parent / "x"))) == {"hen.jpg": ("a hen",)}
    result = scan(str(path))
    assert (result.images, result.unreadable) == ([], [(str(path.parent / "hen.jpg"), "does not exist")])


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_one_split_alone(table, name):
    rows = [("owl.jpg", "an owl", "train"), ("x/hen.jpg", "a hen", "test"), ("owl.jpg", "a bird", "test")]
    contents = {
        "t.csv": "image,caption,split\n" + "".join(",".join(row) + "\n" for row in rows),
        "t.jsonl": "".join(json.dumps(dict(zip(("image", "caption", "split"), row))) + "\n" for row in rows),
        "t.parquet": dict(zip(("image", "caption", "Split"), map(list, zip(*rows)))),
    }
    path = str(table(name, contents[name]))
    assert captions(scan(path, TableOptions(split="test"))) == {"x/hen.jpg": ("a hen",), "owl.jpg": ("a bird",)}
    assert captions(scan(path)) == {"owl.jpg": ("an owl", "a bird"), "x/hen.jpg": ("a hen",)}
    with pytest.raises(CaptionsError, match="has no split 'val': choose from 'test', 'train'."):
        scan(path, TableOptions(split="val"))


def test_a_table_without_splits(table):
    path = str(table("t.parquet", {"image": ["owl.jpg"], "caption": ["an owl"]}))
    with pytest.raises(CaptionsError, match="has no split 'test': the file names no splits"):
        scan(path, TableOptions(split="test"))


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_columns_by_other_names(table, name):
    contents = {
        "t.csv": "Bild,image,Titel\nowl.jpg,no,an owl\n", "t.parquet": {"Bild": ["owl.jpg"], "Titel": ["an owl"]},
        "t.jsonl": '{"Bild": "owl.jpg", "Titel": "an owl"}\n{"Bild": "x/hen.jpg", "Titel": "a hen"}',
    }
    options = TableOptions(image_column="bild", caption_column="Titel")
    assert captions(scan(str(table(name, contents[name])), options))["owl.jpg"] == ("an owl",)


@pytest.mark.parametrize(("name", "content"), [
    ("t.csv", "imgae,caption\nowl.jpg,an owl\n"), ("t.parquet", {"imgae": ["owl.jpg"], "caption": ["an owl"]}),
])
def test_a_missing_column_names_the_nearest(table, name, content):
    path = table(name, content)
    with pytest.raises((CorpusError, CaptionsError), match=f"^{path} has no image column.*Rename 'imgae' to 'image'"):
        scan(str(path))


def test_images_within_parquet_are_refused(table):
    path = table("t.parquet", {"image": [b"\xff\xd8"], "caption": ["x"]})
    with pytest.raises(CorpusError, match="the column image holds binary, not paths or links"):
        scan(str(path))


def test_what_is_no_parquet(table):
    path = table("t.parquet", "image,caption\n")
    with pytest.raises(CorpusError, match=f"^{re.escape(str(path))} cannot be read as Parquet: "):
        scan(str(path))


def test_a_damaged_line_is_named(table):
    path = table("t.csv", "image,caption,split\n" + "owl.jpg,an owl,test\n" * 3 + "owl.jpg\n")
    result = scan(str(path))
    assert captions(result) == {"owl.jpg": ("an owl",)}
    assert result.unreadable == [(str(path), "line 5 has 1 field, the header 3")]


def test_half_characters_as_json_may_spell_them(table):
    path = table("t.jsonl", '{"image": "owl.jpg", "caption": "an \\ud83d owl"}\n{"image": "\\ud83d.jpg", "caption": "x"}\n')
    result = scan(str(path))
    assert captions(result) == {"owl.jpg": ("an ? owl",)}
    assert result.unreadable == [(f"{path.parent}/\\ud83d.jpg", "the file name is not valid UTF-8; rename it")]


def test_parquet_that_is_not_utf8(table):
    offsets, text = pyarrow.py_buffer(struct.pack("<2i", 0, 4)), pyarrow.py_buffer(b"caf\xe9")
    path = table("t.parquet", {"image": ["owl.jpg"], "caption": pyarrow.StringArray.from_buffers(1, offsets, text)})
    with pytest.raises(CorpusError, match="has text that is not UTF-8"):
        scan(str(path))


def test_parquet_with_two_columns_of_one_name(table):
    path = table("t.parquet", {"image": ["owl.jpg"]})
    columns = [pyarrow.array([one]) for one in ("owl.jpg", "an owl", "a bird")]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, ["image", "caption", "caption"]), path)
    with pytest.raises(CorpusError, match='cannot be read as Parquet: .*"caption" exists 2 times'):
        scan(str(path))

"""Photos and captions of every kind of source, and what may be wrong with them."""

import io
import json
import re
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import ExifTags, Image, ImageFile

from retrieval.corpus.tables import TableOptions
from retrieval.errors import CaptionsError, CorpusError, DatasetError, TrainingError
from retrieval.train.pairs import Pairs, Photo, hold_out, read_pairs

CAPTIONS = "image\tcaption\tsplit\nb.jpg\tsecond\ttrain\na.jpg\tfirst\ttrain\na.jpg\tfirst again\ttrain\n" \
           "gone.jpg\tnot here\ttrain\na.jpg\tfor testing\ttest\n"


def jpeg(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "JPEG")
    return buffer.getvalue()


RED, BLUE, GREEN = (jpeg(colour) for colour in ("red", "blue", "green"))
IMAGES = {"a.jpg": RED, "b.jpg": BLUE, "c.jpg": GREEN}


def write(path: Path, contents: dict[str, bytes]) -> Path:
    """A .tar, a .zip, or a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tar":
        with tarfile.open(path, "w") as archive:
            for name, content in contents.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    else:
        for name, content in contents.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    return path


def found(pairs: Pairs) -> dict[str, tuple[bytes, list[str]]]:
    return {photo.name: (photo.read(), texts) for photo, texts in zip(pairs.photos, pairs.captions)}


@pytest.fixture
def captions(tmp_path):
    path = tmp_path / "captions.tsv"
    path.write_text(CAPTIONS)
    return path


@pytest.fixture(params=["folder", "images.tar", "images.zip"])
def images(request, tmp_path):
    return write(tmp_path / request.param, {"notes.md": b"no image", "c.jpg": GREEN, **IMAGES})


def test_pairs_by_photo_name(images, captions):
    pairs = read_pairs(images, captions, split="train")
    assert found(pairs) == {"a.jpg": (RED, ["first", "first again"]), "b.jpg": (BLUE, ["second"])}
    assert [photo.name for photo in pairs.photos] == ["a.jpg", "b.jpg"]
    assert (pairs.missing, pairs.missing_names) == (1, ("gone.jpg",))


def test_all_splits_without_a_choice(images, captions):
    assert read_pairs(str(images), captions).captions[0] == ["first", "first again", "for testing"]


def test_captions_beside_the_photos(images, tmp_path):
    beside = {"x/1.jpg": RED, "x/1.txt": b"first\nfirst again", "x/2.jpg": BLUE, "x/2.json": b'{"caption": "second"}',
              "x/3.jpg": GREEN}
    other = write(tmp_path / "other" / images.name, beside)
    pairs = read_pairs(other)
    assert found(pairs) == {"x/1.jpg": (RED, ["first", "first again"]), "x/2.jpg": (BLUE, ["second"])}
    assert (pairs.missing, pairs.missing_names) == (0, ())


def test_shards_that_number_anew(tmp_path):
    """Webdataset's habit: every shard begins with the same key."""
    write(tmp_path / "s-00.tar", {"000.jpg": RED, "000.txt": b"red"})
    write(tmp_path / "s-01.tar", {"000.jpg": BLUE, "000.txt": b"blue"})
    pairs = read_pairs(str(tmp_path / "s-{00..01}.tar"))
    assert found(pairs) == {"000.jpg": (RED, ["red"]), "s-01.tar/000.jpg": (BLUE, ["blue"])}


def test_damaged_shards_are_named(tmp_path):
    write(tmp_path / "s-0.tar", {"0.jpg": RED, "0.txt": b"red"})
    (tmp_path / "s-1.tar").write_bytes(b"not a tar at all" * 100)
    pairs = read_pairs(str(tmp_path / "s-{0..1}.tar"))
    assert list(found(pairs)) == ["0.jpg"] and pairs.missing == 1
    assert pairs.missing_names[0].startswith(f"{tmp_path / 's-1.tar'} (not an uncompressed tar file")


ROWS = [("b.jpg", "second", "train"), ("a.jpg", "first", "train"), ("a.jpg", "first again", "train"),
        ("gone.jpg", "not here", "train"), ("a.jpg", "for testing", "test"), ("c.jpg", "", "train")]
TABLES = {
    "t.csv": "image,caption,split\n" + "".join(f"{','.join(row)}\n" for row in ROWS),
    "t.tsv": "image\tcaption\tsplit\n" + "".join("\t".join(row) + "\n" for row in ROWS),
    "t.jsonl": "".join(json.dumps(dict(zip(("image", "caption", "split"), row))) + "\n" for row in ROWS),
    "t.json": json.dumps([dict(zip(("image", "caption", "split"), row)) for row in ROWS]),
    "t.parquet": dict(zip(("image", "caption", "split"), map(list, zip(*ROWS)))),
}


@pytest.fixture(params=TABLES)
def table(request, tmp_path):
    path = write(tmp_path / "root", IMAGES) / request.param
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table(TABLES[request.param]), path)
    else:
        path.write_text(TABLES[request.param])
    return path


def test_tables(table):
    pairs = read_pairs(table)
    assert found(pairs) == {"a.jpg": (RED, ["first", "first again", "for testing"]), "b.jpg": (BLUE, ["second"])}
    assert (pairs.missing, pairs.missing_names) == (1, (f"{table.parent / 'gone.jpg'} (does not exist)",))


def test_splits_of_tables(table):
    assert found(read_pairs(table, split="test")) == {"a.jpg": (RED, ["for testing"])}
    with pytest.raises(CaptionsError, match="has no split 'val': choose from 'test', 'train'"):
        read_pairs(table, split="val")


def test_tables_of_photos_elsewhere(tmp_path):
    write(tmp_path / "photos", IMAGES)
    path = tmp_path / "products.csv"
    path.write_text("Bild,Titel\na.jpg,rot\n")
    pairs = read_pairs(path, tables=TableOptions(tmp_path / "photos", "bild", "titel"))
    assert found(pairs) == {"a.jpg": (RED, ["rot"])}


def test_parquet_of_captions(tmp_path):
    write(tmp_path / "photos", IMAGES)
    pyarrow.parquet.write_table(pyarrow.table(TABLES["t.parquet"]), tmp_path / "t.parquet")
    pairs = read_pairs(tmp_path / "photos", tmp_path / "t.parquet", split="train")
    assert found(pairs) == {"a.jpg": (RED, ["first", "first again"]), "b.jpg": (BLUE, ["second"])}


def test_a_coco_file_is_a_table(tmp_path):
    path = write(tmp_path, IMAGES) / "captions_train.json"
    path.write_text(json.dumps({
        "images": [{"id": 7, "file_name": "b.jpg"}, {"id": 8, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 8, "caption": "red"}, {"image_id": 7, "caption": "blue"},
                        {"image_id": 8, "caption": "all red"}],
    }))
    assert found(read_pairs(path)) == {"a.jpg": (RED, ["red", "all red"]), "b.jpg": (BLUE, ["blue"])}


def test_data_sets_by_name(tmp_path):
    root = write(tmp_path / "own", {"pictures/a.jpg": RED, "pictures/b.jpg": BLUE})
    (root / "captions.csv").write_text("image,caption,split\nb.jpg,second,train\na.jpg,first,test\ngone.jpg,x,train\n")
    pairs = read_pairs("csv", split="train", root=root)
    assert found(pairs) == {"pictures/b.jpg": (BLUE, ["second"])}
    assert (pairs.missing, pairs.missing_names) == (1, ("gone.jpg",))
    assert list(found(read_pairs("csv", split="all", root=root))) == ["pictures/a.jpg", "pictures/b.jpg"]
    with pytest.raises(DatasetError, match="Which split of csv"):
        read_pairs("csv", root=root)
    with pytest.raises(CorpusError, match="csv does not exist"):
        read_pairs("csv", split="train")


def test_only_a_few_of_the_missing_are_named(tmp_path):
    write(tmp_path / "photos", IMAGES)
    write(tmp_path / "photos", {"x/d.jpg": RED, "y/d.jpg": BLUE})
    path = tmp_path / "captions.csv"
    path.write_text("image,caption\na.jpg,red\nd.jpg,which?\n" + "".join(f"{n}.jpg,gone\n" for n in range(9)))
    pairs = read_pairs(tmp_path / "photos", path)
    assert (pairs.missing, pairs.missing_names) == (10, tuple(f"{n}.jpg" for n in range(5)))
    path.write_text("image,caption\na.jpg,red\nd.jpg,which?\n")
    assert read_pairs(tmp_path / "photos", path).missing_names == ("d.jpg (fits several files)",)


def test_reading_from_threads(images, captions):
    pairs = read_pairs(images, captions)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda turn: pairs.photos[turn % 2].read(), range(200)))
    assert read == [RED, BLUE] * 100


def test_photos_that_cannot_be_opened_are_named_with_the_missing(images, captions, tmp_path):
    broken = {"b.jpg": b"no image", "c.jpg": BLUE[:60], "d.jpg": b"", "e.jpg": GREEN}
    other = write(tmp_path / "other" / images.name, {**IMAGES, **broken})
    captions.write_text(captions.read_text() + "c.jpg\tcut short\ttrain\nd.jpg\tempty\ttrain\n")
    pairs = read_pairs(other, captions, split="train")
    assert found(pairs) == {"a.jpg": (RED, ["first", "first again"])}
    assert pairs.missing == 4 and pairs.missing_names[:2] == (
        "gone.jpg", "b.jpg (not an image in a format that can be read)")
    assert pairs.missing_names[2].startswith("c.jpg (") and pairs.missing_names[3] == "d.jpg (the file is empty)"


def test_no_photo_can_be_opened(tmp_path):
    write(tmp_path / "photos", {"a.jpg": b"no image", "a.txt": b"red", "b.jpg": RED})
    with pytest.raises(CorpusError, match=r"None of the 1 captioned photos can be opened: a.jpg \(not an image.*\)\.$"):
        read_pairs(tmp_path / "photos")


def test_nothing_is_decoded_to_find_them(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    write(tmp_path / "photos", {"a.jpg": RED, "a.txt": b"red", "b.jpg": b"no image", "b.txt": b"blue"})
    pairs = read_pairs(tmp_path / "photos")
    assert ([photo.name for photo in pairs.photos], pairs.missing) == (["a.jpg"], 1)


def test_copies_become_one_with_the_captions_of_all(tmp_path):
    """img2dataset's shards have a sample for each caption."""
    write(tmp_path / "s-0.tar", {"0.jpg": BLUE, "0.txt": b"blue", "1.jpg": RED, "1.txt": b"red\nall red"})
    write(tmp_path / "s-1.tar", {"0.jpg": RED, "0.txt": b"red\nred again", "1.jpg": GREEN, "1.txt": b"green"})
    pairs = read_pairs(str(tmp_path / "s-{0..1}.tar"))
    assert found(pairs) == {
        "0.jpg": (BLUE, ["blue"]), "1.jpg": (RED, ["red", "all red", "red again"]), "s-1.tar/1.jpg": (GREEN, ["green"]),
    }
    assert pairs.missing == 0


def test_no_copy_is_held_out_from_another(tmp_path):
    contents = [jpeg(colour) for colour in ("red", "blue", "green", "white", "black", "yellow")]
    write(tmp_path, {f"{turn}/{place}.jpg": content for turn in range(2) for place, content in enumerate(contents)})
    write(tmp_path, {f"{turn}/{place}.txt": b"%d in %d" % (place, turn) for turn in range(2) for place in range(6)})
    pairs = read_pairs(tmp_path)
    for seed in range(10):
        learned, apart = hold_out(pairs, 3, seed)
        sides = [{photo.read() for photo in side.photos} for side in (learned, apart)]
        assert [len(side) for side in sides] == [3, 3] and not sides[0] & sides[1]
        assert all(len(texts) == 2 for texts in [*learned.captions, *apart.captions])


def test_a_photo_is_read_once_for_its_digest():
    read = []
    photo = Photo("a.jpg", lambda: read.append(1) or RED)
    assert photo.digest == photo.digest == Photo("b.jpg", lambda: RED).digest != Photo("b.jpg", lambda: BLUE).digest
    assert read == [1]


def test_nothing_matches(images, tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("image,caption\nz.jpg,unknown\n")
    with pytest.raises(CaptionsError, match="z.jpg"):
        read_pairs(images, path)


def test_no_captions_at_all(images):
    with pytest.raises(CaptionsError, match="None of the 3 images .* --captions FILE; or lay beach.txt"):
        read_pairs(images)


def test_captions_beside_photos_have_no_splits(images):
    with pytest.raises(CaptionsError, match="has no split 'train': it is no table"):
        read_pairs(images, split="train")


def test_missing_images(tmp_path, captions):
    with pytest.raises(CorpusError, match="does not exist"):
        read_pairs(tmp_path / "nowhere", captions)
    path = tmp_path / "t.csv"
    path.write_text("image,caption\ngone.jpg,x\n")
    first = f"holds no images: {tmp_path / 'gone.jpg'} (does not exist)"
    with pytest.raises(CorpusError, match=re.escape(f"{first}.")):
        read_pairs(path)
    path.write_text("image,caption\ngone.jpg,x\nalso.jpg,y\n")
    with pytest.raises(CorpusError, match=re.escape(f"{first} and 1 more.")):
        read_pairs(path)


@pytest.mark.parametrize("content", [b"", b"not a tar at all" * 100, b"\x1f\x8b compressed"])
def test_no_tar(tmp_path, captions, content):
    path = tmp_path / "images.tar"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match="holds no images: .*images.tar"):
        read_pairs(path, captions)


def test_folder_without_images(tmp_path, captions):
    with pytest.raises(CorpusError, match="holds no images.$"):
        read_pairs(tmp_path, captions)


def test_photos_held_out():
    photos = [Photo(f"{n}.jpg", lambda: b"") for n in range(10)]
    pairs = Pairs(photos, [[f"text {n}"] * (1 + n % 2) for n in range(10)], 3, ("gone.jpg",))
    training, validation = hold_out(pairs, 4, seed=5)
    assert (len(training.photos), len(validation.photos)) == (6, 4)
    both = {photo.name: texts for part in (training, validation) for photo, texts in zip(part.photos, part.captions)}
    assert both == {photo.name: texts for photo, texts in zip(photos, pairs.captions)}
    for part in (training, validation):
        assert [photo.name for photo in part.photos] == sorted(photo.name for photo in part.photos)
    assert (training.missing, training.missing_names, validation.missing) == (3, ("gone.jpg",), 0)
    again, other = hold_out(pairs, 4, seed=5), hold_out(pairs, 4, seed=6)
    assert again == (training, validation) != other
    assert hold_out(pairs, 0, seed=5)[1].photos == []


@pytest.mark.parametrize("count", [10, 11, -1])
def test_none_left_to_train_on(count):
    pairs = Pairs([Photo(f"{n}.jpg", lambda: b"") for n in range(10)], [["x"]] * 10, 0)
    with pytest.raises(TrainingError, match=f"{count} of 10 photos held out"):
        hold_out(pairs, count, seed=0)


def test_photos_are_upright_and_keep_their_secrets(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned clockwise
    exif[ExifTags.Base.Artist] = "Anna Secret"
    image = Image.new("RGB", (32, 16), "white")
    image.paste("black", (0, 0, 16, 16))  # the left half, which becomes the upper one
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    opened = Photo("a.jpg", buffer.getvalue).open()
    assert opened.size == (16, 32)
    assert opened.getpixel((8, 4)) < (40, 40, 40) and opened.getpixel((8, 28)) > (215, 215, 215)
    with pytest.raises(TrainingError, match="a.jpg: .*Take it out and start again") as caught:
        Photo("a.jpg", lambda: buffer.getvalue()[:-120]).open()
    assert "Secret" not in str(caught.value)


def test_photos_that_went_missing_are_named(tmp_path):
    write(tmp_path / "photos", {"a.jpg": RED, "a.txt": b"red"})
    (photo,) = read_pairs(tmp_path / "photos").photos
    (tmp_path / "photos" / "a.jpg").unlink()
    for asked in (photo.open, photo.content):
        with pytest.raises(TrainingError, match="a.jpg: cannot be read: No such file or directory. Take it out"):
            asked()
    with pytest.raises(TrainingError, match="b.jpg: No such file or directory. Take it out"):
        Photo("b.jpg", (tmp_path / "b.jpg").read_bytes).open()


def test_large_photos_may_be_decoded_smaller():
    buffer = io.BytesIO()
    Image.new("RGB", (640, 480)).save(buffer, "JPEG")
    photo = Photo("a.jpg", buffer.getvalue)
    assert (photo.open().size, photo.open(100).size) == ((640, 480), (320, 240))

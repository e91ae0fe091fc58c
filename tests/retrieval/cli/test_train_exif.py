"""Where a photo was taken, by whom and with what, is in nothing that training writes."""

import io
import random
import re

import pytest
from PIL import Image
from PIL.ExifTags import GPS, Base, IFD

WORDS = [b"Secretcam", b"XQ-77 Nightjar", b"Rosalind Quillfeather", b"Grandmother's garden", b"2019:07:14 18:05:33",
         b"2019-07-14", b"SN-90817263", b"exif comment of hers"]
# 47 deg 33' 21.37" north, 7 deg 35' 18.64" east, 271 m up, as a reader or a log might write them
NUMBERS = [rb"\b47\.5559", rb"\b7\.5885", rb"\b21\.37\b", rb"\b18\.64\b", rb"\b271\.25\b"]


def jpeg(seed):
    chance = random.Random(seed)
    image = Image.new("RGB", (48, 32), tuple(chance.randrange(256) for _ in range(3)))
    image.paste(tuple(chance.randrange(256) for _ in range(3)), (8, 8, 24, 24))
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model], exif[Base.Artist] = "Secretcam", "XQ-77 Nightjar", "Rosalind Quillfeather"
    exif[Base.ImageDescription], exif[Base.Orientation] = "Grandmother's garden", 6
    exif[Base.DateTime] = "2019:07:14 18:05:33"
    inner = exif.get_ifd(IFD.Exif)
    inner[Base.DateTimeOriginal], inner[Base.BodySerialNumber] = "2019:07:14 18:05:33", "SN-90817263"
    inner[Base.UserComment] = b"ASCII\0\0\0exif comment of hers"
    place = exif.get_ifd(IFD.GPSInfo)
    place[GPS.GPSLatitudeRef], place[GPS.GPSLatitude] = "N", (47.0, 33.0, 21.37)
    place[GPS.GPSLongitudeRef], place[GPS.GPSLongitude] = "E", (7.0, 35.0, 18.64)
    place[GPS.GPSAltitude], place[GPS.GPSDateStamp] = 271.25, "2019:07:14"
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(66):
        (folder / f"{number}.jpg").write_bytes(jpeg(number))
    return folder


@pytest.mark.parametrize(("options", "expected"), [
    (["--views", 1, "--dim", 8, "--prototype-share", 0], {"training.json", "open_clip_model.safetensors"}),
    (["--model", "tiny", "--train-batch-size", 16, "--captions-per-photo", "all"],
     {"training.json", "open_clip_model.safetensors", "log.jsonl", "curves.png", "README.md", "last.pt", "best.pt"}),
    (["--model", "tiny", "--train-batch-size", 16, "--train-image", "none", "--views", 1], {"log.jsonl", "last.pt"}),
], ids=["projections", "towers", "frozen image tower"])
def test_nothing_of_exif_is_written(run, photos, tiny_model, tmp_path, monkeypatch, options, expected):
    content = (photos / "5.jpg").read_bytes()
    exif = content[content.index(b"Exif\0\0") :]
    assert all(word in exif for word in WORDS if word != b"2019-07-14")  # so they could be found
    with Image.open(photos / "5.jpg") as image:
        found = image.getexif()
        assert [float(part) for part in found.get_ifd(IFD.GPSInfo)[GPS.GPSLatitude]] == [47.0, 33.0, 21.37]
    captions = tmp_path / "captions.csv"
    captions.write_text("image,caption\n" + "".join(f"{n}.jpg,a square of colour {n}\n" for n in range(66)))
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "cache"))

    output = tmp_path / "model"
    options = [tiny_model if option == "tiny" else option for option in options]
    done = run("train", photos, "--captions", captions, "-o", output, "--epochs", 1, "--held-out", 2, *options)
    assert done.status == 0, done.err

    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
               and photos not in path.parents and path != captions}
    assert expected <= {path.name for path in written if output in path.parents}
    assert any(tmp_path / "cache" in path.parents for path in written) == ("--views" in options)
    written.update(stdout=done.out.encode(), stderr=done.err.encode())
    assert written["stdout"]
    for where, content in written.items():
        lowered = content.lower()
        assert [word for word in WORDS if word.lower() in lowered] == [], where
        if b"\0" not in content:  # among the numbers of weights any digits may stand
            assert [number for number in NUMBERS if re.search(number, content)] == [], where

import base64
import io
import zipfile
from xml.etree import ElementTree

from PIL import Image

from retrieval.report.pictures import PIXELS, Pictures


def test_each_image_is_embedded_once_and_referred_to_after(images):
    pictures = Pictures(images)
    ids = ["flower.jpg", "magenta.png", "flower.jpg"]
    shown = [ElementTree.fromstring(pictures.show(id)) for id in ids]
    assert [one.find("use").get("href") for one in shown] == ["#picture-1", "#picture-2", "#picture-1"]
    assert [(one.get("role"), one.get("aria-label")) for one in shown] == [("img", id) for id in ids]
    symbols = ElementTree.fromstring(pictures.embedded())
    assert [one.get("id") for one in symbols] == ["picture-1", "picture-2"]
    kind, content = symbols[1].find("image").get("href").split(",")
    assert kind == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
    assert picture.format == "JPEG" and picture.size == (PIXELS, 107)  # of 300 x 200
    assert all(abs(a - b) < 4 for a, b in zip(picture.getpixel((80, 50)), (255, 0, 255)))


def test_a_picture_in_an_archive(images, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(images["magenta.png"], "x/magenta.png")
    pictures = Pictures({"m": f"{tmp_path}/photos.zip#x/magenta.png"})
    assert ElementTree.fromstring(pictures.show("m")).find("use").get("href") == "#picture-1"


def test_what_cannot_be_shown_says_why(images):
    pictures = Pictures(images)
    ids = ("gone.jpg", "notes <1>.jpg", "never <heard>")
    reasons = {id: ElementTree.fromstring(pictures.show(id)).text for id in ids}
    assert reasons == {
        "gone.jpg": "No picture: cannot be read: No such file or directory",
        "notes <1>.jpg": "No picture: not an image in a format that can be read",
        "never <heard>": "No picture: its file is not known",
    }
    assert len(ElementTree.fromstring(pictures.embedded())) == 0

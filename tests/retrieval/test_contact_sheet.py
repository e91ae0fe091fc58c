import base64
import io
import tarfile
from html.parser import HTMLParser

from PIL import Image

from retrieval.contact_sheet import THUMBNAIL_PIXELS, write_contact_sheet
from retrieval.images import open_image
from retrieval.types import Hit

HOSTILE = """</title><script>alert("x")</script> & 'quotes' <img src=x onerror=alert(1)>"""


class Page(HTMLParser):
    """Every tag with its attributes, and the text directly inside tags of each name."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self._open = [], {}, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, text):
        if self._open:
            self.texts[self._open[-1]][-1] += text

    def images(self):
        return [attributes for tag, attributes in self.tags if tag == "img"]


def hits(query, *paths):
    return [Hit(query, rank, 0.5 - rank / 100, path.name, str(path)) for rank, path in enumerate(paths, 1)]


def picture(attributes):
    kind, content = attributes["src"].split(",", 1)
    assert kind == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
    image.load()
    return image


def test_every_hit_has_its_thumbnail_rank_score_and_name(photo_folder, tmp_path):
    rocket, cat = photo_folder / "rocket.jpg", photo_folder / "chelsea.png"
    path = tmp_path / "new" / "folder" / "sheet.html"
    write_contact_sheet(path, "Six photos", [
        ("a rocket", hits("a rocket", rocket, cat)), ("a cat", hits("a cat", cat)),
    ])
    page = Page(path)
    assert page.texts["title"] == ["Six photos"] == page.texts["h1"]
    assert page.texts["h2"] == ["a rocket", "a cat"]
    assert [one["alt"] for one in page.images()] == ["rocket.jpg", "chelsea.png", "chelsea.png"]
    assert page.texts["b"] == ["0.490", "0.480", "0.490"]
    assert page.texts["figcaption"] == [" 1. rocket.jpg", " 2. chelsea.png", " 1. chelsea.png"]
    for attributes, source in zip(page.images(), (rocket, cat, cat), strict=True):
        shown, original = picture(attributes), open_image(source)[0]
        assert shown.format == "JPEG"
        assert max(shown.size) == THUMBNAIL_PIXELS
        assert abs(shown.width / shown.height - original.width / original.height) < 0.01
        colour = original.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        found = shown.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        assert max(abs(a - b) for a, b in zip(colour, found)) <= 2


def test_the_file_needs_nothing_else(photo_folder, tmp_path):
    path = tmp_path / "sheet.html"
    write_contact_sheet(path, "t", [("q", hits("q", photo_folder / "rocket.jpg"))])
    assert {tag for tag, _ in Page(path).tags}.isdisjoint({"script", "link", "iframe", "base"})
    assert "http" not in path.read_text(encoding="utf-8")


def test_hostile_names_and_queries_stay_text(photo_folder, tmp_path):
    path = tmp_path / "sheet.html"
    hit = Hit(HOSTILE, 1, 0.5, HOSTILE, str(photo_folder / "rocket.jpg"))
    gone = Hit(HOSTILE, 2, 0.4, HOSTILE, str(photo_folder / "<b>gone</b>.jpg"))
    write_contact_sheet(path, HOSTILE, [(HOSTILE, [hit, gone])])
    page = Page(path)
    assert page.texts["title"] == [HOSTILE] == page.texts["h1"] == page.texts["h2"]
    assert page.texts["figcaption"] == [f" 1. {HOSTILE}", f" 2. {HOSTILE}"]
    [image] = page.images()
    assert set(image) == {"src", "alt"} and image["alt"] == HOSTILE
    assert "script" not in page.texts


def test_an_image_that_is_gone_keeps_its_place(photo_folder, tmp_path):
    rocket, gone, broken = (photo_folder / name for name in ("rocket.jpg", "gone.jpg", "broken.jpg"))
    broken.write_bytes(rocket.read_bytes()[:2000])
    path = tmp_path / "sheet.html"
    write_contact_sheet(path, "t", [("q", hits("q", gone, broken, rocket))])
    page = Page(path)
    assert page.texts["figcaption"] == [" 1. gone.jpg", " 2. broken.jpg", " 3. rocket.jpg"]
    missing, damaged = page.texts["div"]
    assert missing == "cannot be read: No such file or directory"
    assert damaged.startswith("damaged or truncated (")
    assert [one["alt"] for one in page.images()] == ["rocket.jpg"]
    assert sum(tag == "li" for tag, _ in page.tags) == 3


def test_an_image_in_an_archive(photo_folder, tmp_path):
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(photo_folder / "rocket.jpg", "rocket.jpg")
    path = tmp_path / "sheet.html"
    write_contact_sheet(path, "t", [("q", [Hit("q", 1, 0.5, "rocket.jpg", f"{tmp_path}/photos.tar#rocket.jpg")])])
    [image] = Page(path).images()
    assert max(picture(image).size) == THUMBNAIL_PIXELS


def test_a_query_without_hits_and_other_scripts(tmp_path):
    path = tmp_path / "sheet.html"
    write_contact_sheet(path, "фото", [("一只狗", [])])
    page = Page(path)
    assert (page.texts["h1"], page.texts["h2"], page.images()) == (["фото"], ["一只狗"], [])
    assert page.tags[1] == ("meta", {"charset": "utf-8"})


def test_a_query_that_is_not_valid_unicode(tmp_path):
    path = tmp_path / "sheet.html"
    write_contact_sheet(path, "t", [("caf\udce9 dog", [])])
    assert Page(path).texts["h2"] == [r"caf\udce9 dog"]


def test_a_frame_of_a_video_is_shown_with_its_time(write_video, tmp_path):
    video = write_video(tmp_path / "clip.mp4", [0, 200], [0, 83_000])
    path = tmp_path / "sheet.html"
    write_contact_sheet(path, "Clips", [("light", [Hit("light", 1, 0.5, "clip.mp4#t=83", f"{video}#t=83")])])
    page = Page(path)
    (image,) = page.images()
    assert image["alt"] == "clip.mp4 @ 00:01:23" and "clip.mp4 @ 00:01:23" in page.texts["figcaption"][0]
    assert all(abs(value - 200) < 6 for value in picture(image).getpixel((30, 20)))

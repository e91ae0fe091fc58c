import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.errors import QueryError
from retrieval.images import open_image
from retrieval.query import Query, asked, embed, opened, parse, parse_arguments, text_query


def refused(text):
    with pytest.raises(QueryError) as caught:
        parse(text)
    return str(caught.value)


class TestTexts:
    @pytest.mark.parametrize(
        "text",
        [
            "a dog on the beach",
            "a dog\non the beach",
            "собака 一只狗",
            "jpg",
            "what is a .jpg",  # a suffix, but with spaces around: words
            "./no/such/file",
            "http://example.org/page",
            "~cat",  # no user of that name
            "~nobody at all/cat",
            "a\0b",
            "long " * 5000,
            "x" * 5000,
        ],
    )
    def test_everything_else_is_text(self, text):
        assert parse(text) == Query(text.strip())

    def test_surrounding_blanks_are_dropped(self):
        assert parse("  a dog \n") == Query("a dog")

    @pytest.mark.parametrize("text", ["", "   ", "\n\t"])
    def test_an_empty_query(self, text):
        assert refused(text) == "The query is empty. Say what to look for, or give an image file."

    def test_a_file_that_is_no_image(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("dog").write_text("a shopping list")
        assert parse("dog") == Query("dog")

    def test_a_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("dog").mkdir()
        assert parse("dog") == Query("dog")


    def test_words_alone(self, photo_folder):
        name = str(photo_folder / "rocket.jpg")
        assert text_query(f" {name} ") == Query(name)
        with pytest.raises(QueryError, match="^The query is empty"):
            text_query(" ")


class TestImages:
    def test_an_image_file(self, photo_folder):
        path = photo_folder / "rocket.jpg"
        assert parse(str(path)) == Query(str(path), path)
        assert parse(f"  {path} ") == Query(str(path), path)

    def test_relative_with_spaces_and_in_the_home_folder(self, photo_folder, monkeypatch):
        shutil.copyfile(photo_folder / "rocket.jpg", photo_folder / "my rocket.JPG")
        monkeypatch.chdir(photo_folder)
        monkeypatch.setenv("HOME", str(photo_folder))
        monkeypatch.setenv("USERPROFILE", str(photo_folder))
        assert parse("my rocket.JPG") == Query("my rocket.JPG", Path("my rocket.JPG"))
        assert parse("./rocket.jpg") == Query("./rocket.jpg", Path("rocket.jpg"))
        assert parse("~/rocket.jpg") == Query("~/rocket.jpg", photo_folder / "rocket.jpg")

    def test_an_image_without_a_suffix_is_known_by_its_content(self, photo_folder):
        path = photo_folder / "rocket"
        shutil.copyfile(photo_folder / "rocket.jpg", path)
        assert parse(str(path)) == Query(str(path), path)

    @pytest.mark.parametrize("name", ["sofa.jpg", "./rooms/sofa.PNG", "~nobody/sofa.webp"])
    def test_a_missing_image_file_is_not_searched_as_text(self, name):
        assert refused(name) == f"There is no image file {name}. To search by text, write words."

    def test_an_unreadable_image_is_refused_when_it_is_embedded(self, tmp_path, tiny_encoder):
        path = tmp_path / "letter.jpg"
        path.write_text("Dear Sir or Madam")
        with pytest.raises(QueryError) as caught:
            embed([parse("a dog"), parse(str(path))], tiny_encoder)
        assert str(caught.value) == f"The query image {path}: not an image in a format that can be read."

    def test_a_file_that_goes_away_in_between(self, photo_folder, tiny_encoder):
        query = parse(str(photo_folder / "rocket.jpg"))
        query.image.unlink()
        with pytest.raises(QueryError, match=r"rocket.jpg: cannot be read: No such file or directory\."):
            embed([query], tiny_encoder)


class TestEmbed:
    def test_texts_and_images_keep_their_places(self, photo_folder, tiny_encoder):
        rocket, cat = photo_folder / "rocket.jpg", photo_folder / "chelsea.png"
        queries = [parse(one) for one in (str(rocket), "a cat", str(cat), "a rocket")]
        vectors = embed(queries, tiny_encoder)
        texts = tiny_encoder.encode_texts(["a cat", "a rocket"])
        images = tiny_encoder.encode_images(
            [open_image(path, at_least=tiny_encoder.input_size)[0] for path in (rocket, cat)]
        )
        assert (vectors.shape, vectors.dtype) == ((4, 32), np.float32)
        np.testing.assert_allclose(vectors, [images[0], texts[0], images[1], texts[1]], atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)

    def test_an_image_is_embedded_upright(self, photo_folder, tiny_encoder):
        upright = Image.open(photo_folder / "rocket.jpg")
        turned = photo_folder / "turned.png"
        exif = Image.Exif()
        exif[0x0112] = 6
        upright.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
        [vector] = embed([parse(str(turned))], tiny_encoder)
        expected = tiny_encoder.encode_images([open_image(photo_folder / "rocket.jpg")[0]])
        np.testing.assert_allclose(vector, expected[0], atol=1e-6)

    def test_content_and_open_images(self, photo_folder, tiny_encoder):
        rocket = photo_folder / "rocket.jpg"
        [expected] = embed([Query("rocket", rocket)], tiny_encoder)
        content = Query("rocket", rocket.read_bytes())
        ready = opened(content, tiny_encoder)
        assert ready.shown == "rocket" and ready.image.mode == "RGB" and opened(ready, tiny_encoder) is ready
        np.testing.assert_array_equal(embed([content, ready], tiny_encoder), [expected] * 2)

    def test_no_queries(self, tiny_encoder):
        assert embed([], tiny_encoder).shape == (0, 32)


def test_an_argument_that_is_an_id_is_not_split():
    (query,) = parse_arguments(["id:photo - Copy.jpg", "+", "snow"])
    assert query.terms == ((1.0, Query("id:photo - Copy.jpg", document="photo - Copy.jpg")), (1.0, Query("snow")))


def test_where_an_id_was_split_quotes_are_recommended():
    assert refused("id:photo - Copy.jpg") == (
        "There is no image file Copy.jpg. To search by text, write words. "
        'If it belongs to an id, put that in quotes: id:"a - b.jpg".'
    )


class TestAskedByPrograms:
    def test_a_path_is_an_image_file_whatever_its_name(self, photo_folder):
        rocket = photo_folder / "rocket.jpg"
        named = rocket.rename(photo_folder / "a rocket + no suffix")
        assert asked(named) == Query(str(named), named)
        assert asked("a dog + a cat").terms and asked(Query("a - b")) == Query("a - b")

    @pytest.mark.parametrize("path", [Path("a dog"), Path("notes.txt"), Path()])
    def test_a_path_is_never_words(self, path, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("notes.txt").write_text("no image")
        with pytest.raises(QueryError, match=f"^There is no image file {path}. To search by words, give a text.$"):
            asked(path)

    @pytest.mark.parametrize("one", [None, 3, b"a dog"])
    def test_anything_else_is_refused(self, one):
        with pytest.raises(QueryError, match="cannot be searched by; give a text, a path, or a list of these"):
            asked(one)

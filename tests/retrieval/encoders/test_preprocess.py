"""One resize of the middle, and JPEGs decoded smaller: nearly the vectors of open_clip's own transform."""

import io

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg
from PIL import Image

from retrieval.encoders import load_encoder, openclip, preprocess
from retrieval.images import open_image


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("size", [(500, 333), (333, 500), (224, 224), (640, 480), (100, 90), (61, 60), (300, 225)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
def test_below_three_times_the_input_only_rounding_differs(size, interpolation, resize_mode):
    config = PreprocessCfg(size=224, interpolation=interpolation, resize_mode=resize_mode)
    fast = preprocess.fast_transform(config)(noise(*size))
    assert (fast.shape, fast.dtype) == ((3, 224, 224), torch.uint8)
    exact = preprocess.exact_transform(config)(noise(*size))
    levels = (preprocess.normalise(fast[None], config)[0] - exact).abs() * torch.tensor(config.std).view(3, 1, 1) * 255
    assert levels.mean() < 0.3
    assert levels.max() < 12  # of 255, on pure noise, where bicubic overshoots are cut off midway


def test_sizes_that_are_not_square():
    config = PreprocessCfg(size=(96, 160), resize_mode="squash")
    fast = preprocess.normalise(preprocess.fast_transform(config)(noise(200, 150))[None], config)[0]
    np.testing.assert_allclose(fast, preprocess.exact_transform(config)(noise(200, 150)), atol=1e-6)
    assert preprocess.input_size(config) == 160
    assert preprocess.fast_transform(PreprocessCfg(size=(96, 160), resize_mode="shortest")) is None


def test_padding_is_left_to_open_clip():
    assert preprocess.fast_transform(PreprocessCfg(resize_mode="longest")) is None


def test_a_model_that_minds_keeps_the_exact_way(tiny_model, monkeypatch, tmp_path):
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path))
    monkeypatch.setattr(preprocess, "agreement", lambda *_: 0.9989)
    encoder = load_encoder(str(tiny_model), device="cpu", precision="float32")
    assert encoder.input_size is None and encoder.prepare(noise(40, 40)).dtype == torch.float32

    def measured_again(*_):
        raise AssertionError("measured twice")

    monkeypatch.setattr(openclip.preprocess, "agreement", measured_again)
    assert load_encoder(str(tiny_model), device="cpu", precision="float32").input_size is None


def test_exact_preprocessing_can_be_asked_for(tiny_model, tiny_encoder):
    exact = load_encoder(str(tiny_model), device="cpu", precision="float32", exact_preprocess=True)
    assert (exact.input_size, tiny_encoder.input_size) == (None, 32)
    assert exact.fingerprint == tiny_encoder.fingerprint
    assert exact.prepare(noise(40, 40)).dtype == torch.float32


@pytest.fixture(scope="module")
def originals(photos):
    """125 photos of about 500 pixels, and ten of them as 12-megapixel JPEGs."""
    files = [path.read_bytes() for path in sorted(photos.glob("*.jpg"))]
    large = []
    for content in files[:10]:
        image = Image.open(io.BytesIO(content))
        scale = (12_000_000 / (image.width * image.height)) ** 0.5
        buffer = io.BytesIO()
        image.resize((round(image.width * scale), round(image.height * scale))).save(buffer, "JPEG", quality=90)
        large.append(buffer.getvalue())
    return files, large


@pytest.mark.parametrize("name", ["builtin", "tiny"])
def test_gate(name, originals, tiny_model):
    """What the fast way has to keep: mean cosine at least 0.999, none below 0.99."""
    model = "builtin" if name == "builtin" else str(tiny_model)
    fast, exact = (load_encoder(model, device="cpu", precision="float32", exact_preprocess=one) for one in (False, True))
    assert fast.input_size and exact.input_size is None
    for files in originals:
        vectors = [
            encoder.encode_prepared([
                encoder.prepare(open_image(file, at_least=encoder.input_size)[0]) for file in files
            ]) for encoder in (fast, exact)
        ]
        cosines = (vectors[0] * vectors[1]).sum(axis=1)
        assert cosines.mean() >= 0.999 and cosines.min() >= 0.99


def test_the_size_of_flickr8k_comes_through_to_the_bit(builtin_encoder):
    """224 x 224, as its test split is stored: nothing to shrink, so recall cannot move."""
    buffer = io.BytesIO()
    noise(224, 224).save(buffer, "JPEG")
    image = open_image(buffer.getvalue(), at_least=builtin_encoder.input_size)[0]
    np.testing.assert_array_equal(builtin_encoder.prepare(image).permute(1, 2, 0), open_image(buffer.getvalue())[0])

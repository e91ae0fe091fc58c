"""What positions contribute: against towers whose answer is known, and the shapes of other towers."""

import numpy as np
import open_clip
import pytest
import timm
import torch
from open_clip.transform import PreprocessCfg
from PIL import Image

from retrieval.encoders import preprocess
from retrieval.encoders.relevance import of_positions, seen_part
from retrieval.errors import EncoderError
from retrieval.images import open_image


class MeanColour(torch.nn.Module):
    """Its features are the mean colour, of patches of 2 x 2 pixels."""

    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 3, 2, 2, bias=False)
        self.patches.weight.data = torch.eye(3)[:, :, None, None].expand(3, 3, 2, 2) / 4

    def forward(self, pixels):
        return self.patches(pixels).mean((2, 3))


def test_a_red_half_speaks_for_red():
    pixels = torch.zeros(1, 3, 4, 8)
    pixels[:, 0, :, :4] = 1  # red
    pixels[:, 2, :, 4:] = 1  # blue
    tower = MeanColour().requires_grad_(False)
    red = of_positions(tower, tower, pixels, torch.tensor([1.0, 0, 0]))
    # the features are (1/2, 0, 1/2); the cosine's gradient by them is (1, 0, -1) / sqrt 2; 8 positions
    half = 1 / (8 * 2**0.5)
    np.testing.assert_allclose(red, [[half, half, -half, -half]] * 2, atol=1e-6)


def test_the_built_in_encoders_are_shares_of_its_inner_product(builtin_encoder, sample_photos):
    image, _ = open_image(next(path for path in sample_photos if path.name == "chelsea.png"))
    text = builtin_encoder.encode_texts(["a cat"])[0]
    positions, box = builtin_encoder.relevance(image, text)
    assert positions.shape == (7, 7) and box == (0, 0, *image.size)
    visual = builtin_encoder._model.visual
    with torch.inference_mode():
        pixels = preprocess.normalise(builtin_encoder.prepare(image)[None], builtin_encoder._preprocessing)
        features = visual.trunk.forward_features(pixels)[0].permute(1, 2, 0)  # (7, 7, channels)
        projected = (features @ visual.head.proj.weight.T).numpy()  # (7, 7, d)
    whole = projected.mean((0, 1))
    length = np.linalg.norm(whole)
    score = whole @ text / length
    expected = (projected @ text / length - score * (projected @ whole) / length**2) / 49
    np.testing.assert_allclose(positions, expected, atol=1e-5)
    assert positions.sum() == pytest.approx(0, abs=1e-4) and positions.max() > 0.001


def test_explaining_changes_no_vector(tiny_encoder, sample_photos):
    image, _ = open_image(sample_photos[0])
    before = tiny_encoder.encode_images([image])
    tiny_encoder.relevance(image, tiny_encoder.encode_texts(["a dog"])[0])
    np.testing.assert_array_equal(tiny_encoder.encode_images([image]), before)
    assert not any(module._forward_hooks for module in tiny_encoder._model.modules())


_VIT = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
_TEXT = {"context_length": 16, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1}


@pytest.mark.parametrize(("vision", "shape"), [
    (_VIT, (4, 4)),  # by a class token
    ({**_VIT, "pool_type": "avg"}, (4, 4)),
    ({**_VIT, "image_size": [32, 48]}, (4, 6)),
    ({"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}, (2, 2)),
], ids=["ViT", "ViT of means", "ViT not square", "ResNet"])
def test_every_kind_of_tower_has_positions(vision, shape):
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=_TEXT).eval().requires_grad_(False)
    size = vision["image_size"]
    pixels = torch.rand(1, 3, *((size, size) if isinstance(size, int) else size))
    check(of_positions(model.encode_image, model.visual, pixels, torch.eye(16)[0]), shape)


@pytest.mark.parametrize(("name", "options", "shape"), [
    ("vit_tiny_patch16_224", {"img_size": 64, "depth": 2}, (4, 4)),
    ("vit_tiny_patch16_224", {"img_size": 64, "depth": 2, "global_pool": "map", "class_token": False}, (4, 4)),  # SigLIP
    ("convnext_atto", {}, (2, 2)),
    ("mobilenetv3_small_050", {}, (2, 2)),  # squeezes and excites by maps of 1 x 1
    ("swin_tiny_patch4_window7_224", {
        "img_size": 64, "depths": (1, 1, 1, 1), "embed_dim": 16, "num_heads": (1, 1, 1, 1)}, (2, 2)),  # channels last
], ids=["ViT", "ViT with attention pooling", "ConvNeXt", "MobileNet", "Swin"])
def test_so_have_those_of_timm(name, options, shape):
    torch.manual_seed(0)
    tower = timm.create_model(name, num_classes=0, **options).eval().requires_grad_(False)
    pixels = torch.rand(1, 3, 64, 64)
    check(of_positions(tower, tower, pixels, torch.eye(tower(pixels).shape[1])[0]), shape)


def check(positions, shape):
    assert positions.shape == shape and positions.dtype == np.float32
    assert np.isfinite(positions).all() and np.count_nonzero(positions) == positions.size


def test_a_tower_without_positions():
    tower = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    with pytest.raises(EncoderError, match="--method occlusion"):
        of_positions(tower, tower, torch.rand(1, 3, 2, 2), torch.tensor([1.0, 0]))


@pytest.mark.parametrize(("mode", "size", "box"), [
    ("squash", (200, 100), (0, 0, 200, 100)),
    ("shortest", (200, 100), (50, 0, 150, 100)),
    ("shortest", (100, 200), (0, 50, 100, 150)),
    ("longest", (200, 100), (0, -50, 200, 150)),
])
def test_what_is_seen_of_an_image(mode, size, box):
    assert seen_part(size, PreprocessCfg(size=64, resize_mode=mode)) == pytest.approx(box)


def test_of_a_long_strip_only_the_middle_is_seen(tiny_encoder):
    _, box = tiny_encoder.relevance(Image.new("RGB", (1000, 10), "red"), tiny_encoder.encode_texts(["red"])[0])
    assert box == (495, 0, 505, 10)

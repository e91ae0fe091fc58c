"""Int8 weights: how far they may be off, what stays as it was, and files that cannot be trusted."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from retrieval.encoders import builtin
from retrieval.encoders.openclip import OpenClipEncoder
from retrieval.encoders.quantized import (
    dequantize, load_int8, measure_loss, quantize, save_int8, through_int8,
)
from retrieval.errors import WeightsError
from retrieval.images import open_image


def test_by_hand():
    weight = torch.tensor([[1.27, -0.5, 0.004, 0.006], [0.0, 0.0, 0.0, 0.0], [-254.0, 3.0, 127.0, 1.0]])
    whole, scale = quantize(weight)
    assert whole.dtype == torch.int8 and scale.tolist() == pytest.approx([0.01, 0.0, 2.0])
    # of two equally near whole numbers the even one
    assert whole.tolist() == [[127, -50, 0, 1], [0, 0, 0, 0], [-127, 2, 64, 0]]
    assert dequantize(whole, scale).tolist()[2] == [-254.0, 4.0, 128.0, 0.0]


@pytest.fixture
def state():
    chance = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(6, 3, 5, 5, generator=chance) * torch.logspace(-6, 3, 6).view(6, 1, 1, 1),
        "conv.bias": torch.randn(6, generator=chance),
        "norm.running_var": torch.rand(6, generator=chance),
        "norm.num_batches_tracked": torch.tensor(7),
        "words.weight": torch.randn(50, 8, generator=chance),
        "positions": torch.arange(12).view(3, 4),
        "logit_scale": torch.tensor(2.5),
    }


def test_no_weight_is_off_by_more_than_half_a_step_of_its_channel(state, tmp_path):
    state["conv.weight"][:, 1] = 0
    save_int8(state, tmp_path / "small.safetensors")
    loaded = load_int8(tmp_path / "small.safetensors")
    assert list(sorted(loaded)) == sorted(state)
    for name in ("conv.weight", "words.weight"):
        error = (loaded[name] - state[name]).flatten(1).abs()
        half_a_step = state[name].flatten(1).abs().amax(1, keepdim=True) / 254
        assert (error <= half_a_step * 1.0001).all() and error.max() > 0
        assert loaded[name].dtype == torch.float32
    assert (loaded["conv.weight"][:, 1] == 0).all()
    for name in ("conv.bias", "norm.running_var", "norm.num_batches_tracked", "positions", "logit_scale"):
        assert loaded[name].dtype == state[name].dtype and torch.equal(loaded[name], state[name])


def test_what_was_quantized_before_does_not_change_again(state, tmp_path):
    once = through_int8(state)
    save_int8(once, tmp_path / "small.safetensors")
    for name, tensor in load_int8(tmp_path / "small.safetensors").items():
        torch.testing.assert_close(tensor, once[name], rtol=1e-6, atol=0)


def test_a_file_is_a_quarter_of_its_size(state, tmp_path):
    state = {"weight": torch.randn(200, 300), "bias": torch.randn(200)}
    save_int8(state, tmp_path / "small.safetensors")
    content = 200 * 300 + 4 * 200 + 4 * 200
    assert content < (tmp_path / "small.safetensors").stat().st_size < content + 500


@pytest.mark.parametrize("left", [0, 4, 60, 0.5, -1])
def test_a_truncated_file_is_refused(state, tmp_path, left):
    path = tmp_path / "small.safetensors"
    save_int8(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    with pytest.raises(WeightsError, match="small.safetensors is missing or damaged"):
        load_int8(path)


def test_other_files_are_refused(state, tmp_path):
    with pytest.raises(WeightsError, match="gone.safetensors is missing or damaged"):
        load_int8(tmp_path / "gone.safetensors")
    save_file({"weight": torch.ones(2, 2)}, tmp_path / "float.safetensors")
    with pytest.raises(WeightsError, match="float.safetensors holds no int8 weights"):
        load_int8(tmp_path / "float.safetensors")


def test_weights_that_are_not_finite_are_not_written(state, tmp_path):
    state["conv.weight"][2, 0, 0, 0] = float("nan")
    with pytest.raises(WeightsError, match="conv.weight is not finite everywhere"):
        save_int8(state, tmp_path / "small.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The built-in encoder with an image tower that went through a file of int8 weights."""
    loaded = builtin.load_model()
    trunk = loaded.model.visual.trunk
    path = tmp_path_factory.mktemp("int8") / "trunk.safetensors"
    save_int8(trunk.state_dict(), path)
    assert path.stat().st_size < 4.2e6
    trunk.load_state_dict(load_int8(path))
    return OpenClipEncoder(loaded, device="cpu", precision="float32")


def test_the_built_in_image_tower_in_four_megabytes(small, builtin_encoder, sample_photos):
    images = [open_image(path)[0] for path in sample_photos]
    loss = measure_loss(builtin_encoder, small, images)
    assert 0.99 < loss.mean_cosine < 1 - 1e-6 and 0.97 < loss.min_cosine <= loss.mean_cosine
    assert loss.recall == {}


class Table:
    """An encoder that looks its vectors up: of images by their first pixel, of texts by name."""

    def __init__(self, images, texts):
        self.images, self.texts = np.array(images, np.float32), {name: np.array(one, np.float32) for name, one in texts.items()}

    def encode_images(self, images):
        return self.images[[image.getpixel((0, 0)) for image in images]]

    def encode_texts(self, texts):
        return np.stack([self.texts[text] for text in texts])


def test_loss_by_hand():
    texts = {"a": [1, 0], "b": [0, 1], "c": [0.6, 0.8]}
    exact = Table([[1, 0], [0, 1]], texts)
    other = Table([[0.6, 0.8], [0, 1]], texts)
    loss = measure_loss(exact, other, [Image.new("L", (1, 1), number) for number in (0, 1)], [["a"], ["b", "c"]])
    assert loss.mean_cosine == pytest.approx(0.8) and loss.min_cosine == pytest.approx(0.6)
    # c's image is the second; the other encoder takes the first for it, and c for the first image's text
    assert loss.recall["text_to_image"]["R@1"] == pytest.approx((100, 200 / 3))
    assert loss.recall["image_to_text"]["R@1"] == pytest.approx((100, 50))
    assert loss.recall["text_to_image"]["R@5"] == (100, 100)

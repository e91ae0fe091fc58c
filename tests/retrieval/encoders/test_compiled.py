"""A compiled tower gives what it gave before, and one that cannot be compiled runs as it is."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval.encoders import load_encoder
from retrieval.encoders.compiled import Compiled
from retrieval.errors import NOTICE


SIDE = 3  # of the images, in pixels


class Backend:
    """Compiles nothing: notes for what sizes it was asked, and runs the graph as it is, or fails."""

    def __init__(self, error: Exception | None = None, side: int = SIDE):
        self.sizes, self.error, self._shape = [], error, (3, side, side)

    def __call__(self, graph, examples):
        self.sizes += [len(one) for one in examples if one.shape[1:] == self._shape]
        if self.error:
            raise self.error
        return graph.forward


@pytest.fixture
def tower():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.Flatten(), torch.nn.Linear(16, 5)).eval()


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    torch._dynamo.reset()


def images(n):
    return torch.arange(n * 27.0).view(n, 3, SIDE, SIDE)


def told(caplog):
    return [record.message for record in caplog.records if record.name == "retrieval"]


def through(compiled, *sizes):
    with torch.inference_mode():
        return [compiled(images(n)) for n in sizes]


def test_sizes_that_come_again_are_compiled(tower):
    backend = Backend()
    results = through(Compiled(tower, "tiny", backend), 2, 4, 4, 4, 3, 4, 4)
    assert backend.sizes == [4]
    with torch.inference_mode():
        for n, result in zip((2, 4, 4, 4, 3, 4, 4), results):
            torch.testing.assert_close(result, tower(images(n)))


def test_fewer_at_once_are_compiled_for_anew(tower):
    backend = Backend()
    through(Compiled(tower, "tiny", backend), 4, 4, 2, 2, 2)
    assert backend.sizes == [4, 2]


def test_what_cannot_be_compiled_runs_as_it_is(tower, caplog):
    backend = Backend(RuntimeError("no C++ compiler"))
    with caplog.at_level(NOTICE, "retrieval"):
        results = through(Compiled(tower, "tiny", backend), 4, 4, 4)
    with torch.inference_mode():
        torch.testing.assert_close(results[2], tower(images(4)))
    assert backend.sizes == [4]  # tried once
    started, failed = told(caplog)
    assert started == "Compiling the image tower of tiny, which takes a while."
    assert failed.startswith("The image tower of tiny runs as it is, for it cannot be compiled here: ")
    assert "no C++ compiler" in failed


def test_memory_that_runs_out_is_no_reason(caplog):
    caplog.set_level(NOTICE, "retrieval")

    def tower(pixels):
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return pixels.flatten(1)

    compiled = Compiled(tower, "tiny", Backend())
    compiled._before = 4
    with pytest.raises(torch.OutOfMemoryError):
        compiled(images(4))
    assert compiled._compiled is not None
    assert told(caplog) == ["Compiling the image tower of tiny, which takes a while."]


def test_an_encoder_with_it_agrees_with_one_without(tiny_model, tiny_encoder, monkeypatch):
    encoder = load_encoder(f"local-dir:{tiny_model}", device="cpu", precision="float32", compile=True)
    backend = Backend(side=32)
    encoder._compiled = Compiled(encoder._model.encode_image, encoder.name, backend)
    encoder._batches.at_once = 5
    photos = [Image.new("RGB", (40, 32), (shade, 255 - shade, 90)) for shade in range(0, 250, 50)]
    for _ in range(3):
        np.testing.assert_allclose(encoder.encode_images(photos), tiny_encoder.encode_images(photos), atol=1e-5)
    assert set(backend.sizes) == {5}
    assert tiny_encoder._compiled is None


@pytest.mark.slow
def test_torch_s_own_compiler(tiny_model, tiny_encoder):
    encoder = load_encoder(f"local-dir:{tiny_model}", device="cpu", precision="float32", compile=True)
    photos = [Image.new("RGB", (40, 32), (shade, 255 - shade, 90)) for shade in range(0, 250, 50)]
    for _ in range(2):
        np.testing.assert_allclose(encoder.encode_images(photos), tiny_encoder.encode_images(photos), atol=1e-4)
    assert encoder._compiled._compiled is not None  # it did not give up

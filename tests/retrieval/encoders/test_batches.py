"""Running out of memory is what is faked here; the model and its vectors are real."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval.encoders.batches import AT_ONCE, Batches, images_at_once, is_shortage
from retrieval.errors import EncoderError

SHORTAGES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
                 "you tried to allocate 9216 bytes. Error code 12 (Cannot allocate memory)"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
]


@pytest.fixture
def prepared(builtin_encoder, sample_photos):
    return [builtin_encoder.prepare(Image.open(path).convert("RGB")) for path in sample_photos[:13]]


@pytest.fixture
def sizes(builtin_encoder, monkeypatch):
    """Makes memory suffice for `sizes.most` images, and notes how many were tried at once."""
    embed = builtin_encoder._model.encode_image

    class Sizes(list):
        most, error = 5, SHORTAGES[0]

    tried = Sizes()

    def embed_few(pixels):
        tried.append(len(pixels))
        if len(pixels) > tried.most:
            raise tried.error
        return embed(pixels)

    monkeypatch.setattr(builtin_encoder._model, "encode_image", embed_few)
    batches = Batches(builtin_encoder.device, "builtin")
    batches.at_once = AT_ONCE
    monkeypatch.setattr(builtin_encoder, "_batches", batches)
    return tried


@pytest.mark.parametrize("error", SHORTAGES, ids=lambda error: type(error).__name__)
def test_fewer_at_once_where_memory_runs_out(builtin_encoder, prepared, sizes, error, caplog):
    sizes.error, sizes.most = error, 100
    expected = builtin_encoder.encode_prepared(prepared)
    sizes.clear()
    sizes.most = 5
    with caplog.at_level(logging.INFO, "retrieval"):
        np.testing.assert_allclose(builtin_encoder.encode_prepared(prepared), expected, atol=1e-6)
        assert sizes == [13, 6, 3, 3, 3, 3, 1]
        sizes.clear()
        np.testing.assert_allclose(builtin_encoder.encode_prepared(prepared), expected, atol=1e-6)
        assert sizes == [3, 3, 3, 3, 1]  # it is remembered
    assert [record.message for record in caplog.records] == [
        "Memory on cpu does not suffice for 13 images at once; going on with fewer."
    ]


def test_memory_that_runs_out_later(builtin_encoder, prepared, sizes):
    expected = np.concatenate([builtin_encoder.encode_prepared([one]) for one in prepared])
    np.testing.assert_allclose(builtin_encoder.encode_prepared(prepared[:4]), expected[:4], atol=1e-6)
    sizes.most = 2
    np.testing.assert_allclose(builtin_encoder.encode_prepared(prepared[4:]), expected[4:], atol=1e-6)
    assert builtin_encoder._batches.at_once == 2


def test_not_even_one(builtin_encoder, prepared, sizes):
    sizes.most = 0
    with pytest.raises(EncoderError, match="to encode even one image with builtin.*a smaller --model"):
        builtin_encoder.encode_prepared(prepared)
    assert sizes == [13, 6, 3, 1]


def test_other_errors_are_not_taken_for_it(builtin_encoder, prepared, sizes):
    sizes.most, sizes.error = 5, RuntimeError("shape '[2, 3]' is invalid for input of size 5")
    with pytest.raises(RuntimeError, match="is invalid for input"):
        builtin_encoder.encode_prepared(prepared)
    assert sizes == [13]


def test_a_cpu_takes_few_at_once(builtin_encoder, prepared, sizes, monkeypatch):
    """Two for each thread; what comes out is the same."""
    expected = builtin_encoder.encode_prepared(prepared[:5])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert images_at_once(torch.device("cpu")) == 2 and images_at_once(torch.device("cuda")) == AT_ONCE
    monkeypatch.setattr(builtin_encoder, "_batches", Batches(torch.device("cpu"), "builtin"))
    sizes.clear()
    np.testing.assert_allclose(builtin_encoder.encode_prepared(prepared[:5]), expected, atol=1e-6)
    assert sizes == [2, 2, 1]


def test_what_torch_really_says():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**58, dtype=torch.uint8)  # more than any address space has
    assert is_shortage(raised.value)


def test_more_than_go_at_once_come_back_in_order():
    images = list(torch.arange(600 * 3).view(600, 3, 1, 1))
    found = Batches(torch.device("cpu"), "none").embed(images, lambda pixels: pixels.flatten(1))
    assert torch.equal(found, torch.arange(600 * 3).view(600, 3))


@pytest.mark.parametrize("fast", [True, False])
def test_beside_a_gpu_the_cpu_works_in_one_thread(builtin_encoder, prepared, monkeypatch, fast):
    """The device is faked: what is looked at is how many threads torch has while a model runs, and after it."""
    embed, during = builtin_encoder._model.encode_image, []

    def embed_and_note(pixels):
        during.append(torch.get_num_threads())
        return embed(pixels)

    monkeypatch.setattr(builtin_encoder._model, "encode_image", embed_and_note)
    monkeypatch.setattr(type(builtin_encoder), "is_fast", fast)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        builtin_encoder.encode_prepared(prepared[:2])
        assert (during, torch.get_num_threads()) == ([1 if fast else 3], 3)
    finally:
        torch.set_num_threads(before)

"""Devices, number formats, and what is remembered of them."""

import numpy as np
import pytest
import torch

from retrieval.encoders import precision
from retrieval.errors import EncoderError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "dtype"),
    [(True, False, torch.bfloat16), (False, True, torch.bfloat16), (False, False, torch.float32)],
)
def test_precision_follows_the_cpu(monkeypatch, amx, avx512_bf16, dtype):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16, raising=False)
    assert precision.choose_dtype("auto", CPU) == dtype


@pytest.mark.parametrize(("major", "dtype"), [(7, torch.float32), (8, torch.bfloat16), (9, torch.bfloat16)])
def test_precision_follows_the_cuda_generation(monkeypatch, major, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
    assert precision.fast_dtype(torch.device("cuda")) == dtype


def test_explicit_precision_wins():
    assert precision.choose_dtype("float32", CPU) == torch.float32
    assert precision.choose_dtype("bfloat16", CPU) == torch.bfloat16
    with pytest.raises(EncoderError, match="Unknown precision 'fp8'; choose one of auto, float32, bfloat16"):
        precision.choose_dtype("fp8", CPU)


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_device_that_is_not_there(device):
    with pytest.raises(EncoderError, match=f"device '{device}' is not available here. Use --device cpu"):
        precision.resolve_device(device)


def test_probe_pictures_are_always_the_same_and_differ_from_each_other():
    first, again = precision.probe_images(64), precision.probe_images(64)
    assert [one.tobytes() for one in first] == [one.tobytes() for one in again]
    assert len({one.tobytes() for one in first}) == 4


def test_agreement_is_the_worst_cosine_of_images_and_texts():
    along = np.array([[1, 0], [0, 1]], np.float32)
    tilted = np.array([[1, 0], [0.6, 0.8]], np.float32)
    assert precision.agreement(lambda *_: (along, along), lambda *_: (along, tilted), 64) == pytest.approx(0.8)
    assert precision.agreement(lambda *_: (along, along), lambda *_: (tilted, along), 64) == pytest.approx(0.8)


def test_verdicts_are_kept_by_model_and_machine(tmp_path):
    verdicts = precision.Verdicts(tmp_path / "deep" / "precision.json")
    assert verdicts.get("abc", CPU) is None
    verdicts.put("abc", CPU, 0.9995)
    verdicts.put("def", CPU, 0.5)
    assert precision.Verdicts(verdicts.path).get("abc", CPU) == 0.9995
    assert verdicts.get("def", CPU) == 0.5


@pytest.mark.parametrize("content", ["", "[]", "{not json", '{"abc": 1}', "\0\1"])
def test_damaged_verdicts_only_cost_another_measurement(tmp_path, content):
    path = tmp_path / "precision.json"
    path.write_text(content)
    assert precision.Verdicts(path).get("abc", CPU) is None
    precision.Verdicts(path).put("abc", CPU, 0.9999)
    assert precision.Verdicts(path).get("abc", CPU) == 0.9999


def test_unwritable_cache_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    precision.Verdicts(tmp_path / "file" / "precision.json").put("abc", CPU, 0.9999)

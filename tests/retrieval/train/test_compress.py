"""Models with int8 weights, written and loaded as a user would."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from retrieval.encoders import load_encoder
from retrieval.encoders.quantized import FILE_NAME, through_int8
from retrieval.errors import TrainingError
from retrieval.train import compress as room
from retrieval.train import model_folder
from retrieval.train.compress import compress
from retrieval.train.starting import Start, start_model
from retrieval.train.trainable import plain_state


def loaded(folder):
    return load_encoder(str(folder), device="cpu", precision="float32", exact_preprocess=True)


@pytest.fixture(scope="module")
def pictures(quarters):
    return [photo.open() for photo in quarters.photos]


def test_the_small_model_is_the_model_to_half_a_step_of_each_weight(tiny_model, pictures, tmp_path):
    done = compress(str(tiny_model), tmp_path / "small")
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == [
        "README.md", FILE_NAME, "open_clip_config.json"]
    assert (done.loss, done.photos) == (None, 0)
    assert done.bytes_before == 4 * sum(one.numel() for one in load_file(tiny_model / model_folder.WEIGHTS_FILE).values())
    assert done.bytes_after == (tmp_path / "small" / FILE_NAME).stat().st_size < 0.27 * done.bytes_before
    encoder = loaded(tmp_path / "small")
    assert encoder.fingerprint == done.fingerprint != loaded(tiny_model).fingerprint
    expected = start_model(Start(model=str(tiny_model))).encoder.model
    expected.load_state_dict(through_int8(expected.state_dict()))
    for name, tensor in encoder._model.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name]), name
    cosines = (encoder.encode_images(pictures) * loaded(tiny_model).encode_images(pictures)).sum(axis=1)
    assert 0.99 < cosines.min() < 1 - 1e-7


def test_a_model_whose_text_tower_is_ours_alone(quarters, tmp_path):
    towers = Start(image_tower="resnet10t:none", text_tower="gru", dim=24, image_size=32)
    trainee = start_model(towers)
    model_folder.write(tmp_path / "gru", trainee, plain_state(trainee.encoder.model), {})
    done = compress(str(tmp_path / "gru"), tmp_path / "small")
    texts = [one for captions in quarters.captions[:20] for one in captions]
    small, exact = loaded(tmp_path / "small"), loaded(tmp_path / "gru")
    assert small.fingerprint == done.fingerprint
    assert 0.99 < (small.encode_texts(texts) * exact.encode_texts(texts)).sum(axis=1).min() < 1 - 1e-7


def test_what_it_costs_is_measured_and_written_down(tiny_model, quarters, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "MOST_PHOTOS", 30)
    seen = []
    done = compress(str(tiny_model), tmp_path, quarters, device="cpu", on_photo=seen.append)
    assert (done.photos, sum(seen)) == (30, 30)
    exact, small = (loaded(folder).encode_images(pictures[:30]) for folder in (tiny_model, tmp_path))
    assert done.loss.mean_cosine == pytest.approx(float((exact * small).sum(axis=1).mean()), abs=1e-5)
    texts = [one for captions in quarters.captions[:30] for one in captions]
    for at, (folder, images) in enumerate([(tiny_model, exact), (tmp_path, small)]):
        best = np.argmax(loaded(folder).encode_texts(texts) @ images.T, axis=1)
        hits = 100 * np.mean(best == np.repeat(np.arange(30), 2))
        assert done.loss.recall["text_to_image"]["R@1"][at] == pytest.approx(hits)
    card = (tmp_path / "README.md").read_text()
    assert f"| mean cosine | {done.loss.mean_cosine:.4g} |" in card and "| photos it was measured on | 30 |" in card
    assert "## Compression" in card and "int8, so it loads through this package alone" in card


def test_one_kind_of_weights_takes_the_others_place(tiny_model, tmp_path):
    small = compress(str(tiny_model), tmp_path)
    trainee = start_model(Start(model=str(tiny_model)))
    exact = model_folder.write(tmp_path, trainee, plain_state(trainee.encoder.model), {})
    assert not (tmp_path / FILE_NAME).exists() and loaded(tmp_path).fingerprint == exact
    assert compress(str(tiny_model), tmp_path).fingerprint == small.fingerprint == loaded(tmp_path).fingerprint
    assert not (tmp_path / model_folder.WEIGHTS_FILE).exists()


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_a_model_is_not_overwritten_by_its_small_self(tiny_model, prefix):
    before = sorted(path.name for path in tiny_model.iterdir())
    with pytest.raises(TrainingError, match="is the model itself"):
        compress(prefix + str(tiny_model), tiny_model)
    assert sorted(path.name for path in tiny_model.iterdir()) == before


def test_the_configuration_is_the_models_own(tiny_model, tmp_path):
    compress(str(tiny_model), tmp_path)
    ours, theirs = (json.loads((Path(one) / "open_clip_config.json").read_text()) for one in (tmp_path, tiny_model))
    assert ours["model_cfg"] == theirs["model_cfg"]

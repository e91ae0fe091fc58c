"""The mean of models lies between them, weight by weight, and is a model itself."""

import pytest
import torch
from safetensors.torch import load_file

from retrieval.encoders import load_encoder
from retrieval.errors import TrainingError
from retrieval.train import model_folder
from retrieval.train.mean import write_mean
from retrieval.train.starting import Start, start_model


def model(folder, seed, dim=8):
    torch.manual_seed(seed)
    made = start_model(Start(image_tower="test_efficientnet:none", text_tower="gru", image_size=32, dim=dim))
    model_folder.write(folder, made, made.encoder.model.state_dict(), {})
    return str(folder)


def weights(folder):
    return load_file(f"{folder}/open_clip_model.safetensors")


def test_every_weight_is_the_mean_of_three(tmp_path):
    models = [model(tmp_path / str(seed), seed) for seed in range(3)]
    write_mean(models, tmp_path / "mean")
    found, given = weights(tmp_path / "mean"), [weights(one) for one in models]
    assert found.keys() == given[0].keys()
    for name, one in found.items():
        torch.testing.assert_close(one.double(), sum(other[name].double() for other in given) / 3, atol=1e-7, rtol=1e-6)
    name = "text.rnn.weight_hh_l0"
    assert not torch.equal(given[0][name], given[1][name])
    assert load_encoder(str(tmp_path / "mean"), device="cpu").dim == 8


def test_one_model_is_no_mean(tmp_path):
    with pytest.raises(TrainingError, match="at least two"):
        write_mean(["builtin"], tmp_path / "mean")


def test_models_of_other_shapes_have_none(tmp_path):
    models = [model(tmp_path / "a", 0), model(tmp_path / "b", 0, dim=9)]
    with pytest.raises(TrainingError, match="b has other weights than .*a"):
        write_mean(models, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()

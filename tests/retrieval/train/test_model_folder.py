"""A written folder gives the vectors of the model that was trained, through `--model` and plain open_clip."""

import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from retrieval.encoders import load_encoder
from retrieval.encoders.openclip import OpenClipEncoder
from retrieval.encoders.preprocess import exact_transform
from retrieval.encoders.text_tower import published
from retrieval.encoders.towers import text_tower_folder
from retrieval.errors import TrainingError
from retrieval.train import model_folder
from retrieval.train.starting import Start, start_model
from retrieval.train.trainable import Tuning, make_trainable, plain_state

TEXTS = ["a dog", "two children on a beach, one of them running"]
FACTS = {"photos": 12, "settings": {"learning_rate": 0.0005, "loss": "infonce"}, "data": "a|b"}


def start(seed=0, **what):
    torch.manual_seed(seed)
    return start_model(Start(**{"image_tower": "test_efficientnet:none", "image_size": 32, "dim": 24, **what}))


@pytest.fixture(scope="module")
def pictures(sample_photos):
    return [Image.open(path).convert("RGB") for path in sample_photos[:3]]


def vectors(model, preprocess, tokenize, pictures):
    with torch.inference_mode():
        model.eval()
        images = model.encode_image(torch.stack([preprocess(one) for one in pictures]), normalize=True)
        return images.numpy(), model.encode_text(tokenize(TEXTS), normalize=True).numpy()


def of_trainee(trainee, pictures):
    config = open_clip.transform.PreprocessCfg(**trainee.encoder.preprocessing)
    return vectors(trainee.encoder.model, exact_transform(config), trainee.encoder.tokenize, pictures)


def of_folder(folder, pictures):
    encoder = load_encoder(str(folder), device="cpu", precision="float32", exact_preprocess=True)
    return encoder.encode_images(pictures), encoder.encode_texts(TEXTS), encoder.fingerprint


def of_plain_open_clip(folder, pictures):
    name = f"local-dir:{folder}"
    model, preprocess = open_clip.create_model_from_pretrained(name)
    return vectors(model, preprocess, open_clip.get_tokenizer(name), pictures)


def assert_same(one, other):
    for ours, theirs in zip(one[:2], other[:2]):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def fingerprint_of_folder(folder):
    return load_encoder(str(folder), device="cpu", precision="float32", exact_preprocess=True).fingerprint


@pytest.fixture(scope="module")
def recurrent_trainee():
    return start(text_tower="gru")


def test_recurrent_model(recurrent_trainee, pictures, tmp_path):
    trainee = recurrent_trainee
    before = of_trainee(trainee, pictures)
    fingerprint = model_folder.write(tmp_path / "out", trainee, plain_state(trainee.encoder.model), FACTS)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md", "open_clip_config.json", "open_clip_model.safetensors"]
    loaded = of_folder(tmp_path / "out", pictures)
    assert loaded[2] == fingerprint
    assert_same(loaded, before)
    again = start_model(Start(model=str(tmp_path / "out")))
    assert not again.plain_open_clip
    assert_same(of_trainee(again, pictures), before)


def test_adapted_model_in_plain_open_clip(pictures, tmp_path):
    trainee = start(text_tower="transformer")
    make_trainable(trainee.encoder.model, Tuning(lora=2))
    with torch.no_grad():
        for name, parameter in trainee.encoder.model.named_parameters():
            if ".lora_B" in name:
                parameter.fill_(0.02)
    before = of_trainee(trainee, pictures)
    fingerprint = model_folder.write(tmp_path, trainee, plain_state(trainee.encoder.model), FACTS)
    loaded = of_folder(tmp_path, pictures)
    assert loaded[2] == fingerprint
    assert_same(loaded, before)
    assert_same(of_plain_open_clip(tmp_path, pictures), before)


def test_packaged_text_tower(pictures, tmp_path):
    trainee = start(text_tower="builtin")
    before = of_trainee(trainee, pictures)
    fingerprint = model_folder.write(tmp_path / "out", trainee, plain_state(trainee.encoder.model), FACTS)
    assert fingerprint.split("-")[2] == published()["fingerprint"].split("-")[2]  # texts are read as the built-in does
    loaded = of_folder(tmp_path / "out", pictures)
    assert loaded[2] == fingerprint
    assert_same(loaded, before)
    for path in (tmp_path / "out").glob("*.json"):
        assert str(text_tower_folder()) not in path.read_text(), path.name
    # open_clip looks the text tower's configuration up on the hub; name the folder, as the card says
    config = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_model_name"] = str(tmp_path / "out")
    (tmp_path / "out" / "open_clip_config.json").write_text(json.dumps(config))
    assert_same(of_plain_open_clip(tmp_path / "out", pictures), before)


def test_text_tower_from_a_folder(pictures, tmp_path, write_tiny_bert):
    write_tiny_bert(tmp_path / "text")
    trainee = start(text_tower=str(tmp_path / "text"))
    before = of_trainee(trainee, pictures)
    model_folder.write(tmp_path / "out", trainee, plain_state(trainee.encoder.model), FACTS)
    shutil.rmtree(tmp_path / "text")
    assert_same(of_plain_open_clip(tmp_path / "out", pictures), before)
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    assert_same(of_folder(moved, pictures), before)


def test_unchanged_model_keeps_its_fingerprint(tiny_model, tiny_encoder, tmp_path):
    trainee = start_model(Start(model=str(tiny_model)))
    fingerprint = model_folder.write(tmp_path, trainee, plain_state(trainee.encoder.model), {})
    assert fingerprint == tiny_encoder.fingerprint
    assert fingerprint == OpenClipEncoder(trainee.encoder, device="cpu", precision="float32").fingerprint


def test_card(recurrent_trainee, tmp_path):
    state = plain_state(recurrent_trainee.encoder.model)
    fingerprint = model_folder.write(tmp_path / "flowers", recurrent_trainee, state, FACTS)
    card = (tmp_path / "flowers" / "README.md").read_text()
    lines = card.splitlines()
    assert lines[0] == "# flowers"
    for line in (
        "| Vectors | 24 dimensions, unit length |", "| Images | 32 x 32 pixels, shortest, bicubic |",
        f"| Fingerprint | `{fingerprint}` |", "| photos | 12 |", "| settings, learning_rate | 0.0005 |",
        "| data | a\\|b |", "- Text tower: gru, random weights.",
    ):
        assert line in lines
    assert "loads through this package alone" in card and "import open_clip" not in card
    assert str(tmp_path) not in card


def test_a_full_disk_leaves_the_model_that_was_there(recurrent_trainee, tmp_path, monkeypatch, pictures):
    state = plain_state(recurrent_trainee.encoder.model)
    fingerprint = model_folder.write(tmp_path, recurrent_trainee, state, FACTS)
    other = start(seed=1, text_tower="gru")

    def full(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_folder, "save_file", full)
    with pytest.raises(TrainingError, match=f"cannot be written to {tmp_path}: No space left on device"):
        model_folder.write(tmp_path, other, plain_state(other.encoder.model), FACTS)
    assert fingerprint_of_folder(tmp_path) == fingerprint
    assert not list(tmp_path.glob("*.tmp"))


def test_interrupted_over_another_architecture_there_is_no_model(recurrent_trainee, tmp_path, monkeypatch):
    model_folder.write(tmp_path, recurrent_trainee, plain_state(recurrent_trainee.encoder.model), FACTS)
    other = start(text_tower="lstm")
    monkeypatch.setattr(model_folder, "write_json", lambda path, content: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        model_folder.write(tmp_path, other, plain_state(other.encoder.model), FACTS)
    assert not (tmp_path / "open_clip_config.json").exists()


def test_where_nothing_can_be_written(recurrent_trainee, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="cannot be written to .*file"):
        model_folder.write(tmp_path / "file", recurrent_trainee, plain_state(recurrent_trainee.encoder.model), {})


def test_tensors_that_share_memory(recurrent_trainee, tmp_path):
    state = plain_state(recurrent_trainee.encoder.model)
    whole = torch.arange(1.0, 1 + 2 * 24 * 1024).view(2, 24, 1024)
    state["text.proj.weight"] = whole[1]
    state["visual.head.proj.weight"] = whole[0][:, : state["visual.head.proj.weight"].shape[1]]
    model_folder.write(tmp_path, recurrent_trainee, state, {})
    loaded = start_model(Start(model=str(tmp_path))).encoder.model
    assert torch.equal(loaded.text.proj.weight, whole[1])

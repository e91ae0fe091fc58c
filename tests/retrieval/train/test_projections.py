"""`train_projections` from photos to a model that open_clip itself can load."""

import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from retrieval.encoders import builtin, load_encoder
from retrieval.encoders.towers import text_tower_folder
from retrieval.errors import TrainingError
from retrieval.train.cross_encoder import train_cross_encoder
from retrieval.train.match import MatchSettings
from retrieval.train.pairs import Pairs
from retrieval.train.privacy_budget import PrivacySettings
from retrieval.train.projection_loop import Settings
from retrieval.train.projections import train_projections


SETTINGS = Settings(dim=48, epochs=30, batch_size=64, learning_rate=3e-3, seed=5)


@pytest.fixture(scope="module")
def trained(quarters, tmp_path_factory, cache_folder):
    output = tmp_path_factory.mktemp("trained")
    return output, train_projections(quarters, output, SETTINGS, views=1, held_out=6, device="cpu")


def test_outcome_counts_what_was_trained_on(trained):
    output, outcome = trained
    assert (outcome.photos, outcome.captions, outcome.held_out) == (66, 132, 6)
    assert outcome.final.number == 30
    assert set(outcome.validation) == {"text_to_image", "image_to_text"}
    assert outcome.validation["text_to_image"]["R@10"] == 100.0  # there are but six
    written = json.loads((output / "training.json").read_text())
    assert written["settings"]["seed"] == 5 and written["photos"] == 66


def test_model_folder_is_what_our_loader_and_plain_open_clip_load(trained, tmp_path, sample_photos):
    output, _ = trained
    ours = load_encoder(str(output), device="cpu", precision="float32")
    assert ours.dim == 48
    # open_clip looks the text tower's configuration up on the hub; name a local folder instead
    config = json.loads((output / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_model_name"] = str(text_tower_folder())
    for file in output.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    name = f"local-dir:{tmp_path}"
    model, preprocess = open_clip.create_model_from_pretrained(name)
    texts = ["a cat", "a cup of coffee on a wooden table, seen from above"]
    pictures = [Image.open(path).convert("RGB") for path in sample_photos[:4]]
    with torch.inference_mode():
        plain_texts = model.eval().encode_text(open_clip.get_tokenizer(name)(texts), normalize=True)
        plain_images = model.encode_image(torch.stack([preprocess(one) for one in pictures]), normalize=True)
    np.testing.assert_allclose(ours.encode_texts(texts), plain_texts, atol=1e-5)
    np.testing.assert_allclose(ours.encode_images(pictures), plain_images, atol=1e-4)  # norms are folded


def test_same_seed_gives_the_same_projections(trained, quarters, tmp_path):
    train_projections(quarters, tmp_path, SETTINGS, views=1, held_out=6, changes_only=True, device="cpu")
    again = load_file(tmp_path / "trained.safetensors")
    first = load_file(trained[0] / "open_clip_model.safetensors")
    for name in ("logit_scale", "text.proj.weight", "visual.head.proj.weight"):
        assert torch.equal(again[name], first[name]), name
    shipped = load_file(builtin.TRAINED_FILE)  # the towers are the built-in encoder's
    assert again.keys() == shipped.keys()
    steps = "text.transformer.encoder.layer.5.output.dense.weight"
    assert again[steps].dtype == torch.int8 and (again[steps] != shipped[steps]).float().mean() < 0.001
    assert not (tmp_path / "open_clip_model.safetensors").exists()


def test_private_training_says_what_it_spent(quarters, tmp_path):
    private = PrivacySettings(epsilon=6.0, delta=1e-3)
    outcome = train_projections(quarters, tmp_path, SETTINGS, views=1, changes_only=True, private=private, device="cpu")
    assert 5.5 < outcome.privacy.epsilon <= 6.0 and outcome.privacy.steps == 30
    written = json.loads((tmp_path / "training.json").read_text())
    assert written["privacy"] == {"epsilon": outcome.privacy.epsilon, "delta": 1e-3,
                                  "noise": outcome.privacy.noise, "steps": 30}


def test_too_few_pairs(quarters, tmp_path):
    few = Pairs(quarters.photos[:70], quarters.captions[:70], 0)
    with pytest.raises(TrainingError, match="70 captioned photos, 10 of them held out, are too few.*64"):
        train_projections(few, tmp_path / "out", SETTINGS, views=1, held_out=10, device="cpu")
    assert not (tmp_path / "out").exists()


def test_captions_that_are_all_the_same(quarters, tmp_path):
    same = Pairs(quarters.photos, [["a photo"]] * len(quarters.photos), 0)
    with pytest.raises(TrainingError, match="All captions are the same, 'a photo'"):
        train_projections(same, tmp_path / "out", SETTINGS, views=1, device="cpu")
    with pytest.raises(TrainingError, match="All captions are the same, 'a photo'"):
        train_cross_encoder(same, tmp_path / "out", MatchSettings(), encoder=None)
    assert not (tmp_path / "out").exists()


def test_what_ships_fits_its_configuration():
    shipped = load_file(builtin.TRAINED_FILE)
    dim = builtin.config()["model_cfg"]["embed_dim"]
    assert tuple(shipped["text.proj.weight"].shape) == (dim, 384)
    assert tuple(shipped["visual.head.proj.weight"].shape) == (dim, 1280)
    assert sum(file.stat().st_size for file in builtin.FOLDER.glob("*.safetensors")) < 24e6

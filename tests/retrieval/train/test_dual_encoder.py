"""From captioned photos to an encoder: what is learned, what is written, and several processes."""

import json

import numpy as np
import pytest
import torch

from retrieval.encoders import load_encoder
from retrieval.train.augment import NONE
from retrieval.train.processes import Processes
from retrieval.train.starting import Start
from retrieval.train.dual_encoder import train_dual_encoder
from retrieval.train.plan import Plan
from retrieval.train.settings import Settings
from retrieval.train.trainable import Tuning


def train(quarters, output, plan, **options):
    return train_dual_encoder(quarters, output, plan, processes=Processes(), device="cpu", **options)


@pytest.fixture(scope="module")
def trained(quarters, tmp_path_factory, tiny_model, cache_folder):
    """Learned by heart: the captions say which photo and which quarter."""
    output = tmp_path_factory.mktemp("trained")
    settings = Settings(epochs=30, batch_size=36, learning_rate=2e-3, seed=1)
    return output, train(quarters, output, Plan(Start(model=str(tiny_model)), settings=settings, augmentation=NONE))


def test_it_has_learned_its_photos(trained, quarters):
    from retrieval.images import open_image
    from retrieval.train.validation import recalls

    output, outcome = trained
    assert (outcome.photos, outcome.captions, outcome.held_out, outcome.steps) == (72, 144, 0, 60)
    encoder = load_encoder(str(output), device="cpu", precision="float32")
    images = encoder.encode_images([open_image(photo.read())[0] for photo in quarters.photos])
    captions = encoder.encode_texts([text for texts in quarters.captions for text in texts])
    found = recalls(images, captions, np.full(72, 2))
    assert found["text_to_image"]["R@10"] > 80  # by chance 14
    assert found["image_to_text"]["R@10"] > 80


def test_what_stands_beside_the_model(trained):
    output, outcome = trained
    written = json.loads((output / "training.json").read_text())
    assert written["settings"]["learning_rate"] == 0.002 and written["photos"] == 72
    assert written["loss"] == outcome.loss < 1.5
    assert (output / "README.md").is_file() and (output / "curves.png").is_file()


def test_a_frozen_tower_stays_as_it_was(quarters, tmp_path, tiny_model, tiny_encoder):
    settings = Settings(epochs=1, batch_size=16, learning_rate=1e-2)
    train(quarters, tmp_path, Plan(Start(model=str(tiny_model)), Tuning(text=0), settings))
    before, after = tiny_encoder, load_encoder(str(tmp_path), device="cpu", precision="float32")
    name = "transformer.resblocks.0.attn.in_proj_weight"
    assert torch.equal(after._model.state_dict()[name], before._model.state_dict()[name])
    assert not torch.equal(after._model.state_dict()["text_projection"], before._model.state_dict()["text_projection"])
    assert not torch.equal(after._model.state_dict()["visual.proj"], before._model.state_dict()["visual.proj"])


def test_siglip_writes_its_bias(quarters, tmp_path, tiny_model):
    settings = Settings(loss="siglip", epochs=1, batch_size=16)
    train(quarters, tmp_path, Plan(Start(model=str(tiny_model)), settings=settings))
    config = json.loads((tmp_path / "open_clip_config.json").read_text())
    assert config["model_cfg"]["init_logit_bias"] == -10.0
    model = load_encoder(str(tmp_path), device="cpu", precision="float32")._model
    assert model.logit_bias.item() == pytest.approx(-10, abs=0.1)
    assert model.logit_scale.exp().item() == pytest.approx(10, abs=0.1)


@pytest.mark.slow
def test_a_teacher_is_followed(quarters, tmp_path, tiny_model, other_model, builtin_encoder):
    """Without any other pull the student orders photos for a caption more like its teacher than before."""
    from retrieval.images import open_image

    settings = Settings(epochs=5, batch_size=36, learning_rate=2e-3, distillation=50.0)
    train(quarters, tmp_path, Plan(Start(model=str(tiny_model)), settings=settings, augmentation=NONE, teacher="builtin"))
    texts = [captions[0] for captions in quarters.captions]
    images = [open_image(photo.read())[0] for photo in quarters.photos]

    def agreement(encoder):
        scores = [one.encode_texts(texts) @ one.encode_images(images).T for one in (builtin_encoder, encoder)]
        return np.corrcoef(scores[0].ravel(), scores[1].ravel())[0, 1]

    before, after = (load_encoder(str(one), device="cpu", precision="float32") for one in (tiny_model, tmp_path))
    assert agreement(after) > agreement(before) + 0.2


def test_a_frozen_image_tower_runs_once_over_its_views(quarters, tmp_path, tiny_model, monkeypatch, cache_folder):
    """And the outputs that are kept are those of the photos learned from, whichever are held out."""
    from retrieval.train import dual_encoder

    seen = {}

    class Recorded(dual_encoder.Batches):
        def __init__(self, pairs, *given, kept=None, **options):
            seen.update(pairs=pairs, kept=kept)
            super().__init__(pairs, *given, kept=kept, **options)

    monkeypatch.setattr(dual_encoder, "Batches", Recorded)
    plan = Plan(Start(model=str(tiny_model)), Tuning(image=0), Settings(epochs=1, batch_size=16), views=2)
    train(quarters, tmp_path, plan, held_out=20)
    encoder = load_encoder(str(tiny_model), device="cpu", precision="float32", exact_preprocess=False)
    vectors = encoder.encode_images([photo.open() for photo in seen["pairs"].photos])
    assert [(one.shape, one.dtype) for one in seen["kept"]] == [((52, 64), np.float16)] * 2
    projected = torch.from_numpy(seen["kept"][0]).float() @ encoder._model.visual.proj.detach()
    np.testing.assert_allclose(torch.nn.functional.normalize(projected, dim=-1), vectors, atol=2e-3)  # kept in float16
    after = load_encoder(str(tmp_path), device="cpu", precision="float32")
    name = "visual.transformer.resblocks.0.attn.in_proj_weight"
    assert torch.equal(after._model.state_dict()[name], encoder._model.state_dict()[name])
    assert not torch.equal(after._model.state_dict()["visual.proj"], encoder._model.state_dict()["visual.proj"])

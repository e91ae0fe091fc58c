import json
from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.encoders.tokens import TowerTokens
from retrieval.errors import QueryError, RerankError
from retrieval.images import open_image
from retrieval.query import parse
from retrieval.rank.cross_encoder import (
    CrossEncoder, Shape, load_cross_encoder, save_cross_encoder,
)
from retrieval.rank.rerank import Stored
from retrieval.rank.rerankers import load_reranker
from retrieval.reading import content_hash

SHAPE = Shape(image_width=1280, text_width=384, places=49, width=16, heads=2, layers=2)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CrossEncoder(SHAPE).eval()


@pytest.fixture
def folder(model, builtin_encoder, tmp_path):
    save_cross_encoder(tmp_path / "match", model, builtin_encoder, "one", {"photos": 3})
    return tmp_path / "match"


@pytest.fixture
def images(photo_folder):
    return [Stored(str(path), content_hash(path.read_bytes())) for path in sorted(photo_folder.glob("*.*"))]


@torch.inference_mode()
def score(model, places, words, there):
    return model(model.places(places), model.words(words), there)


def test_padding_changes_nothing(model):
    random = torch.Generator().manual_seed(1)
    places, words = (torch.randn(2, n, width, generator=random) for n, width in ((49, 1280), (9, 384)))
    there = torch.arange(9) < torch.tensor([[9], [4]])
    both = score(model, places, words, there)
    words[1, 4:] = 5.0
    torch.testing.assert_close(score(model, places, words, there), both)
    alone = score(model, places[1:], words[1:, :4], there[1:, :4])
    torch.testing.assert_close(alone, both[1:], atol=1e-5, rtol=1e-4)


def test_words_and_places_see_each_other(model):
    random = torch.Generator().manual_seed(1)
    places, words = (torch.randn(1, n, width, generator=random) for n, width in ((49, 1280), (5, 384)))
    there = torch.ones(1, 5, dtype=torch.bool)
    before = score(model, places, words, there)
    for changed in (score(model, places.flip(2), words, there), score(model, places, words.flip(2), there)):
        assert abs(float(changed - before)) > 1e-4


def test_where_something_is_matters(model):
    with torch.no_grad():
        model.position.copy_(torch.randn(49, 16, generator=torch.Generator().manual_seed(2)))
    random = torch.Generator().manual_seed(1)
    places, words = (torch.randn(1, n, width, generator=random) for n, width in ((49, 1280), (5, 384)))
    there = torch.ones(1, 5, dtype=torch.bool)
    assert abs(float(score(model, places.flip(1), words, there) - score(model, places, words, there))) > 1e-5


def test_scores_are_of_both_encoders_in_spreads(folder, builtin_encoder, images, tmp_path):
    reranker = load_cross_encoder(folder, builtin_encoder, tmp_path)
    first = np.linspace(0.4, 0.1, len(images)).astype(np.float32)
    found = reranker.scores(parse("a cat"), images, first)
    model, tokens = CrossEncoder(SHAPE).eval(), TowerTokens(builtin_encoder)
    from safetensors.torch import load_file

    model.load_state_dict({name: one.float() for name, one in load_file(folder / "match.safetensors").items()})
    pictures = [open_image(Path(one.path), at_least=builtin_encoder.input_size)[0] for one in images]
    cells = tokens.of_images([builtin_encoder.prepare(picture) for picture in pictures])
    words, there = tokens.of_texts(["a cat"])
    n = len(images)
    again = score(model, cells, words.expand(n, -1, -1), there.expand(n, -1)).numpy()
    spreads = (again - again.mean()) / again.std() + (first - first.mean()) / first.std()
    np.testing.assert_allclose(found, spreads, atol=0.05)  # kept as float16
    np.testing.assert_array_equal(reranker.scores(parse("a cat"), images, first), found)


def test_its_scores_weigh_as_much_as_its_folder_says(folder, model, builtin_encoder, images, tmp_path):
    first = np.linspace(0.4, 0.1, len(images)).astype(np.float32)

    def found():
        return load_cross_encoder(folder, builtin_encoder, tmp_path).scores(parse("a cat"), images, first)

    whole = found()
    save_cross_encoder(folder, model, builtin_encoder, "one", {}, weight=0.25)
    quarter = found()
    save_cross_encoder(folder, model, builtin_encoder, "one", {}, weight=0.0)
    nothing = found()
    np.testing.assert_allclose(nothing, (first - first.mean()) / first.std(), rtol=1e-5)
    np.testing.assert_allclose(quarter - nothing, (whole - nothing) / 4, atol=1e-5)
    config = json.loads((folder / "match.json").read_text())
    del config["weight"]  # as earlier versions wrote it
    (folder / "match.json").write_text(json.dumps(config))
    np.testing.assert_array_equal(found(), whole)


def test_a_kept_image_need_not_be_there_any_more(folder, builtin_encoder, images, tmp_path):
    first = np.zeros(len(images), np.float32)
    before = load_reranker(str(folder), builtin_encoder).scores(parse("a cat"), images, first)
    Path(images[0].path).unlink()
    after = load_reranker(str(folder), builtin_encoder).scores(parse("a cat"), images, first)
    np.testing.assert_array_equal(after, before)


def test_images_as_queries_are_refused(folder, builtin_encoder, images, tmp_path):
    reranker = load_cross_encoder(folder, builtin_encoder, tmp_path)
    with pytest.raises(QueryError, match="is an image, and a cross-encoder reads a text with an image"):
        reranker.scores(parse(images[0].path), images, np.zeros(len(images), np.float32))


def test_what_is_no_cross_encoder(builtin_encoder, tmp_path):
    with pytest.raises(RerankError, match="There is no cross-encoder in .*nothing.*--task match"):
        load_cross_encoder(tmp_path / "nothing", builtin_encoder, tmp_path)


@pytest.mark.parametrize("damage", ["config", "weights", "shape", "weight"])
def test_damage_is_named(folder, builtin_encoder, tmp_path, damage):
    config = json.loads((folder / "match.json").read_text())
    if damage == "config":
        (folder / "match.json").write_text("{")
    elif damage == "weights":
        (folder / "match.safetensors").write_bytes(b"\0" * 100)
    elif damage == "weight":
        (folder / "match.json").write_text(json.dumps({**config, "weight": "much"}))
    else:
        (folder / "match.json").write_text(json.dumps({**config, "shape": {**config["shape"], "width": 32}}))
    with pytest.raises(RerankError, match="is damaged.*Train it again"):
        load_cross_encoder(folder, builtin_encoder, tmp_path)


def test_another_encoders_collection_is_refused(folder, tiny_encoder, tmp_path):
    with pytest.raises(RerankError, match="reads the towers of an encoder with fingerprint"):
        load_cross_encoder(folder, tiny_encoder, tmp_path)

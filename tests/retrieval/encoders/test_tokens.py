import numpy as np
import pytest
import torch

from retrieval.encoders.tokens import TowerTokens
from retrieval.errors import EncoderError
from retrieval.images import open_image


def test_pooled_and_projected_they_are_the_encoders_vectors(builtin_encoder, sample_photos):
    tokens, model = TowerTokens(builtin_encoder), builtin_encoder._model
    images = [open_image(path)[0] for path in sample_photos[:2]]
    cells = tokens.of_images([builtin_encoder.prepare(image) for image in images])
    assert cells.shape == (2, 49, 1280)
    with torch.inference_mode():
        vectors = model.visual.head(cells.mean(1))
    vectors = (vectors / vectors.norm(dim=1, keepdim=True)).numpy()
    np.testing.assert_allclose(vectors, builtin_encoder.encode_images(images), atol=1e-4)

    texts = ["dog", "a child in a red coat jumps over a puddle"]
    states, there = tokens.of_texts(texts)
    assert there.sum(1).tolist() == [3, 12] and (states[0, 3:] == 0).all()  # with start and end
    with torch.inference_mode():
        vectors = model.text.proj(states.sum(1) / there.sum(1, keepdim=True))
    vectors = (vectors / vectors.norm(dim=1, keepdim=True)).numpy()
    np.testing.assert_allclose(vectors, builtin_encoder.encode_texts(texts), atol=1e-4)


def test_long_texts_are_cut(builtin_encoder):
    states, there = TowerTokens(builtin_encoder).of_texts(["dog " * 60])
    assert states.shape == (1, 32, 384) and there.all()


def test_other_towers_are_refused(tiny_encoder):
    with pytest.raises(EncoderError, match="towers whose tokens are not known here"):
        TowerTokens(tiny_encoder)

"""Recall over photos held out, against cases worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from retrieval.errors import TrainingError
from retrieval.train.kept import Kept
from retrieval.train.pairs import Pairs, Photo
from retrieval.train.validation import Validation, mean_recall, recalls


def unit(*rows):
    rows = np.array(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_both_directions_by_hand():
    images = unit([1, 0, 0], [0, 1, 0], [0, 0, 1])
    # image 0 has two captions, the second of them nearest to image 1; images 1 and 2 have one each
    captions = unit([1, 0.1, 0], [0.5, 1, 0], [0, 1, 0.1], [0.3, 0.2, 1])
    found = recalls(images, captions, np.array([2, 1, 1]))
    assert found["text_to_image"] == {"R@1": 75.0, "R@5": 100.0, "R@10": 100.0}
    assert found["image_to_text"] == {"R@1": 100.0, "R@5": 100.0, "R@10": 100.0}
    assert mean_recall(found) == pytest.approx((75 + 100 * 5) / 6)


def test_of_embedded_pairs(quarters):
    """Each photo is embedded as its number and each caption as its photo's: all is found at once."""
    few = Pairs(quarters.photos[:12], quarters.captions[:12], 0)
    texts = [text for captions in few.captions for text in captions]
    owner = {text: number for number, captions in enumerate(few.captions) for text in captions}

    numbers = {photo.open().tobytes(): number for number, photo in enumerate(few.photos)}

    def prepare(image):
        return torch.full((3, 4, 4), numbers[image.tobytes()])

    validation = Validation(few, prepare, lambda said: torch.tensor([[owner[text]] for text in said]))
    one_hot = torch.eye(12)
    embed = SimpleNamespace(
        device=torch.device("cpu"),
        embed_images=lambda pixels: one_hot[pixels[:, 0, 0, 0]], embed_texts=lambda tokens: one_hot[tokens[:, 0]],
    )
    found = validation(embed)
    assert len(texts) == 24 and mean_recall(found) == 100.0
    # captions of photo i embedded as photo i + 1: nothing is first
    embed.embed_texts = lambda tokens: one_hot[(tokens[:, 0] + 1) % 12]
    shifted = validation(embed)
    assert shifted["text_to_image"]["R@1"] == shifted["image_to_text"]["R@1"] == 0.0


def test_a_photo_that_cannot_be_read_is_named():
    pairs = Pairs([Photo("broken.jpg", lambda: b"not a picture")], [["a"]], 0)
    with pytest.raises(TrainingError, match="broken.jpg: .*Take it out"):
        Validation(pairs, lambda image: image, lambda texts: torch.zeros(1, 1))


def test_what_whole_frozen_towers_said_is_asked_again_instead():
    pairs = Pairs([Photo(f"{n}.jpg", lambda: b"not a picture") for n in range(3)], [["a", "b"], ["c"], ["d"]], 0)
    rows = np.eye(3, dtype=np.float16)
    said = unit([1, 0, 0], [0.5, 1, 0], [0, 1, 0], [0, 0, 1]).astype(np.float16)  # the second nearest to photo 1
    kept = Kept(photos_apart=rows, texts_apart=said)
    embed = SimpleNamespace(embed_kept=lambda said: said.float(), embed_kept_texts=lambda said: said.float())
    found = Validation(pairs, None, None, kept)(embed)
    assert found["text_to_image"] == {"R@1": 75.0, "R@5": 100.0, "R@10": 100.0}
    assert found["image_to_text"] == {"R@1": 100.0, "R@5": 100.0, "R@10": 100.0}

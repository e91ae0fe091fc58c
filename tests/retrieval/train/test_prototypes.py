"""Class prototypes: the classifier sees their class, and the caption names it."""

import torch

from retrieval.encoders import builtin
from retrieval.encoders.towers import load_classifier
from retrieval.train.outputs import TowerOutputs, without_projections
from retrieval.train.pairs import Pairs, Photo

from retrieval.train.prototypes import Prototypes, class_directions, class_texts


def test_class_names_in_the_classifiers_order():
    texts = class_texts()
    assert len(texts) == len(class_directions()) == 1000
    assert texts[967][:2] == ["espresso", "a photo of a espresso"]
    assert texts[281][0] == "tabby" and texts[281][-1] == "tabby, tabby cat"
    assert texts[0][0] == "tench" and texts[999][0] == "toilet tissue"


def test_pairs_are_the_class_and_its_caption(tmp_path, sample_photos):
    outputs = TowerOutputs(without_projections(builtin.load_towers_only("towers", builtin.config())), tmp_path, device="cpu")
    photos = torch.from_numpy(
        outputs.of_photos(Pairs([Photo(path.name, path.read_bytes) for path in sample_photos[:8]], [["a photo"]] * 8, 0), 0)
    )
    directions = class_directions()
    names = torch.arange(1000.0).reshape(1000, 1, 1)  # each class's text is its own number
    drawn, texts = Prototypes(directions, names).draw(photos, torch.Generator().manual_seed(3))
    weight, bias = load_classifier()
    length = 15  # of an ordinary tower output, before it was brought to unit length
    seen = (length * drawn @ weight.T + bias).argmax(1)
    assert seen.tolist() == texts[:, 0].long().tolist()
    assert len(set(seen.tolist())) == 8
    assert drawn.min() >= 0


def test_draw_repeats_itself():
    made = Prototypes(torch.eye(5), torch.rand(5, 2, 3))
    photos = torch.rand(4, 5)
    first, again = (made.draw(photos, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])

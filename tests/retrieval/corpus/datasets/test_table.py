import json

import pytest

from retrieval.corpus.datasets import load_dataset


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("captions.csv", 'image,caption\nhen.jpg,"a hen, here"\n'),
        ("captions.tsv", "image\tcaption\nhen.jpg\ta hen, here\n"),
        ("captions.jsonl", '{"image": "hen.jpg", "caption": "a hen, here"}\n'),
        ("captions.json", json.dumps([{"image": "hen.jpg", "caption": ["a hen, here"]}])),
    ],
)
def test_captions_of_ones_own(lay_out, name, content):
    dataset = load_dataset("csv", lay_out({name: content, "birds/hen.jpg": None}))
    [source], [caption] = dataset.images, dataset.captions.captions
    assert (source.name, caption.image, caption.text) == ("birds/hen.jpg", "hen.jpg", "a hen, here")
    assert dataset.rules == [f"All of {name}: 1 image.", "1 caption of an image: 1."]


def test_deeper_captions_are_not_taken(lay_out):
    old, new = "image,caption\nhen.jpg,old\n", "image\tcaption\nhen.jpg\tnew\n"
    root = lay_out({"old/captions.csv": old, "captions.tsv": new, "hen.jpg": None})
    assert [caption.text for caption in load_dataset("csv", root).captions.captions] == ["new"]

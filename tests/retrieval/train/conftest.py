"""Captioned pictures for training tests."""

import io

import pytest

from retrieval.images import open_image
from retrieval.train.pairs import Pairs, Photo


@pytest.fixture(scope="session")
def quarters(sample_photos):
    """Quarters of 18 real photos, named after where they were cut, two captions each."""
    photos, captions = [], []
    for path in sample_photos[:18]:
        image, _ = open_image(path)
        for left in (0, 1):
            for top in (0, 1):
                width, height = image.width // 2, image.height // 2
                quarter = image.crop((left * width, top * height, (left + 1) * width, (top + 1) * height))
                buffer = io.BytesIO()
                quarter.resize((64, 64)).save(buffer, "JPEG")
                photos.append(Photo(f"{path.stem}-{left}{top}.jpg", lambda content=buffer.getvalue(): content))
                where = f"the {'lower' if top else 'upper'} {'right' if left else 'left'} part"
                captions.append([f"{where} of {path.stem}", f"{path.stem}, {where}"])
    return Pairs(photos, captions, missing=0)

"""A model in a quarter of its size: weights in int8, and what that costs, measured."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Callable

from retrieval.encoders import quantized
from retrieval.encoders.openclip import OpenClipEncoder
from retrieval.errors import TrainingError
from retrieval.train import model_folder
from retrieval.train.pairs import Pairs
from retrieval.train.starting import Start, Trainee, start_model

MOST_PHOTOS = 1000  # to measure with


@dataclass(frozen=True)
class Compressed:
    """loss: None where there were no photos to measure it with."""

    fingerprint: str
    bytes_before: int  # of weights in float32
    bytes_after: int  # of the file
    photos: int
    loss: quantized.Loss | None


def compress(
    model: str, output: Path, pairs: Pairs | None = None, *, device: str = "auto",
    on_photo: Callable[[int], None] = lambda count: None,
) -> Compressed:
    """Write `model` into the folder `output` with int8 weights, and measure on pairs, at most MOST_PHOTOS of them.

    model  what `--model` takes

    Raises TrainingError if the folder is the model's own or cannot be written, or a photo cannot be read, and
    what loading the model raises.
    """
    if Path(model.removeprefix("local-dir:")).resolve() == output.resolve():
        raise TrainingError(f"{output} is the model itself. Write the small one into another folder: -o FOLDER")
    trainee = start_model(Start(model=model))
    state = trainee.encoder.model.state_dict()
    loss, photos = None, 0
    if pairs is not None:
        photos = min(MOST_PHOTOS, len(pairs.photos))
        loss = _loss(trainee, pairs, photos, device, on_photo)
    facts = {"weights": "int8, a scale for each output channel", **({} if loss is None else _in_words(loss, photos))}
    fingerprint = model_folder.write(output, trainee, state, facts, int8=True)
    before = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    return Compressed(fingerprint, before, (output / quantized.FILE_NAME).stat().st_size, photos, loss)


def _loss(
    trainee: Trainee, pairs: Pairs, photos: int, device: str, on_photo: Callable[[int], None]
) -> quantized.Loss:
    small = deepcopy(trainee.encoder.model)
    small.load_state_dict(quantized.through_int8(small.state_dict()))
    exact, other = (
        OpenClipEncoder(replace(trainee.encoder, model=one), device=device, precision="float32")
        for one in (deepcopy(trainee.encoder.model), small)
    )
    pictures = []
    for photo in pairs.photos[:photos]:
        pictures.append(photo.open(at_least=exact.input_size))
        on_photo(1)
    return quantized.measure_loss(exact, other, pictures, pairs.captions[:photos])


def _in_words(loss: quantized.Loss, photos: int) -> dict[str, object]:
    about = asdict(loss)
    recall = {
        direction.replace("_", " "): {at: f"{after:.1f}, was {before:.1f}" for at, (before, after) in values.items()}
        for direction, values in about.pop("recall").items()
    }
    return {"photos it was measured on": photos, **{name.replace("_", " "): value for name, value in about.items()}, **recall}

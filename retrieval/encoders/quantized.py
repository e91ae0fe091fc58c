"""Int8 weights: files of a quarter of the size, and what they cost in cosine and recall.

A tensor of two or more dimensions is kept as whole numbers from -127 to 127, with a scale for each
output channel (its first dimension):

    scale = max |w| / 127,  q = round(w / scale),  hence |w - scale q| <= scale / 2, and 0 stays 0

Biases, and the weights and statistics of norms, are few and decide much: these stay as they are.
On load all becomes float32 again, so a model made of it runs as any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from retrieval.errors import WeightsError
from retrieval.files import write_atomically
from retrieval.metrics import Relevance, hit_rate, relevant_ranks
from retrieval.types import Encoder

LARGEST = 127  # -128 is left out, so that both signs reach equally far
_FORMAT = {"weights": "int8 by output channel, version 1"}
SCALE = ".int8_scale"
FILE_NAME = "int8.safetensors"  # in a model folder, in place of its weights
_RANKS = (1, 5, 10)


def quantize(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole numbers in the shape of `weight` (channels, ...), int8, and a scale (channels,), float32."""
    channels = weight.detach().float().flatten(1)
    scale = channels.abs().amax(1) / LARGEST
    steps = channels / torch.where(scale > 0, scale, 1)[:, None]
    return steps.round().clamp(-LARGEST, LARGEST).to(torch.int8).view_as(weight), scale


def dequantize(whole: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Float32 of what `quantize` made."""
    return (whole.flatten(1).float() * scale[:, None]).view(whole.shape)


def save_int8(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write a state dict with int8 weights, as safetensors.

    Raises WeightsError for weights that are not finite; OSError.
    """
    tensors = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsError(f"{name} is not finite everywhere, so {path} is not written. Train again.")
        if _is_quantized(tensor):
            tensor, tensors[name + SCALE] = quantize(tensor)
        tensors[name] = tensor.contiguous().clone()  # tied weights are written twice
    write_atomically(path, save(tensors, _FORMAT))


def load_int8(path: Path) -> dict[str, torch.Tensor]:
    """The state dict that `save_int8` wrote; weights in float32, other numbers in their own types.

    Raises WeightsError if the file is missing, damaged, or of another kind.
    """
    try:
        with safe_open(path, "pt") as file:
            if file.metadata() != _FORMAT:
                raise WeightsError(f"{path} holds no int8 weights of this software. Load it as a float model.")
            stored = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path} is missing or damaged ({str(error).splitlines()[0]}). Get or write it again."
        ) from error
    return {
        name: dequantize(tensor, stored[name + SCALE]) if name + SCALE in stored else tensor
        for name, tensor in stored.items() if not name.endswith(SCALE)
    }


def through_int8(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What would come back of a state dict that was saved in int8."""
    return {
        name: dequantize(*quantize(tensor)) if _is_quantized(tensor) else tensor for name, tensor in state.items()
    }


def _is_quantized(tensor: torch.Tensor) -> bool:
    return tensor.ndim >= 2 and tensor.is_floating_point() and tensor.numel() > 0


@dataclass(frozen=True)
class Loss:
    """What another encoder's vectors of the same things cost.

    mean_cosine, min_cosine  of images, to their exact vectors
    recall                   R@k in percent by direction and k: exact, other; empty without captions
    """

    mean_cosine: float
    min_cosine: float
    recall: dict[str, dict[str, tuple[float, float]]]


def measure_loss(
    exact: Encoder, other: Encoder, images: Sequence[Image.Image], captions: Sequence[Sequence[str]] = ()
) -> Loss:
    """Compare an encoder with the exact one on images and, if given, the captions of each image.

    Raises EncoderError.
    """
    vectors = [encoder.encode_images(images) for encoder in (exact, other)]  # (n, d) each
    cosines = (vectors[0] * vectors[1]).sum(axis=1)
    recall = {}
    if captions:
        owners = np.repeat(np.arange(len(captions)), [len(texts) for texts in captions])
        every = [text for texts in captions for text in texts]
        found = [_recall(encoder.encode_texts(every), rows, owners) for encoder, rows in zip((exact, other), vectors)]
        recall = {
            direction: {at: (value, found[1][direction][at]) for at, value in values.items()}
            for direction, values in found[0].items()
        }
    return Loss(float(cosines.mean()), float(cosines.min()), recall)


def _recall(texts: np.ndarray, images: np.ndarray, owners: np.ndarray) -> dict[str, dict[str, float]]:
    own = np.arange(len(owners))
    ranks = {
        "text_to_image": relevant_ranks(texts, images, Relevance.from_pairs(own, owners, n_queries=len(owners))),
        "image_to_text": relevant_ranks(images, texts, Relevance.from_pairs(owners, own, n_queries=len(images))),
    }
    return {
        direction: {f"R@{k}": 100 * float(np.nanmean(hit_rate(one, k))) for k in _RANKS}
        for direction, one in ranks.items()
    }

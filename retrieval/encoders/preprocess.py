"""From an upright RGB image to what an image tower takes.

open_clip's own transform resizes the whole picture and cuts the middle out of it. Where its steps
are the plain known ones, the same pixels, but for rounding, come from one resize of that middle
alone, and stay bytes until the batch is on its device.
"""

from __future__ import annotations

import io
from typing import Callable, Sequence

import numpy as np
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from retrieval.encoders.precision import probe_images
from retrieval.images import open_image

# What a model's vectors must keep, mean and lowest cosine, for the fast way to be taken.
MIN_MEAN_COSINE, MIN_COSINE = 0.999, 0.99
Transform = Callable[[Image.Image], torch.Tensor]

# Pictures larger than this many times the model's input are first shrunk by whole factors, each
# new pixel the mean of a block. Below it results equal the exact transform's but for rounding.
_REDUCING_GAP = 3.0
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def exact_transform(config: PreprocessCfg) -> Transform:
    """open_clip's own: (3, height, width) float32, normalised."""
    return image_transform_v2(config, is_train=False)


def fast_transform(config: PreprocessCfg) -> Transform | None:
    """(3, height, width) uint8, for `normalise`; None where open_clip's steps are others."""
    height, width = (config.size, config.size) if isinstance(config.size, int) else config.size
    if config.resize_mode not in ("shortest", "squash") or config.interpolation not in _FILTERS:
        return None
    if config.resize_mode == "shortest" and height != width:
        return None
    resample = _FILTERS[config.interpolation]

    def transform(image: Image.Image) -> torch.Tensor:
        box = _middle_square(image.size, height) if config.resize_mode == "shortest" else None
        small = image.convert("RGB").resize((width, height), resample, box, _REDUCING_GAP)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1)  # (3, height, width)

    return transform


def normalise(pixels: torch.Tensor, config: PreprocessCfg) -> torch.Tensor:
    """(n, 3, height, width) uint8 to float32, by the model's mean and standard deviation."""
    mean, std = (torch.tensor(one, device=pixels.device).view(-1, 1, 1) for one in (config.mean, config.std))
    return pixels.float().div_(255).sub_(mean).div_(std)


def _middle_square(size: tuple[int, int], side: int) -> tuple[float, float, float, float]:
    """What of an image is left when its shorter side becomes `side` and the middle is cut out.

    Rounded as torchvision's Resize and CenterCrop round.
    """
    short = min(size)
    box = []
    for length in size:
        resized = int(side * length / short)
        start = round((resized - side) / 2)
        box.append((start * length / resized, (start + side) * length / resized))
    (left, right), (top, bottom) = box
    return left, top, min(right, size[0]), min(bottom, size[1])


def input_size(config: PreprocessCfg) -> int:
    """Pixels that the shorter side of an image is resized to, at most."""
    return config.size if isinstance(config.size, int) else max(config.size)


def agreement(
    encode: Callable[[Sequence[torch.Tensor]], np.ndarray], exact: Transform, fast: Transform, config: PreprocessCfg
) -> float:
    """Mean cosine between both ways from JPEG to vector, decoding included; 0 if one is too low."""
    side = input_size(config)
    # Large enough to be decoded smaller, and no sharper from pixel to pixel than cameras are.
    files = [_jpeg(picture.resize((4 * side, 4 * side))) for picture in probe_images(2 * side)]
    exactly = encode([exact(open_image(file)[0]) for file in files])
    quickly = encode([fast(open_image(file, at_least=side)[0]) for file in files])
    cosines = (exactly * quickly).sum(axis=1)  # (n,)
    return float(cosines.mean()) if cosines.min() >= MIN_COSINE else 0.0


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()

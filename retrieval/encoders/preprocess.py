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
from retrieval.encoders.resizing import Resizing
from retrieval.images import open_image

# What a model's vectors must keep, mean and lowest cosine, for the fast way to be taken.
MIN_MEAN_COSINE, MIN_COSINE = 0.999, 0.99
Transform = Callable[[Image.Image], torch.Tensor]
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def exact_transform(config: PreprocessCfg) -> Transform:
    """open_clip's own: (3, height, width) float32, normalised."""
    return image_transform_v2(config, is_train=False)


def fast_transform(config: PreprocessCfg) -> Transform | None:
    """(3, height, width) uint8, for `normalise`; None where open_clip's steps are others."""
    resize = resizing(config)
    return resize and (lambda image: as_tensor(resize(image)))


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    """What a Resizing gives as (3, height, width), channels last in memory."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


def resizing(config: PreprocessCfg) -> Resizing | None:
    """`fast_transform` but for torch."""
    height, width = (config.size, config.size) if isinstance(config.size, int) else config.size
    if config.resize_mode not in ("shortest", "squash") or config.interpolation not in _FILTERS:
        return None
    if config.resize_mode == "shortest" and height != width:
        return None
    return Resizing(width, height, _FILTERS[config.interpolation], square=config.resize_mode == "shortest")


def normalise(pixels: torch.Tensor, config: PreprocessCfg) -> torch.Tensor:
    """(n, 3, height, width) uint8 to float32, by the model's mean and standard deviation."""
    mean, std = (torch.tensor(one, device=pixels.device).view(-1, 1, 1) for one in (config.mean, config.std))
    return pixels.float().div_(255).sub_(mean).div_(std)


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

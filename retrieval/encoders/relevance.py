"""Which regions of an image speak for a text: gradient times activation, for towers of any kind.

The features that are asked are the last ones that still have a position: for a CNN those before
its pooling, for a ViT the tokens that its last attention looks at. What position p contributes is

    r_p = sum over channels c of  a_pc * ds/da_pc        s = cosine of image and text

(Selvaraju et al. 2017, Grad-CAM, without its mean over positions). With average pooling and a linear
projection, as in the built-in encoder, that is exact: a cosine does not change as its vector grows,
so the contributions are those to the inner product less what the image's own length takes, and sum to 0.
"""

from __future__ import annotations

from typing import Callable

import numpy as np
import torch
from open_clip.transform import PreprocessCfg

from retrieval.errors import EncoderError

_MOST_PREFIX_TOKENS = 16  # class and register tokens stand before those of patches
Box = tuple[float, float, float, float]  # left, top, right, bottom


def of_positions(
    encode: Callable[[torch.Tensor], torch.Tensor], tower: torch.nn.Module, pixels: torch.Tensor, text: torch.Tensor
) -> np.ndarray:
    """The contribution of each position of the tower's feature map: float32 (rows, columns).

    encode  (1, 3, height, width) to features (1, d), through `tower`
    pixels  (1, 3, height, width), normalised
    text    (d,), a unit vector on the same device

    Raises EncoderError if no features of the tower have a position.
    """
    maps: list[tuple[torch.Tensor, tuple[int, int]]] = []
    grid: tuple[int, int] = tuple(pixels.shape[2:])

    def keep(_: torch.nn.Module, __: object, output: object) -> None:
        nonlocal grid
        if not isinstance(output, torch.Tensor) or not output.requires_grad or len(output) != 1:
            return
        if output.ndim == 4:
            rows, columns = _grid(output)
            # Maps only shrink on their way. What is larger again has no positions there, such as
            # attention's (heads, tokens, channels); what has shrunk to 1 x 1 has none either.
            if rows * columns == 1 or rows > grid[0] or columns > grid[1]:
                return
            grid = rows, columns
        if output.ndim == 4 or _has_tokens(output, grid):
            maps.append((output, grid))

    hooks = [module.register_forward_hook(keep) for module in tower.modules()]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            features = encode(pixels.clone().requires_grad_()).float()  # (1, d)
            score = torch.nn.functional.normalize(features, dim=-1)[0] @ text.clone().float()
            # All at once, then the last that counts: behind the last attention of a ViT, say, there
            # are tokens for every position still, but the class token alone has a gradient.
            kept = [features for features, _ in maps]
            gradients = torch.autograd.grad(score, kept, allow_unused=True) if kept else ()
    finally:
        for hook in hooks:
            hook.remove()
    for (activations, grid), gradient in zip(reversed(maps), reversed(gradients)):
        if gradient is not None:
            contributions = _by_position(activations.detach().float() * gradient.float(), grid)
            if np.count_nonzero(contributions) > 1:
                return contributions
    raise EncoderError(
        "This encoder's image tower has no features of single positions. Explain by --method occlusion."
    )


def seen_part(size: tuple[int, int], config: PreprocessCfg) -> Box:
    """What part of an image of `size` (width, height) the tower sees, in pixels of the image.

    Less than the image where its middle is cut out of it, more where it is padded.
    """
    width, height = size
    rows, columns = (config.size, config.size) if isinstance(config.size, int) else config.size
    if config.resize_mode == "squash":
        return 0.0, 0.0, float(width), float(height)
    fit = min if config.resize_mode == "longest" else max
    scale = fit(columns / width, rows / height)
    spare_width, spare_height = width - columns / scale, height - rows / scale
    return spare_width / 2, spare_height / 2, width - spare_width / 2, height - spare_height / 2


def _grid(features: torch.Tensor) -> tuple[int, int]:
    """Rows and columns of (1, channels, rows, columns), or of (1, rows, columns, channels)."""
    _, first, second, third = features.shape
    return (first, second) if first == second != third else (second, third)


def _has_tokens(features: torch.Tensor, grid: tuple[int, int]) -> bool:
    return features.ndim == 3 and 0 <= features.shape[1] - grid[0] * grid[1] <= _MOST_PREFIX_TOKENS


def _by_position(products: torch.Tensor, grid: tuple[int, int]) -> np.ndarray:
    """Sums over channels: (rows, columns)."""
    rows, columns = grid
    if products.ndim == 3:
        tokens = products[0].sum(-1)  # (prefix + rows * columns,)
        return tokens[-rows * columns :].reshape(rows, columns).cpu().numpy()
    channels = 1 if tuple(products.shape[2:]) == grid else -1
    return products.sum(channels)[0].cpu().numpy()

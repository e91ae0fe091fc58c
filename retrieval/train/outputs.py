"""Outputs of the frozen towers, computed once and kept.

A frozen tower need not run in every epoch, so the outputs of every photo (several
augmented views of it) and caption are cached on disk; an interrupted run continues behind the
last finished view.
"""

from __future__ import annotations

import hashlib
import io
import random
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Callable, Iterator, Sequence

import numpy as np
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from PIL import Image, ImageEnhance, ImageOps

from retrieval.encoders.fingerprint import fingerprint_of
from retrieval.encoders.openclip import DualEncoder, OpenClipEncoder
from retrieval.files import write_atomically
from retrieval.reading import DECODE_THREADS
from retrieval.train.augment import allows_flip
from retrieval.train.pairs import Pairs, Photo

BATCH_SIZE = 128
TEXTS_AT_ONCE = 2048  # of like length next to each other among so many
Progress = Callable[[int], None]


def without_projections(encoder: DualEncoder) -> DualEncoder:
    """A copy that gives what goes into the projections.

    Linear projections without bias do not see the length of their input, so unit outputs of such a copy are
    all that they need.
    """
    model = deepcopy(encoder.model)
    if isinstance(model.visual, TimmModel):
        model.visual.head = torch.nn.Identity()
    else:
        model.visual.proj = None
    if isinstance(getattr(model, "text", None), HFTextEncoder):
        model.text.proj = torch.nn.Identity()
    return replace(encoder, name="towers", model=model)


def image_projection(visual: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The linear map without bias at an image tower's end; None if it ends otherwise."""
    if isinstance(visual, TimmModel):
        layers = [layer for layer in visual.head if not isinstance(layer, torch.nn.Dropout)]
        linear = len(layers) == 1 and isinstance(layers[0], torch.nn.Linear) and layers[0].bias is None
        return visual.head if linear else None
    if isinstance(visual, VisionTransformer) and visual.proj is not None:
        return lambda outputs: outputs @ visual.proj
    return None


def text_projection(text: torch.nn.Module | None) -> torch.nn.Linear | None:
    """The linear map without bias at a text tower's end; None if it ends otherwise."""
    if isinstance(text, HFTextEncoder) and isinstance(text.proj, torch.nn.Linear) and text.proj.bias is None:
        return text.proj
    return None


def ends_in_projections(model: torch.nn.Module) -> bool:
    """Whether both towers end in linear maps without bias that can be trained by themselves, over kept outputs."""
    visual = model.visual
    return (
        isinstance(visual, TimmModel) and image_projection(visual) is not None
        and text_projection(getattr(model, "text", None)) is not None
    )


class TowerOutputs:
    """Computes or recalls tower outputs of unit length: (n, width) float16 on disk."""

    def __init__(self, towers: DualEncoder, cache: Path, *, device: str = "auto", precision: str = "auto"):
        """towers: without projections; see `without_projections`."""
        state = towers.model.state_dict()
        # Of each tower alone: an image tower's outputs serve it beside any text tower.
        self._towers = {
            kind: fingerprint_of(
                {name: one for name, one in state.items() if name.startswith("visual.") == (kind == "image")},
                towers.preprocessing if kind == "image" else {},
                towers.tokenize if kind == "text" else lambda texts: torch.empty(0),
            ) for kind in ("image", "text")
        }
        self._towers["text"] += f"-{type(getattr(getattr(towers.model, 'text', None), 'pooler', None)).__name__}"
        self._encoder = OpenClipEncoder(towers, device=device, precision=precision)
        self._cache = cache

    def of_photos(self, pairs: Pairs, view: int, progress: Progress = lambda count: None) -> np.ndarray:
        """One view of each photo: (n, width) float16. View 0 is the photo as it is; see `augment`. Mapped from disk."""
        flips = [view == 0 or allows_flip(texts) for texts in pairs.captions]
        parts = (f"{photo.name} {photo.digest}{'' if flip else ' unmirrored'}" for photo, flip in zip(pairs.photos, flips))
        return self._recall(
            self._key("image", view, *parts),
            lambda: np.concatenate(list(self._views(pairs.photos, flips, view, progress))),
        )

    def of_texts(self, texts: Sequence[str], progress: Progress = lambda count: None) -> np.ndarray:
        """(n, width) float16, mapped from disk."""
        return self._recall(
            self._key("text", 0, *texts), lambda: np.concatenate(list(self._said(texts, progress)))
        )

    def _said(self, texts: Sequence[str], progress: Progress) -> Iterator[np.ndarray]:
        for start in range(0, max(1, len(texts)), TEXTS_AT_ONCE):
            part = texts[start : start + TEXTS_AT_ONCE]
            yield self._encoder.encode_texts(part).astype(np.float16)
            progress(len(part))

    def _views(
        self, photos: Sequence[Photo], flips: Sequence[bool], view: int, progress: Progress
    ) -> Iterator[np.ndarray]:
        def prepare(photo: Photo, flip: bool) -> torch.Tensor:
            return self._encoder.prepare(augment(photo.open(), view, photo.name, flip))

        with ThreadPoolExecutor(DECODE_THREADS) as pool:
            for start in range(0, len(photos), BATCH_SIZE):
                part = slice(start, start + BATCH_SIZE)
                batch = list(pool.map(prepare, photos[part], flips[part]))
                yield self._encoder.encode_prepared(batch).astype(np.float16)
                progress(len(batch))

    def _key(self, kind: str, *parts: object) -> Path:
        content = "\0".join(map(str, (kind, self._towers[kind], self._encoder.dtype, *parts)))
        return self._cache / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.npy"

    def _recall(self, path: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
        if not path.exists():
            self._cache.mkdir(parents=True, exist_ok=True)
            buffer = io.BytesIO()
            np.save(buffer, compute())
            write_atomically(path, buffer.getvalue())
        return np.load(path, mmap_mode="c")  # of its own where it is written to


def augment(image: Image.Image, view: int, name: str, text_allows_flip: bool = True) -> Image.Image:
    """View 0 is the image, view 1 its mirror image, further ones random crops, every other of them mirrored.

    Where texts do not allow a mirror, view 1 is a crop too, and no view is mirrored. The same view of the same
    name is always the same, whatever thread makes it.
    """
    if view == 0:
        return image
    if view == 1 and text_allows_flip:
        return ImageOps.mirror(image)
    chance = random.Random(f"{view}/{name}")
    area = chance.uniform(0.4, 1.0)
    stretch = chance.uniform(0.75, 1.333) ** 0.5
    width = min(image.width, round(image.width * (area ** 0.5) * stretch))
    height = min(image.height, round(image.height * (area ** 0.5) / stretch))
    left = chance.randint(0, image.width - width)
    top = chance.randint(0, image.height - height)
    image = image.crop((left, top, left + width, top + height))
    if chance.random() < 0.5 and text_allows_flip:
        image = ImageOps.mirror(image)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(chance.uniform(0.8, 1.2))
    return image
